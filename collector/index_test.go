package collector

import (
	"crypto/sha256"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func element(key, raw, content string, updated time.Time) *defender.Element {
	return &defender.Element{
		Key: key, RawHash: sha256.Sum256([]byte(raw)), ContentHash: sha256.Sum256([]byte(content)), Updated: updated,
		Alert: &integrationv1.Alert{LastUpdateTime: timestamppb.New(updated)},
	}
}

// The same content in other words is known by its newest words, so that shuffled evidence is not decoded at every poll, and no
// number of wordings grows the index.
func TestIndexKnowsOtherWords(t *testing.T) {
	x := newIndex()
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456700, time.UTC)
	first := element("a", "raw 1", "content", now)
	x.add(1, newRevision(first, now, now, 0))
	for _, raw := range []string{"raw 2", "raw 3", "raw 4"} {
		e := element("a", raw, "content", now)
		if _, ok := x.known(e.RawHash); ok {
			t.Errorf("%s is known before it was seen", raw)
		}
		if x.admits(e) {
			t.Errorf("%s is admitted, though it says what is there", raw)
		}
		known, ok := x.known(e.RawHash)
		if !ok || known.Key != "a" || !known.Updated.Equal(now) {
			t.Errorf("%s: known = %v, %v", raw, known, ok)
		}
	}
	if _, ok := x.known(first.RawHash); !ok {
		t.Error("the bytes that were stored are forgotten")
	}
	if len(x.raw) != 2 {
		t.Errorf("%d wordings are kept, want the stored one and the newest", len(x.raw))
	}
	x.trim(2)
	if len(x.raw) != 0 || len(x.alerts) != 0 || len(x.entries) != 0 {
		t.Errorf("after trimming: %d wordings, %d alerts, %d entries", len(x.raw), len(x.alerts), len(x.entries))
	}
}

// Times that nanoseconds cannot tell are compared all the same.
func TestIndexOddTimes(t *testing.T) {
	for _, updated := range []time.Time{time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)} {
		x := newIndex()
		x.add(1, newRevision(element("a", "raw", "content", updated), updated, updated, 0))
		if !x.admits(element("a", "raw 2", "content 2", updated)) {
			t.Errorf("%v: other content of the same time is not admitted", updated)
		}
		if updated.Year() == 9999 && x.admits(element("a", "raw 3", "content 3", time.Now())) {
			t.Errorf("%v: what is older is admitted", updated)
		}
	}
}

// An element that told no time is known without one: paging must not go by when it was read.
func TestIndexReadTime(t *testing.T) {
	x := newIndex()
	now := time.Now()
	e := element("sha256:00", "raw", "content", now)
	e.ReadTime, e.Alert = true, &integrationv1.Alert{}
	x.add(1, newRevision(e, now, now, 0))
	if known, ok := x.known(e.RawHash); !ok || !known.Updated.IsZero() {
		t.Errorf("known = %v, %v", known, ok)
	}
	x.add(2, &storev1.Entry{EntryTime: timestamppb.New(now), Body: &storev1.Entry_Pair{Pair: &storev1.PairProof{}}})
	if len(x.entries) != 2 || len(x.alerts) != 1 {
		t.Errorf("%d entries, %d alerts", len(x.entries), len(x.alerts))
	}
}
