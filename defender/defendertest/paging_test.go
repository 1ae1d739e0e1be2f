package defendertest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// inOrder adds alerts that were last updated one after the other, and returns their ids.
func (w *world) inOrder(n int) []string {
	var ids []string
	for i := range n {
		id := fmt.Sprintf("alert-%d", i)
		w.tenant.AddAlert(Alert{ID: id, LastUpdate: w.server.Now().Add(time.Duration(i-n) * time.Second)})
		ids = append(ids, id)
	}
	return ids
}

const byUpdateOrder = "lastUpdateDateTime asc"

func TestRepeatPage(t *testing.T) {
	w := newWorld(t, Options{Graph: GraphOptions{NextLinks: true, LinkedSize: 2}})
	ids, token := w.inOrder(3), w.token(Graph)
	w.server.Inject(Fault{Route: RouteAlerts, Times: -1, Respond: RepeatPage()})
	page := w.list(token, alertsPath, "$orderby", byUpdateOrder)
	for range 2 {
		again := w.list(token, page.NextLink)
		if again.NextLink != page.NextLink || !slices.Equal(page.ids(t), ids[:2]) || !slices.Equal(again.ids(t), ids[:2]) {
			t.Errorf("behind %v come %v", page.ids(t), again.ids(t))
		}
	}
	if got := w.tenant.Revisions(ids[0])[0].Served; got != 3 {
		t.Errorf("served %d times", got)
	}
	// What is asked for anew is answered anew, and what is refused is refused still.
	if page := w.list(token, alertsPath, "$orderby", "lastUpdateDateTime desc"); page.ids(t)[0] != ids[2] {
		t.Errorf("asked anew, %v come", page.ids(t))
	}
	if got := w.get("no token", alertsPath); got.status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", got.status)
	}
}

func TestLoopLinks(t *testing.T) {
	w := newWorld(t, Options{Graph: GraphOptions{NextLinks: true, LinkedSize: 2}})
	ids, token := w.inOrder(3), w.token(Graph)
	w.server.Inject(Fault{Route: RouteAlerts, Times: 2, Respond: LoopLinks()})
	page := w.list(token, alertsPath, "$orderby", byUpdateOrder)
	again := w.list(token, page.NextLink)
	if again.NextLink != page.NextLink || !slices.Equal(page.ids(t), ids[:2]) || !slices.Equal(again.ids(t), ids[:2]) {
		t.Errorf("%v leads to %s, and from there %v to %s", page.ids(t), page.NextLink, again.ids(t), again.NextLink)
	}
	if got := w.tenant.Revisions(ids[0])[0].Served; got != 2 {
		t.Errorf("served %d times", got)
	}
	w.tenant.AddDevice(Device{DNSName: "one"})
	w.server.Inject(Fault{Route: RouteMachines, Respond: LoopLinks()})
	machines := w.list(w.token(DefenderForEndpoint), "/api/machines")
	if !strings.HasSuffix(machines.NextLink, "/api/machines") || len(machines.Value) != 1 {
		t.Errorf("%d machines lead to %q", len(machines.Value), machines.NextLink)
	}
}

func TestEmptyPages(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.token(Graph)
	w.server.Inject(Fault{Route: RouteAlerts, Times: -1, Respond: EmptyPages()})
	seen := map[string]bool{}
	for link := alertsPath; len(seen) < 5; {
		page := w.list(token, link)
		if link = page.NextLink; seen[link] || !strings.HasPrefix(link, w.server.URL()+alertsPath) || len(page.Value) != 0 {
			t.Fatalf("%d alerts, then %s", len(page.Value), link)
		}
		seen[link] = true
	}
}

// An alert that changes between two pages moves to the end. Where links lead to a number of alerts, the one behind it moves up to the
// page before and is not given; where they lead to a place, nothing is passed over.
func TestShiftingLinks(t *testing.T) {
	for shifting, want := range map[bool]string{false: "alert-2 alert-3", true: "alert-3 alert-0"} {
		w := newWorld(t, Options{Graph: GraphOptions{NextLinks: true, LinkedSize: 2, ShiftingLinks: shifting}})
		w.inOrder(4)
		token := w.token(Graph)
		page := w.list(token, alertsPath, "$orderby", byUpdateOrder, "$top", "1000")
		w.server.AdvanceClock(time.Second)
		if _, err := w.tenant.Change("alert-0", func(*Alert) {}); err != nil {
			t.Fatal(err)
		}
		page = w.list(token, page.NextLink)
		if got := strings.Join(page.ids(t), " "); got != want {
			t.Errorf("shifting %v: the second page has %s", shifting, got)
		}
		if rest := page.NextLink != ""; rest == shifting {
			t.Errorf("shifting %v: there is a third page: %v", shifting, rest)
		}
	}
}

// A replica that lags shows what there was: the older revision of what has changed since, what was removed, and nothing of what
// appeared.
func TestLaggingReplica(t *testing.T) {
	w := newWorld(t, Options{})
	ids, token := w.inOrder(3), w.token(Graph)
	w.server.AdvanceClock(10 * time.Second)
	if _, err := w.tenant.Change(ids[0], func(a *Alert) { a.Title = "changed" }); err != nil {
		t.Fatal(err)
	}
	w.tenant.RemoveAlert(ids[2])
	w.tenant.AddAlert(Alert{ID: "fresh"})
	if _, err := w.tenant.Change(ids[1], func(a *Alert) { a.Title = "still to come" }, Late(time.Minute)); err != nil {
		t.Fatal(err)
	}
	behind := false
	w.server.Inject(Fault{Route: RouteAlerts, Times: -1, Lag: 5 * time.Second, Match: func(*http.Request) bool {
		behind = !behind
		return behind
	}})
	first := w.tenant.Revisions(ids[0])[0]
	for range 2 {
		if got := strings.Join(w.readIDs(token), " "); got != "alert-0 alert-1 alert-2" {
			t.Errorf("the replica that lags has %s", got)
		}
		if got := strings.Join(w.readIDs(token), " "); got != "alert-1 alert-0 fresh" {
			t.Errorf("the other has %s", got)
		}
	}
	if got := w.tenant.Held(); got != 6 {
		t.Errorf("%d revisions are held", got)
	}
	revisions := w.tenant.Revisions(ids[0])
	if revisions[0].Served != 2 || !revisions[0].LastServed.Equal(w.server.Now()) || revisions[1].Served != 2 || first.Served != 0 {
		t.Errorf("of the older revision and the newer one were served %d and %d", revisions[0].Served, revisions[1].Served)
	}
}
