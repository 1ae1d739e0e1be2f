package store

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

func testFencing(t *testing.T, h *harness) {
	ctx := t.Context()
	old, _ := writer(t, h.store, "uid")
	_, err := old.Append(ctx, entries(1, 3))
	must(t, err)

	next, checkpoint := writer(t, h.peer(t), "uid")
	if checkpoint.GetLastSequence() != 3 {
		t.Fatalf("the second writer recovered %v", checkpoint)
	}
	if last, err := next.Append(ctx, entries(4, 5)); err != nil || last != 5 {
		t.Fatalf("the second writer appended through %d, %v", last, err)
	}
	save(t, next, 5)
	for _, late := range [][]*storev1.Entry{entries(4, 4), entries(4, 6)} {
		_, err = old.Append(ctx, late)
		wantError(t, err, ErrFenced)
	}
	wantError(t, old.SaveCheckpoint(ctx, &storev1.Checkpoint{LastSequence: 3}), ErrFenced)
	wantError(t, old.Trim(ctx, 2, time.Unix(9, 0)), ErrFenced)
	wantEntries(t, next, 1, 9, 1, 5)

	// It may recover, and then the other is the old one; also where nothing was appended since.
	_, err = old.Recover(ctx)
	must(t, err)
	wantError(t, next.SaveCheckpoint(ctx, &storev1.Checkpoint{LastSequence: 5}), ErrFenced)
	if last, err := old.Append(ctx, entries(6, 6)); err != nil || last != 6 {
		t.Fatalf("the first writer appended through %d, %v", last, err)
	}
	_, err = next.Append(ctx, entries(6, 6))
	wantError(t, err, ErrFenced)
	save(t, old, 6)
	wantEntries(t, old, 1, 9, 1, 6)
}

// testRefresh: whoever asks knows what another has saved a moment before, whatever was told.
func testRefresh(t *testing.T, h *harness) {
	j, _ := writer(t, h.store, "uid")
	other, err := h.peer(t).Journal(t.Context(), "uid")
	must(t, err)
	for last := uint64(1); last <= 20; last++ {
		_, err := j.Append(t.Context(), entries(int(last), int(last)))
		must(t, err)
		save(t, j, last)
		got, err := other.Refresh(t.Context())
		must(t, err)
		if got.GetLastSequence() != last || other.Checkpoint().GetLastSequence() != last {
			t.Fatalf("the journal ends at %d and then at %d, want %d", got.GetLastSequence(), other.Checkpoint().GetLastSequence(), last)
		}
	}
	must(t, h.store.DeleteJournal(t.Context(), "uid"))
	_, err = other.Refresh(t.Context())
	wantError(t, err, ErrNotFound)
}

func testRecoverTakesTheRest(t *testing.T, h *harness) {
	ctx := t.Context()
	j, first := writer(t, h.store, "uid")
	_, err := j.Append(ctx, entries(1, 5))
	must(t, err)
	must(t, j.SaveCheckpoint(ctx, &storev1.Checkpoint{
		LastSequence: 5, FloorTime: timestamppb.New(time.Unix(1, 0)),
		PolledSince: timestamppb.New(time.Unix(2, 0)), PolledThrough: timestamppb.New(time.Unix(3, 0)),
	}))
	want := proto.CloneOf(j.Checkpoint())
	_, err = j.Append(ctx, entries(6, 8))
	must(t, err)
	wantEntries(t, j, 1, 8, 1, 5)

	reopened := h.reopen(t)
	j, err = reopened.Journal(ctx, "uid")
	must(t, err)
	wantEntries(t, j, 1, 8, 1, 5)
	got, err := j.Recover(ctx)
	must(t, err)
	want.LastSequence = 8
	if !proto.Equal(got, want) || !proto.Equal(j.Checkpoint(), want) || got.GetIdentity() != first.GetIdentity() {
		t.Errorf("recovered %v, want %v", got, want)
	}
	wantEntries(t, j, 1, 8, 1, 8)
}

func testDeleteJournal(t *testing.T, h *harness) {
	ctx := t.Context()
	must(t, h.store.DeleteJournal(ctx, "unknown"))
	j, checkpoint := writer(t, h.store, "uid")
	_, err := j.Append(ctx, entries(1, 3))
	must(t, err)
	save(t, j, 3)
	waited := wait(t, j, checkpoint.GetIdentity(), 3)
	must(t, h.store.DeleteJournal(ctx, "uid"))
	wantError(t, receive(t, waited).err, ErrNotFound)
	must(t, h.store.DeleteJournal(ctx, "uid"))

	_, err = j.Append(ctx, entries(4, 4))
	wantError(t, err, ErrNotFound)
	_, err = j.Recover(ctx)
	wantError(t, err, ErrNotFound)
	wantError(t, j.SaveCheckpoint(ctx, &storev1.Checkpoint{}), ErrNotFound)
	_, err = j.Stats(ctx)
	wantError(t, err, ErrNotFound)
	_, err = j.Get(ctx, 1)
	wantError(t, err, ErrNotFound)
	for _, err := range j.Read(ctx, 1, 3) {
		wantError(t, err, ErrNotFound)
	}

	again, renewed := writer(t, h.store, "uid")
	if again == j || renewed.GetIdentity() == checkpoint.GetIdentity() || renewed.GetLastSequence() != 0 {
		t.Errorf("the new journal of that name has %v, the old had %v", renewed, checkpoint)
	}
	if last, err := again.Append(ctx, entries(1, 1)); err != nil || last != 1 {
		t.Errorf("appended through %d, %v", last, err)
	}
}

func testDeleteAcross(t *testing.T, h *harness) {
	ctx := t.Context()
	j, checkpoint := writer(t, h.store, "uid")
	_, err := j.Append(ctx, entries(1, 3))
	must(t, err)
	save(t, j, 3)
	waited := wait(t, j, checkpoint.GetIdentity(), 3)
	must(t, h.peer(t).DeleteJournal(ctx, "uid"))
	wantError(t, receive(t, waited).err, ErrNotFound)
	_, err = j.Append(ctx, entries(4, 4))
	wantError(t, err, ErrNotFound)
}

func testReopen(t *testing.T, h *harness) {
	ctx := t.Context()
	revision, err := h.store.CreateRecord(ctx, record("one", "uid"))
	must(t, err)
	spent, err := h.store.PutLedger(ctx, "key", &storev1.Ledger{Blocks: []*storev1.Ledger_Block{{Calls: 3}}}, 0)
	must(t, err)
	j, _ := writer(t, h.store, "uid")
	_, err = j.Append(ctx, entries(1, 50))
	must(t, err)
	save(t, j, 50)
	must(t, j.Trim(ctx, 11, time.Unix(7, 0)))
	want := j.Checkpoint()

	for range 2 {
		s := h.reopen(t)
		got, again, err := s.Record(ctx, "one")
		must(t, err)
		if again != revision || got.GetUid() != "uid" {
			t.Errorf("got %v at revision %d", got, again)
		}
		ledger, again, err := s.Ledger(ctx, "key")
		must(t, err)
		if again != spent || ledger.GetBlocks()[0].GetCalls() != 3 {
			t.Errorf("got %v at revision %d", ledger, again)
		}
		j, err := s.Journal(ctx, "uid")
		must(t, err)
		if !proto.Equal(j.Checkpoint(), want) {
			t.Errorf("got %v, want %v", j.Checkpoint(), want)
		}
		wantEntries(t, j, 11, 50, 11, 50)
		recovered, err := j.Recover(ctx)
		must(t, err)
		if !proto.Equal(recovered, want) {
			t.Errorf("recovered %v, want %v", recovered, want)
		}
	}
}

func testClosed(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	must(t, s.Ready(ctx))
	j, checkpoint := writer(t, s, "uid")
	_, err := j.Append(ctx, entries(1, 1))
	must(t, err)
	save(t, j, 1)
	waited := wait(t, j, checkpoint.GetIdentity(), 1)
	closeStore(t, s)
	closeStore(t, s) // Twice is no error.
	wantError(t, receive(t, waited).err, ErrUnavailable)

	wantError(t, s.Ready(ctx), ErrUnavailable)
	_, err = s.CreateRecord(ctx, record("one", "uid"))
	wantError(t, err, ErrUnavailable)
	_, _, err = s.Record(ctx, "one")
	wantError(t, err, ErrUnavailable)
	_, err = s.Records(ctx, "", 1)
	wantError(t, err, ErrUnavailable)
	_, err = s.WatchRecords(ctx)
	wantError(t, err, ErrUnavailable)
	_, _, err = s.Ledger(ctx, "key")
	wantError(t, err, ErrUnavailable)
	_, err = s.Journal(ctx, "uid")
	wantError(t, err, ErrUnavailable)
	_, err = j.Recover(ctx)
	wantError(t, err, ErrUnavailable)
	_, err = j.Append(ctx, entries(2, 2))
	wantError(t, err, ErrUnavailable)
	_, err = j.Get(ctx, 1)
	wantError(t, err, ErrUnavailable)
}
