package reading

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// minutes is a range by the minutes after since.
func minutes(start, end int) Range {
	return Range{since().Add(time.Duration(start) * time.Minute), since().Add(time.Duration(end) * time.Minute)}
}

// written writes ranges by their minutes.
func written(ranges []Range) string {
	var all []string
	for _, r := range ranges {
		all = append(all, fmt.Sprintf("%g-%g", r.Start.Sub(since()).Minutes(), r.End.Sub(since()).Minutes()))
	}
	return strings.Join(all, " ")
}

func TestFailingIsRememberedForAWhile(t *testing.T) {
	f, now := &Failing{}, since()
	at := func(m int) time.Time { return since().Add(time.Duration(m) * time.Minute) }
	want := func(from int, now time.Time, want string) {
		t.Helper()
		if got := written(f.Since(at(from), now)); got != want {
			t.Errorf("at %s, %s is remembered, want %s", now, got, want)
		}
	}
	f.Learn(at(0), time.Time{}, []Range{minutes(10, 20), minutes(30, 40)}, now)
	want(0, now, "10-20 30-40")
	want(15, now, "15-20 30-40")
	want(20, now, "30-40")
	// A read from a time on learns nothing of what is before it.
	later := now.Add(remembered / 2)
	f.Learn(at(15), time.Time{}, []Range{minutes(35, 40)}, later)
	want(0, later, "10-15 35-40")
	// One that ended early learns nothing of what is behind.
	f.Learn(at(0), at(12), []Range{minutes(11, 12)}, later)
	want(0, later, "11-12 12-15 35-40")
	// What was found in a remembered range is forgotten with it, what is new is not.
	f.Learn(at(50), time.Time{}, []Range{minutes(50, 60)}, later)
	want(0, now.Add(remembered), "50-60")
	want(0, later.Add(remembered), "")
	f.Learn(at(0), time.Time{}, nil, later)
	want(0, later, "")

	var many []Range
	for i := range 3 * maxRemembered {
		many = append(many, minutes(2*i, 2*i+1))
	}
	f.Learn(at(0), time.Time{}, many, later)
	if got := f.Since(at(0), later); len(got) != maxRemembered || got[maxRemembered-1] != many[len(many)-1] {
		t.Errorf("%d are remembered, want the last %d", len(got), maxRemembered)
	}
}

func TestParts(t *testing.T) {
	if got := written(minutes(1, 4).Parts(time.Minute)); got != "1-2.5 2.5-4" {
		t.Errorf("halves are %s", got)
	}
	if got := written(minutes(1, 2).Parts(time.Minute)); got != "1-2" {
		t.Errorf("what is fine is parted into %s", got)
	}
}

// errFailed is a failure that less may avoid.
func errFailed() error {
	return &defender.Error{Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED}}
}

// Of any length and with what fails anywhere, Narrow gives all that is before it, within the logarithm's calls.
func TestNarrow(t *testing.T) {
	for span := int64(1); span <= 1000; span += 37 {
		for fails := range span + 1 { // where it is the span's length, nothing fails by itself
			n, at, calls := &Narrowing{}, int64(0), 0
			failing, err := n.Narrow(span, 1, func(next int64) error {
				if calls++; at <= fails && fails < at+next {
					return errFailed()
				}
				at += next
				return nil
			})
			if err != nil || failing != (fails < span) || at != fails {
				t.Fatalf("of %d, with %d failing, %d are given and it says %t, error %v", span, fails, at, failing, err)
			}
			if calls > 14 || fails == 0 && calls > 1 {
				t.Errorf("of %d, with %d failing, it took %d calls", span, fails, calls)
			}
		}
	}
}

func TestNarrowingIsBounded(t *testing.T) {
	n := &Narrowing{}
	n.Failed(errFailed())
	for i := range 2 * maxExtraCalls {
		called := false
		_, err := n.Ask(func() error { called = true; return nil })
		if called != (i < maxExtraCalls) || (err != nil) == called {
			t.Fatalf("call %d is made: %t, error %v", i, called, err)
		}
	}
	for i := range 2 * maxRanges {
		if err := n.Pass(minutes(2*i, 2*i+1)); (err == nil) != (i < maxRanges) {
			t.Fatalf("range %d is passed over with error %v", i, err)
		}
	}
	if err := n.Pass(Range{minutes(0, 2*maxRanges-1).End, minutes(0, 99).End}); err != nil || len(n.missing) != maxRanges {
		t.Errorf("one that joins the last is passed over with error %v", err)
	}
	enough := errors.New("enough")
	if _, err := (&Narrowing{}).Ask(func() error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error is %v, want the call's", err)
	}
}

// What touches is told as one.
func TestWhatIsMissingIsTold(t *testing.T) {
	n, f := &Narrowing{}, &Failing{}
	n.Failed(errFailed())
	for _, r := range []Range{minutes(1, 2), minutes(2, 3), minutes(5, 6)} {
		if err := n.Pass(r); err != nil {
			t.Fatal(err)
		}
	}
	e, ok := errors.AsType[*defender.Error](n.Finish(f, since(), nil))
	if !ok || e.Permanent || e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED || e.Problem.GetRemedy() == "" {
		t.Fatalf("it is told as %v", e)
	}
	var told []Range
	for _, m := range e.Problem.GetMissing() {
		told = append(told, Range{m.GetStartTime().AsTime(), m.GetEndTime().AsTime()})
	}
	if written(told) != "1-3 5-6" || !strings.Contains(e.Problem.GetMessage(), "from 2026-01-01T00:01:00.0000000Z to before 2026-01-01T00:03:00.0000000Z, and from") {
		t.Errorf("missing is %s: %s", written(told), e.Problem.GetMessage())
	}
	if got := written(f.Since(since(), time.Now())); got != "1-2 2-3 5-6" {
		t.Errorf("%s is remembered", got)
	}
}
