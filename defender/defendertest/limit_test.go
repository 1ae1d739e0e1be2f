package defendertest

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	start := fixedClock{}.Now()
	key := limitKey{"r", "t", "a"}
	rates := []Rate{{3, time.Minute}, {5, time.Hour}}
	l := newLimiter()
	steps := []struct {
		at    time.Duration
		ok    bool
		spent Rate
		wait  time.Duration
	}{
		{0, true, Rate{}, 0},
		{10 * time.Second, true, Rate{}, 0},
		{20 * time.Second, true, Rate{}, 0},
		{30 * time.Second, false, rates[0], 30 * time.Second},
		{59 * time.Second, false, rates[0], time.Second},
		{60 * time.Second, true, Rate{}, 0}, // the first has left; refusals were not counted
		{61 * time.Second, false, rates[0], 9 * time.Second},
		{70 * time.Second, true, Rate{}, 0},
		{80 * time.Second, false, rates[1], time.Hour - 80*time.Second},
		{time.Hour, true, Rate{}, 0},
		{-time.Hour, true, Rate{}, 0}, // set back: what lies in the future is forgotten
	}
	for i, step := range steps {
		ok, spent, wait := l.take(key, rates, start.Add(step.at))
		if ok != step.ok || spent != step.spent || wait != step.wait {
			t.Errorf("step %d: %v %v %v, want %v %v %v", i, ok, spent, wait, step.ok, step.spent, step.wait)
		}
	}
	if ok, _, _ := l.take(limitKey{"r", "t", "b"}, rates, start); !ok {
		t.Error("another application was counted together")
	}
	for range 100 {
		if ok, _, _ := l.take(limitKey{"r", "t", "c"}, []Rate{}, start); !ok {
			t.Fatal("without rates there is no limit")
		}
	}
	if ok, _, wait := l.take(limitKey{"r", "t", "d"}, []Rate{{0, time.Minute}}, start); ok || wait != time.Minute {
		t.Errorf("a rate of none: %v %v", ok, wait)
	}
}

func TestThrottledAlerts(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	for i := range 150 {
		if got := w.get(token, alertsPath, "$top", "1"); got.status != http.StatusOK {
			t.Fatalf("call %d: %d %s", i, got.status, got.body)
		}
	}
	w.server.AdvanceClock(18*time.Second + 500*time.Millisecond)
	got := w.get(token, alertsPath)
	checkError(t, got, http.StatusTooManyRequests, "TooManyRequests", "Please retry again later.")
	if after := got.header.Get("Retry-After"); after != "42" {
		t.Errorf("Retry-After: %q", after)
	}
	// Another application of the tenant has its own count.
	other := w.tenant.AddApplication("other", "s", RoleSecurityAlertRead)
	form := tokenForm(Graph)
	form.Set("client_id", other.ID())
	form.Set("client_secret", "s")
	otherToken := decode[map[string]any](t, w.postToken(testTenantID, form).body)["access_token"].(string)
	checkError(t, w.get(otherToken, alertsPath), http.StatusOK, "", "")
	w.server.AdvanceClock(42 * time.Second)
	checkError(t, w.get(token, alertsPath), http.StatusOK, "", "")
	if got := len(w.server.Calls(func(c Call) bool { return c.Status == http.StatusTooManyRequests })); got != 1 {
		t.Errorf("%d calls recorded as refused", got)
	}
}

func TestThrottledMachines(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Machines: []Rate{{2, time.Minute}, {3, time.Hour}}}})
	w.tenant.AddDevice(SampleDevices()[0])
	token := w.token(DefenderForEndpoint)
	for range 2 {
		checkError(t, w.get(token, "/api/machines"), http.StatusOK, "", "")
	}
	refused := func(calls int, period string, seconds int) {
		t.Helper()
		got := w.get(token, "/api/machines")
		want := fmt.Sprintf(`{"error":{"code":"429","message":"API calls quota exceeded! Maximum allowed %d per %s for the key Destination+TenantID+AppID. You can send requests again in %d seconds.","target":%q}}`, calls, period, seconds, testTenantID)
		if got.status != 429 || got.body != want || got.header.Get("Retry-After") != fmt.Sprint(seconds) {
			t.Errorf("%d Retry-After %q\n got %s\nwant %s", got.status, got.header.Get("Retry-After"), got.body, want)
		}
	}
	refused(2, "00:01:00", 60)
	w.server.AdvanceClock(time.Minute)
	checkError(t, w.get(token, "/api/machines"), http.StatusOK, "", "")
	refused(3, "01:00:00", 3540)
	w.server.SetLimits(Limits{Machines: []Rate{}})
	checkError(t, w.get(token, "/api/machines"), http.StatusOK, "", "")
}
