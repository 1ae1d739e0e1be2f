package siem

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"defender-integration/defender/page"
	"defender-integration/defender/reading/readingtest"
)

// TestWalk fails unless every value of every detection stands in the fields for it, and every field holds a value of the detection.
func TestWalk(t *testing.T) {
	for _, file := range readingtest.Files(t) {
		for i, raw := range detectionsIn(t, file) {
			t.Run(fmt.Sprintf("%s %d", filepath.Base(file), i), func(t *testing.T) { walkDetection(t, raw) })
		}
	}
}

// detectionsIn returns the elements of a file, which is read as an answer is; one that is no answer, such as a token's, has none.
func detectionsIn(tb testing.TB, file string) [][]byte {
	tb.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var all [][]byte
	if _, err := page.ReadArray(bytes.NewReader(body), NewDecoder().isDetection, func(raw []byte) error {
		all = append(all, bytes.Clone(raw))
		return nil
	}); err != nil {
		tb.Logf("%s is no answer: %v", file, err)
	}
	return all
}

func walkDetection(t *testing.T, raw []byte) {
	decoded, err := NewDecoder().Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	if odd := decoded.Alert.GetOddities(); len(odd) > 0 {
		t.Errorf("oddities: %v", odd)
	}
	leaves, err := readingtest.Leaves(raw)
	if err != nil {
		t.Fatal(err)
	}
	// A detection has no two pieces of evidence of one kind: where they stand need not be told.
	fields := map[string]string{}
	for path, value := range readingtest.Fields(decoded.Alert) {
		fields[evidencePath.ReplaceAllString(path, "")] = value
	}
	unexplained, lost := maps.Clone(fields), 0
	for name, value := range leaves {
		for place, want := range placesOf(strings.ToLower(name), value, leaves) {
			// A number that is nought is as good as none.
			if got := fields[place]; got != want && (got != "" || want != "0") {
				lost++
				t.Errorf("%s is %q, the field %s has %q, want %q", name, value, place, got, want)
			}
			delete(unexplained, place)
		}
	}
	t.Logf("%d keys with a value, %d of them lost", len(leaves), lost)
	for place, value := range unexplained {
		if place != "service_source" && place != "type" {
			t.Errorf("the field %s has %q, which the detection does not say", place, value)
		}
	}
}

var evidencePath = regexp.MustCompile(`^evidence\.\d+\.`)

// placesOf returns the fields that a value stands in, with what each holds; name is in lower case, as it is compared.
func placesOf(name, value string, all map[string]string) map[string]string {
	file := "file.file_details."
	if all["CommandLine"] != "" {
		file = "process.image_file."
	}
	switch name {
	case "alerttime":
		at := readingtest.Time(value)
		return map[string]string{"siem.alert_time": at, "first_activity_time": at, "last_activity_time": at}
	case "lastprocessedtimeutc":
		return map[string]string{"last_update_time": readingtest.Time(value)}
	case "severity":
		return map[string]string{"severity": strings.Replace(readingtest.Word(value), "unspecified", "unknown", 1)}
	case "remediationissuccess", "wasexecutingwhiledetected":
		return map[string]string{places[name]: strings.ToLower(value)}
	case "machinedomain":
		if strings.Contains(value, ".") {
			return map[string]string{"device.dns_domain": value}
		}
		return map[string]string{"device.nt_domain": value}
	case "linktowdatp":
		return older("siem.link_to_wdatp", "alert_web_url", value, all["LinkToMTP"])
	case "incidentlinktowdatp":
		return older("siem.incident_link_to_wdatp", "incident_web_url", value, all["IncidentLinkToMTP"])
	case "filename", "filepath", "sha1", "sha256", "md5":
		return map[string]string{file + strings.Replace(strings.Replace(name, "filename", "file_name", 1), "filepath", "file_path", 1): value}
	case "internalipv4list":
		return listed("device.ip_interfaces.", 0, value)
	case "internalipv6list":
		return listed("device.ip_interfaces.", len(listed("", 0, all["InternalIPv4List"]+all["InternalIPV4List"])), value)
	case "devicecreatedmachinetags":
		return map[string]string{"siem.device_created_machine_tags": value, "tags.0": value}
	case "cloudcreatedmachinetags":
		first := 0
		if all["DeviceCreatedMachineTags"] != "" {
			first = 1
		}
		tags := listed("tags.", first, value)
		tags["siem.cloud_created_machine_tags"] = value
		return tags
	case "logonusers":
		users := map[string]string{}
		for place, user := range listed("device.logged_on_users.", 0, value) {
			if domain, account, ok := strings.Cut(user, `\`); ok {
				users[place+".domain_name"], users[place+".account_name"] = domain, account
			} else {
				users[place+".account_name"] = user
			}
		}
		return users
	}
	return map[string]string{places[name]: value}
}

// older is where a link to the older portal stands: also in the place of the newer one, where that is not told.
func older(place, newer, value, told string) map[string]string {
	if told != "" {
		return map[string]string{place: value}
	}
	return map[string]string{place: value, newer: value}
}

// listed are the parts of a list in one string, below a path and counted from first.
func listed(path string, first int, list string) map[string]string {
	found := map[string]string{}
	for _, part := range strings.FieldsFunc(list, func(c rune) bool { return c == ',' || c == ';' }) {
		if part = strings.TrimSpace(part); part != "" {
			found[fmt.Sprintf("%s%d", path, first+len(found))] = part
		}
	}
	return found
}

// places are the fields of values that stand in one, as they are.
var places = map[string]string{
	"fullid": "id", "alertid": "provider_alert_id", "alerttitle": "title", "category": "category", "description": "description",
	"source": "detection_source", "actor": "actor_display_name", "threatname": "threat_display_name", "threatfamily": "threat_family_name",
	"threatfamilyname": "threat_family_name", "linktomtp": "alert_web_url", "incidentlinktomtp": "incident_web_url",
	"ioadefinitionid": "detector_id", "ioadefinitiondid": "detector_id", "computerdnsname": "device.device_dns_name",
	"machinename": "device.host_name", "machinegroup": "device.rbac_group_name", "deviceid": "device.mde_device_id",
	"commandline": "process.process_command_line", "ipaddress": "ip.ip_address", "url": "url.url", "username": "user.user_account.account_name",
	"userdomain": "user.user_account.domain_name", "alertpart": "siem.alert_part", "reportid": "siem.report_id", "externalid": "siem.external_id",
	"iocuniqueid": "siem.ioc_unique_id", "iocname": "siem.ioc_name", "iocvalue": "siem.ioc_value", "creatoriocname": "siem.creator_ioc_name",
	"creatoriocvalue": "siem.creator_ioc_value", "filehash": "siem.file_hash", "threatcategory": "siem.threat_category",
	"remediationaction": "siem.remediation_action", "remediationissuccess": "siem.remediation_is_success",
	"wasexecutingwhiledetected": "siem.was_executing_while_detected",
}

// TestFixturesHaveEveryMember fails where the fixtures say nothing for a member that the table knows, so that the walk compares
// them all.
func TestFixturesHaveEveryMember(t *testing.T) {
	said := map[string]bool{}
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, raw := range detectionsIn(t, file) {
			leaves, err := readingtest.Leaves(raw)
			if err != nil {
				t.Fatal(err)
			}
			for name := range leaves {
				said[strings.ToLower(name)] = true
			}
		}
	}
	for name := range fields() {
		if !said[strings.ToLower(name)] {
			t.Errorf("the fixtures have nothing for %s", name)
		}
	}
}

// The fixture of 2020 has each member that Microsoft's sample of that year has, so that a single detection is whole.
func TestFullFixture(t *testing.T) {
	for _, raw := range detectionsIn(t, filepath.Join("testdata", "detection-full.json")) {
		var members map[string]any
		if err := json.Unmarshal(raw, &members); err != nil {
			t.Fatal(err)
		}
		// Two names are of other formats: of 2017, and of the mapping to Graph.
		if got, want := len(members), len(fields())-2; got != want {
			t.Errorf("it has %d members, want %d", got, want)
		}
		for name, value := range members {
			if value == nil || value == "" {
				t.Errorf("%s says nothing", name)
			}
		}
	}
}
