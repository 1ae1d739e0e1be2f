package server

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// limited returns a limiter with metrics of its own.
func limited(t *testing.T, limits Limits) *limiter {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return newLimiter(limits, m)
}

// refused returns what of a refusal a test compares: limit, scope, what is allowed, and when to come again; "" where nothing was.
func refused(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var f *failure.Error
	if !errors.As(err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_CALLER_LIMIT || len(f.Metadata) != 3 {
		t.Fatalf("refused with %v", err)
	}
	return fmt.Sprintf("%s %s %s %s", f.Metadata["limit"], f.Metadata["scope"], f.Metadata["allowed"], f.RetryAfter)
}

func TestStreamsAreLimitedForEachAndForAll(t *testing.T) {
	const caller, all = "streams caller 2 10s", "streams server 3 10s"
	type step struct {
		open, close string // a caller's name
		want        string
	}
	tests := map[string]struct {
		limits Limits
		steps  []step
	}{
		"of each": {Limits{StreamsPerCaller: 2}, []step{
			{open: "a"}, {open: "a"}, {open: "a", want: caller}, {open: "b"}, {open: "b"}, {open: "b", want: caller}, {open: "c"},
		}},
		"of all": {Limits{Streams: 3}, []step{
			{open: "a"}, {open: "a"}, {open: "b"}, {open: "b", want: all}, {open: "a", want: all}, {open: "c", want: all},
		}},
		"of each before that of all": {Limits{Streams: 3, StreamsPerCaller: 2}, []step{
			{open: "a"}, {open: "a"}, {open: "b"}, {open: "a", want: caller}, {open: "b", want: all},
		}},
		"one that ended makes room": {Limits{Streams: 3, StreamsPerCaller: 2}, []step{
			{open: "a"}, {open: "a"}, {open: "b"}, {close: "a"}, {open: "b"}, {open: "b", want: caller}, {close: "b"}, {open: "a"}, {open: "c", want: all},
		}},
		"none": {Limits{}, []step{{open: "a"}, {open: "a"}, {open: "a"}, {open: "a"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			l, open := limited(t, test.limits), map[string][]*taken{}
			for i, step := range test.steps {
				if mine := open[step.close]; step.close != "" {
					l.closeStream(mine[0])
					open[step.close] = mine[1:]
					continue
				}
				own, err := l.openStream(step.open)
				if got := refused(t, err); got != step.want {
					t.Errorf("step %d: %q, want %q", i, got, step.want)
				}
				if err == nil {
					open[step.open] = append(open[step.open], own)
				}
			}
		})
	}
}

func TestCallsAreLimitedForEachAndForAll(t *testing.T) {
	type step struct {
		after  time.Duration
		caller string
		calls  int // that are made at once, and taken
		want   string
	}
	tests := map[string]struct {
		limits Limits
		steps  []step
	}{
		"of each": {Limits{CallsPerSecondPerCaller: 10}, []step{
			{0, "a", 10, "calls caller 10 1s"}, {0, "b", 10, "calls caller 10 1s"},
			{100 * time.Millisecond, "a", 1, "calls caller 10 1s"},
			{time.Second, "a", 10, "calls caller 10 1s"}, {time.Hour, "a", 10, "calls caller 10 1s"},
		}},
		"of all": {Limits{CallsPerSecond: 10}, []step{
			{0, "a", 6, ""}, {0, "b", 4, "calls server 10 1s"}, {0, "a", 0, "calls server 10 1s"}, {time.Second, "a", 10, "calls server 10 1s"},
		}},
		// What all together may not take, the caller did not take either: else b would have nothing left after the second.
		"what is refused costs nothing": {Limits{CallsPerSecond: 2, CallsPerSecondPerCaller: 4}, []step{
			{0, "a", 2, "calls server 2 1s"}, {0, "b", 0, "calls server 2 1s"}, {0, "b", 0, "calls server 2 1s"}, {0, "b", 0, "calls server 2 1s"},
			{0, "b", 0, "calls server 2 1s"}, {0, "b", 0, "calls server 2 1s"}, {time.Second, "b", 2, "calls server 2 1s"},
		}},
		"less than one a second": {Limits{CallsPerSecondPerCaller: 0.25}, []step{
			{0, "a", 1, "calls caller 0.25 4s"}, {3 * time.Second, "a", 0, "calls caller 0.25 1s"}, {time.Second, "a", 1, "calls caller 0.25 4s"},
		}},
		"none": {Limits{}, []step{{0, "a", 10_000, ""}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := limited(t, test.limits)
				for i, step := range test.steps {
					time.Sleep(step.after)
					for n := range step.calls {
						if err := l.call(step.caller); err != nil {
							t.Fatalf("step %d: of %d calls the one after %d is refused: %v", i, step.calls, n, err)
						}
					}
					if step.want == "" {
						continue
					}
					if got := refused(t, l.call(step.caller)); got != step.want {
						t.Errorf("step %d: %q, want %q", i, got, step.want)
					}
				}
			})
		})
	}
}

// Who comes again when it is told to is let in, also where all who were refused do.
func TestWhoComesAgainWhenToldIsLetIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 50
		l := limited(t, Limits{CallsPerSecondPerCaller: perSecond})
		var waits []time.Duration
		for range 2 * perSecond {
			if f, ok := errors.AsType[*failure.Error](l.call("a")); ok {
				waits = append(waits, f.RetryAfter)
			}
		}
		if len(waits) != perSecond {
			t.Fatalf("%d of %d are refused", len(waits), 2*perSecond)
		}
		time.Sleep(waits[0])
		for _, wait := range waits {
			if err := l.call("a"); err != nil || wait != waits[0] {
				t.Fatalf("told to come again in %s, where others wait %s: %v", wait, waits[0], err)
			}
		}
	})
}

func TestRequestsAreLimited(t *testing.T) {
	tests := []struct {
		limit, size int
		want        string
	}{
		{0, MaxRequestBytes, ""},
		{100, 100, ""},
		{100, 101, "request_bytes server 100 0s"},
	}
	for _, test := range tests {
		if got := refused(t, limited(t, Limits{RequestBytes: test.limit}).request(test.size)); got != test.want {
			t.Errorf("%d bytes of %d: %q, want %q", test.size, test.limit, got, test.want)
		}
	}
}

// A caller that takes nothing is forgotten in time; one with a stream, or that has just called, is not: it could begin anew.
func TestCallersThatTakeNothingAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, many = 2, 100_000
		l := limited(t, Limits{StreamsPerCaller: 1, CallsPerSecondPerCaller: perSecond})
		if _, err := l.openStream("stays"); err != nil {
			t.Fatal(err)
		}
		for i := range many {
			name := fmt.Sprint("caller ", i)
			own, err := l.openStream(name)
			if err != nil {
				t.Fatal(err)
			}
			for range perSecond {
				if err := l.call(name); err != nil {
					t.Fatal(err)
				}
			}
			l.closeStream(own)
			if refused(t, l.call(name)) == "" {
				t.Fatalf("%s may call without end", name)
			}
			time.Sleep(time.Millisecond)
		}
		// In a second, after which a caller has taken nothing, 1,000 come.
		if n := len(l.callers); n > 4*leastCallers {
			t.Errorf("after %d callers %d are kept", many, n)
		}
		if _, err := l.openStream("stays"); refused(t, err) == "" {
			t.Error("a caller with a stream was forgotten")
		}
	})
}

// A caller that is refused all the time does not fill the log, and takes no line from another.
func TestTheLogTellsOfFewRefusedCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limited(t, Limits{})
		told, untold := 0, 0
		for range 100 * refusedAtOnce {
			if n, ok := l.tell("wild"); ok {
				told, untold = told+1, untold+n
			}
			time.Sleep(100 * time.Microsecond)
		}
		if most := refusedAtOnce + 10*refusedTold; told > most || told < most-1 {
			t.Errorf("in ten seconds %d lines tell of one caller", told)
		}
		if _, ok := l.tell("another"); !ok {
			t.Error("another has no line")
		}
		time.Sleep(time.Second)
		if n, ok := l.tell("wild"); !ok || told+untold+n != 100*refusedAtOnce {
			t.Errorf("of %d calls %d are told, and %d counted", 100*refusedAtOnce, told, untold+n)
		}
	})
}

// Many at once take exactly what there is, and leave nothing behind.
func TestManyAtOnceTakeNoMoreThanThereIs(t *testing.T) {
	const each, all, callers, tries = 5, 17, 4, 200
	l := limited(t, Limits{Streams: all, StreamsPerCaller: each})
	var open atomic.Int64
	var over atomic.Bool
	var group sync.WaitGroup
	for i := range 4 * callers {
		group.Go(func() {
			name := fmt.Sprint("caller ", i%callers)
			for range tries {
				own, err := l.openStream(name)
				if err != nil {
					continue
				}
				if open.Add(1) > all {
					over.Store(true)
				}
				open.Add(-1)
				l.closeStream(own)
			}
		})
	}
	group.Wait()
	if over.Load() || l.all.streams != 0 {
		t.Errorf("more than %d streams were open at once: %t; %d are left", all, over.Load(), l.all.streams)
	}
	for name, own := range l.callers {
		if own.streams != 0 {
			t.Errorf("%s has %d streams left", name, own.streams)
		}
	}
	// Another run, in which nobody closes: all is given out, and not one more.
	given := atomic.Int64{}
	for i := range 4 * callers {
		group.Go(func() {
			for range each {
				if _, err := l.openStream(fmt.Sprint("caller ", i%callers)); err == nil {
					given.Add(1)
				}
			}
		})
	}
	group.Wait()
	if given.Load() != all {
		t.Errorf("%d streams were given out, of %d", given.Load(), all)
	}
}

func TestManyCallsAtOnceTakeNoMoreThanThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, all, callers = 30, 100, 8
		l := limited(t, Limits{CallsPerSecond: all, CallsPerSecondPerCaller: each})
		for second := range 3 {
			var taken atomic.Int64
			var group sync.WaitGroup
			for i := range 4 * callers {
				group.Go(func() {
					for range each {
						if l.call(fmt.Sprint("caller ", i%callers)) == nil {
							taken.Add(1)
						}
					}
				})
			}
			group.Wait()
			if taken.Load() != all {
				t.Errorf("in second %d %d calls were let through, of %d", second, taken.Load(), all)
			}
			time.Sleep(time.Second)
		}
	})
}

func TestLimitsAreChecked(t *testing.T) {
	tests := map[string]struct {
		limits Limits
		names  string
	}{
		"the defaults":             {DefaultLimits(), ""},
		"none":                     {Limits{}, ""},
		"half a call":              {Limits{CallsPerSecond: 0.5}, ""},
		"streams below none":       {Limits{Streams: -1}, "--max-streams is -1"},
		"a caller's below none":    {Limits{StreamsPerCaller: -1}, "--max-streams-per-caller"},
		"calls below none":         {Limits{CallsPerSecond: -0.1}, "--calls-per-second is -0.1"},
		"calls that are no number": {Limits{CallsPerSecondPerCaller: math.NaN()}, "--calls-per-second-per-caller"},
		"calls without end":        {Limits{CallsPerSecond: math.Inf(1)}, "--calls-per-second"},
		"a size below none":        {Limits{RequestBytes: -1}, "--max-request-bytes"},
		"the largest size":         {Limits{RequestBytes: MaxRequestBytes}, ""},
		"larger than what is read": {Limits{RequestBytes: MaxRequestBytes + 1}, "reads no request of more than 16777216"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.limits.Check()
			if (err != nil) != (test.names != "") || err != nil && !strings.Contains(err.Error(), test.names) {
				t.Errorf("%v, want %q", err, test.names)
			}
		})
	}
}
