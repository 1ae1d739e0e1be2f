package store

import (
	"testing"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// What was appended is read without the engine, once a checkpoint names it; and no more after a recovery.
func TestRecentNeedsNoEngine(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, first := writer(t, s, "uid")
	j := opened.(*jetJournal)
	_, err := j.Append(t.Context(), entries(1, 1500))
	must(t, err)
	save(t, j, 1500)
	must(t, s.js.DeleteStream(t.Context(), j.stream(first.GetIdentity())))
	wantEntries(t, j, 1, 1500, 1, 1500)
	if got, err := j.Get(t.Context(), 700); err != nil || got.Sequence != 700 {
		t.Errorf("got %v, %v", got, err)
	}
	s.recent.forget(first.GetIdentity())
	_, err = j.Get(t.Context(), 700)
	wantError(t, err, ErrDamaged)
	recovered, err := j.Recover(t.Context())
	must(t, err)
	if recovered.GetIdentity() == first.GetIdentity() {
		t.Error("the loss of the stream went unnoticed")
	}
}

// What another process wrote is read out of the engine once.
func TestRecentTakesWhatWasRead(t *testing.T) {
	s := openDir(t, t.TempDir())
	j, first := writer(t, s, "uid")
	peer := peerOf(t, s)
	elsewhere, err := peer.Journal(t.Context(), "uid")
	must(t, err)
	_, err = j.Append(t.Context(), entries(1, recentTip+10))
	must(t, err)
	save(t, j, recentTip+10)
	until(t, elsewhere, j.Checkpoint())
	for range 2 {
		wantEntries(t, elsewhere, 1, recentTip+10, 1, recentTip+10)
		for sequence, want := range map[uint64]bool{10: false, 11: true, recentTip + 10: true} {
			if _, ok := peer.recent.get(first.GetIdentity(), sequence); ok != want {
				t.Errorf("entry %d is at hand: %v", sequence, ok)
			}
		}
	}
	_, err = elsewhere.Recover(t.Context())
	must(t, err)
	if _, ok := peer.recent.get(first.GetIdentity(), 11); ok {
		t.Error("a recovery left what was read before")
	}
}

// What was appended, but not named by a checkpoint of its writer, never takes the place of what another wrote there.
func TestRecentNeverShadows(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, first := writer(t, s, "uid")
	j := opened.(*jetJournal)
	_, err := j.Append(t.Context(), entries(1, 3))
	must(t, err)
	// The engine loses what no checkpoint names, and the next writer goes on with the same identity.
	must(t, s.js.DeleteStream(t.Context(), j.stream(first.GetIdentity())))
	next, recovered := writer(t, peerOf(t, s), "uid")
	if recovered.GetIdentity() != first.GetIdentity() || recovered.GetLastSequence() != 0 {
		t.Fatalf("recovered %v", recovered)
	}
	_, err = next.Append(t.Context(), others(3))
	must(t, err)
	save(t, next, 3)
	until(t, j, next.Checkpoint())
	wantOthers(t, j, 3)
	wantError(t, j.SaveCheckpoint(t.Context(), &storev1.Checkpoint{LastSequence: 3}), ErrFenced)
	wantOthers(t, j, 3)
	_, err = j.Recover(t.Context())
	must(t, err)
	wantOthers(t, j, 3)
}

// A writer that failed keeps nothing of what it appended.
func TestResignedWriterKeepsNothing(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, _ := writer(t, s, "uid")
	j := opened.(*jetJournal)
	_, err := j.Append(t.Context(), entries(1, 3))
	must(t, err)
	if len(j.appended.entries) != 3 {
		t.Fatalf("appended are %v", j.appended)
	}
	next, _ := writer(t, peerOf(t, s), "uid")
	_, err = next.Append(t.Context(), others(1))
	must(t, err)
	_, err = j.Append(t.Context(), entries(4, 4))
	wantError(t, err, ErrFenced)
	if len(j.appended.entries) != 0 {
		t.Errorf("appended are still %v", j.appended)
	}
}

func TestRecentIsBounded(t *testing.T) {
	r := newRecent()
	const size = recentBytes / 10
	for sequence := range uint64(25) {
		r.add("a", Positioned{Sequence: sequence, Entry: entry(int(sequence))}, size)
		r.add("a", Positioned{Sequence: sequence, Entry: entry(int(sequence))}, size) // It is there.
	}
	for sequence := range uint64(30) {
		if got, ok := r.get("a", sequence); ok != (sequence >= 15 && sequence < 25) || ok && got.Sequence != sequence {
			t.Errorf("entry %d: %v, %v", sequence, got, ok)
		}
	}
	if got := r.missing("a", 3, 30); got != 14 {
		t.Errorf("missing through %d", got)
	}
	if got := r.missing("a", 3, 9); got != 9 {
		t.Errorf("missing through %d", got)
	}
	if got := r.missing("b", 16, 20); got != 20 {
		t.Errorf("another identity is missing through %d", got)
	}
	r.add("b", Positioned{Sequence: 1, Entry: entry(1)}, size)
	r.forget("a")
	if _, ok := r.get("b", 1); !ok || r.bytes != size || len(r.order) != 1 || len(r.entries) != 1 {
		t.Errorf("after a was forgotten: %d bytes, %d in order, %d entries", r.bytes, len(r.order), len(r.entries))
	}
}

func TestAppendedIsBounded(t *testing.T) {
	var a appended
	framed := [][]byte{make([]byte, recentBytes/2-1), make([]byte, recentBytes/2)}
	a.add(1, entries(1, 2), framed)
	a.add(3, entries(3, 4), framed) // With it, it would be too much.
	r := newRecent()
	a.settle(r, "a", 3)
	if _, ok := r.get("a", 3); !ok || len(r.entries) != 1 || len(a.entries) != 1 || a.bytes != recentBytes/2 {
		t.Errorf("at 3: %v, and left are %v", r.order, a)
	}
	a.settle(r, "a", 4)
	if _, ok := r.get("a", 4); !ok || len(r.entries) != 2 || len(a.entries) != 0 || a.bytes != 0 {
		t.Errorf("at 4: %v, and left are %v", r.order, a)
	}
}

// What the watch tells while the writer saves is seen after it, the newest only.
func TestViewHolds(t *testing.T) {
	at := func(last uint64) saved { return newSaved().advanced(last) }
	v := newView(at(1), 1)
	want := func(last uint64) {
		t.Helper()
		if got := v.Checkpoint().GetLastSequence(); got != last {
			t.Fatalf("the checkpoint is at %d, want %d", got, last)
		}
	}
	v.told(at(2), 2)
	want(2)
	v.hold()
	v.told(at(4), 4)
	v.told(at(3), 3)
	want(2)
	v.set(at(3), 3) // The writer's own.
	want(3)
	v.release()
	want(4)
	v.hold()
	v.release()
	want(4)
	v.told(at(5), 5)
	want(5)
	if _, err := v.Wait(t.Context(), v.Checkpoint().GetIdentity(), 4, time.Time{}); err != nil {
		t.Fatal(err)
	}
}
