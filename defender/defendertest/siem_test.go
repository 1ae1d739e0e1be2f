package defendertest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDetectionsOfARange(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(SIEM)
	now := w.server.Now()
	for _, minutes := range []int{-180, -120, -60, -30, -5, 0, 10} {
		device := SampleDevices()[(minutes+180)/5%5]
		w.tenant.AddAlert(Alert{
			ID: fmt.Sprint(minutes), LastUpdate: now.Add(time.Duration(minutes) * time.Minute),
			Evidence: []Evidence{DeviceEvidence{Device: device}, FileEvidence{File: File{Name: "one"}}, FileEvidence{File: File{Name: "two"}}},
		})
	}
	plain := func(minutes int) string {
		return now.Add(time.Duration(minutes) * time.Minute).Format("2006-01-02T15:04:05.0000000")
	}
	tests := []struct {
		name    string
		options []string
		want    []string
	}{
		{"the last two hours by default", nil, []string{"0", "0", "-5", "-5", "-30", "-30", "-60", "-60", "-120", "-120"}},
		{"since", []string{"sinceTimeUtc", plain(-60)}, []string{"0", "0", "-5", "-5", "-30", "-30", "-60", "-60"}},
		{"since with a zone", []string{"sinceTimeUtc", plain(-30) + "Z"}, []string{"0", "0", "-5", "-5", "-30", "-30"}},
		{"just after", []string{"sinceTimeUtc", now.Add(-30*time.Minute + tick).Format("2006-01-02T15:04:05.0000000")}, []string{"0", "0", "-5", "-5"}},
		{"until", []string{"sinceTimeUtc", plain(-180), "untilTimeUtc", plain(-60)}, []string{"-60", "-60", "-120", "-120", "-180", "-180"}},
		{"until alone", []string{"untilTimeUtc", plain(-31)}, []string{"-60", "-60", "-120", "-120"}},
		{"ago", []string{"ago", "PT30M"}, []string{"0", "0", "-5", "-5", "-30", "-30"}},
		{"a limit keeps the newest", []string{"sinceTimeUtc", plain(-180), "limit", "3"}, []string{"0", "0", "-5"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, r := range rowsOf(t, w.detections(token, test.options...)) {
				got = append(got, r.AlertID)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestALimitThatCutsARevisionDoesNotServeIt(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(SIEM)
	w.tenant.AddAlert(Alert{ID: "x", Evidence: []Evidence{FileEvidence{File: File{Name: "one"}}, FileEvidence{File: File{Name: "two"}}}})
	w.detections(token, "limit", "1")
	if w.tenant.ServedAll() {
		t.Error("half a revision counts as served")
	}
	w.detections(token, "limit", "2")
	if !w.tenant.ServedAll() {
		t.Error("a whole revision does not")
	}
	// A revision that published nothing is served by an answer that covers its time.
	w.server.AdvanceClock(30 * time.Minute)
	if _, err := w.tenant.Change("x", func(a *Alert) { a.Status = "resolved" }); err != nil {
		t.Fatal(err)
	}
	w.detections(token, "untilTimeUtc", w.server.Now().Add(-time.Minute).Format(zoneless))
	if w.tenant.ServedAll() {
		t.Error("an answer of before counts")
	}
	// Nor does one whose limit was reached before it came to it.
	w.server.AdvanceClock(time.Second)
	w.tenant.AddAlert(Alert{ID: "y"})
	w.detections(token, "limit", "1")
	if !w.tenant.ServedAll("y") || w.tenant.ServedAll("x") {
		t.Error("what lies beyond the limit counts as served")
	}
	w.server.AdvanceClock(-time.Second)
	if got := w.detections(token, "ago", "PT1M"); len(got) != 0 || !w.tenant.ServedAll() {
		t.Errorf("an answer that covers it does not count; it has %s", got)
	}
}

func TestDetectionsOfDevices(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(SIEM)
	for _, device := range SampleDevices() {
		w.tenant.AddAlert(Alert{ID: firstLabel(device.DNSName), Evidence: []Evidence{DeviceEvidence{Device: device}}})
	}
	w.tenant.AddRawDetection([]byte(`{"FullId":"r","AlertId":"raw","LastProcessedTimeUtc":"2026-11-20T10:00:00","DeviceCreatedMachineTags":"lab","CloudCreatedMachineTags":"a, b"}`))
	for query, want := range map[string]int{
		"?machinegroups=Servers": 2, "?machinegroups=Servers&machinegroups=Workstations": 5, "?machinegroups=None": 0,
		"?CloudCreatedMachineTags=Finance": 1, "?CloudCreatedMachineTags=b": 1, "?DeviceCreatedMachineTags=lab": 1, "?DeviceCreatedMachineTags=x": 0, "": 6,
	} {
		got := decode[[]json.RawMessage](t, w.get(token, endpointPath+query).body)
		if len(got) != want {
			t.Errorf("%q: %d, want %d", query, len(got), want)
		}
	}
}

func TestLateDetectionsWereProcessedLate(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(SIEM)
	now := w.server.Now()
	w.tenant.AddAlert(Alert{ID: "late", LastUpdate: now.Add(-4 * time.Hour)}, Late(4*time.Hour+time.Minute))
	w.tenant.AddAlert(Alert{ID: "held", LastUpdate: now.Add(-4 * time.Hour)}, Withheld())
	w.tenant.AddRawDetection([]byte(`{"FullId":"r","LastProcessedTimeUtc":"2026-11-20T09:00:00"}`), VisibleAt(now.Add(time.Minute)))
	if got := w.detections(token); len(got) != 0 {
		t.Errorf("before: %s", got)
	}
	w.server.AdvanceClock(2 * time.Minute)
	w.tenant.Release("held")
	var got []string
	for _, r := range rowsOf(t, w.detections(token)) {
		got = append(got, r.AlertID+" "+r.Processed)
	}
	want := []string{"held " + formatTime(now.Add(2*time.Minute)), "late " + formatTime(now.Add(time.Minute)), " 2026-11-20T09:00:00"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRawDetections(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(SIEM)
	raw := `{"FullId" : "r" ,"AlertId":"x","LastProcessedTimeUtc":"2026-11-20T10:00:00.1Z","Url":"a&b \u0026"}`
	for range 2 {
		if key := w.tenant.AddRawDetection([]byte(raw)); key != "r" {
			t.Errorf("key %q", key)
		}
	}
	w.tenant.AddRawDetection([]byte(`17`))
	got := w.get(token, endpointPath)
	if strings.Count(got.body, raw) != 2 || !strings.Contains(got.body, `17`) || got.header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%s", got.body)
	}
	for _, r := range w.tenant.Revisions() {
		if r.Served != 1 || len(r.Elements(SIEM)) != 1 || r.Elements(Graph) != nil || r.Elements(DefenderForEndpoint) != nil {
			t.Errorf("%s: %+v", r.Raw, r)
		}
	}
}

func TestWhichAPIAnswers(t *testing.T) {
	w := newWorld(t, Options{})
	endpoint, siem := w.endpointToken(), w.token(SIEM)
	tests := []struct {
		token, query, route string
		status              int
	}{
		{endpoint, "", RouteEndpointAlerts, 200},
		{siem, "", RouteSIEM, 200},
		{"", "", RouteEndpointAlerts, 401},
		{"unknown", "", RouteEndpointAlerts, 401},
		{endpoint, "?$top=1", RouteEndpointAlerts, 200},
		{siem, "?$top=1", RouteEndpointAlerts, 401},
		{siem, "?$top=1&ago=PT1M", RouteEndpointAlerts, 401},
		{siem, "?ago=PT1M", RouteSIEM, 200},
		{endpoint, "?ago=PT1M", RouteSIEM, 401},
		{"", "?sinceTimeUtc=2026-11-20T10:00:00.000", RouteSIEM, 401},
		{siem, "?colour=red", RouteSIEM, 401},
		{endpoint, "?colour=red", RouteEndpointAlerts, 400},
	}
	for _, test := range tests {
		got := w.get(test.token, endpointPath+test.query)
		calls := w.server.Calls(nil)
		if call := calls[len(calls)-1]; call.Route != test.route || got.status != test.status {
			t.Errorf("%q %q: %s %d, want %s %d", test.token, test.query, call.Route, got.status, test.route, test.status)
		}
	}
}

func TestDetectionsRefusals(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(SIEM)
	for _, query := range []string{
		"sinceTimeUtc=yesterday", "sinceTimeUtc=%222016-09-12 00:00:00%22", "untilTimeUtc=2026-11-20", "ago=10m", "ago=PT10M&untilTimeUtc=2026-11-20T10:00:00",
		"limit=0", "limit=x", "limit=1&limit=2", "limit=1&colour=red",
	} {
		if got := w.get(token, endpointPath+"?"+strings.ReplaceAll(query, " ", "%20")); got.status != http.StatusUnauthorized || got.body != "" {
			t.Errorf("%s: %d %s", query, got.status, got.body)
		}
	}
	w.server.Inject(Fault{Route: RouteSIEM, Respond: Retired()})
	if got := w.get(token, endpointPath); got.status != http.StatusGone || got.body != "" {
		t.Errorf("retired: %d %s", got.status, got.body)
	}
	w.server.SetLimits(Limits{SIEM: []Rate{{1, time.Minute}}})
	if first, second := w.get(token, endpointPath), w.get(token, endpointPath); first.status != http.StatusOK || second.status != http.StatusTooManyRequests || second.header.Get("Retry-After") != "60" {
		t.Errorf("%d, then %d %s", first.status, second.status, second.header)
	}
	w.server.SetLimits(Limits{})
	w.tenant.RemoveResource(SIEM)
	if got := w.get(token, endpointPath); got.status != http.StatusForbidden || got.body != "" {
		t.Errorf("of a tenant whose state is deleted: %d %s", got.status, got.body)
	}
	w.app.RevokeTokens()
	if got := w.get(token, endpointPath+"?limit=1"); got.status != http.StatusUnauthorized {
		t.Errorf("a revoked token: %d", got.status)
	}
}
