package machines

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// samplesVariable names a folder of other answers of the list of machines to walk over.
const samplesVariable = "DEFENDER_SAMPLES"

// carried are the fields that properties of a machine are carried in.
func carried() map[string]protoreflect.Name {
	return map[string]protoreflect.Name{
		"id":                     "mde_device_id",
		"aadDeviceId":            "entra_device_id",
		"computerDnsName":        "device_dns_name",
		"firstSeen":              "first_seen_time",
		"lastSeen":               "last_seen_time",
		"osPlatform":             "os_platform",
		"version":                "os_version",
		"healthStatus":           "health_status",
		"onboardingStatus":       "onboarding_status",
		"rbacGroupName":          "rbac_group_name",
		"lastIpAddress":          "ip_addresses",
		"ipAddresses":            "ip_addresses",
		"mergedIntoMachineId":    "merged_into_device_id",
		"isPotentialDuplication": "potential_duplicate",
		"isExcluded":             "excluded",
	}
}

// notCarried are the properties without a field, each with the reason.
func notCarried() map[string]string {
	const (
		posture  = "it tells of risk and value, which decide no match and no verdict"
		platform = "it tells of the platform no more than a person needs to recognise it by"
		managing = "it tells how the device is managed, not whether it reports"
	)
	return map[string]string{
		"lastExternalIpAddress": "it is the gateway's, and that of all behind it",
		"osBuild":               platform,
		"osVersion":             "it is null; version has the version",
		"osProcessor":           platform,
		"osArchitecture":        platform,
		"agentVersion":          platform,
		"vmMetadata":            platform,
		"deviceValue":           posture,
		"riskScore":             posture,
		"exposureLevel":         posture,
		"exclusionReason":       "isExcluded is what counts",
		"rbacGroupId":           "rbacGroupName names the group",
		"isAadJoined":           "aadDeviceId tells it",
		"machineTags":           managing,
		"managedBy":             managing,
		"managedByStatus":       managing,
		"defenderAvStatus":      "it tells of the antivirus, and the health status of the sensor that raises alerts",
	}
}

// TestWalk fails unless every property of every machine is in its field, or stands among those that have a reason not to be.
func TestWalk(t *testing.T) {
	folders := []string{"testdata"}
	if other := os.Getenv(samplesVariable); other != "" {
		folders = append(folders, other)
	}
	for _, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		walked := 0
		for _, file := range files {
			body, machines := machinesIn(t, file)
			if len(machines) == 0 {
				continue
			}
			walked += len(machines)
			source := newTestSource(t, "", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
			devices, read, err := readAll(t, source)
			if err != nil || len(devices) != len(machines) || read.Elements != int64(len(machines)) {
				t.Fatalf("%s: %d of %d machines are read, error %v", file, len(devices), len(machines), err)
			}
			for i, machine := range machines {
				walkMachine(t, fmt.Sprintf("%s %d", filepath.Base(file), i), machine, devices[i])
			}
		}
		if walked == 0 {
			t.Fatalf("no machines in %s", folder)
		}
	}
}

// machinesIn returns a file, and the machines of its list; other lists have none.
func machinesIn(t testing.TB, file string) ([]byte, []map[string]any) {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Value []map[string]any }
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return body, slices.DeleteFunc(list.Value, func(m map[string]any) bool {
		_, named := m["computerDnsName"]
		_, reporting := m["healthStatus"]
		return !named || !reporting
	})
}

func walkMachine(t *testing.T, name string, machine map[string]any, device *integrationv1.Device) {
	t.Helper()
	m, left := device.ProtoReflect(), 0
	for key, value := range machine {
		if _, ok := notCarried()[key]; ok {
			left++
			continue
		}
		field := m.Descriptor().Fields().ByName(carried()[key])
		switch {
		case field == nil:
			t.Errorf("%s: %s has no field, and no reason for it", name, key)
		case value == nil || value == "":
			if !field.IsList() && m.Has(field) {
				t.Errorf("%s: %s is %v, the field has %v", name, key, value, m.Get(field))
			}
		case field.IsList():
			for _, address := range addressesIn(value) {
				if !slices.Contains(device.GetIpAddresses(), address) {
					t.Errorf("%s: %s has %s, the device %q", name, key, address, device.GetIpAddresses())
				}
			}
		default:
			if want, have := spell(t, value, field), spellField(field, m.Get(field)); have != want {
				t.Errorf("%s: %s is %s, the field has %s", name, key, want, have)
			}
		}
	}
	t.Logf("%s: %d keys compared, %d left out with a reason", name, len(machine)-left, left)
}

// addressesIn returns the addresses of a property: one, or a list of objects.
func addressesIn(value any) []string {
	if one, ok := value.(string); ok {
		return []string{one}
	}
	var addresses []string
	for _, item := range value.([]any) {
		addresses = append(addresses, item.(map[string]any)["ipAddress"].(string))
	}
	return addresses
}

// spell writes a property as spellField writes the field that it belongs in.
func spell(t *testing.T, value any, field protoreflect.FieldDescriptor) string {
	t.Helper()
	switch {
	case field.Message() != nil:
		at, err := time.Parse(time.RFC3339Nano, value.(string))
		if err != nil {
			t.Fatal(err)
		}
		return at.UTC().String()
	case field.Enum() != nil:
		return "_" + strings.ToLower(value.(string))
	}
	return fmt.Sprint(value)
}

func spellField(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	switch {
	case field.Message() != nil:
		return value.Message().Interface().(*timestamppb.Timestamp).AsTime().String()
	case field.Enum() != nil:
		_, word, _ := strings.Cut(string(field.Enum().Values().ByNumber(value.Enum()).Name()), "STATUS_")
		return "_" + strings.ToLower(strings.ReplaceAll(word, "_", ""))
	}
	return fmt.Sprint(value.Interface())
}

// TestFixtureHasEveryProperty fails where the fixture leaves out what the walk knows, so that it walks over it all.
func TestFixtureHasEveryProperty(t *testing.T) {
	_, machines := machinesIn(t, filepath.Join("testdata", "machines.json"))
	if len(machines) == 0 {
		t.Fatal("no machines")
	}
	for key := range carried() {
		if _, ok := machines[0][key]; !ok {
			t.Errorf("the fixture has no %s", key)
		}
	}
	for key := range notCarried() {
		if _, ok := machines[0][key]; !ok {
			t.Errorf("the fixture has no %s", key)
		}
	}
	used := slices.Collect(maps.Values(carried()))
	fields := (&integrationv1.Device{}).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if !slices.Contains(used, fields.Get(i).Name()) {
			t.Errorf("nothing is carried in %s", fields.Get(i).Name())
		}
	}
}
