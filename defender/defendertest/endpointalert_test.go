package defendertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample reads one of the real payloads that DEFENDER_SAMPLES leads to; without it the test is skipped.
func sample(t *testing.T, name string) []byte {
	t.Helper()
	directory := os.Getenv("DEFENDER_SAMPLES")
	if directory == "" {
		t.Skip("DEFENDER_SAMPLES names no folder")
	}
	for _, pattern := range []string{name, filepath.Join("*", name)} {
		found, err := filepath.Glob(filepath.Join(directory, pattern))
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			body, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			return body
		}
	}
	t.Skipf("DEFENDER_SAMPLES has no %s", name)
	return nil
}

// keysOf returns the names of an object's members in their order.
func keysOf(t *testing.T, raw []byte) []string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		t.Fatalf("no object: %v in %s", err, raw)
	}
	var keys []string
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.(string))
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// richAlert has something in every member that an API of Defender for Endpoint's shows.
func richAlert() Alert {
	at := fixedClock{}.Now()
	device := SampleDevices()[0]
	device.LoggedOn = []User{{Account: "anna", Domain: "CORP"}, {Account: "ben", Domain: "CORP"}}
	return Alert{
		ID: "da1_1", IncidentID: "7587", Title: "A & B", Description: "text", Category: "Malware", Severity: "high",
		Status: "resolved", DetectionSource: "antivirus", Classification: "truePositive", Determination: "multiStagedAttack",
		InvestigationState: "unsupportedAlertType", DetectorID: "det", ThreatName: "HackTool:Win32/X", ThreatFamily: "X", Actor: "BORON",
		AssignedTo: "Automation", Techniques: []string{"T1", "T2"}, LastUpdate: at, Created: at.Add(-time.Minute),
		FirstActivity: at.Add(-3 * time.Minute), LastActivity: at.Add(-2 * time.Minute), Resolved: at,
		Comments: []Comment{{Text: "seen", By: "anna", Time: at}},
		Evidence: []Evidence{
			DeviceEvidence{Device: device},
			ProcessEvidence{
				DetectionStatus: "blocked", DeviceID: DeviceID(device.DNSName), ID: 4711, ParentID: 12, Started: at.Add(-150 * time.Second),
				ParentStarted: at.Add(-time.Hour), CommandLine: `a.exe "b"`, Image: File{Name: "a.exe", Path: `C:\x`, SHA1: "aa", SHA256: "bb", MD5: "cc"},
				ParentImage: File{Name: "p.exe", Path: `C:\p`}, User: User{Account: "anna", Domain: "CORP", SID: "S-1", EntraID: "e", Principal: "anna@x"},
			},
			FileEvidence{DetectionStatus: "prevented", DeviceID: DeviceID(device.DNSName), File: File{Name: "f.dll", Path: `C:\f`, SHA1: "ff"}},
			UserEvidence{User: User{Account: "ben"}},
			IPEvidence{Address: "203.0.113.1"},
			URLEvidence{URL: "https://x.test/?a=1&b=2"},
			RegistryEvidence{Hive: "HKEY_LOCAL_MACHINE", Key: `A\B`, ValueName: "n", ValueType: "String", Value: "v"},
			RawEvidence(`{"@odata.type":"#microsoft.graph.security.newEvidence"}`),
		},
		Extra: []string{`"later":{"n":1}`},
	}
}

func TestEndpointAlertOnTheWire(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(richAlert())
	got := w.get(w.endpointToken(), endpointPath, "$expand", "evidence")
	for _, part := range []string{
		`{"@odata.context":"https://api.securitycenter.microsoft.com/api/$metadata#Alerts","value":[{"id":"da1_1","incidentId":7587,"investigationId":null,`,
		`"assignedTo":"Automation","severity":"High","status":"Resolved","classification":"TruePositive","determination":"MultiStagedAttack",`,
		`"investigationState":"UnsupportedAlertType","detectionSource":"WindowsDefenderAv","detectorId":"det","category":"Malware",`,
		`"threatFamilyName":"X","title":"A & B","description":"text","alertCreationTime":"2026-11-20T09:59:00.1234567Z",`,
		`"firstEventTime":"2026-11-20T09:57:00.1234567Z","lastEventTime":"2026-11-20T09:58:00.1234567Z","lastUpdateTime":"2026-11-20T10:00:00.1234567Z","resolvedTime":"2026-11-20T10:00:00.1234567Z",`,
		`"machineId":"` + DeviceID("ws-anna-01.corp.contoso.test") + `","computerDnsName":"ws-anna-01.corp.contoso.test","rbacGroupName":"Workstations","aadTenantId":"` + testTenantID + `",`,
		`"threatName":"HackTool:Win32/X","mitreTechniques":["T1","T2"],"relatedUser":{"userName":"anna","domainName":"CORP"},`,
		`"loggedOnUsers":[{"accountName":"anna","domainName":"CORP"},{"accountName":"ben","domainName":"CORP"}],`,
		`"comments":[{"comment":"seen","createdBy":"anna","createdTime":"2026-11-20T10:00:00.1234567Z"}],"evidence":[`,
		`{"entityType":"Process","evidenceCreationTime":"2026-11-20T09:59:00.1234567Z","sha1":"aa","sha256":"bb","fileName":"a.exe","filePath":"C:\\x","processId":4711,"processCommandLine":"a.exe \"b\"","processCreationTime":"2026-11-20T09:57:30.1234567Z","parentProcessId":12,"parentProcessCreationTime":"2026-11-20T09:00:00.1234567Z","parentProcessFileName":"p.exe","parentProcessFilePath":"C:\\p","ipAddress":null,"url":null,"registryKey":null,"registryHive":null,"registryValueType":null,"registryValue":null,"accountName":"anna","domainName":"CORP","userSid":"S-1","aadUserId":"e","userPrincipalName":"anna@x","detectionStatus":"Blocked"},`,
		`{"entityType":"File","evidenceCreationTime":"2026-11-20T09:59:00.1234567Z","sha1":"ff",`, `"detectionStatus":"Prevented"}`,
		`"ipAddress":"203.0.113.1"`, `"url":"https://x.test/?a=1&b=2"`,
		`"registryKey":"A\\B","registryHive":"HKEY_LOCAL_MACHINE","registryValueType":"String","registryValue":"v"`,
		`],"domains":[],"later":{"n":1}}]}`,
	} {
		if !strings.Contains(got.body, part) {
			t.Errorf("no %s in\n%s", part, got.body)
		}
	}
	alert := decode[struct {
		Value []struct{ Evidence []struct{ EntityType string } }
	}](t, got.body).Value[0]
	var kinds []string
	for _, item := range alert.Evidence {
		kinds = append(kinds, item.EntityType)
	}
	if want := []string{"Process", "File", "User", "Ip", "Url", "Registry"}; !slices.Equal(kinds, want) {
		t.Errorf("evidence %v, want %v: the device is the alert's, raw evidence Graph's", kinds, want)
	}
}

func TestEndpointAlertWithNothingKnown(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(Alert{ID: "x", IncidentID: "no number", Severity: "unknown", DetectionSource: "somethingNew"})
	got := w.get(w.endpointToken(), endpointPath)
	for _, part := range []string{
		`"incidentId":null`, `"severity":"UnSpecified"`, `"status":"New"`, `"classification":null`, `"machineId":null`, `"computerDnsName":null`,
		`"relatedUser":null`, `"mitreTechniques":[]`, `"loggedOnUsers":[]`, `"resolvedTime":null`, `"evidence":[]`, `"detectionSource":"SomethingNew"`,
	} {
		if !strings.Contains(got.body, part) {
			t.Errorf("no %s in\n%s", part, got.body)
		}
	}
}

func TestEndpointAlertHasWhatRealOnesHave(t *testing.T) {
	theirs := decode[list](t, string(sample(t, "get-alerts.example1.json"))).Value[0]
	ours := decode[map[string]any](t, string(richAlert().renderEndpoint(testTenantID, true)))
	for key, value := range decode[map[string]any](t, string(theirs)) {
		mine, ok := ours[key]
		if a, b := fmt.Sprintf("%T", mine), fmt.Sprintf("%T", value); !ok || a != b && mine != nil && value != nil {
			t.Errorf("%s: %T, in real ones %T", key, mine, value)
		}
	}
}
