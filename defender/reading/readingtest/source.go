package readingtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Collect reads and returns how often each element's bytes were given, and what the read returned. It fails where the result
// tells of another number of elements.
func Collect(t *testing.T, source defender.AlertSource, since time.Time) (map[string]int, defender.Read, error) {
	t.Helper()
	given, elements := map[string]int{}, int64(0)
	read, err := source.ReadAlerts(t.Context(), since, nil, func(e *defender.Element) error {
		given[string(e.Raw)]++
		elements++
		return nil
	})
	if read.Elements != elements {
		t.Errorf("%d elements are told, and %d were given", read.Elements, elements)
	}
	return given, read, err
}

// WantOnce fails unless what was given is what is wanted, each once.
func WantOnce(t *testing.T, given map[string]int, want []string) {
	t.Helper()
	for _, raw := range want {
		if n := given[raw]; n != 1 {
			t.Fatalf("%s was given %d times, want 1", raw, n)
		}
	}
	if len(given) != len(want) {
		t.Fatalf("%d elements were given, want %d", len(given), len(want))
	}
}

// WantReason fails unless err is a *defender.Error of that reason, with words and a remedy, and returns its problem.
func WantReason(t *testing.T, err error, reason integrationv1.ErrorReason) *integrationv1.Problem {
	t.Helper()
	e, ok := errors.AsType[*defender.Error](err)
	if !ok {
		t.Fatalf("error is %v, want a *defender.Error of %s", err, reason)
	}
	if e.Problem.GetReason() != reason || e.Problem.GetMessage() == "" || e.Problem.GetRemedy() == "" {
		t.Fatalf("problem is %v, want %s with message and remedy", e.Problem, reason)
	}
	return e.Problem
}

// KnownAreNotDecoded fails unless a second read of n elements since a time, which all were decoded in the first, decodes none.
func KnownAreNotDecoded(t *testing.T, source defender.AlertSource, since time.Time, n int64) {
	t.Helper()
	index := map[[32]byte]defender.Known{}
	if _, err := source.ReadAlerts(t.Context(), since, nil, func(e *defender.Element) error {
		if e.Alert == nil || e.Known || e.ReadTime || e.ContentHash == [32]byte{} {
			t.Errorf("element %s: %+v is not a decoded one", e.Key, e)
		}
		index[e.RawHash] = defender.Known{Key: e.Key, Updated: e.Updated}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	read, err := source.ReadAlerts(t.Context(), since, func(hash [32]byte) (defender.Known, bool) {
		known, ok := index[hash]
		return known, ok
	}, func(e *defender.Element) error {
		if e.Alert != nil || !e.Known || e.Key != index[e.RawHash].Key || !e.Updated.Equal(index[e.RawHash].Updated) {
			t.Errorf("element %s: %+v is not a known one", e.Key, e)
		}
		return nil
	})
	if err != nil || read.Elements != n {
		t.Fatalf("%d elements, error %v; want %d", read.Elements, err, n)
	}
}

// YieldsErrorEndsTheRead fails unless a read of some elements ends with yield's error, after one call and one element.
func YieldsErrorEndsTheRead(t *testing.T, source defender.AlertSource, since time.Time) {
	t.Helper()
	stop, yielded := errors.New("stop"), 0
	read, err := source.ReadAlerts(t.Context(), since, nil, func(*defender.Element) error {
		yielded++
		return stop
	})
	if !errors.Is(err, stop) || read.Calls != 1 || yielded != 1 {
		t.Fatalf("error is %v after %d calls and %d elements, want yield's after one", err, read.Calls, yielded)
	}
}

// EndOfContext fails unless a read whose context ends while it is answered ends with the cause. prepare is handed what ends the
// context, for the answer to call.
func EndOfContext(t *testing.T, source defender.AlertSource, since time.Time, prepare func(end func())) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	prepare(func() { cancel(enough) })
	read, err := source.ReadAlerts(ctx, since, nil, func(*defender.Element) error { return nil })
	if !errors.Is(err, enough) || read.Calls != 1 {
		t.Fatalf("error is %v after %d calls, want the context's cause after one", err, read.Calls)
	}
}
