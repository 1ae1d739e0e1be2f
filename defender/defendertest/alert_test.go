package defendertest

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzQuote holds that every text comes back from its JSON, but for what is no UTF-8.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "plain", "a\"b\\c", "\x00\x1f\n\r\t", "é\u2028\U0001F600", "\xff\xfe", "<&>", "x\xc3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := &jsonWriter{}
		w.quote(text)
		if !utf8.Valid(w.b) {
			t.Fatalf("%q: not UTF-8: %q", text, w.b)
		}
		var got string
		if err := json.Unmarshal(w.b, &got); err != nil {
			t.Fatalf("%q: %v in %s", text, err, w.b)
		}
		if want := string([]rune(text)); got != want {
			t.Fatalf("%q came back as %q", text, got)
		}
	})
}

func TestAlertOnTheWire(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 0, 0, 100, time.UTC)
	a := Alert{
		ID: "x", IncidentID: "12", Title: `"A & B" <c>`, Severity: "high", Techniques: []string{"T1", "T2"},
		LastUpdate: at, Created: at.Add(-time.Minute),
		Comments: []Comment{{Text: "seen", By: "anna", Time: at}},
		Evidence: []Evidence{
			DeviceEvidence{Device: Device{DNSName: "pc.contoso.test", Health: "ImpairedCommunication", LoggedOn: []User{{Account: "anna", Domain: "CORP"}}}},
			ProcessEvidence{ID: 4711, DetectionStatus: "prevented", Image: File{Name: "a.exe", Size: 7}},
			FileEvidence{EvidenceBase: EvidenceBase{Created: at, Verdict: "malicious", RemediationStatus: "active"}, File: File{SHA1: "aa"}},
			UserEvidence{User: User{Account: "anna"}},
			IPEvidence{Address: "203.0.113.1"},
			URLEvidence{URL: "https://x.test/?a=1&b=2"},
			RegistryEvidence{Hive: "HKEY_LOCAL_MACHINE", Key: `A\B`, Value: "v"},
			RawEvidence(`{"@odata.type":"#microsoft.graph.security.newEvidence"}`),
		},
		Extra: []string{`"later":{"n":1}`},
	}.withDefaults(at)
	raw := string(a.render("tenant"))
	for _, part := range []string{
		`"title":"\"A & B\" <c>"`, `"severity":"high"`, `"status":"new"`, `"classification":null`, `"mitreTechniques":["T1","T2"]`,
		`"lastUpdateDateTime":"2026-11-20T10:00:00.0000001Z"`, `"createdDateTime":"2026-11-20T09:59:00.0000001Z"`, `"resolvedDateTime":null`,
		`"firstActivityDateTime":"2026-11-20T09:57:30.0000001Z"`, `"later":{"n":1}}`,
		`"comments":[{"comment":"seen","createdByDisplayName":"anna","createdDateTime":"2026-11-20T10:00:00.0000001Z"}]`,
		`"healthStatus":"impairedCommunication"`, `"loggedOnUsers":[{"accountName":"anna","domainName":"CORP"}]`,
		`"hostName":"pc","ntDomain":null,"dnsDomain":"contoso.test"`, `"parentProcessImageFile":null`,
	} {
		if !strings.Contains(raw, part) {
			t.Errorf("no %s in %s", part, raw)
		}
	}
	got := decode[struct {
		Evidence []map[string]any `json:"evidence"`
	}](t, raw).Evidence
	var kinds []string
	for _, item := range got {
		kind, _ := item["@odata.type"].(string)
		kinds = append(kinds, strings.TrimPrefix(kind, "#microsoft.graph.security."))
	}
	want := []string{"deviceEvidence", "processEvidence", "fileEvidence", "userEvidence", "ipEvidence", "urlEvidence", "registryValueEvidence", "newEvidence"}
	if !slices.Equal(kinds, want) {
		t.Errorf("evidence %v, want %v", kinds, want)
	}
	// The defaults of evidence.
	if got[1]["verdict"] != "unknown" || got[1]["remediationStatus"] != "none" || got[1]["createdDateTime"] != "2026-11-20T09:59:00.0000001Z" {
		t.Errorf("%v", got[1])
	}
	if got[2]["verdict"] != "malicious" || got[2]["remediationStatus"] != "active" || got[2]["createdDateTime"] != "2026-11-20T10:00:00.0000001Z" {
		t.Errorf("%v", got[2])
	}
	if !reflect.DeepEqual(got[1]["processId"], float64(4711)) || got[1]["detectionStatus"] != "prevented" || got[5]["url"] != "https://x.test/?a=1&b=2" {
		t.Errorf("%v %v", got[1], got[5])
	}
}

func TestTimesHaveNoTrailingZeros(t *testing.T) {
	for nanos, want := range map[int]string{0: "10:00:00Z", 116_000_000: "10:00:00.116Z", 123_456_789: "10:00:00.1234567Z", 99: "10:00:00Z"} {
		got := formatTime(time.Date(2026, 11, 20, 10, 0, 0, nanos, time.UTC))
		if got != "2026-11-20T"+want {
			t.Errorf("%d: %s, want %s", nanos, got, want)
		}
	}
}

func TestAnAlertMayTellNoActivity(t *testing.T) {
	w := newWorld(t, Options{})
	a := w.tenant.AddAlert(Alert{NoActivity: true, FirstActivity: w.server.Now()})
	if raw := string(a.render("")); !strings.Contains(raw, `"firstActivityDateTime":null,"lastActivityDateTime":null`) {
		t.Errorf("Graph: %s", raw)
	}
	if raw := string(a.renderEndpoint("", true)); !strings.Contains(raw, `"firstEventTime":null,"lastEventTime":null`) {
		t.Errorf("Defender for Endpoint: %s", raw)
	}
	r := &revision{tenant: w.tenant, alert: &a}
	if raw := string(r.detection(flatEvidence{}, "", 0).raw); !strings.Contains(raw, `"AlertTime":""`) {
		t.Errorf("the alert exporter: %s", raw)
	}
}
