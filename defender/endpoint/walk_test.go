package endpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"defender-integration/defender/reading/readingtest"
)

// TestWalk fails unless every value of every alert stands in the field for it, and every field holds a value of the alert.
func TestWalk(t *testing.T) {
	for _, file := range readingtest.Files(t) {
		for i, raw := range alertsIn(t, file) {
			t.Run(fmt.Sprintf("%s %d", filepath.Base(file), i), func(t *testing.T) { walkAlert(t, raw) })
		}
	}
}

// alertsIn returns the elements of a file that are alerts; a list of machines, an answer of another API and the like have none.
func alertsIn(tb testing.TB, file string) []json.RawMessage {
	tb.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var list struct {
		Value []json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		tb.Logf("%s is no list: %v", file, err)
	}
	var alerts []json.RawMessage
	for _, element := range list.Value {
		if bytes.Contains(element, []byte(`"`+propertyUpdated+`"`)) {
			alerts = append(alerts, element)
		}
	}
	return alerts
}

func walkAlert(t *testing.T, raw []byte) {
	decoded, err := NewDecoder().Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if odd := decoded.Alert.GetOddities(); len(odd) > 0 {
		t.Errorf("oddities: %v", odd)
	}
	decoded.Alert.Oddities = nil
	leaves, err := readingtest.Leaves(raw)
	if err != nil {
		t.Fatal(err)
	}
	fields, lost := readingtest.Fields(decoded.Alert), 0
	for path, value := range leaves {
		if strings.HasSuffix(path, ".entityType") || path == "investigationId" {
			continue // the kind is what the field's place tells; the other is in the raw bytes alone
		}
		place := placeOf(path, leaves, len(decoded.Alert.GetEvidence())-1)
		// A number that is nought is as good as none.
		if got, want := fields[place], written(path, value); got != want && (got != "" || want != "0") {
			lost++
			t.Errorf("%s is %s, the field %q has %q", path, want, place, got)
		}
		delete(fields, place)
	}
	t.Logf("%d keys with a value, %d of them lost", len(leaves), lost)
	for place, value := range fields {
		if !derived.MatchString(place) {
			t.Errorf("the field %s has %q, which the alert does not say", place, value)
		}
	}
}

// derived are the fields that no value of the alert stands in by itself.
var derived = regexp.MustCompile(`^(service_source|evidence\.\d+\.(type|(process|file|registry_value)\.mde_device_id))$`)

// placeOf returns the path of the field for a value of an alert; device is where its machine stands.
func placeOf(path string, leaves map[string]string, device int) string {
	first, rest, _ := strings.Cut(path, ".")
	switch first {
	case "machineId", "computerDnsName", "rbacGroupName":
		return fmt.Sprintf("evidence.%d.device.%s", device, machinePlaces[first])
	case "loggedOnUsers":
		return fmt.Sprintf("evidence.%d.device.logged_on_users.%s", device, strings.NewReplacer("accountName", "account_name", "domainName", "domain_name").Replace(rest))
	case "comments":
		return "comments." + strings.NewReplacer("createdBy", "created_by", "createdTime", "created_time", "createTime", "created_time").Replace(rest)
	case "mitreTechniques":
		return "mitre_techniques." + rest
	case "domains":
		return path
	case propertyEvidence:
		at, key, _ := strings.Cut(rest, ".")
		kind := leaves["evidence."+at+".entityType"]
		if kind == "Registry" && leaves["evidence."+at+".registryValue"] != "" {
			kind = "Registry value"
		}
		place := evidencePlaces[kind][key]
		if key == "evidenceCreationTime" {
			place = "created_time"
		}
		return "evidence." + at + "." + place
	}
	return alertPlaces[path]
}

var machinePlaces = map[string]string{
	"machineId": "mde_device_id", "computerDnsName": "device_dns_name", "rbacGroupName": "rbac_group_name",
}

var alertPlaces = map[string]string{
	"id": "id", "incidentId": "incident_id", "assignedTo": "assigned_to", "severity": "severity", "status": "status",
	"classification": "classification", "determination": "determination", "investigationState": "investigation_state",
	"detectionSource": "detection_source", "detectorId": "detector_id", "category": "category", "threatFamilyName": "threat_family_name",
	"threatName": "threat_display_name", "title": "title", "description": "description", "recommendedAction": "recommended_actions",
	"alertCreationTime": "created_time", "firstEventTime": "first_activity_time", "lastEventTime": "last_activity_time",
	"lastUpdateTime": "last_update_time", "resolvedTime": "resolved_time", "aadTenantId": "tenant_id",
	"relatedUser.userName": "related_user.account_name", "relatedUser.domainName": "related_user.domain_name",
}

var evidencePlaces = map[string]map[string]string{
	"User": {
		"accountName": "user.user_account.account_name", "domainName": "user.user_account.domain_name", "userSid": "user.user_account.user_sid",
		"aadUserId": "user.user_account.entra_user_id", "userPrincipalName": "user.user_account.user_principal_name",
	},
	"Process": {
		"sha1": "process.image_file.sha1", "sha256": "process.image_file.sha256", "fileName": "process.image_file.file_name",
		"filePath": "process.image_file.file_path", "processId": "process.process_id", "processCommandLine": "process.process_command_line",
		"processCreationTime": "process.process_creation_time", "parentProcessId": "process.parent_process_id",
		"parentProcessCreationTime": "process.parent_process_creation_time", "parentProcessFileName": "process.parent_process_image_file.file_name",
		"parentProcessFilePath": "process.parent_process_image_file.file_path", "accountName": "process.user_account.account_name",
		"domainName": "process.user_account.domain_name", "userSid": "process.user_account.user_sid", "aadUserId": "process.user_account.entra_user_id",
		"userPrincipalName": "process.user_account.user_principal_name", "detectionStatus": "process.detection_status",
	},
	"File": {
		"sha1": "file.file_details.sha1", "sha256": "file.file_details.sha256", "fileName": "file.file_details.file_name",
		"filePath": "file.file_details.file_path", "detectionStatus": "file.detection_status",
	},
	"Ip":       {"ipAddress": "ip.ip_address"},
	"Url":      {"url": "url.url"},
	"Registry": {"registryHive": "registry_key.registry_hive", "registryKey": "registry_key.registry_key"},
	"Registry value": {
		"registryHive": "registry_value.registry_hive", "registryKey": "registry_value.registry_key", "registryValue": "registry_value.registry_value",
		"registryValueName": "registry_value.registry_value_name", "registryValueType": "registry_value.registry_value_type",
	},
}

// written writes a value as its field is written.
func written(path, value string) string {
	switch path[strings.LastIndexByte(path, '.')+1:] {
	case "severity", "status", "classification", "determination", "detectionStatus":
		return readingtest.Word(value)
	case "investigationState":
		return strings.ToLower(value[:1]) + value[1:]
	case "detectionSource":
		return map[string]string{"WindowsDefenderAtp": "microsoftDefenderForEndpoint", "WindowsDefenderAv": "antivirus"}[value]
	}
	if strings.HasSuffix(path, "Time") {
		return readingtest.Time(value)
	}
	return value
}

// TestFixtureHasEveryProperty fails where the fixture says nothing for a property that the tables know, so that the walk compares
// them all.
func TestFixtureHasEveryProperty(t *testing.T) {
	said := map[string]bool{}
	for _, raw := range alertsIn(t, filepath.Join("testdata", "alert-full.json")) {
		leaves, err := readingtest.Leaves(raw)
		if err != nil {
			t.Fatal(err)
		}
		for path := range leaves {
			for name := range strings.SplitSeq(path, ".") {
				said[name] = true
			}
		}
	}
	for name := range alertFields() {
		if !said[name] {
			t.Errorf("the fixture has nothing for %s", name)
		}
	}
	for name := range entityFields() {
		if !said[name] {
			t.Errorf("the fixture has nothing for evidence's %s", name)
		}
	}
}
