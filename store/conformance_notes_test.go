package store

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// note returns a note that says who holds a lease.
func note(holder uint64) *storev1.Note {
	return &storev1.Note{Body: &storev1.Note_Lease{Lease: &storev1.Lease{Holder: holder}}}
}

func testNotes(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	_, _, err := s.Note(ctx, "leases.app")
	wantError(t, err, ErrNotFound)
	first, err := s.PutNote(ctx, "leases.app", note(1), 0, time.Hour)
	must(t, err)
	_, err = s.PutNote(ctx, "leases.app", note(2), 0, time.Hour)
	wantError(t, err, ErrConflict)
	_, err = s.PutNote(ctx, "leases.other", note(2), first, time.Hour)
	wantError(t, err, ErrConflict)

	other := h.peer(t)
	got, revision, err := other.Note(ctx, "leases.app")
	must(t, err)
	if revision != first || !proto.Equal(got, note(1)) {
		t.Errorf("got %v at revision %d, want the first at %d", got, revision, first)
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := other.WatchNotes(watching)
	must(t, err)
	if c := receive(t, changes); c.Key != "leases.app" || c.Revision != first || !proto.Equal(c.Note, note(1)) {
		t.Fatalf("the note that was there was told as %+v", c)
	}
	if c := receive(t, changes); !c.Synced || c.Key != "" {
		t.Fatalf("not synced, but %+v", c)
	}

	second, err := s.PutNote(ctx, "leases.app", note(2), first, time.Hour)
	must(t, err)
	if c := receive(t, changes); c.Key != "leases.app" || c.Revision != second || c.Note.GetLease().GetHolder() != 2 {
		t.Fatalf("a replaced note was told as %+v", c)
	}
	_, err = other.PutNote(ctx, "leases.app", note(3), first, time.Hour)
	wantError(t, err, ErrConflict)
	wantError(t, other.DeleteNote(ctx, "leases.app", first), ErrConflict)
	must(t, other.DeleteNote(ctx, "leases.app", second))
	if c := receive(t, changes); c.Key != "leases.app" || !c.Deleted || c.Note != nil {
		t.Fatalf("a deleted note was told as %+v", c)
	}
	_, _, err = s.Note(ctx, "leases.app")
	wantError(t, err, ErrNotFound)
	third, err := s.PutNote(ctx, "leases.app", note(4), 0, time.Hour)
	must(t, err)
	if c := receive(t, changes); third <= second || c.Revision != third || c.Note.GetLease().GetHolder() != 4 {
		t.Fatalf("a new note under an old key, at %d after %d, was told as %+v", third, second, c)
	}
}

func testNotesLapse(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	_, err := s.PutNote(ctx, "servers.gone", note(1), 0, time.Second)
	must(t, err)
	kept, err := s.PutNote(ctx, "servers.kept", note(1), 0, 3*time.Second)
	must(t, err)
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := h.peer(t).WatchNotes(watching)
	must(t, err)
	for _, key := range []string{"servers.gone", "servers.kept"} {
		if c := receive(t, changes); c.Key != key || c.Note == nil {
			t.Fatalf("%s was told as %+v", key, c)
		}
	}
	if c := receive(t, changes); !c.Synced {
		t.Fatalf("not synced, but %+v", c)
	}
	// Each that lapses is told, and leaves room for a new one; one that is replaced lives on from then.
	if c := receive(t, changes); c.Key != "servers.gone" || !c.Deleted || c.Note != nil {
		t.Fatalf("a note that lapsed was told as %+v", c)
	}
	_, _, err = s.Note(ctx, "servers.gone")
	wantError(t, err, ErrNotFound)
	replaced := time.Now()
	kept, err = s.PutNote(ctx, "servers.kept", note(2), kept, 3*time.Second)
	must(t, err)
	if c := receive(t, changes); c.Revision != kept || c.Note == nil {
		t.Fatalf("a note that was replaced was told as %+v", c)
	}
	if c := receive(t, changes); c.Key != "servers.kept" || !c.Deleted {
		t.Fatalf("a note that lapsed was told as %+v", c)
	}
	if lived := time.Since(replaced); lived < 3*time.Second-time.Millisecond {
		t.Errorf("a note that was replaced lived for %s", lived)
	}
	_, err = s.PutNote(ctx, "servers.kept", note(3), kept, time.Hour)
	wantError(t, err, ErrConflict)
	again, err := s.PutNote(ctx, "servers.kept", note(3), 0, time.Hour)
	must(t, err)
	if c := receive(t, changes); c.Revision != again || c.Note.GetLease().GetHolder() != 3 {
		t.Fatalf("a note in the place of one that lapsed was told as %+v", c)
	}
}
