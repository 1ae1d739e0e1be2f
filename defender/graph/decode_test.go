package graph

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender/defendertest"
	"defender-integration/defender/reading"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// oddities writes oddities as "KIND path value", without the prefix of the kinds.
func oddities(alert *integrationv1.Alert) string {
	var lines []string
	for _, o := range alert.GetOddities() {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(o.GetKind().String(), "KIND_")+" "+o.GetPath()+" "+o.GetValue()))
	}
	return strings.Join(lines, "; ")
}

func mustDecode(t *testing.T, raw string) reading.Decoded {
	t.Helper()
	decoded, err := NewDecoder().Decode([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return decoded
}

// whole puts members into an alert that has what is required.
func whole(members string) string {
	return `{"id":"a","lastUpdateDateTime":"2026-01-02T03:04:05.1234567Z",` + members + `}`
}

func TestOddInputs(t *testing.T) {
	type alert = *integrationv1.Alert
	tests := []struct {
		name string
		raw  string
		// get is what is looked at, want what it is.
		get  func(alert) any
		want any
		odd  string
	}{
		{"no object", `7`, func(a alert) any { return a.GetId() }, "", "WRONG_TYPE  7"},
		{"empty object", `{}`, func(a alert) any { return a.GetId() }, "", "MISSING_FIELD /id; MISSING_FIELD /lastUpdateDateTime"},
		{"null id", `{"id":null,"lastUpdateDateTime":"2026-01-01T00:00:00Z"}`, func(a alert) any { return a.GetId() }, "", "MISSING_FIELD /id"},
		{"exact case", whole(`"ID":"b","Title":"x"`), func(a alert) any { return a.GetId() + a.GetTitle() }, "a", "UNKNOWN_PROPERTY /ID b; UNKNOWN_PROPERTY /Title x"},
		{"last of equal keys wins", whole(`"evidence":[],"title":"x","title":"y"`), func(a alert) any { return a.GetTitle() }, "y", ""},
		{"last of equal keys is null", whole(`"title":"x","title":null`), func(a alert) any { return a.GetTitle() }, "", ""},
		{"equal lists do not add up", whole(`"systemTags":["x"],"systemTags":["y"]`), func(a alert) any { return strings.Join(a.GetSystemTags(), ",") }, "y", ""},
		{"escaped key", whole(`"evidence":[],"tit\u006ce":"x"`), func(a alert) any { return a.GetTitle() }, "x", ""},
		{"null", whole(`"title":null,"severity":null,"systemTags":null,"evidence":null,"comments":null,"createdDateTime":null,"additionalData":null`), func(a alert) any { return a.GetTitle() }, "", ""},
		{"number as text", whole(`"incidentId":28282`), func(a alert) any { return a.GetIncidentId() }, "28282", ""},
		{"truth as text", whole(`"title":true`), func(a alert) any { return a.GetTitle() }, "", "WRONG_TYPE /title true"},
		{"object as text", whole(`"title":{"a":1}`), func(a alert) any { return a.GetTitle() }, "", `WRONG_TYPE /title {"a":1}`},
		{"unknown severity", whole(`"severity":"extreme"`), func(a alert) any { return a.GetSeverity() }, integrationv1.Severity_SEVERITY_UNRECOGNIZED, "UNKNOWN_ENUM_VALUE /severity extreme"},
		{"future severity", whole(`"severity":"unknownFutureValue"`), func(a alert) any { return a.GetSeverity() }, integrationv1.Severity_SEVERITY_UNRECOGNIZED, "UNKNOWN_ENUM_VALUE /severity unknownFutureValue"},
		{"number as severity", whole(`"severity":3`), func(a alert) any { return a.GetSeverity() }, integrationv1.Severity_SEVERITY_UNSPECIFIED, "WRONG_TYPE /severity 3"},
		{"severity in another case", whole(`"severity":"HIGH"`), func(a alert) any { return a.GetSeverity() }, integrationv1.Severity_SEVERITY_HIGH, ""},
		{"Pascal case", whole(`"classification":"InformationalExpectedActivity"`), func(a alert) any { return a.GetClassification() }, integrationv1.Classification_CLASSIFICATION_INFORMATIONAL_EXPECTED_ACTIVITY, ""},
		{"the other spelling of a determination", whole(`"determination":"compromisedUser"`), func(a alert) any { return a.GetDetermination() }, integrationv1.Determination_DETERMINATION_COMPROMISED_ACCOUNT, ""},
		{"clean", whole(`"determination":"clean"`), func(a alert) any { return a.GetDetermination() }, integrationv1.Determination_DETERMINATION_NOT_MALICIOUS, ""},
		{"one tag without a list", whole(`"systemTags":"x"`), func(a alert) any { return strings.Join(a.GetSystemTags(), ",") }, "x", "WRONG_TYPE /systemTags x"},
		{"odd items in a list", whole(`"systemTags":["x",null,7,{}]`), func(a alert) any { return strings.Join(a.GetSystemTags(), ",") }, "x,7", "WRONG_TYPE /systemTags/3 {}"},
		{"unknown property", whole(`"newThing":{"a":[1]}`), func(a alert) any { return a.GetId() }, "a", `UNKNOWN_PROPERTY /newThing {"a":[1]}`},
		{"annotations", whole(`"@odata.context":"x","evidence@odata.count":3`), func(a alert) any { return a.GetId() }, "a", ""},
		{"a path is escaped", whole(`"a/b~c":1`), func(a alert) any { return a.GetId() }, "a", `UNKNOWN_PROPERTY /a~1b~0c 1`},
		{"further data is no object", whole(`"additionalData":[1]`), func(a alert) any { return a.GetAdditionalDataJson() }, "", `WRONG_TYPE /additionalData [1]`},
		{"further data as served", whole(`"additionalData":{ "b" : 1.0, "a":"&" }`), func(a alert) any { return a.GetAdditionalDataJson() }, `{ "b" : 1.0, "a":"&" }`, ""},
		{"bytes that are not UTF-8", whole("\"evidence\":[],\"title\":\"a\xffb\""), func(a alert) any { return a.GetTitle() }, "a\uFFFDb", "INVALID_UTF8 /title a\uFFFDb"},
		{"half a surrogate pair", whole(`"evidence":[],"title":"a\ud800b"`), func(a alert) any { return a.GetTitle() }, "a\uFFFDb", "INVALID_UTF8 /title a\uFFFDb"},
		{"zero and zero width", whole(`"evidence":[],"title":"a\u0000\u200bb"`), func(a alert) any { return a.GetTitle() }, "a\x00\u200bb", ""},
		{"evidence as an object", whole(`"evidence":{"@odata.type":"#microsoft.graph.security.urlEvidence","url":"x"}`), func(a alert) any { return a.GetEvidence()[0].GetUrl().GetUrl() }, "x", `WRONG_TYPE /evidence {"@odata.type":"#microsoft.graph.security.urlEvidence","url":"x"}`},
		{"evidence of no object", whole(`"evidence":[7,null,{"@odata.type":"#microsoft.graph.security.urlEvidence","url":"x"}]`), func(a alert) any { return len(a.GetEvidence()) }, 1, `WRONG_TYPE /evidence/0 7`},
		{"evidence of an unknown type", whole(`"evidence":[{"@odata.type":"#microsoft.graph.security.quantumEvidence","verdict":"malicious","qubits":7}]`), func(a alert) any { return a.GetEvidence()[0].GetType() + a.GetEvidence()[0].GetVerdict().String() }, "quantumEvidenceEVIDENCE_VERDICT_MALICIOUS", `UNKNOWN_EVIDENCE_TYPE /evidence/0 quantumEvidence`},
		{"evidence without a type", whole(`"evidence":[{"verdict":"malicious"}]`), func(a alert) any { return a.GetEvidence()[0].GetVerdict() }, integrationv1.EvidenceVerdict_EVIDENCE_VERDICT_MALICIOUS, `UNKNOWN_EVIDENCE_TYPE /evidence/0`},
		{"evidence of mail", whole(`"evidence":[{"@odata.type":"#microsoft.graph.security.mailboxEvidence","upn":"a@contoso.test","verdict":"suspicious"}]`), func(a alert) any { return a.GetEvidence()[0].GetVerdict() }, integrationv1.EvidenceVerdict_EVIDENCE_VERDICT_SUSPICIOUS, ""},
		{"type behind its properties", whole(`"evidence":[{"url":"x","@odata.type":"#microsoft.graph.security.urlEvidence"}]`), func(a alert) any { return a.GetEvidence()[0].GetUrl().GetUrl() }, "x", ""},
		{"nested evidence of the declared type", whole(`"evidence":[{"@odata.type":"#microsoft.graph.security.hostLogonSessionEvidence","host":{"deviceDnsName":"pc"}}]`), func(a alert) any {
			return a.GetEvidence()[0].GetHostLogonSession().GetHost().GetDevice().GetDeviceDnsName()
		}, "pc", ""},
		{"unknown property of evidence", whole(`"evidence":[{"@odata.type":"#microsoft.graph.security.urlEvidence","url":"x","port":1}]`), func(a alert) any { return a.GetEvidence()[0].GetUrl().GetUrl() }, "x", "UNKNOWN_PROPERTY /evidence/0/port 1"},
		{"number of another type", whole(`"evidence":[{"@odata.type":"#microsoft.graph.security.processEvidence","processId":"4780","parentProcessId":1.5}]`), func(a alert) any {
			return a.GetEvidence()[0].GetProcess().GetProcessId() + a.GetEvidence()[0].GetProcess().GetParentProcessId()
		}, int64(4780), "WRONG_TYPE /evidence/0/parentProcessId 1.5"},
		{"beyond 2^53", whole(`"evidence":[{"@odata.type":"#microsoft.graph.security.processEvidence","processId":9007199254740993}]`), func(a alert) any { return a.GetEvidence()[0].GetProcess().GetProcessId() }, int64(9007199254740993), ""},
		{"too deep", whole(`"additionalData":` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200) + `,"title":"x","evidence":[]`), func(a alert) any { return a.GetTitle() + fmt.Sprint(len(a.GetAdditionalDataJson())) }, "x1201", ""},
		{"evidence too deep", whole(`"evidence":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `,"title":"x"`), func(a alert) any { return a.GetTitle() }, "x", "WRONG_TYPE /evidence/0 " + strings.Repeat("[", 128)},
		{"alert without evidence", whole(`"title":"x"`), func(a alert) any { return a.GetTitle() }, "x", "MISSING_FIELD /evidence"},
		{"evidence null", whole(`"title":"x","evidence":null`), func(a alert) any { return a.GetTitle() }, "x", "MISSING_FIELD /evidence"},
		{"too many", whole(`"title":"x","evidence":[` + strings.Repeat(`{},`, 250_000) + `{}]`), func(a alert) any { return a.GetTitle() + fmt.Sprint(len(a.GetEvidence())) }, "x0", "BEYOND_BOUND /evidence [" + strings.Repeat("{},", 42) + "{"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			decoded := mustDecode(t, tt.raw)
			if got := tt.get(decoded.Alert); got != tt.want {
				t.Errorf("got %#v, want %#v", got, tt.want)
			}
			if got := oddities(decoded.Alert); got != tt.odd {
				t.Errorf("oddities are %q, want %q", got, tt.odd)
			}
			if _, err := proto.Marshal(decoded.Alert); err != nil {
				t.Errorf("it cannot be stored: %v", err)
			}
		})
	}
}

func TestTimes(t *testing.T) {
	at := func(nanos int) time.Time { return time.Date(2026, 1, 2, 3, 4, 5, nanos, time.UTC) }
	tests := []struct {
		text string
		want time.Time
		odd  string
	}{
		{"2026-01-02T03:04:05Z", at(0), ""},
		{"2026-01-02T03:04:05.1Z", at(100_000_000), ""},
		{"2026-01-02T03:04:05.1234567Z", at(123_456_700), ""},
		{"2026-01-02T03:04:05.123456789Z", at(123_456_789), ""},
		{"2026-01-02T03:04:05.12345678912Z", at(123_456_789), ""},
		{"2026-01-02T03:04:05", at(0), ""},
		{"2026-01-02T03:04:05.1234567", at(123_456_700), ""},
		{"2026-01-02T05:04:05+02:00", at(0), ""},
		{"0001-01-01T00:00:00Z", time.Time{}, ""},
		{"", time.Time{}, ""},
		{"soon", time.Time{}, "BAD_TIME /createdDateTime soon"},
		{"2026-13-02T03:04:05Z", time.Time{}, "BAD_TIME /createdDateTime 2026-13-02T03:04:05Z"},
	}
	for _, tt := range tests {
		decoded := mustDecode(t, whole(`"createdDateTime":"`+tt.text+`"`))
		got := decoded.Alert.GetCreatedTime()
		if (got == nil) != tt.want.IsZero() || got != nil && !got.AsTime().Equal(tt.want) {
			t.Errorf("%q is read as %v, want %v", tt.text, got, tt.want)
		}
		if odd := oddities(decoded.Alert); odd != tt.odd {
			t.Errorf("%q: oddities are %q, want %q", tt.text, odd, tt.odd)
		}
	}
}

func TestOdditiesAreBounded(t *testing.T) {
	var members []string
	for i := range 100 {
		members = append(members, fmt.Sprintf(`"x%d":"%s"`, i, strings.Repeat("é", 500)))
	}
	odd := mustDecode(t, whole(strings.Join(members, ","))).Alert.GetOddities()
	if len(odd) != 32 || utf8.RuneCountInString(odd[0].GetValue()) != 128 {
		t.Errorf("%d oddities with %d characters, want 32 with 128", len(odd), utf8.RuneCountInString(odd[0].GetValue()))
	}
}

func TestContentHash(t *testing.T) {
	const one = `{"id":"a","n":1,"evidence":[{"x":"1","y":"2"},{"x":"3","y":"4"}],"tags":["s","t"]}`
	same := []string{
		`{ "tags" : ["s", "t"], "evidence" : [ {"y":"4","x":"3"}, {"x":"1","y":"2"} ], "n":1, "id":"\u0061" }`,
		`{"id":"b","id":"a","n":1,"evidence":[{"x":"1","y":"2"},{"x":"3","y":"4"}],"tags":["s","t"]}`,
	}
	other := []string{
		`{"id":"a","n":1.0,"evidence":[{"x":"1","y":"2"},{"x":"3","y":"4"}],"tags":["s","t"]}`,
		`{"id":"a","n":1,"evidence":[{"x":"1","y":"4"},{"x":"3","y":"2"}],"tags":["s","t"]}`,
		`{"id":"a","n":1,"evidence":[{"x":"1","y":"2"},{"x":"3","y":"4"}],"tags":["t","s"]}`,
		`{"id":"a","n":"1","evidence":[{"x":"1","y":"2"},{"x":"3","y":"4"}],"tags":["s","t"]}`,
		`{"id":"a","n":1,"evidence":[{"x":"1","y":"2"},{"x":"3","y":"4"}],"tags":["s","t"],"z":null}`,
		`{"id":"a","n":1,"evidence":[{"x":"1","y":"2"},{"x":"3","y":"4"},{"x":"3","y":"4"}],"tags":["s","t"]}`,
		`{"id":"a","n":1,"evidence":[{"x":"12","y":""},{"x":"3","y":"4"}],"tags":["s","t"]}`,
	}
	hash := mustDecode(t, one).ContentHash
	for _, raw := range same {
		if mustDecode(t, raw).ContentHash != hash {
			t.Errorf("%s has another hash than %s", raw, one)
		}
	}
	for _, raw := range other {
		if mustDecode(t, raw).ContentHash == hash {
			t.Errorf("%s has the hash of %s", raw, one)
		}
	}
	// Journals hold hashes: where this one changes, every alert looks changed after an upgrade.
	if got, want := fmt.Sprintf("%x", hash), goldenHash; got != want {
		t.Errorf("hash is %s, want %s", got, want)
	}
}

const goldenHash = "23316f0d4609f1eb27a11299bcda4bb9d9d093a7581733fa3c0e7eeef3a4d145"

// FuzzDecode holds the decoder to encoding/json: what the one takes the other takes, and what is decoded can be stored.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, raw := range readingtest.Simulated(f, defendertest.Graph) {
		f.Add(raw)
	}
	f.Add([]byte(`{"id":7,"evidence":{"@odata.type":"x"},"id":"\ud800"}`))
	d := NewDecoder()
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		decoded, err := d.Decode(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("the bytes were changed")
		}
		if valid := json.Valid(raw); valid != (err == nil) {
			t.Fatalf("encoding/json says %t, the decoder %v", valid, err)
		}
		if err != nil {
			return
		}
		if _, err := proto.Marshal(decoded.Alert); err != nil {
			t.Fatalf("it cannot be stored: %v", err)
		}
		if decoded.Key == "" || len(decoded.Alert.GetOddities()) > 32 {
			t.Fatalf("key %q, %d oddities", decoded.Key, len(decoded.Alert.GetOddities()))
		}
		again, err := NewDecoder().Decode(raw)
		if err != nil || again.ContentHash != decoded.ContentHash || !proto.Equal(again.Alert, decoded.Alert) {
			t.Fatalf("a used decoder and a new one differ: %v", err)
		}
	})
}
