package store

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// testRecent reads what was just appended, through everything that moves the bounds of what may be read. The first reader finds
// what a store may keep at hand, the second what there is.
func testRecent(t *testing.T, h *harness) {
	ctx := t.Context()
	j, first := writer(t, h.store, "uid")
	elsewhere, err := h.peer(t).Journal(ctx, "uid")
	must(t, err)
	both := func(from, through uint64, last int) {
		t.Helper()
		until(t, elsewhere, j.Checkpoint())
		wantEntries(t, j, from, through, int(from), last)
		wantEntries(t, elsewhere, from, through, int(from), last)
	}
	for last := 5; last <= 15; last += 5 {
		_, err := j.Append(ctx, entries(last-4, last))
		must(t, err)
		save(t, j, uint64(last-1))
		both(1, 100, last-1)
		_, err = j.Get(ctx, uint64(last))
		wantError(t, err, ErrNotFound)
		save(t, j, uint64(last))
		both(1, 100, last)
		both(uint64(last), uint64(last), last)
	}
	got, err := j.Get(ctx, 15)
	must(t, err)
	if got.Sequence != 15 || !proto.Equal(got.Entry, entry(15)) {
		t.Errorf("got %v", got)
	}

	recovered, err := j.Recover(ctx)
	must(t, err)
	if recovered.GetIdentity() != first.GetIdentity() {
		t.Fatal("the journal was renewed")
	}
	both(1, 100, 15)
	_, err = j.Append(ctx, entries(16, 20))
	must(t, err)
	save(t, j, 20)
	must(t, j.Trim(ctx, 19, time.Unix(9, 0)))
	_, err = j.Get(ctx, 18)
	wantError(t, err, ErrTrimmed)
	for _, err := range j.Read(ctx, 18, 20) {
		wantError(t, err, ErrTrimmed)
	}
	both(19, 100, 20)
}

// testRecentOfAnother has two writers take turns: each reads what the other wrote.
func testRecentOfAnother(t *testing.T, h *harness) {
	ctx := t.Context()
	one, _ := writer(t, h.store, "uid")
	two, err := h.peer(t).Journal(ctx, "uid")
	must(t, err)
	for last := 4; last <= 16; last += 4 {
		_, err = one.Recover(ctx)
		must(t, err)
		_, err = one.Append(ctx, entries(last-3, last-2))
		must(t, err)
		save(t, one, uint64(last-2))
		_, err = two.Recover(ctx)
		must(t, err)
		_, err = two.Append(ctx, entries(last-1, last))
		must(t, err)
		save(t, two, uint64(last))
		// What the first has from before is what the second goes on from.
		wantError(t, one.SaveCheckpoint(ctx, &storev1.Checkpoint{LastSequence: uint64(last - 2)}), ErrFenced)
		until(t, one, two.Checkpoint())
		wantEntries(t, one, 1, 100, 1, last)
		wantEntries(t, two, 1, 100, 1, last)
	}
}

// testRecentIsOfOneJournal gives the same sequences to two journals, and to one that takes the place of another.
func testRecentIsOfOneJournal(t *testing.T, h *harness) {
	ctx := t.Context()
	write := func(uid string, entries []*storev1.Entry) Journal {
		j, _ := writer(t, h.store, uid)
		_, err := j.Append(ctx, entries)
		must(t, err)
		save(t, j, uint64(len(entries)))
		return j
	}
	one, two := write("one", entries(1, 4)), write("two", others(3))
	wantEntries(t, one, 1, 100, 1, 4)
	wantOthers(t, two, 3)
	must(t, h.store.DeleteJournal(ctx, "one"))
	_, err := one.Get(ctx, 1)
	wantError(t, err, ErrNotFound)
	wantOthers(t, write("one", others(3)), 3)
}

// others returns entries that are not those of the tests at their sequences.
func others(count int) []*storev1.Entry {
	all := entries(1, count)
	for _, one := range all {
		one.EntryTime = timestamppb.New(time.Unix(1<<20, 0))
	}
	return all
}

// wantOthers wants a journal to have others, and nothing else.
func wantOthers(t *testing.T, j Journal, count int) {
	t.Helper()
	want := others(count)
	next := 0
	for got, err := range j.Read(t.Context(), 1, 100) {
		must(t, err)
		if next == count || got.Sequence != uint64(next+1) || !proto.Equal(got.Entry, want[next]) {
			t.Fatalf("entry %d is %v", next+1, got)
		}
		next++
		again, err := j.Get(t.Context(), got.Sequence)
		must(t, err)
		if !proto.Equal(again.Entry, got.Entry) {
			t.Fatalf("entry %d is %v, and read alone %v", next, got, again)
		}
	}
	if next != count {
		t.Fatalf("read %d entries, want %d", next, count)
	}
}

// until waits until a handle knows of a checkpoint.
func until(t *testing.T, j Journal, checkpoint *storev1.Checkpoint) {
	t.Helper()
	if last := checkpoint.GetLastSequence(); last > 0 {
		got := receive(t, wait(t, j, checkpoint.GetIdentity(), last-1))
		must(t, got.err)
	}
}
