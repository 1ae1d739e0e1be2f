package siem

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender/defendertest"
	"defender-integration/defender/reading"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// decode is a new decoder's Decode, as readingtest wants it.
func decode() readingtest.Decode {
	d := NewDecoder()
	return func(raw []byte) (*integrationv1.Alert, string, [sha256.Size]byte, error) {
		decoded, err := d.Decode(raw)
		return decoded.Alert, decoded.Key, decoded.ContentHash, err
	}
}

func mustDecode(t *testing.T, raw string) reading.Decoded {
	t.Helper()
	decoded, err := NewDecoder().Decode([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return decoded
}

// whole puts members into a detection that has what is required.
func whole(members string) string {
	return `{"FullId":"a:1","LastProcessedTimeUtc":"2026-01-02T03:04:05.1234567Z",` + members + `}`
}

func TestDecode(t *testing.T) {
	tests := []struct {
		// field is a path among readingtest.Fields, want what stands there; where want is empty, nothing stands there or below. odd
		// is what readingtest.Oddities writes.
		name, raw, field, want, odd string
	}{
		{"no object", `7`, "id", "", "WRONG_TYPE  7"},
		{"empty object", `{}`, "service_source", "microsoftDefenderForEndpoint", "MISSING_FIELD /FullId; MISSING_FIELD /LastProcessedTimeUtc"},
		{"id of its parts", `{"AlertId":"a","IocUniqueId":"1","LastProcessedTimeUtc":"2026-01-02T03:04:05Z"}`, "id", "a:1", "MISSING_FIELD /FullId"},
		{"no id without its part", `{"AlertId":"a","LastProcessedTimeUtc":"2026-01-02T03:04:05Z"}`, "id", "", "MISSING_FIELD /FullId"},
		{"names in any case", whole(`"alertTITLE":"x"`), "title", "x", ""},
		{"last of equal names wins", whole(`"AlertTitle":"x","alerttitle":"y"`), "title", "y", ""},
		{"unknown member", whole(`"NewThing":{"a":[1]}`), "id", "a:1", `UNKNOWN_PROPERTY /NewThing {"a":[1]}`},
		{"misspelt detector of 2017", whole(`"IoaDefinitiondId":"d"`), "detector_id", "d", ""},
		{"both spellings, one empty", whole(`"IoaDefinitionId":"d","IoaDefinitiondId":""`), "detector_id", "d", ""},
		{"both spellings, the other empty", whole(`"IoaDefinitionId":null,"IoaDefinitiondId":"d"`), "detector_id", "d", ""},
		{"family of the mapping", whole(`"ThreatFamilyName":"f"`), "threat_family_name", "f", ""},
		{"unspecified severity", whole(`"Severity":"UnSpecified"`), "severity", "unknown", ""},
		{"severity in another case", whole(`"Severity":"HIGH"`), "severity", "high", ""},
		{"unknown severity", whole(`"Severity":"Extreme"`), "severity", "unrecognized", "UNKNOWN_ENUM_VALUE /Severity Extreme"},

		{"number as a string", whole(`"ReportID":"77"`), "siem.report_id", "77", ""},
		{"number of another name", whole(`"ReportId":77`), "siem.report_id", "77", ""},
		{"number beyond 2^53", whole(`"ReportID":9007199254740993`), "siem.report_id", "9007199254740993", ""},
		{"no number", whole(`"AlertPart":"first"`), "siem.alert_part", "", "WRONG_TYPE /AlertPart first"},
		{"truth", whole(`"RemediationIsSuccess":false`), "siem.remediation_is_success", "false", ""},
		{"truth as a string", whole(`"WasExecutingWhileDetected":"TRUE"`), "siem.was_executing_while_detected", "true", ""},
		{"truth that says nothing", whole(`"RemediationIsSuccess":null`), "siem.remediation_is_success", "", ""},
		{"truth that is empty", whole(`"RemediationIsSuccess":""`), "siem.remediation_is_success", "", ""},
		{"time without a zone", whole(`"AlertTime":"2026-01-01T00:00:00.12345"`), "first_activity_time", "2026-01-01T00:00:00.12345Z", ""},
		{"unreadable time", whole(`"AlertTime":"soon"`), "first_activity_time", "", "BAD_TIME /AlertTime soon"},

		{"addresses with commas", whole(`"InternalIPv4List":"192.0.2.1, 192.0.2.2"`), "evidence.0.device.ip_interfaces.1", "192.0.2.2", ""},
		{"addresses with semicolons", whole(`"InternalIPV4List":"192.0.2.1;192.0.2.2;"`), "evidence.0.device.ip_interfaces.1", "192.0.2.2", ""},
		{"addresses of both kinds", whole(`"InternalIPv6List":"::1","InternalIPv4List":" 192.0.2.1 ,"`), "evidence.0.device.ip_interfaces.1", "::1", ""},
		{"addresses of none", whole(`"InternalIPv4List":" ; , "`), "evidence", "", ""},
		{"users", whole(`"LogOnUsers":"contoso\\alex;  contoso\\blake"`), "evidence.0.device.logged_on_users.1.account_name", "blake", ""},
		{"users without a domain", whole(`"LogOnUsers":"alex"`), "evidence.0.device.logged_on_users.0.account_name", "alex", ""},
		{"users in a real list", whole(`"LogOnUsers":["alex"]`), "evidence", "", `WRONG_TYPE /LogOnUsers ["alex"]`},
		{"a list that is too long", whole(`"InternalIPv4List":"` + strings.Repeat("192.0.2.1,", 1001) + `"`), "evidence.0.device.ip_interfaces.999", "192.0.2.1", "BEYOND_BOUND /InternalIPv4List " + strings.Repeat("192.0.2.1,", 13)[:128]},
		{"domain in DNS", whole(`"MachineDomain":"contoso.test"`), "evidence.0.device.dns_domain", "contoso.test", ""},
		{"domain of another kind", whole(`"MachineDomain":"CONTOSO"`), "evidence.0.device.nt_domain", "CONTOSO", ""},
		{"the device's own tag is one", whole(`"DeviceCreatedMachineTags":"red, team","CloudCreatedMachineTags":"a;b"`), "evidence.0.tags.0", "red, team", ""},
		{"the portal's tags are several", whole(`"DeviceCreatedMachineTags":"red, team","CloudCreatedMachineTags":"a;b"`), "evidence.0.tags.2", "b", ""},

		{"file", whole(`"Sha1":"1"`), "evidence.0.file.file_details.sha1", "1", ""},
		{"process", whole(`"Sha1":"1","CommandLine":"x.exe"`), "evidence.0.process.image_file.sha1", "1", ""},
		{"process without an image", whole(`"CommandLine":"x.exe"`), "evidence.0.process.image_file", "", ""},
		{"address", whole(`"IpAddress":"192.0.2.1"`), "evidence.0.ip.ip_address", "192.0.2.1", ""},
		{"URL", whole(`"Url":"https://a.test/?a=1&b=2"`), "evidence.0.url.url", "https://a.test/?a=1&b=2", ""},
		{"user", whole(`"UserName":"alex"`), "evidence.0.user.user_account.account_name", "alex", ""},
		{"link to the newer portal", whole(`"LinkToWDATP":"old","LinkToMTP":"new"`), "alert_web_url", "new", ""},
		{"link to the older portal", whole(`"LinkToWDATP":"old","LinkToMTP":""`), "alert_web_url", "old", ""},
		{"bytes that are not UTF-8", whole("\"AlertTitle\":\"a\xffb\""), "title", "a\uFFFDb", "INVALID_UTF8 /AlertTitle a\uFFFDb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			alert := mustDecode(t, tt.raw).Alert
			readingtest.WantField(t, alert, tt.field, tt.want)
			if got := readingtest.Oddities(alert); got != tt.odd {
				t.Errorf("oddities are %q, want %q", got, tt.odd)
			}
		})
	}
}

// Null, an empty string and no member at all are the same: for each member alone, and for all.
func TestNothingIsNothing(t *testing.T) {
	without := func(members map[string]any) *integrationv1.Alert {
		raw, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		return mustDecode(t, string(raw)).Alert
	}
	for _, raw := range detectionsIn(t, filepath.Join("testdata", "detection-full.json")) {
		var full map[string]any
		if err := json.Unmarshal(raw, &full); err != nil {
			t.Fatal(err)
		}
		for name, value := range full {
			full[name] = nil
			null := without(full)
			full[name] = ""
			empty := without(full)
			delete(full, name)
			absent := without(full)
			if !proto.Equal(null, absent) || !proto.Equal(empty, absent) {
				t.Errorf("%s: null, empty and absent give\n%v\n%v\n%v", name, null, empty, absent)
			}
			full[name] = value
			if proto.Equal(without(full), absent) {
				t.Errorf("%s makes no difference", name)
			}
		}
	}
}

func TestTimes(t *testing.T) {
	readingtest.Times(t, decode(), func(updated string) string { return `{"FullId":"a","LastProcessedTimeUtc":"` + updated + `"}` })
}

func TestContentHash(t *testing.T) {
	const one = `{"FullId":"a:1","AlertPart":0,"Url":"x","Sha1":null}`
	hash := mustDecode(t, one).ContentHash
	for raw, same := range map[string]bool{
		`{ "Sha1" : null, "url":"x", "ALERTPART":0, "FullId":"\u0061:1" }`: true,
		`{"FullId":"a:1","AlertPart":0,"Url":"X","Sha1":null}`:             false,
		`{"FullId":"a:1","AlertPart":"0","Url":"x","Sha1":null}`:           false,
		`{"FullId":"a:1","AlertPart":0,"Url":"x"}`:                         false,
	} {
		if got := mustDecode(t, raw).ContentHash == hash; got != same {
			t.Errorf("%s has the hash of %s: %t, want %t", raw, one, got, same)
		}
	}
	// Journals hold hashes: where this one changes, every detection looks changed after an upgrade.
	if got := fmt.Sprintf("%x", hash); got != goldenHash {
		t.Errorf("hash is %s, want %s", got, goldenHash)
	}
}

const goldenHash = "cac57147aaf8bccb6f0d1d13942b4a406867e655a256dd382b07ab8ce5b69e6e"

func TestKeys(t *testing.T) {
	if key := mustDecode(t, whole(`"AlertId":"a"`)).Key; key != "a:1" {
		t.Errorf("key is %s, want the FullId", key)
	}
	decoded := mustDecode(t, `{"AlertId":"a"}`)
	if want := fmt.Sprintf("sha256:%x", decoded.ContentHash); decoded.Key != want {
		t.Errorf("key is %s, want %s", decoded.Key, want)
	}
}

func TestDetectionsThatStandAlone(t *testing.T) {
	d := NewDecoder()
	for raw, want := range map[string]bool{
		`{"FullId":"a:1"}`:                true,
		`{"alertid":"a"}`:                 true,
		`{"AlertId":"","FullId":null}`:    false,
		`{"value":[],"AlertId":"a"}`:      false,
		`{"Error":"x","AlertId":"a"}`:     false,
		`{"error":{"code":"Forbidden"}}`:  false,
		`{"access_token":"x"}`:            false,
		`{}`:                              false,
		`[{"AlertId":"a"}]`:               false,
		`"AlertId"`:                       false,
		`{"AlertId":`:                     false,
		`{"AlertId":{"odata.error":"x"}}`: false,
	} {
		if got := d.isDetection([]byte(raw)); got != want {
			t.Errorf("%s is a detection: %t, want %t", raw, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, file := range readingtest.Files(f) {
		for _, raw := range detectionsIn(f, file) {
			f.Add(raw)
		}
	}
	for _, raw := range readingtest.Simulated(f, defendertest.SIEM) {
		f.Add(raw)
	}
	f.Add([]byte(`{"FullId":7,"fullid":"\ud800","LogOnUsers":"\\;\\\\","InternalIPv4List":",;","AlertPart":1e9}`))
	readingtest.Fuzz(f, decode)
}

// FuzzAlone: what stands alone is a detection only where it is JSON with an id, and asking changes nothing.
func FuzzAlone(f *testing.F) {
	for _, file := range readingtest.Files(f) {
		for _, raw := range detectionsIn(f, file) {
			f.Add(raw)
		}
	}
	f.Add([]byte(`{"AlertId":{},"value":1,"fullID":"\ud800"}`))
	d := NewDecoder()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !d.isDetection(raw) {
			return
		}
		decoded, err := d.Decode(raw)
		if err != nil || decoded.Alert.GetId() == "" && decoded.Alert.GetProviderAlertId() == "" {
			t.Fatalf("it is taken for a detection, and is %v with error %v", decoded.Alert, err)
		}
	})
}
