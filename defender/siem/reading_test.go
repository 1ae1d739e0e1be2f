package siem

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
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
)

// world plays the SIEM API: every answer is a bare array of all that the range has.
type world struct {
	source *Source

	mutex sync.Mutex
	// processed are the times of its detections, which need no order.
	processed []time.Time
	// exclusive says that neither bound belongs to the range, coarse that bounds are cut to the second.
	exclusive, coarse bool
	// limit is how long a range may be; a longer one fails with the status that long has. Zero is no limit.
	limit time.Duration
	// long answers a range that is too long.
	long http.HandlerFunc
	// poisoned fails what would hold the detection of that time, where it is set.
	poisoned time.Time
	// queries are the options of the calls.
	queries []url.Values
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{long: status(http.StatusInternalServerError)}
	w.source = NewSource(readingtest.NewClient(t, "The SIEM API", w.answer))
	return w
}

func status(code int) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, `{"error":{"code":"x"}}`, code) }
}

func detection(at time.Time) string {
	return fmt.Sprintf(`{"FullId":"a:%d","LastProcessedTimeUtc":%q}`, at.UnixNano(), at.UTC().Format(time.RFC3339Nano))
}

func (w *world) answer(rw http.ResponseWriter, r *http.Request) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	query := r.URL.Query()
	w.queries = append(w.queries, query)
	bound := func(name string, none time.Time) time.Time {
		at, err := time.Parse("2006-01-02T15:04:05.000", query.Get(name))
		if err != nil {
			return none
		}
		if w.coarse {
			at = at.Truncate(time.Second)
		}
		return at
	}
	now := time.Now()
	since, until := bound("sinceTimeUtc", now.Add(-2*time.Hour)), bound("untilTimeUtc", now)
	if r.URL.Path != "/api/alerts" || !query.Has("sinceTimeUtc") {
		status(http.StatusBadRequest)(rw, r)
		return
	}
	if w.limit > 0 && until.Sub(since) > w.limit {
		w.long(rw, r)
		return
	}
	var rows []string
	for _, at := range w.processed {
		if at.Equal(w.poisoned) && !at.Before(since) && !at.After(until) {
			status(http.StatusInternalServerError)(rw, r)
			return
		}
		if at.After(since) && at.Before(until) || !w.exclusive && (at.Equal(since) || at.Equal(until)) {
			rows = append(rows, detection(at))
		}
	}
	if limit, err := strconv.Atoi(query.Get("limit")); err == nil {
		rows = rows[max(0, len(rows)-limit):]
	}
	_, _ = fmt.Fprintf(rw, "[%s]", strings.Join(rows, ","))
}

// fill adds n detections, from a time on, step apart.
func (w *world) fill(n int, start time.Time, step time.Duration) {
	for i := range n {
		w.processed = append(w.processed, start.Add(time.Duration(i)*step).Truncate(100*time.Nanosecond))
	}
}

// raws returns the bytes of all detections.
func (w *world) raws() []string {
	all := make([]string, len(w.processed))
	for i, at := range w.processed {
		all[i] = detection(at)
	}
	return all
}

func TestOneAnswer(t *testing.T) {
	w := newWorld(t)
	since := time.Now().UTC().Add(-time.Hour).Truncate(time.Millisecond)
	w.fill(100, since, time.Second)
	slices.Reverse(w.processed) // no order is promised
	began := time.Now()
	given, read, err := readingtest.Collect(t, w.source, since)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	readingtest.WantOnce(t, given, w.raws())
	// The call's own time is taken off, and a second; the Date has whole ones.
	if read.Elements != 100 || read.Calls != 1 || time.Since(read.Through) < time.Second || began.Sub(read.Through) > took+2*time.Second {
		t.Errorf("%+v is told after %s", read, took)
	}
	want := "sinceTimeUtc=" + url.QueryEscape(since.Add(-time.Second).Format("2006-01-02T15:04:05.000"))
	if got := w.queries[0].Encode(); got != want {
		t.Errorf("asked %s, want %s: a second before, and no end", got, want)
	}
}

// Where Microsoft fails on a range, its parts are all of it, however the back end takes their bounds.
func TestRangesAreSplit(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		for _, coarse := range []bool{false, true} {
			t.Run(fmt.Sprintf("exclusive=%t coarse=%t", exclusive, coarse), func(t *testing.T) {
				w := newWorld(t)
				w.exclusive, w.coarse, w.limit = exclusive, coarse, 10*time.Minute
				since := time.Now().UTC().Add(-2 * time.Hour).Add(123456 * time.Microsecond)
				w.fill(2*3600, since, time.Second)
				w.processed = w.processed[:len(w.processed)-5] // what is in the future would come into no range
				given, read, err := readingtest.Collect(t, w.source, since)
				if err != nil {
					t.Fatal(err)
				}
				readingtest.WantOnce(t, given, w.raws())
				// Two hours, one, a half and a quarter fail; a second and seven and a half minutes do not.
				if read.Calls != len(w.queries) || read.Calls > 4+1+17 {
					t.Errorf("%+v is told of %d calls", read, len(w.queries))
				}
				if last := w.queries[len(w.queries)-1]; last.Has("untilTimeUtc") {
					t.Errorf("the last range is %v, want one without an end", last)
				}
			})
		}
	}
}

// Where all fails, the shortest range does, what is behind it and what is now; then the read ends. What shorter ranges cannot help with
// ends it at once.
func TestNarrowingEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		back  time.Duration
		long  http.HandlerFunc
		calls int
	}{
		"failed":                {30 * 24 * time.Hour, status(http.StatusInternalServerError), 4},
		"failed, and short":     {10 * time.Second, status(http.StatusBadGateway), 4},
		"refused":               {30 * 24 * time.Hour, status(http.StatusForbidden), 1},
		"wrong":                 {30 * 24 * time.Hour, status(http.StatusBadRequest), 1},
		"asked for less":        {30 * 24 * time.Hour, status(http.StatusTooManyRequests), 1},
		"asked for less by 503": {30 * 24 * time.Hour, later, 1},
		"no list":               {30 * 24 * time.Hour, body(`{}`), 1},
		"cut":                   {30 * 24 * time.Hour, body(`[{"FullId":"a:1"},`), 4},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.limit, w.long = time.Nanosecond, tt.long
			_, read, err := readingtest.Collect(t, w.source, time.Now().Add(-tt.back))
			if e, ok := errors.AsType[*defender.Error](err); !ok || e.Problem.GetRemedy() == "" {
				t.Fatalf("error is %v, want a *defender.Error with a remedy", err)
			}
			if read.Calls != tt.calls || len(w.queries) != tt.calls {
				t.Errorf("%d calls were made and %d told, want %d", len(w.queries), read.Calls, tt.calls)
			}
		})
	}
}

func later(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Retry-After", "60")
	status(http.StatusServiceUnavailable)(rw, r)
}

func body(text string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(text)) }
}

// What came before an answer broke off is not given again with its parts.
func TestAnswersThatBreakOff(t *testing.T) {
	w := newWorld(t)
	since := time.Now().UTC().Add(-4 * time.Hour)
	w.fill(7_000, since, 2*time.Second)
	w.limit = 2 * time.Hour
	w.long = func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(rw, "[%s,%s,", detection(w.processed[0]), detection(w.processed[6_999]))
	}
	given, read, err := readingtest.Collect(t, w.source, since)
	if err != nil {
		t.Fatal(err)
	}
	readingtest.WantOnce(t, given, w.raws())
	if read.Elements != 7_000 {
		t.Errorf("%d elements are told, want 7,000", read.Elements)
	}
}

func TestAnswers(t *testing.T) {
	const one = `{"FullId":"a:1","AlertId":"a","LastProcessedTimeUtc":"2026-01-01T00:00:00Z"}`
	tests := []struct {
		name   string
		body   string
		given  string
		reason integrationv1.ErrorReason
		words  string
	}{
		{"none", `[]`, "", 0, ""},
		{"one", ` [ ` + one + ` ] `, one, 0, ""},
		{"one of 2017", one, one, 0, ""},
		{"the same twice", `[` + one + `,` + one + `]`, one, 0, ""},
		{"odd ones", `[7,null,"text",[1],{"FullId":""}]`, `7|null|"text"|[1]|{"FullId":""}`, 0, ""},
		{"OData's list", `{"value":[` + one + `]}`, "", invalidAnswer, "an object"},
		{"an error with a status of success", `{"error":{"code":"x"}}`, "", invalidAnswer, "an object"},
		{"null", `null`, "", invalidAnswer, "no JSON array"},
		{"nothing", ``, "", invalidAnswer, "it is empty"},
		{"something behind", `[]{}`, "", invalidAnswer, "follows"},
		{"syntax", `[` + one + `,]`, one, invalidAnswer, "no JSON"},
		{"cut", `[` + one + `,{"Full`, one, upstreamFailed, "broke off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			// Short enough that nothing is split.
			w.limit, w.long = time.Nanosecond, body(tt.body)
			var given []string
			read, err := w.source.ReadAlerts(t.Context(), time.Now().Add(-time.Minute), nil, func(e *defender.Element) error {
				given = append(given, string(e.Raw))
				if e.Key == "" || e.Updated.IsZero() || e.Alert == nil || e.ReadTime == (e.Alert.GetLastUpdateTime() != nil) {
					t.Errorf("element %s is %+v", e.Raw, e)
				}
				return nil
			})
			if strings.Join(given, "|") != tt.given || read.Elements != int64(len(given)) {
				t.Errorf("given %q, want %q", strings.Join(given, "|"), tt.given)
			}
			if tt.reason == 0 {
				if err != nil {
					t.Errorf("error is %v", err)
				}
				return
			}
			if problem := readingtest.WantReason(t, err, tt.reason); !strings.Contains(problem.GetMessage(), tt.words) {
				t.Errorf("message is %q, want it to say %q", problem.GetMessage(), tt.words)
			}
		})
	}
}

func TestAnAnswerWithoutADate(t *testing.T) {
	w := newWorld(t)
	w.limit, w.long = time.Nanosecond, func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header()["Date"] = nil
		_, _ = rw.Write([]byte(`[]`))
	}
	_, _, err := readingtest.Collect(t, w.source, time.Now())
	if problem := readingtest.WantReason(t, err, invalidAnswer); !strings.Contains(problem.GetMessage(), "no Date") {
		t.Errorf("message is %q, want that there is no Date", problem.GetMessage())
	}
}

// Shorter ranges end where Microsoft's clock stands, which need not be where this machine's does.
func TestMicrosoftsClock(t *testing.T) {
	w := newWorld(t)
	theirs := time.Now().Add(-3 * time.Hour)
	failed := false
	w.limit, w.long = time.Nanosecond, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Date", theirs.UTC().Format(http.TimeFormat))
		if r.URL.Query().Has("untilTimeUtc") || failed {
			_, _ = rw.Write([]byte(`[]`))
			return
		}
		failed = true
		_, _ = rw.Write([]byte(`[`)) // it breaks off, but has told the time
	}
	_, read, err := readingtest.Collect(t, w.source, theirs.Add(-4*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if ahead := theirs.Sub(read.Through); ahead < 0 || ahead > 10*time.Second {
		t.Errorf("Through is %s, want a little before %s", read.Through, theirs)
	}
	// The whole fails. The first second, half of four hours, the rest of them, and what has come since do not.
	if rest, err := time.Parse("2006-01-02T15:04:05.000", w.queries[3].Get("untilTimeUtc")); len(w.queries) != 1+4 || err != nil || rest.Sub(theirs) > time.Minute {
		t.Errorf("asked %v, want the whole and four parts, of which the third ends now", w.queries)
	}
}

// Bounds are asked for in whole milliseconds, and some back ends take whole seconds of them. A range is told as missing from the one on that
// the part before it was answered until.
func TestWhatIsMissingBetweenTwoBounds(t *testing.T) {
	for name, row := range map[string]struct {
		coarse bool
		length time.Duration // of a range that Microsoft is known to fail on, which is asked for in halves
		at     time.Duration // of what fails: before the middle, and in the bound's unit
	}{
		"milliseconds": {false, 10*time.Second + time.Millisecond, 5*time.Second + 200*time.Microsecond},
		"seconds":      {true, 11 * time.Second, 5200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.coarse = row.coarse
			since := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
			known := reading.Range{Start: since, End: since.Add(row.length)}
			w.source.failing.Learn(since, time.Time{}, []reading.Range{known}, time.Now())
			w.poisoned = since.Add(row.at)
			w.processed = []time.Time{since, w.poisoned, since.Add(20 * time.Second)}
			given, _, err := readingtest.Collect(t, w.source, since)
			missing := readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED).GetMissing()
			if len(given) != 2 || len(missing) != 1 || missing[0].GetStartTime().AsTime().After(w.poisoned) {
				t.Errorf("%d are given, and %v is told to be missing, want it from %s", len(given), missing, w.poisoned)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	w := newWorld(t)
	since := time.Now().UTC().Add(-time.Hour)
	probed, err := w.source.Probe(t.Context(), since)
	if err != nil || probed.Elements != 0 || probed.Date.IsZero() || probed.Received.IsZero() || probed.RoundTrip <= 0 {
		t.Errorf("probed %+v with error %v, want none", probed, err)
	}
	w.fill(5, since, time.Second)
	if probed, err = w.source.Probe(t.Context(), since); err != nil || probed.Elements != 1 || w.queries[1].Get("limit") != "1" {
		t.Errorf("probed %+v with error %v by %v, want one", probed, err, w.queries[1])
	}
	w.limit, w.long = time.Nanosecond, status(http.StatusForbidden)
	_, err = w.source.Probe(t.Context(), since)
	readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING)
}

func TestTheContract(t *testing.T) {
	w := newWorld(t)
	since := time.Now().UTC().Add(-8 * time.Hour)
	w.fill(25, since, time.Second)
	readingtest.KnownAreNotDecoded(t, w.source, since, 25)
	readingtest.YieldsErrorEndsTheRead(t, w.source, since)
	readingtest.EndOfContext(t, w.source, since, func(end func()) {
		w.limit, w.long = time.Nanosecond, func(_ http.ResponseWriter, r *http.Request) {
			end()
			<-r.Context().Done()
		}
	})
}
