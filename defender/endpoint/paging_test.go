package endpoint

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/reading"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	invalidAnswer  = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
	upstreamFailed = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED
	refused        = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED
)

func TestPaging(t *testing.T) {
	start := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	instant := start.Add(10 * time.Minute)
	fixed, seconds := every(instant, 0), every(start, time.Second)
	tests := []struct {
		name  string
		size  int
		items []item
		// calls is the largest number of calls that it may take.
		calls int
	}{
		{"none", 10, nil, 1},
		{"fewer than a page", 10, items("a", 9, seconds, seconds), 1},
		{"exactly a page", 10, items("a", 10, seconds, seconds), 2},
		{"many pages", 10, items("a", 95, seconds, seconds), 11},
		{"neighbouring ticks", 10, items("a", 35, every(start, 100), seconds), 5},
		{"pairs at page ends", 3, items("a", 30, func(i int) time.Time { return start.Add(time.Duration(i/2) * time.Second) }, seconds), 30},
		{"1,500 at one instant among 5,000", maxTop, slices.Concat(
			items("a", 2000, every(start, 100*time.Millisecond), seconds),
			items("b", 1500, fixed, every(start.Add(-time.Hour), time.Millisecond)),
			items("c", 1500, every(instant.Add(time.Second), 100*time.Millisecond), seconds),
		), 11},
		{"3,000 at one instant, created at one", maxTop, items("a", 3000, fixed, fixed), 10},
		{"the read's start full", 10, items("a", 25, every(start, 0), every(start, time.Millisecond)), 8},
		{"newest instant full, then later ones", 10, slices.Concat(
			items("a", 25, fixed, every(start, time.Millisecond)),
			items("b", 25, every(instant.Add(time.Second), time.Second), every(start, time.Millisecond)),
		), 12},
	}
	for _, tt := range tests {
		for _, linked := range []int{0, 4} {
			t.Run(fmt.Sprintf("%s, %d linked", tt.name, linked), func(t *testing.T) {
				w := newWorld(t, tt.items...)
				w.source.list.PageSize = tt.size
				// In links of a few, so that $top ends in the middle of one.
				w.linked = linked * tt.size / 10
				given, read, err := readingtest.Collect(t, w.source, start)
				if err != nil {
					t.Fatal(err)
				}
				readingtest.WantOnce(t, given, raws(w.items))
				if read.Calls != len(w.queries) {
					t.Errorf("%d calls are told, want %d", read.Calls, len(w.queries))
				}
				if linked == 0 && read.Calls > tt.calls {
					t.Errorf("it took %d calls, want at most %d", read.Calls, tt.calls)
				}
			})
		}
	}
}

func TestSinceIsInclusive(t *testing.T) {
	since := time.Now().UTC().Add(-time.Hour).Truncate(reading.Tick)
	w := newWorld(t)
	for _, by := range []time.Duration{-reading.Tick, 0, reading.Tick} {
		w.items = append(w.items, item{by.String(), since.Add(by), since.Add(-time.Hour)})
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

func TestQueries(t *testing.T) {
	w := newWorld(t, items("a", 1, every(time.Now().Add(-time.Minute), 0), every(time.Now().Add(-time.Minute), 0))...)
	since := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.FixedZone("", 3600))
	if _, _, err := readingtest.Collect(t, w.source, since); err != nil {
		t.Fatal(err)
	}
	probed, err := w.source.Probe(t.Context(), since)
	if err != nil || probed.Elements != 1 || probed.Date.IsZero() || probed.Received.IsZero() || probed.RoundTrip <= 0 {
		t.Errorf("probed %+v with error %v", probed, err)
	}
	for i, top := range []string{"1000", "1"} {
		want := "$expand=evidence&$filter=lastUpdateTime ge 2026-01-02T02:04:05.1234567Z&$orderby=lastUpdateTime asc&$top=" + top
		var got []string
		for key, values := range w.queries[i] {
			got = append(got, key+"="+strings.Join(values, "|"))
		}
		slices.Sort(got)
		if strings.Join(got, "&") != want {
			t.Errorf("asked %q, want %q", strings.Join(got, "&"), want)
		}
	}
	// Without a version, Microsoft takes its newest.
	if list := NewSource(w.source.list.Client, "").list.URL.String(); list != w.source.list.Client.Base().String()+"/api/alerts" {
		t.Errorf("without a version it calls %s", list)
	}
}

func TestInstantTooFull(t *testing.T) {
	instant := time.Now().UTC().Add(-time.Hour)
	fixed, later := every(instant, 0), every(instant.Add(time.Minute), time.Millisecond)
	w := newWorld(t, slices.Concat(items("a", 60, fixed, fixed), items("b", 35, later, later))...)
	w.source.list.PageSize, w.source.list.MaxSkip = 10, 40
	given, _, err := readingtest.Collect(t, w.source, instant.Add(-time.Minute))
	problem := readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INSTANT_TOO_FULL)
	if !strings.Contains(problem.GetMessage(), "More than 50 alerts") {
		t.Errorf("message is %q, want it to say how many can be read", problem.GetMessage())
	}
	if len(given) != 50+35 {
		t.Errorf("%d were given, want the 50 that can be paged, and all 35 that came later", len(given))
	}
}

// Rows that move ahead while an instant is skipped through are met by the half page that is read twice.
func TestRowsShiftWhileSkipping(t *testing.T) {
	instant := time.Now().UTC().Add(-time.Hour)
	w := newWorld(t, items("a", 45, every(instant, 0), every(instant, 0))...)
	w.source.list.PageSize = 10
	all := slices.Clone(w.items)
	now := time.Now().UTC().Truncate(reading.Tick)
	w.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		if skip := r.URL.Query().Get("$skip"); skip == "10" || skip == "20" {
			// The first three were updated: they leave the instant, and what is behind them moves ahead.
			for i := range 3 {
				w.items[i].updated = now
				all = append(all, w.items[i])
			}
			w.items = append(w.items[3:], w.items[:3]...)
		}
		return false
	}
	given, _, err := readingtest.Collect(t, w.source, instant)
	if err != nil {
		t.Fatal(err)
	}
	readingtest.WantOnce(t, given, raws(all))
}

// An alert that changes while pages are read comes again, at the end, and takes nothing with it.
func TestChangeWhilePaging(t *testing.T) {
	start := time.Now().UTC().Add(-time.Hour)
	w := newWorld(t, items("a", 35, every(start, time.Second), every(start, time.Second))...)
	w.source.list.PageSize = 10
	first := w.items[0]
	w.before = func(_ http.ResponseWriter, _ *http.Request, call int) bool {
		if call == 2 {
			w.items[0].updated = time.Now().UTC().Truncate(reading.Tick)
		}
		return false
	}
	given, _, err := readingtest.Collect(t, w.source, start)
	if err != nil {
		t.Fatal(err)
	}
	if given[first.raw()] != 1 || given[w.items[0].raw()] != 1 || len(given) != 36 {
		t.Fatalf("%d were given, want 35 alerts and one change", len(given))
	}
}

func TestOrderNotHonoured(t *testing.T) {
	start := time.Now().UTC().Add(-time.Hour)
	w := newWorld(t, items("a", 25, every(start, time.Second), every(start, time.Second))...)
	w.unordered = true
	w.source.list.PageSize = 10
	_, _, err := readingtest.Collect(t, w.source, start)
	if problem := readingtest.WantReason(t, err, invalidAnswer); !strings.Contains(problem.GetMessage(), "not in the order") {
		t.Errorf("message is %q", problem.GetMessage())
	}
	// What fits one page is whole in any order.
	w.source.list.PageSize = 100
	given, _, err := readingtest.Collect(t, w.source, start)
	if err != nil {
		t.Fatal(err)
	}
	readingtest.WantOnce(t, given, raws(w.items))
}

func TestNotFound(t *testing.T) {
	respond := func(status int, body string) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Date", time.Now().Add(-3*time.Hour).UTC().Format(http.TimeFormat))
			http.Error(w, body, status)
			return true
		}
	}
	w := newWorld(t)
	w.before = respond(http.StatusNotFound, `{"error":{"code":"ResourceNotFound","message":"none","target":"a"}}`)
	given, read, err := readingtest.Collect(t, w.source, time.Now().Add(-time.Hour))
	if age := time.Since(read.Through); err != nil || len(given) != 0 || read.Calls != 1 || age < 3*time.Hour || age > 3*time.Hour+time.Minute {
		t.Errorf("a list that is not found is read as %+v with error %v, want none, by Microsoft's clock", read, err)
	}
	if probed, err := w.source.Probe(t.Context(), time.Now()); err != nil || probed.Elements != 0 || probed.Date.IsZero() {
		t.Errorf("a list that is not found is probed as %+v with error %v", probed, err)
	}

	w.before = respond(http.StatusNotFound, `no such page`)
	_, _, err = readingtest.Collect(t, w.source, time.Now())
	readingtest.WantReason(t, err, refused)

	// One that had elements before is not empty.
	start := time.Now().UTC().Add(-time.Hour)
	w = newWorld(t, items("a", 25, every(start, time.Second), every(start, time.Second))...)
	w.source.list.PageSize = 10
	w.before = func(rw http.ResponseWriter, _ *http.Request, call int) bool {
		if call == 2 {
			http.Error(rw, `{"error":{"code":"NotFound"}}`, http.StatusNotFound)
		}
		return call == 2
	}
	given, _, err = readingtest.Collect(t, w.source, start)
	if readingtest.WantReason(t, err, refused); len(given) != 10 {
		t.Errorf("%d were given, want the first page", len(given))
	}

	w = newWorld(t)
	w.before = func(rw http.ResponseWriter, _ *http.Request, _ int) bool {
		rw.Header()["Date"] = nil
		http.Error(rw, `{"error":{"code":"NotFound"}}`, http.StatusNotFound)
		return true
	}
	_, _, err = readingtest.Collect(t, w.source, start)
	if problem := readingtest.WantReason(t, err, invalidAnswer); !strings.Contains(problem.GetMessage(), "no Date") {
		t.Errorf("message is %q, want that there is no Date", problem.GetMessage())
	}
}

func TestServerErrorsNarrowThePage(t *testing.T) {
	start := time.Now().UTC().Add(-time.Hour)
	w := newWorld(t, items("a", 120, every(start, time.Second), every(start, time.Second))...)
	w.before = func(rw http.ResponseWriter, r *http.Request, _ int) bool {
		top, _ := strconv.Atoi(r.URL.Query().Get("$top"))
		if top > 100 {
			http.Error(rw, `{"error":{"code":"InternalServerError"}}`, http.StatusInternalServerError)
		}
		return top > 100
	}
	given, _, err := readingtest.Collect(t, w.source, start)
	if err != nil {
		t.Fatal(err)
	}
	readingtest.WantOnce(t, given, raws(w.items))

	w.before = func(rw http.ResponseWriter, _ *http.Request, _ int) bool {
		http.Error(rw, `{}`, http.StatusInternalServerError)
		return true
	}
	_, read, err := readingtest.Collect(t, w.source, start)
	readingtest.WantReason(t, err, upstreamFailed)
	if read.Calls != 4 {
		t.Errorf("%d calls were made, want the page, its first alert, the one behind it, and what is now", read.Calls)
	}
}

func TestLinks(t *testing.T) {
	for name, tt := range map[string]struct{ link, words string }{
		"elsewhere":    {`"https://evil.test/api/alerts?x"`, "evil.test"},
		"another port": {`"http://127.0.0.1:1/x"`, "another host"},
		"no text":      {`7`, "nextLink"},
		"no address":   {`"http://[/"`, "no address"},
		"in a circle":  {`"/api/v1.0/alerts?$skiptoken=x"`, "circle"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.before = func(rw http.ResponseWriter, _ *http.Request, _ int) bool {
				_, _ = fmt.Fprintf(rw, `{"value":[],"@odata.nextLink":%s}`, tt.link)
				return true
			}
			_, _, err := readingtest.Collect(t, w.source, time.Now())
			if problem := readingtest.WantReason(t, err, invalidAnswer); !strings.Contains(problem.GetMessage(), tt.words) {
				t.Errorf("message is %q, want it to say %q", problem.GetMessage(), tt.words)
			}
		})
	}
}

func TestBadAnswers(t *testing.T) {
	element := func(id, updated string) string {
		return `{"id":"` + id + `","lastUpdateTime":"` + updated + `","evidence":[]}`
	}
	tests := []struct {
		name   string
		body   string
		reason integrationv1.ErrorReason
		words  string
		given  int
	}{
		{"no value", `{"@odata.context":"x"}`, invalidAnswer, "no `value`", 0},
		{"value null", `{"value":null}`, invalidAnswer, "no array", 0},
		{"array", `[]`, invalidAnswer, "no JSON object", 0},
		{"error in a 200", `{"error":{"code":"x"},"value":[]}`, invalidAnswer, "tells an error", 0},
		{"syntax", `{"value":[` + element("a", "2026-01-01T00:00:00Z") + `,}]}`, invalidAnswer, "no JSON", 1},
		{"cut", `{"value":[` + element("a", "2026-01-01T00:00:00Z") + `,{"id":"b`, upstreamFailed, "broke off", 1},
		{"empty", ``, upstreamFailed, "broke off", 0},
		{"full page without times", `{"value":[{"id":"a"},{"id":"b"}]}`, invalidAnswer, "not those that were asked for", 2},
		{"full page from before the bound", `{"value":[` + element("a", "2001-01-01T00:00:00Z") + `,` + element("b", "2001-01-01T00:00:00Z") + `]}`, invalidAnswer, "not those that were asked for", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.source.list.PageSize = 2
			w.before = func(rw http.ResponseWriter, _ *http.Request, _ int) bool {
				_, _ = rw.Write([]byte(tt.body))
				return true
			}
			given, _, err := readingtest.Collect(t, w.source, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
			if problem := readingtest.WantReason(t, err, tt.reason); !strings.Contains(problem.GetMessage(), tt.words) {
				t.Errorf("message is %q, want it to say %q", problem.GetMessage(), tt.words)
			}
			if len(given) != tt.given {
				t.Errorf("%d were given, want %d", len(given), tt.given)
			}
		})
	}
}

// What Microsoft refuses is told by its status, with its words and the id that its support asks for.
func TestRefusals(t *testing.T) {
	tests := []struct {
		status int
		body   string
		reason integrationv1.ErrorReason
	}{
		{http.StatusBadRequest, `{"error":{"code":"InvalidInput","message":"wrong","target":"the-id"}}`, refused},
		{http.StatusUnauthorized, `{"error":{"code":"Unauthorized","message":"wrong","target":"the-id"}}`, integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED},
		{http.StatusForbidden, `{"error":{"code":"Forbidden","message":"wrong","target":"the-id"}}`, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING},
		{http.StatusGone, `{"error":{"code":"Gone","message":"wrong","target":"the-id"}}`, integrationv1.ErrorReason_ERROR_REASON_API_RETIRED},
		{http.StatusTooManyRequests, `{"error":{"code":"429","message":"wrong","target":"the-id"}}`, integrationv1.ErrorReason_ERROR_REASON_THROTTLED},
		{http.StatusInternalServerError, `{"error":{"code":"InternalServerError","message":"wrong","target":"the-id"}}`, upstreamFailed},
	}
	for _, tt := range tests {
		w := newWorld(t)
		w.before = func(rw http.ResponseWriter, _ *http.Request, _ int) bool {
			http.Error(rw, tt.body, tt.status)
			return true
		}
		_, _, err := readingtest.Collect(t, w.source, time.Now())
		problem := readingtest.WantReason(t, err, tt.reason)
		if problem.GetUpstreamRequestId() != "the-id" || problem.GetUpstreamCode() == "" || !strings.Contains(problem.GetMessage(), "Microsoft says: wrong") {
			t.Errorf("status %d is told as %v", tt.status, problem)
		}
	}
}

func TestTheContract(t *testing.T) {
	start := time.Now().UTC().Add(-time.Hour)
	w := newWorld(t, items("a", 25, every(start, time.Second), every(start, time.Second))...)
	w.source.list.PageSize = 10
	readingtest.KnownAreNotDecoded(t, w.source, start, 25)
	readingtest.YieldsErrorEndsTheRead(t, w.source, start)
	readingtest.EndOfContext(t, w.source, start, func(end func()) {
		w.before = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			end()
			<-r.Context().Done()
			return true
		}
	})
}
