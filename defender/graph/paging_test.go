package graph

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	"defender-integration/defender/reading"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func asError(err error, target **defender.Error) bool { return errors.As(err, target) }

// add adds n alerts; update and create say when each was last updated and created.
func (w *world) add(n int, update, create func(i int) time.Time) {
	for i := range n {
		w.tenant.AddAlert(defendertest.Alert{Title: "alert " + strconv.Itoa(i), LastUpdate: update(i), Created: create(i)})
	}
}

func at(start time.Time, step time.Duration) func(int) time.Time {
	return func(i int) time.Time { return start.Add(time.Duration(i) * step) }
}

func TestPaging(t *testing.T) {
	start := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	instant := start.Add(10 * time.Minute)
	fixed := at(instant, 0)
	tests := []struct {
		name string
		size int
		fill func(w *world)
		// calls is the largest number of calls that it may take.
		calls int
	}{
		{"none", 10, func(*world) {}, 1},
		{"fewer than a page", 10, func(w *world) { w.add(9, at(start, time.Second), at(start, time.Second)) }, 1},
		{"exactly a page", 10, func(w *world) { w.add(10, at(start, time.Second), at(start, time.Second)) }, 2},
		{"many pages", 10, func(w *world) { w.add(95, at(start, time.Second), at(start, time.Second)) }, 11},
		{"neighbouring ticks", 10, func(w *world) { w.add(35, at(start, 100), at(start, time.Second)) }, 5},
		{"pairs at page ends", 3, func(w *world) {
			w.add(30, func(i int) time.Time { return start.Add(time.Duration(i/2) * time.Second) }, at(start, time.Second))
		}, 30},
		{"1,500 at one instant among 10,000", 1000, func(w *world) {
			w.add(5000, at(start, 100*time.Millisecond), at(start, time.Second))
			w.add(1500, fixed, at(start.Add(-time.Hour), time.Millisecond))
			w.add(3500, at(instant.Add(time.Second), 100*time.Millisecond), at(start, time.Second))
		}, 16},
		{"3,000 at one instant", 1000, func(w *world) { w.add(3000, fixed, at(start.Add(-time.Hour), time.Millisecond)) }, 7},
		{"1,400 created at one instant as well", 1000, func(w *world) { w.add(1400, fixed, fixed) }, 6},
		{"the read's start full", 10, func(w *world) { w.add(25, at(start, 0), at(start, time.Millisecond)) }, 8},
		{"newest instant full, then later ones", 10, func(w *world) {
			w.add(25, fixed, at(start, time.Millisecond))
			w.add(25, at(instant.Add(time.Second), time.Second), at(start, time.Millisecond))
		}, 12},
	}
	for _, links := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(tt.name+" links="+strconv.FormatBool(links), func(t *testing.T) {
				w := newWorld(t, defendertest.Options{Graph: defendertest.GraphOptions{NextLinks: links}})
				w.source.list.PageSize = tt.size
				tt.fill(w)
				given, read, err := w.collect(t, start)
				if err != nil {
					t.Fatal(err)
				}
				w.wantAll(t, given)
				if read.Elements != int64(len(given)) {
					t.Errorf("Elements is %d, want %d", read.Elements, len(given))
				}
				if made := len(w.server.Calls(defendertest.OnRoute(defendertest.RouteAlerts))); read.Calls != made || made > tt.calls {
					t.Errorf("%d calls were made and %d told, want at most %d", made, read.Calls, tt.calls)
				}
			})
		}
	}
}

func TestSinceIsInclusive(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	since := time.Now().UTC().Add(-time.Hour).Truncate(reading.Tick)
	for _, by := range []time.Duration{-reading.Tick, 0, reading.Tick} {
		w.tenant.AddAlert(defendertest.Alert{ID: by.String(), LastUpdate: since.Add(by), Created: since.Add(-time.Hour)})
	}
	var keys []string
	_, err := w.source.ReadAlerts(t.Context(), since, nil, func(e *defender.Element) error {
		keys = append(keys, e.Key)
		return nil
	})
	if err != nil || strings.Join(keys, " ") != "0s 100ns" {
		t.Fatalf("read %q (%v), want the ones at and after the bound, in order", keys, err)
	}
}

func TestInstantTooFull(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	now := time.Now().UTC().Add(-time.Hour)
	w.add(1600, at(now, 0), at(now, 0))
	later := now.Add(time.Minute)
	w.add(1200, at(later, time.Millisecond), at(later, time.Millisecond))
	given, _, err := w.collect(t, now.Add(-time.Minute))
	wantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INSTANT_TOO_FULL)
	if len(given) != 1500+1200 {
		t.Errorf("%d were given, want the 1,500 that can be paged, and all 1,200 that came later", len(given))
	}
}

// An alert that changes while links are followed leaves its place, and shifts what follows it.
func TestChangeWhileFollowingLinks(t *testing.T) {
	w := newWorld(t, defendertest.Options{Graph: defendertest.GraphOptions{NextLinks: true}})
	w.source.list.PageSize = 10
	start := time.Now().UTC().Add(-time.Hour)
	w.add(35, at(start, time.Second), at(start, time.Second))
	first := w.tenant.Revisions()[0].Key
	changed := false
	given := map[string]int{}
	_, err := w.source.ReadAlerts(t.Context(), start, nil, func(e *defender.Element) error {
		given[string(e.Raw)]++
		if !changed {
			changed = true
			_, err := w.tenant.Change(first, func(a *defendertest.Alert) { a.Status = "resolved"; a.LastUpdate = time.Now() })
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(given) != 36 {
		t.Fatalf("%d were given, want 35 alerts and one change", len(given))
	}
	for _, call := range w.server.Calls(defendertest.OnRoute(defendertest.RouteAlerts))[4:] {
		if strings.Contains(call.Query.Encode(), "skiptoken") {
			t.Errorf("a link was followed after the change was noticed: %v", call.Query)
		}
	}
}

func TestKnownElementsAreNotDecoded(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.source.list.PageSize = 10
	start := time.Now().UTC().Add(-time.Hour).Truncate(reading.Tick)
	w.add(25, at(start, time.Second), at(start, time.Second))
	index := map[[32]byte]defender.Known{}
	_, err := w.source.ReadAlerts(t.Context(), start, nil, func(e *defender.Element) error {
		if e.Alert == nil || e.Known || e.ReadTime || e.ContentHash == [32]byte{} {
			t.Errorf("element %s: %+v is not a decoded one", e.Key, e)
		}
		index[e.RawHash] = defender.Known{Key: e.Key, Updated: e.Updated}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	read, err := w.source.ReadAlerts(t.Context(), start, func(hash [32]byte) (defender.Known, bool) {
		known, ok := index[hash]
		return known, ok
	}, func(e *defender.Element) error {
		if e.Alert != nil || !e.Known || e.Key != index[e.RawHash].Key || !e.Updated.Equal(index[e.RawHash].Updated) {
			t.Errorf("element %s: %+v is not a known one", e.Key, e)
		}
		return nil
	})
	if err != nil || read.Elements != 25 {
		t.Fatalf("%d elements, error %v; want 25", read.Elements, err)
	}
}

func TestThroughIsMicrosoftsClock(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.server.SetClockOffset(-3 * time.Hour)
	began := time.Now()
	_, read, err := w.collect(t, w.server.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	// The call's own time is taken off, and a second; the Date has whole ones.
	took := time.Since(began)
	asked := w.server.Calls(defendertest.OnRoute(defendertest.RouteAlerts))[0].Time
	if read.Through.After(asked.Add(-time.Second)) || asked.Sub(read.Through) > took+2*time.Second {
		t.Errorf("Through is %s after a read of %s, want a little before %s", read.Through, took, asked)
	}
}

func TestBadAnswers(t *testing.T) {
	list := func(body string) defendertest.Responder { return defendertest.Respond(http.StatusOK, nil, body) }
	item := func(id, updated string) string {
		return `{"id":"` + id + `","lastUpdateDateTime":"` + updated + `"}`
	}
	tests := []struct {
		name   string
		answer defendertest.Responder
		reason integrationv1.ErrorReason
		words  string
		given  int
	}{
		{"no value", list(`{"@odata.context":"x"}`), invalidAnswer, "no `value`", 0},
		{"value no array", list(`{"value":{}}`), invalidAnswer, "no array", 0},
		{"value null", list(`{"value":null}`), invalidAnswer, "no array", 0},
		{"array", list(`[]`), invalidAnswer, "no JSON object", 0},
		{"error in a 200", list(`{"error":{"code":"x"},"value":[]}`), invalidAnswer, "tells an error", 0},
		{"twice", list(`{"value":[],"value":[]}`), invalidAnswer, "twice", 0},
		{"syntax", list(`{"value":[` + item("a", "2026-01-01T00:00:00Z") + `,}]}`), invalidAnswer, "no JSON", 1},
		{"something behind", list(`{"value":[]}{}`), invalidAnswer, "follows", 0},
		{"cut", list(`{"value":[` + item("a", "2026-01-01T00:00:00Z") + `,{"id":"b`), upstreamFailed, "broke off", 1},
		{"empty", list(``), upstreamFailed, "broke off", 0},
		{"link elsewhere", list(`{"value":[],"@odata.nextLink":"https://evil.test/v1.0/security/alerts_v2?x"}`), invalidAnswer, "evil.test", 0},
		{"link to another port", list(`{"value":[],"@odata.nextLink":"http://127.0.0.1:1/x"}`), invalidAnswer, "another host", 0},
		{"link no text", list(`{"value":[],"@odata.nextLink":7}`), invalidAnswer, "nextLink", 0},
		{"link in a circle", list(`{"value":[],"@odata.nextLink":"/v1.0/security/alerts_v2?$skiptoken=x"}`), invalidAnswer, "circle", 0},
		{"no Date", defendertest.Edit(func(a *defendertest.Answer) { a.Header["Date"] = nil }), invalidAnswer, "no Date", 0},
		{"full page out of order", list(`{"value":[` + item("b", "2026-01-02T00:00:00Z") + `,` + item("a", "2026-01-01T00:00:00Z") + `]}`), invalidAnswer, "order", 2},
		{"full page without times", list(`{"value":[{"id":"a"},{"id":"b"}]}`), invalidAnswer, "not those that were asked for", 2},
		{"full page from before the bound", list(`{"value":[` + item("a", "2001-01-01T00:00:00Z") + `,` + item("b", "2001-01-01T00:00:00Z") + `]}`), invalidAnswer, "not those that were asked for", 2},
		{"206", defendertest.Respond(http.StatusPartialContent, nil, `{"value":[]}`), invalidAnswer, "only a part", 0},
		{"HTML", defendertest.Respond(http.StatusOK, http.Header{"Content-Type": {"text/html"}}, `<html>`), invalidAnswer, "text/html", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{})
			w.source.list.PageSize = 2
			w.server.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Times: -1, Respond: tt.answer})
			given, _, err := w.collect(t, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
			problem := wantReason(t, err, tt.reason)
			if !strings.Contains(problem.GetMessage(), tt.words) {
				t.Errorf("message is %q, want it to say %q", problem.GetMessage(), tt.words)
			}
			if len(given) != tt.given {
				t.Errorf("%d were given, want %d", len(given), tt.given)
			}
		})
	}
}

const (
	invalidAnswer  = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
	upstreamFailed = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED
)

// A page that is not in order is whole all the same where nothing follows it.
func TestUnorderedLastPage(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.source.list.PageSize = 3
	w.server.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Respond: defendertest.Respond(http.StatusOK,
		http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}},
		`{"value":[{"id":"b","lastUpdateDateTime":"2026-01-02T00:00:00Z"},{"id":"a","lastUpdateDateTime":"2026-01-01T00:00:00Z"}]}`)})
	if given, _, err := w.collect(t, time.Time{}); err != nil || len(given) != 2 {
		t.Fatalf("%d were given with error %v, want 2", len(given), err)
	}
}

func TestServerErrorsNarrowThePage(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	start := time.Now().UTC().Add(-time.Hour)
	w.add(120, at(start, time.Second), at(start, time.Second))
	w.server.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Times: -1,
		Match:   func(r *http.Request) bool { top, _ := strconv.Atoi(r.URL.Query().Get("$top")); return top > 100 },
		Respond: defendertest.Respond(http.StatusInternalServerError, nil, `{"error":{"code":"generalException"}}`)})
	given, _, err := w.collect(t, start)
	if err != nil {
		t.Fatal(err)
	}
	w.wantAll(t, given)

	w.server.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Times: -1, Respond: defendertest.Respond(http.StatusInternalServerError, nil, `{}`)})
	_, read, err := w.collect(t, start)
	wantReason(t, err, upstreamFailed)
	if read.Calls != 4 {
		t.Errorf("%d calls were made, want the page, its first alert, the one behind it, and what is now", read.Calls)
	}
}

func TestOddElementsGoThrough(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	const body = `{"value":[7, null, {"id":"a","lastUpdateDateTime":"2026-01-01T00:00:00Z"},"text",{"id":"","lastUpdateDateTime":"soon"},[1]]}`
	w.server.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Respond: defendertest.Respond(http.StatusOK,
		http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}, body)})
	var seen []string
	_, err := w.source.ReadAlerts(t.Context(), time.Time{}, nil, func(e *defender.Element) error {
		seen = append(seen, string(e.Raw))
		if e.Key != "a" && (!strings.HasPrefix(e.Key, "sha256:") || !e.ReadTime || len(e.Alert.GetOddities()) == 0) {
			t.Errorf("element %s: %+v, want a key of its hash, the time of reading, an oddity", e.Raw, e)
		}
		return nil
	})
	if want := `7|null|{"id":"a","lastUpdateDateTime":"2026-01-01T00:00:00Z"}|"text"|{"id":"","lastUpdateDateTime":"soon"}|[1]`; err != nil || strings.Join(seen, "|") != want {
		t.Fatalf("given %q with error %v, want %q", strings.Join(seen, "|"), err, want)
	}
}

func TestYieldsErrorEndsTheRead(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	start := time.Now().UTC().Add(-time.Hour)
	w.add(3, at(start, time.Second), at(start, time.Second))
	stop := errors.New("stop")
	_, err := w.source.ReadAlerts(t.Context(), start, nil, func(*defender.Element) error { return stop })
	if !errors.Is(err, stop) {
		t.Fatalf("error is %v, want yield's", err)
	}
}

func TestEndOfContext(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	w.server.Inject(defendertest.Fault{Route: defendertest.RouteAlerts, Respond: func(ctx context.Context, _ *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
		cancel(why)
		<-ctx.Done()
		return nil
	}})
	_, err := w.source.ReadAlerts(ctx, time.Now(), nil, func(*defender.Element) error { return nil })
	if !errors.Is(err, why) {
		t.Fatalf("error is %v, want the context's cause", err)
	}
}
