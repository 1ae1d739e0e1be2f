package reading_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func seconds(i int) time.Duration { return time.Duration(i) * 5 * time.Second }

// around has alerts every five seconds, but those from 400 to 600 at one instant.
func around(i int) time.Duration {
	if i >= 400 && i <= 600 {
		i = 400
	}
	return seconds(i)
}

// What always fails is passed over, all else is given once, and what is missing is told. The next read knows it, and one after it is
// mended is whole.
func TestWhatAlwaysFailsIsPassedOver(t *testing.T) {
	tests := []struct {
		name     string
		n        int
		update   func(int) time.Duration
		poisoned []int
		// searches is how many times something has to be isolated.
		searches int
		// apis says over which APIs it is tried: all, lists (SIEM cannot part an instant), or one.
		apis string
	}{
		{"at the start", 1000, seconds, []int{0}, 1, "all"},
		{"in the middle", 1000, seconds, []int{500}, 1, "all"},
		{"at the end", 1000, seconds, []int{999}, 1, "all"},
		{"alone", 1, seconds, []int{0}, 1, "Graph"},
		{"two", 1000, seconds, []int{333, 777}, 2, "all"},
		{"start and end", 1000, seconds, []int{0, 999}, 2, "Graph"},
		{"two side by side", 1000, seconds, []int{500, 501}, 2, "Graph"},
		{"behind a page", 1400, seconds, []int{1200}, 1, "lists"},
		{"at the end of a page", 1400, seconds, []int{999}, 1, "Graph"},
		{"in an instant", 1000, around, []int{450}, 1, "lists"},
		{"first of an instant", 1000, around, []int{400}, 1, "Graph"},
		{"last of an instant", 1000, around, []int{600}, 1, "Graph"},
		{"before an instant", 1000, around, []int{399}, 1, "Graph"},
		{"behind an instant", 1000, around, []int{601}, 1, "Graph"},
		{"two in an instant", 1000, around, []int{410, 590}, 2, "Graph"},
		{"an instant of all", 1000, func(int) time.Duration { return time.Hour }, []int{300}, 1, "Graph"},
		{"late in an instant of all", 1000, func(int) time.Duration { return time.Hour }, []int{900}, 2, "Graph"},
	}
	for _, api := range apis() {
		for _, tt := range tests {
			if tt.apis != "all" && tt.apis != api.name && (tt.apis != "lists" || api.coarse > 0) {
				continue
			}
			t.Run(api.name+", "+tt.name, func(t *testing.T) {
				w := newWorld(t, api)
				w.fill(tt.n, tt.update)
				_, whole, err := w.readAlerts(t)
				if err != nil {
					t.Fatal(err)
				}
				heal := w.poison(tt.poisoned...)
				given, first, err := w.readAlerts(t)
				p := problem(t, err)
				w.check(t, given, p, false, tt.poisoned...)
				if first.Calls > whole.Calls+api.extra*tt.searches {
					t.Errorf("it took %d calls, and %d without what fails", first.Calls, whole.Calls)
				}

				given, second, err := w.readAlerts(t)
				again := problem(t, err)
				w.check(t, given, again, true, tt.poisoned...)
				if most := whole.Calls + 4*len(tt.poisoned) + 1; second.Calls > most {
					t.Errorf("the next read took %d calls, want at most %d", second.Calls, most)
				}
				for _, m := range again.GetMissing() {
					if !isMissing(p, m.GetStartTime().AsTime()) {
						t.Errorf("%v is missing of the next read, which was not of the first: %v", m, p.GetMissing())
					}
				}

				heal()
				given, _, err = w.readAlerts(t)
				if err != nil {
					t.Fatalf("the read after it was mended has error %v", err)
				}
				w.check(t, given, nil, false)
				if _, read, err := w.readAlerts(t); err != nil || read.Calls != whole.Calls {
					t.Errorf("then a read takes %d calls, error %v, want %d", read.Calls, err, whole.Calls)
				}
			})
		}
	}
}

// Where Microsoft fails on passing over an alert too, a time is searched for from which on all can be read. What is between is read by
// the next reads, bit by bit.
func TestWhatCannotBePassedOver(t *testing.T) {
	w := newWorld(t, apis()[0])
	w.fill(1000, seconds)
	w.poison(500)
	w.server.Inject(defendertest.Fault{
		Route: w.route, Times: -1, Match: func(r *http.Request) bool { return r.URL.Query().Has("$skip") },
		Respond: defendertest.Respond(http.StatusInternalServerError, nil, `{"error":{"code":"generalException"}}`),
	})
	given, read, err := w.readAlerts(t)
	w.check(t, given, problem(t, err), true, 500)
	if read.Calls > 2+16+1+16+1 || len(given) < 990 {
		t.Errorf("%d were given after %d calls", len(given), read.Calls)
	}
	for range 10 {
		if given, _, err = w.readAlerts(t); len(given) == 999 {
			break
		}
	}
	w.check(t, given, problem(t, err), false, 500)
}

// Where alerts change while others of their instant are passed over, those behind the instant shift, and are read all the same.
func TestWhatShiftsWhileItIsPassedOver(t *testing.T) {
	for _, api := range apis() {
		if api.coarse > 0 {
			continue // It does not page.
		}
		t.Run(api.name, func(t *testing.T) {
			w := newWorld(t, api)
			w.fill(12, func(i int) time.Duration { return time.Duration(max(5, i)) * time.Minute })
			changed := false
			w.server.Inject(defendertest.Fault{
				Route: w.route, Times: -1, Match: func(r *http.Request) bool { return r.URL.Query().Has("$skip") },
				Respond: func(ctx context.Context, r *http.Request, next func() *defendertest.Answer) *defendertest.Answer {
					answer := defendertest.Poison("3")(ctx, r, next)
					if !changed {
						changed = true
						for _, id := range []string{"0", "1", "2"} {
							if _, err := w.tenant.Change(id, func(a *defendertest.Alert) { a.Title = "changed" }); err != nil {
								t.Error(err)
							}
						}
					}
					return answer
				},
			})
			w.poison(3)
			given, _, err := w.readAlerts(t)
			p := problem(t, err)
			if !changed {
				t.Fatal("nothing was skipped")
			}
			for _, r := range w.tenant.Revisions("6", "7", "8", "9", "10", "11") {
				if given[sha256.Sum256(r.Elements(w.resource)[0])] == 0 && !isMissing(p, r.LastUpdate) {
					t.Errorf("alert %s was not read, and only %v is told to be missing", r.Key, p.GetMissing())
				}
			}
		})
	}
}

// However Microsoft fails on an alert, it is passed over.
func TestHoweverMicrosoftFails(t *testing.T) {
	for name, tt := range map[string]struct {
		respond defendertest.Responder
		status  int32
	}{
		"cut":           {defendertest.Poisoned(defendertest.Truncate(3000), "50"), http.StatusOK},
		"cut unnoticed": {defendertest.Poisoned(defendertest.TruncateCleanly(200), "50"), http.StatusOK},
		"late":          {defendertest.Poisoned(defendertest.Respond(statusLate, nil, ""), "50"), 0},
		"gateway":       {defendertest.Poisoned(defendertest.Respond(http.StatusGatewayTimeout, nil, ""), "50"), http.StatusGatewayTimeout},
	} {
		for _, api := range apis() {
			t.Run(name+", "+api.name, func(t *testing.T) {
				w := newWorld(t, api)
				w.fill(100, seconds)
				w.server.Inject(defendertest.Fault{Route: w.route, Times: -1, Respond: tt.respond})
				given, _, err := w.readAlerts(t)
				p := readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED)
				if p.GetHttpStatus() != tt.status {
					t.Errorf("the last status is told as %d, want %d", p.GetHttpStatus(), tt.status)
				}
				for i := range 100 {
					r := w.tenant.Revisions(strconv.Itoa(i))[0]
					for _, element := range r.Elements(w.resource) {
						// An answer that breaks off may have had the alert before it did.
						if n := given[sha256.Sum256(element)]; n != 1 && (n != 0 || !isMissing(p, r.LastUpdate)) {
							t.Errorf("alert %d was given %d times", i, n)
						}
					}
				}
			})
		}
	}
}

// What fails once, or because it is too much at once, costs some calls, and the read is whole.
func TestWhatFailsOnce(t *testing.T) {
	for name, fault := range map[string]defendertest.Fault{
		"once":           {Respond: defendertest.Respond(http.StatusInternalServerError, nil, "")},
		"three times":    {Times: 3, Respond: defendertest.Respond(http.StatusBadGateway, nil, "")},
		"the third time": {After: 2, Respond: defendertest.Respond(http.StatusInternalServerError, nil, "")},
		"breaks off":     {Respond: defendertest.Truncate(200_000)},
		"too much": {Times: -1, Respond: func(_ context.Context, _ *http.Request, next func() *defendertest.Answer) *defendertest.Answer {
			answer := next()
			if len(answer.Body) > 2*400 {
				return defendertest.NewAnswer(http.StatusInternalServerError, "")
			}
			return answer
		}},
	} {
		for _, api := range apis() {
			t.Run(name+", "+api.name, func(t *testing.T) {
				w := newWorld(t, api)
				w.fill(1100, seconds)
				fault := fault
				fault.Route = w.route
				w.server.Inject(fault)
				given, read, err := w.readAlerts(t)
				if err != nil {
					t.Fatal(err)
				}
				w.check(t, given, nil, false)
				if read.Calls > 20 {
					t.Errorf("it took %d calls", read.Calls)
				}
			})
		}
	}
}

// Where all fails, a few calls show it, and nothing is remembered of it.
func TestWhereAllFails(t *testing.T) {
	for _, api := range apis() {
		t.Run(api.name, func(t *testing.T) {
			w := newWorld(t, api)
			w.fill(100, seconds)
			heal := w.server.Inject(defendertest.Fault{Route: w.route, Times: -1, Respond: defendertest.Respond(http.StatusInternalServerError, nil, "{}")})
			_, read, err := w.readAlerts(t)
			readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED)
			if read.Calls != 4 {
				t.Errorf("it took %d calls, want 4", read.Calls)
			}
			heal()
			given, read, err := w.readAlerts(t)
			if err != nil || read.Calls != 1 {
				t.Fatalf("the next read took %d calls, error %v", read.Calls, err)
			}
			w.check(t, given, nil, false)
		})
	}
}

// What ends a read while it isolates something is its error. What it found before is remembered.
func TestWhatEndsNarrowing(t *testing.T) {
	for _, api := range apis() {
		t.Run(api.name, func(t *testing.T) {
			w := newWorld(t, api)
			w.fill(1000, seconds)
			// The first fault that was injected acts.
			const until = 22
			w.server.Inject(defendertest.Fault{Route: w.route, After: until, Respond: defendertest.Respond(http.StatusTooManyRequests, nil, "")})
			w.poison(200, 800)
			_, read, err := w.readAlerts(t)
			readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_THROTTLED)
			if read.Calls != until+1 {
				t.Fatalf("it ended after %d calls", read.Calls)
			}
			given, read, err := w.readAlerts(t)
			w.check(t, given, problem(t, err), true, 200, 800)
			if read.Calls > until {
				t.Errorf("the next read took %d calls, and knew the first that fails", read.Calls)
			}
		})
	}
}

// Where the caller ends a read, nothing is remembered: whether what was given was taken is not known.
func TestTheCallersErrorIsNoFinding(t *testing.T) {
	w := newWorld(t, apis()[0])
	w.fill(1000, seconds)
	w.poison(200)
	stop, n := errors.New("stop"), 0
	if _, err := w.source.ReadAlerts(t.Context(), w.since, nil, func(*defender.Element) error {
		if n++; n == 999 {
			return stop
		}
		return nil
	}); !errors.Is(err, stop) {
		t.Fatalf("error is %v, want the caller's", err)
	}
	given, _, err := w.readAlerts(t)
	w.check(t, given, problem(t, err), false, 200)
}

// Alerts anywhere, some of which fail: whatever is not missing is given once, and what fails is missing, in each of a row of reads.
func TestWhatFailsAnywhere(t *testing.T) {
	runs := 2
	if text := os.Getenv("NARROWING_RUNS"); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, api := range apis() {
		for seed := range uint64(runs) {
			t.Run(fmt.Sprintf("%s, seed %d", api.name, seed), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 7))
				w := newWorld(t, api)
				n := 1 + rng.IntN(1200)
				at := time.Duration(0)
				step := time.Hour / time.Duration(n)
				w.fill(n, func(int) time.Duration {
					if rng.IntN(3) > 0 {
						at += time.Duration(rng.Int64N(int64(2 * step))).Truncate(100)
					}
					return at
				})
				poisoned := rng.Perm(n)[:min(n, 1+rng.IntN(3))]
				heal := w.poison(poisoned...)
				for i := range 5 {
					given, read, err := w.readAlerts(t)
					if most := 50; read.Calls > most {
						t.Errorf("it took %d calls, want at most %d", read.Calls, most)
					}
					if e, ok := errors.AsType[*defender.Error](err); i == 0 && ok && e.Problem.GetReason() == integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED {
						// There was more to isolate than one read may. The next one knows what was.
						for hash, n := range given {
							if n != 1 {
								t.Errorf("element %x was given %d times", hash, n)
							}
						}
						continue
					}
					w.check(t, given, problem(t, err), true, poisoned...)
				}
				heal()
				given, _, err := w.readAlerts(t)
				if err != nil {
					t.Fatal(err)
				}
				w.check(t, given, nil, false)
			})
		}
	}
}
