package defendertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func (w *world) readIDs(token string) []string {
	w.t.Helper()
	return w.list(token, alertsPath, "$orderby", "lastUpdateDateTime asc").ids(w.t)
}

func TestScriptOfAppearance(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	now := w.server.Now()
	w.tenant.AddAlert(Alert{ID: "now"})
	w.tenant.AddAlert(Alert{ID: "late", LastUpdate: now.Add(-time.Minute)}, Late(6*time.Minute))
	w.tenant.AddAlert(Alert{ID: "held", LastUpdate: now.Add(-2 * time.Minute)}, Withheld())
	w.tenant.AddAlert(Alert{ID: "then", LastUpdate: now.Add(time.Minute)}, VisibleAt(now.Add(10*time.Minute)))

	expect := func(want ...string) {
		t.Helper()
		if got := w.readIDs(token); !slices.Equal(got, want) {
			t.Errorf("served %v, want %v", got, want)
		}
	}
	expect("now")
	w.server.AdvanceClock(5*time.Minute - time.Nanosecond)
	expect("now")
	w.server.AdvanceClock(time.Nanosecond)
	expect("late", "now")
	if n := w.tenant.Release("held"); n != 1 {
		t.Errorf("released %d", n)
	}
	expect("held", "late", "now")
	w.server.AdvanceClock(5 * time.Minute)
	expect("held", "late", "now", "then")
	w.tenant.RemoveAlert("late")
	expect("held", "now", "then")
}

func TestChangesMakeRevisions(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	start := w.server.Now()
	first := w.tenant.AddAlert(Alert{ID: "x", Techniques: []string{"T1"}})
	if _, err := w.tenant.Change("none", func(*Alert) {}); err == nil {
		t.Error("an unknown alert was changed")
	}
	if got := w.readIDs(token); len(got) != 1 {
		t.Fatal(got)
	}
	second, err := w.tenant.Change("x", func(a *Alert) { a.Status, a.Techniques[0] = "resolved", "T2" })
	if err != nil || !second.LastUpdate.Equal(first.LastUpdate.Add(tick)) {
		t.Errorf("%v: last update %v after %v", err, second.LastUpdate, first.LastUpdate)
	}
	w.server.AdvanceClock(time.Minute)
	// This one is skipped: the fourth becomes visible before it.
	if _, err := w.tenant.Change("x", func(a *Alert) { a.Title = "third" }, Withheld()); err != nil {
		t.Fatal(err)
	}
	fourth, err := w.tenant.Change("x", func(a *Alert) { a.Title = "fourth" })
	if err != nil || !fourth.LastUpdate.Equal(start.Add(time.Minute).Add(tick)) {
		t.Errorf("%v: last update %v", err, fourth.LastUpdate)
	}
	w.tenant.Release("x")
	served := w.list(token, alertsPath)
	revisions := w.tenant.Revisions("x")
	if len(revisions) != 4 || len(served.Value) != 1 || string(served.Value[0]) != string(revisions[3].Raw) {
		t.Fatalf("%d revisions, served %s", len(revisions), served.Value)
	}
	type state struct {
		number, served    int
		visible, replaced bool
	}
	want := []state{{1, 1, false, true}, {2, 0, false, true}, {3, 0, false, true}, {4, 1, true, false}}
	for i, r := range revisions {
		if got := (state{r.Number, r.Served, r.Visible, !r.Replaced.IsZero()}); got != want[i] {
			t.Errorf("revision %d: %+v, want %+v", i+1, got, want[i])
		}
		if r.Hash != sha256.Sum256(r.Raw) || r.Key != "x" {
			t.Errorf("revision %d: hash or key", i+1)
		}
	}
	if !strings.Contains(string(revisions[0].Raw), `"T1"`) || !strings.Contains(string(revisions[1].Raw), `"T2"`) {
		t.Error("a change reached the revision before")
	}
	if !revisions[0].FirstServed.Equal(start) || !revisions[3].FirstServed.Equal(start.Add(time.Minute)) {
		t.Errorf("first served %v, %v", revisions[0].FirstServed, revisions[3].FirstServed)
	}
}

func TestChangeOfRawAlerts(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	if key := w.tenant.AddRaw([]byte(`{"id":"x","lastUpdateDateTime":"2026-11-20T10:00:00Z"}`)); key != "x" {
		t.Errorf("key %q", key)
	}
	if _, err := w.tenant.Change("x", func(*Alert) {}); err == nil {
		t.Error("a raw alert was changed")
	}
	w.tenant.AddRaw([]byte(`{"id":"x","lastUpdateDateTime":"2026-11-20T10:00:05Z"}`))
	if got := w.list(token, alertsPath); len(got.Value) != 1 || !strings.Contains(string(got.Value[0]), "10:00:05Z") {
		t.Errorf("%s", got.Value)
	}
	if a, b := w.tenant.AddRaw([]byte(`{}`)), w.tenant.AddRaw([]byte(`{}`)); a == b {
		t.Errorf("two elements without id share the key %q", a)
	}
}

func TestWaitServed(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	w.tenant.AddAlert(Alert{ID: "x"})
	w.tenant.AddAlert(Alert{ID: "held"}, Withheld())
	if w.tenant.ServedAll() || w.tenant.ServedAll("x") {
		t.Error("served before any read")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.tenant.WaitServed(gone, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	waited := make(chan error, 1)
	go func() { waited <- w.tenant.WaitServed(t.Context()) }()
	w.readIDs(token)
	if err := <-waited; err != nil || !w.tenant.ServedAll() {
		t.Errorf("%v; what is withheld does not count", err)
	}
	w.server.AdvanceClock(time.Second)
	since := w.server.Now()
	go func() { waited <- w.tenant.WaitServedSince(t.Context(), since, "x") }()
	w.readIDs(token)
	if err := <-waited; err != nil {
		t.Error(err)
	}
	if got := w.tenant.Revisions("x")[0]; got.Served != 2 || got.LastServed.Before(since) {
		t.Errorf("%+v", got)
	}
}

func TestCallsAreRecorded(t *testing.T) {
	w := newWorld(t, Options{})
	w.tenant.AddAlert(Alert{})
	token := w.token(Graph)
	w.postToken("nobody", tokenForm(Graph))
	w.server.AdvanceClock(time.Minute)
	w.get(token, alertsPath, "$top", "5")
	w.get("", alertsPath)
	w.get(token, "/v1.0/me")
	calls, err := w.server.WaitCalls(t.Context(), 5, func(c Call) bool { return c.Done })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range calls {
		got = append(got, fmt.Sprintf("%d %s %s %s|%s|%s %d %d %s", c.Number, c.Route, c.Method, c.Query.Get("$top"), c.Tenant, c.App, c.Status, c.Elements, c.Time.Format("04:05")))
	}
	want := []string{
		"1 token POST |" + testTenantID + "|" + testAppID + " 200 0 00:00",
		"2 token POST |nobody| 400 0 00:00",
		"3 alerts_v2 GET 5|" + testTenantID + "|" + testAppID + " 200 1 01:00",
		"4 alerts_v2 GET || 401 0 01:00",
		"5 unknown GET || 400 0 01:00",
	}
	if !slices.Equal(got, want) {
		t.Errorf("\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(w.server.Calls(OnRoute(RouteToken))); n != 2 {
		t.Errorf("%d token calls", n)
	}
}

func TestRecordOfCallsIsBounded(t *testing.T) {
	var c calls
	for range maxCalls + 10 {
		c.finish(Call{Number: c.begin(Call{}), Status: http.StatusOK})
	}
	list, _ := c.filtered(nil)
	if len(list) > maxCalls || list[len(list)-1].Number != maxCalls+10 || !slices.IsSortedFunc(list, func(a, b Call) int { return a.Number - b.Number }) {
		t.Errorf("%d calls, the last %d", len(list), list[len(list)-1].Number)
	}
	// One that began before the oldest kept is dropped, not put in another's place.
	c.finish(Call{Number: 1, Status: http.StatusTeapot})
	list, _ = c.filtered(func(c Call) bool { return c.Status == http.StatusTeapot })
	if len(list) != 0 {
		t.Error("a dropped call came back")
	}
}
