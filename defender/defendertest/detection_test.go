package defendertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// detections reads the alert exporter's array.
func (w *world) detections(token string, options ...string) []json.RawMessage {
	w.t.Helper()
	got := w.get(token, endpointPath, options...)
	if got.status != http.StatusOK {
		w.t.Fatalf("%v: %d %s %v", options, got.status, got.body, got.err)
	}
	return decode[[]json.RawMessage](w.t, got.body)
}

// row are the members that tell detections apart, and how they ended.
type row struct {
	AlertID         string `json:"AlertId"`
	FullID          string `json:"FullId"`
	IocUniqueID     string `json:"IocUniqueId"`
	FileName        string
	IPAddress       string `json:"IpAddress"`
	URL             string `json:"Url"`
	ComputerDNSName string `json:"ComputerDnsName"`
	Processed       string `json:"LastProcessedTimeUtc"`
	AlertPart       int
	Source          string
	Action          string `json:"RemediationAction"`
	Success         *bool  `json:"RemediationIsSuccess"`
	Executing       *bool  `json:"WasExecutingWhileDetected"`
}

func rowsOf(t *testing.T, elements []json.RawMessage) []row {
	t.Helper()
	rows := make([]row, len(elements))
	for i, element := range elements {
		rows[i] = decode[row](t, string(element))
	}
	return rows
}

func files(rows []row) []string {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.FileName
	}
	return names
}

func TestDetectionOnTheWire(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(richAlert())
	elements := w.detections(w.token(SIEM))
	if len(elements) != 2 {
		t.Fatalf("%s", elements)
	}
	first := string(elements[0])
	for _, part := range []string{
		`{"AlertTime":"2026-11-20T09:57:30.1234567Z","ComputerDnsName":"ws-anna-01.corp.contoso.test","AlertTitle":"A & B","Category":"Malware","Severity":"High","AlertId":"da1_1","Actor":"BORON",`,
		`"IocName":"","IocValue":"","CreatorIocName":"","CreatorIocValue":"","Sha1":"aa","FileName":"a.exe","FilePath":"C:\\x","IpAddress":"","Url":"","IoaDefinitionId":"det","UserName":"anna","AlertPart":0,`,
		`"LastProcessedTimeUtc":"2026-11-20T10:00:00.1234567Z","ThreatCategory":"HackTool","ThreatFamily":"X","ThreatName":"HackTool:Win32/X",`,
		`"RemediationAction":"Quarantine","RemediationIsSuccess":true,"Source":"Antivirus","Md5":"cc","Sha256":"bb","WasExecutingWhileDetected":true,`,
		`"UserDomain":"CORP","LogOnUsers":"CORP\\anna; CORP\\ben","MachineDomain":"corp.contoso.test","MachineName":"ws-anna-01","InternalIPv4List":"10.20.4.11","InternalIPv6List":"fd00:20:4::11",`,
		`"FileHash":"aa","DeviceID":"` + DeviceID("ws-anna-01.corp.contoso.test") + `","MachineGroup":"Workstations","Description":"text","DeviceCreatedMachineTags":"","CloudCreatedMachineTags":"Finance",`,
		`"CommandLine":"a.exe \"b\"","IncidentLinkToWDATP":"https://securitycenter.windows.com/incidents/byalert?alertId=da1_1&source=SIEM",`,
		`"later":{"n":1}}`,
	} {
		if !strings.Contains(first, part) {
			t.Errorf("no %s in\n%s", part, first)
		}
	}
	rows := rowsOf(t, elements)
	for i, r := range rows {
		if r.AlertID != "da1_1" || r.FullID != r.AlertID+":"+r.IocUniqueID || r.AlertPart != i {
			t.Errorf("%+v", r)
		}
	}
	if rows[0].FullID == rows[1].FullID || !slices.Equal(files(rows), []string{"a.exe", "f.dll"}) {
		t.Errorf("%+v", rows)
	}
}

func TestDetectionsHaveTheMembersOfRealOnes(t *testing.T) {
	for name, options := range map[string]SIEMOptions{
		"pull-alerts-2020.json": {}, "pull-alerts-2017.single-object.json": {Format2017: true},
	} {
		t.Run(name, func(t *testing.T) {
			given := sample(t, name)
			if trimmed := bytes.TrimSpace(given); trimmed[0] == '[' {
				given = decode[[]json.RawMessage](t, string(given))[0]
			}
			w := newWorld(t, Options{SIEM: options})
			r := rendered(Alert{ID: "x"}.withDefaults(w.server.Now()), testTenantID)
			r.tenant = w.tenant
			ours := r.detections()[0].raw
			if got, want := keysOf(t, ours), keysOf(t, given); !slices.Equal(got, want) {
				t.Errorf("members\n%v\nwant\n%v", got, want)
			}
			types := func(raw []byte) map[string]string {
				kinds := map[string]string{}
				for key, value := range decode[map[string]any](t, string(raw)) {
					kinds[key] = fmt.Sprintf("%T", value)
				}
				return kinds
			}
			theirs := types(given)
			for key, kind := range types(ours) {
				if kind != theirs[key] && kind != "<nil>" && theirs[key] != "<nil>" {
					t.Errorf("%s is a %s, in real ones a %s", key, kind, theirs[key])
				}
			}
		})
	}
}

func TestFormatOf2017(t *testing.T) {
	w := newWorld(t, Options{SIEM: SIEMOptions{Format2017: true}})
	token := w.token(SIEM)
	if got := w.get(token, endpointPath); got.body != "[]" {
		t.Errorf("nothing: %s", got.body)
	}
	w.tenant.AddAlert(Alert{ID: "x", DetectorID: "det"})
	one := w.get(token, endpointPath)
	for _, part := range []string{`"Actor":null`, `"IoaDefinitiondId":"det"`, `"Source":"Windows Defender ATP"`, `"RemediationIsSuccess":null`} {
		if !strings.Contains(one.body, part) {
			t.Errorf("no %s in %s", part, one.body)
		}
	}
	if strings.Contains(one.body, "DeviceID") || one.body[0] != '{' || !w.tenant.ServedAll() {
		t.Errorf("one detection: %s", one.body)
	}
	w.tenant.AddAlert(Alert{ID: "y"})
	if got := w.detections(token); len(got) != 2 {
		t.Errorf("two detections: %s", got)
	}
}

func TestDetectionsAreImmutable(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(SIEM)
	process := func(id int64, image, status string) ProcessEvidence {
		return ProcessEvidence{ID: id, Image: File{Name: image}, DetectionStatus: status}
	}
	change := func(change func(*Alert), visibility ...Visibility) {
		t.Helper()
		w.server.AdvanceClock(time.Minute)
		if _, err := w.tenant.Change("x", change, visibility...); err != nil {
			t.Fatal(err)
		}
	}
	w.tenant.AddAlert(Alert{ID: "x", Evidence: []Evidence{process(1, "a.exe", "detected"), process(1, "a.exe", "detected"), IPEvidence{Address: "203.0.113.1"}}})
	first := w.detections(token)
	if got := rowsOf(t, first); !slices.Equal(files(got), []string{"a.exe"}) || got[0].IPAddress != "" {
		t.Fatalf("the first revision publishes %+v", got)
	}
	// A status, of the alert and of an item, publishes nothing.
	change(func(a *Alert) { a.Status, a.Evidence = "resolved", []Evidence{process(1, "a.exe", "blocked")} })
	if got := w.detections(token); len(got) != 1 || !bytes.Equal(got[0], first[0]) {
		t.Errorf("after a change of status: %s", got)
	}
	// What is skipped was never published; its evidence comes with the revision that is shown.
	change(func(a *Alert) { a.Evidence = append(a.Evidence, process(2, "b.exe", "")) }, Withheld())
	change(func(a *Alert) { a.Evidence = append(a.Evidence, FileEvidence{File: File{Name: "c.dll"}}) })
	w.tenant.Release("x")
	got := w.detections(token)
	if rows := rowsOf(t, got); !slices.Equal(files(rows), []string{"b.exe", "c.dll", "a.exe"}) || rows[0].AlertPart != 1 || rows[1].AlertPart != 2 ||
		rows[0].Processed != formatTime(w.server.Now()) || !bytes.Equal(got[2], first[0]) {
		t.Errorf("after new evidence: %s", got)
	}
	// Evidence that goes and comes again is not new.
	change(func(a *Alert) { a.Evidence = nil })
	change(func(a *Alert) { a.Evidence = []Evidence{process(1, "a.exe", "prevented")} })
	if again := w.detections(token); len(again) != 3 {
		t.Errorf("at the end: %s", again)
	}
	var published []int
	for _, r := range w.tenant.Revisions("x") {
		published = append(published, len(r.Elements(SIEM)))
	}
	if want := []int{1, 0, 0, 2, 0, 0}; !slices.Equal(published, want) {
		t.Errorf("the record tells of %v detections, want %v", published, want)
	}
	w.tenant.RemoveAlert("x")
	if got := w.detections(token); len(got) != 0 {
		t.Errorf("after removal: %s", got)
	}
}

func TestAnAlertWithoutFilesIsOneDetection(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(Alert{ID: "x", Evidence: []Evidence{
		DeviceEvidence{Device: SampleDevices()[1]}, URLEvidence{URL: "x.test"}, IPEvidence{Address: "203.0.113.1"}, IPEvidence{Address: "203.0.113.2"},
	}})
	w.tenant.AddAlert(Alert{ID: "other", ServiceSource: "microsoftDefenderForIdentity"})
	rows := rowsOf(t, w.detections(w.token(SIEM)))
	if len(rows) != 1 || rows[0].AlertID != "x" || rows[0].IPAddress != "203.0.113.1" || rows[0].URL != "x.test" || rows[0].ComputerDNSName != "ws-ben-02.corp.contoso.test" || rows[0].Source != "EDR" {
		t.Errorf("%+v", rows)
	}
}

func TestADetectionIsOfItsOwnDevice(t *testing.T) {
	w := newWorld(t, Options{})
	devices := SampleDevices()
	w.tenant.AddAlert(Alert{ID: "x", Evidence: []Evidence{
		DeviceEvidence{Device: devices[0]}, DeviceEvidence{Device: devices[1]},
		FileEvidence{DeviceID: DeviceID(devices[1].DNSName), File: File{Name: "b"}},
		FileEvidence{DeviceID: DeviceID(devices[0].DNSName), File: File{Name: "a"}},
		FileEvidence{DeviceID: "unknown", File: File{Name: "c"}},
	}})
	var names []string
	for _, r := range rowsOf(t, w.detections(w.token(SIEM))) {
		names = append(names, r.FileName+" "+firstLabel(r.ComputerDNSName))
	}
	if want := []string{"b ws-ben-02", "a ws-anna-01", "c ws-anna-01"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
}

func TestHowDetectionsEnd(t *testing.T) {
	text := func(b *bool) string {
		if b == nil {
			return "null"
		}
		return fmt.Sprint(*b)
	}
	tests := []struct{ source, status, want string }{
		{"antivirus", "prevented", "Quarantine true false"},
		{"antivirus", "blocked", "Quarantine true true"},
		{"antivirus", "detected", " false true"},
		{"antivirus", "", " null null"},
		{endpointSource, "prevented", " null null"},
	}
	for _, test := range tests {
		w := newWorld(t, Options{})
		w.tenant.AddAlert(Alert{DetectionSource: test.source, Evidence: []Evidence{FileEvidence{DetectionStatus: test.status, File: File{Name: "a"}}}})
		r := rowsOf(t, w.detections(w.token(SIEM)))[0]
		if got := r.Action + " " + text(r.Success) + " " + text(r.Executing); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.source, test.status, got, test.want)
		}
	}
}
