package store

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

func testJournal(t *testing.T, h *harness) {
	ctx := t.Context()
	j, checkpoint := writer(t, h.store, "uid")
	if checkpoint.GetIdentity() == "" || checkpoint.GetFormat() != 1 || checkpoint.GetLastSequence() != 0 ||
		checkpoint.GetFloorTime() != nil || checkpoint.GetPolledSince() != nil {
		t.Errorf("a new journal's checkpoint is %v", checkpoint)
	}
	if stats, err := j.Stats(ctx); err != nil || stats.First != 1 || stats.Last != 0 {
		t.Errorf("an empty journal: %+v, %v", stats, err)
	}
	if last, err := j.Append(ctx, nil); err != nil || last != 0 {
		t.Errorf("nothing appended: %d, %v", last, err)
	}
	for _, batch := range [][2]int{{1, 1}, {2, 3}, {4, 1203}} { // One, a batch, more than one batch.
		last, err := j.Append(ctx, entries(batch[0], batch[1]))
		must(t, err)
		if last != uint64(batch[1]) {
			t.Fatalf("appended through %d, want %d", last, batch[1])
		}
	}
	save(t, j, 1203)
	wantEntries(t, j, 1, 1203, 1, 1203)
	wantEntries(t, j, 0, 3, 1, 3)
	wantEntries(t, j, 700, 700, 700, 700)
	wantEntries(t, j, 900, 5000, 900, 1203)
	wantEntries(t, j, 3, 2, 1, 0)
	wantEntries(t, j, 1204, 1300, 1, 0)

	for _, err := range j.Read(ctx, 1, 1203) {
		must(t, err)
		break // A reader may stop.
	}
	got, err := j.Get(ctx, 1000)
	must(t, err)
	if got.Sequence != 1000 || !proto.Equal(got.Entry, entry(1000)) {
		t.Errorf("got %v", got)
	}
	for _, sequence := range []uint64{0, 1204} {
		_, err = j.Get(ctx, sequence)
		wantError(t, err, ErrNotFound)
	}
	stats, err := j.Stats(ctx)
	must(t, err)
	if stats.First != 1 || stats.Last != 1203 || stats.Bytes == 0 {
		t.Errorf("stats are %+v", stats)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range j.Read(cancelled, 1, 1203) {
		wantError(t, err, context.Canceled)
	}
	_, err = j.Get(cancelled, 1)
	wantError(t, err, context.Canceled)
}

func testJournalShared(t *testing.T, h *harness) {
	one, err := h.store.Journal(t.Context(), "uid")
	must(t, err)
	two, err := h.store.Journal(t.Context(), "uid")
	must(t, err)
	other, err := h.store.Journal(t.Context(), "uid-2")
	must(t, err)
	if one != two || one == other {
		t.Error("one journal has one handle, two have two")
	}
	if one.Checkpoint().GetIdentity() == other.Checkpoint().GetIdentity() {
		t.Error("two journals have one identity")
	}
	elsewhere, err := h.peer(t).Journal(t.Context(), "uid")
	must(t, err)
	if one.Checkpoint().GetIdentity() != elsewhere.Checkpoint().GetIdentity() {
		t.Error("two processes see two identities")
	}
	_, err = elsewhere.Append(t.Context(), entries(1, 1))
	wantError(t, err, ErrFenced) // It was never recovered.
	wantError(t, elsewhere.SaveCheckpoint(t.Context(), &storev1.Checkpoint{}), ErrFenced)
	wantError(t, elsewhere.Trim(t.Context(), 1, time.Time{}), ErrFenced)
}

func testReadersStop(t *testing.T, h *harness) {
	ctx := t.Context()
	j, _ := writer(t, h.store, "uid")
	_, err := j.Append(ctx, entries(1, 10))
	must(t, err)
	wantEntries(t, j, 1, 10, 1, 0)
	_, err = j.Get(ctx, 1)
	wantError(t, err, ErrNotFound)
	save(t, j, 4)
	wantEntries(t, j, 1, 10, 1, 4)
	_, err = j.Get(ctx, 5)
	wantError(t, err, ErrNotFound)
}

func testTooLarge(t *testing.T, h *harness) {
	ctx := t.Context()
	j, _ := writer(t, h.store, "uid")
	sized := func(raw int) *storev1.Entry {
		return &storev1.Entry{Body: &storev1.Entry_Revision{Revision: &storev1.Revision{Raw: make([]byte, raw)}}}
	}
	overhead := proto.Size(sized(MaxEntrySize-100)) - (MaxEntrySize - 100)
	fits := sized(MaxEntrySize - overhead)
	_, err := j.Append(ctx, []*storev1.Entry{entry(1), sized(MaxEntrySize - overhead + 1)})
	wantError(t, err, ErrTooLarge)
	// Nothing was stored, and the writer goes on.
	large := make([]*storev1.Entry, 12) // More than a batch takes.
	for i := range large {
		large[i] = fits
	}
	last, err := j.Append(ctx, large)
	must(t, err)
	if last != 12 {
		t.Fatalf("appended through %d", last)
	}
	save(t, j, last)
	count := 0
	for got, err := range j.Read(ctx, 1, last) {
		must(t, err)
		if count++; len(got.Entry.GetRevision().GetRaw()) != MaxEntrySize-overhead {
			t.Fatalf("entry %d came back with %d bytes", got.Sequence, len(got.Entry.GetRevision().GetRaw()))
		}
	}
	if count != 12 {
		t.Errorf("read %d entries", count)
	}
}

func testSaveCheckpoint(t *testing.T, h *harness) {
	ctx := t.Context()
	j, first := writer(t, h.store, "uid")
	_, err := j.Append(ctx, entries(1, 3))
	must(t, err)
	given := &storev1.Checkpoint{
		Format: 9, Identity: "mine", LastSequence: 2,
		FloorTime:     timestamppb.New(time.Unix(100, 0)),
		PolledSince:   timestamppb.New(time.Unix(200, 0)),
		PolledThrough: timestamppb.New(time.Unix(300, 0)),
	}
	kept := proto.CloneOf(given)
	must(t, j.SaveCheckpoint(ctx, given))
	if !proto.Equal(given, kept) {
		t.Error("the caller's checkpoint was modified")
	}
	kept.Format, kept.Identity = 1, first.GetIdentity()
	if got := j.Checkpoint(); !proto.Equal(got, kept) {
		t.Errorf("got %v, want %v", got, kept)
	}
	if err := j.SaveCheckpoint(ctx, &storev1.Checkpoint{LastSequence: 4}); err == nil {
		t.Error("a checkpoint beyond the end was saved")
	}
	if err := j.SaveCheckpoint(ctx, &storev1.Checkpoint{LastSequence: 1}); err == nil {
		t.Error("a checkpoint before the last one was saved")
	}
	must(t, j.SaveCheckpoint(ctx, &storev1.Checkpoint{LastSequence: 3, FloorTime: timestamppb.New(time.Unix(99, 0))}))
	if got := j.Checkpoint(); got.GetFloorTime().GetSeconds() != 100 || got.GetPolledThrough() != nil {
		t.Errorf("the floor went back, or what was not given was kept: %v", got)
	}
	elsewhere, err := h.peer(t).Journal(ctx, "uid")
	must(t, err)
	if !proto.Equal(elsewhere.Checkpoint(), j.Checkpoint()) {
		t.Errorf("another process sees %v, not %v", elsewhere.Checkpoint(), j.Checkpoint())
	}
}

func testWait(t *testing.T, h *harness) {
	j, checkpoint := writer(t, h.store, "uid")
	identity, floor := checkpoint.GetIdentity(), time.Unix(100, 0)

	nothing, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := j.Wait(nothing, identity, 0, time.Time{})
	wantError(t, err, context.Canceled)

	waited := wait(t, j, identity, 0)
	_, err = j.Append(t.Context(), entries(1, 2))
	must(t, err)
	save(t, j, 2)
	if got := receive(t, waited); got.err != nil || got.checkpoint.GetLastSequence() != 2 {
		t.Errorf("waiting for entries gave %v, %v", got.checkpoint, got.err)
	}
	_, err = j.Wait(nothing, identity, 2, time.Time{})
	wantError(t, err, context.Canceled)

	waited = wait(t, j, identity, 2)
	must(t, j.Trim(t.Context(), 1, floor))
	if got := receive(t, waited); got.err != nil || !got.checkpoint.GetFloorTime().AsTime().Equal(floor) {
		t.Errorf("waiting for the floor gave %v, %v", got.checkpoint, got.err)
	}
	_, err = j.Wait(nothing, identity, 2, floor)
	wantError(t, err, context.Canceled)
	got, err := j.Wait(t.Context(), "another", 2, floor)
	if err != nil || got.GetIdentity() != identity {
		t.Errorf("waiting for another identity gave %v, %v", got, err)
	}
}

func testWaitAcross(t *testing.T, h *harness) {
	j, checkpoint := writer(t, h.store, "uid")
	elsewhere, err := h.peer(t).Journal(t.Context(), "uid")
	must(t, err)
	for last := range uint64(5) {
		waited := wait(t, elsewhere, checkpoint.GetIdentity(), last)
		_, err := j.Append(t.Context(), entries(int(last+1), int(last+1)))
		must(t, err)
		save(t, j, last+1)
		if got := receive(t, waited); got.err != nil || got.checkpoint.GetLastSequence() != last+1 {
			t.Fatalf("waiting after %d gave %v, %v", last, got.checkpoint, got.err)
		}
		wantEntries(t, elsewhere, last+1, last+1, int(last+1), int(last+1))
	}
}

func testTrim(t *testing.T, h *harness) {
	ctx := t.Context()
	j, checkpoint := writer(t, h.store, "uid")
	_, err := j.Append(ctx, entries(1, 100))
	must(t, err)
	must(t, j.SaveCheckpoint(ctx, &storev1.Checkpoint{LastSequence: 90, PolledThrough: timestamppb.New(time.Unix(5, 0))}))
	before, err := j.Stats(ctx)
	must(t, err)
	elsewhere, err := h.peer(t).Journal(ctx, "uid")
	must(t, err)

	must(t, j.Trim(ctx, 41, time.Unix(100, 0)))
	got := j.Checkpoint()
	if got.GetFloorTime().GetSeconds() != 100 || got.GetLastSequence() != 90 || got.GetPolledThrough().GetSeconds() != 5 ||
		got.GetIdentity() != checkpoint.GetIdentity() {
		t.Errorf("the checkpoint is %v", got)
	}
	stats, err := j.Stats(ctx)
	must(t, err)
	if stats.First != 41 || stats.Last != 100 || stats.Bytes >= before.Bytes {
		t.Errorf("stats are %+v, before %+v", stats, before)
	}
	for _, reader := range []Journal{j, elsewhere} {
		wantEntries(t, reader, 41, 90, 41, 90)
		count := 0
		for _, err := range reader.Read(ctx, 40, 90) {
			wantError(t, err, ErrTrimmed)
			count++
		}
		if count != 1 {
			t.Errorf("%d results after a trimmed entry", count)
		}
		_, err = reader.Get(ctx, 40)
		wantError(t, err, ErrTrimmed)
	}

	// Neither floor nor entries come back.
	must(t, j.Trim(ctx, 10, time.Unix(50, 0)))
	if got := j.Checkpoint().GetFloorTime().GetSeconds(); got != 100 {
		t.Errorf("the floor went back to %d", got)
	}
	wantEntries(t, j, 41, 90, 41, 90)
	// What no reader can have seen is not dropped.
	must(t, j.Trim(ctx, 1000, time.Unix(200, 0)))
	if stats, err := j.Stats(ctx); err != nil || stats.First != 91 || stats.Last != 100 {
		t.Errorf("stats are %+v, %v", stats, err)
	}
	if last, err := j.Append(ctx, entries(101, 101)); err != nil || last != 101 {
		t.Errorf("appended through %d, %v", last, err)
	}
	recovered, err := j.Recover(ctx)
	must(t, err)
	if recovered.GetIdentity() != checkpoint.GetIdentity() || recovered.GetLastSequence() != 101 ||
		recovered.GetFloorTime().GetSeconds() != 200 {
		t.Errorf("recovered %v", recovered)
	}
	wantEntries(t, j, 91, 101, 91, 101)
}

func testTrimAll(t *testing.T, h *harness) {
	ctx := t.Context()
	j, first := writer(t, h.store, "uid")
	_, err := j.Append(ctx, entries(1, 5))
	must(t, err)
	save(t, j, 5)
	must(t, j.Trim(ctx, 6, time.Unix(100, 0)))
	if stats, err := j.Stats(ctx); err != nil || stats.First != 6 || stats.Last != 5 {
		t.Errorf("stats are %+v, %v", stats, err)
	}
	j, checkpoint := writer(t, h.reopen(t), "uid")
	if checkpoint.GetIdentity() != first.GetIdentity() || checkpoint.GetLastSequence() != 5 {
		t.Errorf("recovered %v, was %v", checkpoint, first)
	}
	last, err := j.Append(ctx, entries(6, 7))
	must(t, err)
	if last != 7 {
		t.Errorf("appended through %d", last)
	}
	save(t, j, 7)
	wantEntries(t, j, 6, 7, 6, 7)
}
