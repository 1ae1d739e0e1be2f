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

// notesThatLapse are a store's notes and what a watch tells of them. However late a machine that is busy comes to each, none may lapse before
// its life is over.
type notesThatLapse struct {
	t       *testing.T
	store   Store
	changes <-chan NoteChange
	// there are the notes that were not told to have lapsed.
	there map[string]livingNote
	// told is the newest revision that was told.
	told uint64
}

// livingNote is a note that was put after a time, for so long.
type livingNote struct {
	revision uint64
	after    time.Time
	life     time.Duration
}

func (n *notesThatLapse) put(key string, holder uint64, life time.Duration) error {
	n.t.Helper()
	after := time.Now()
	revision, err := n.store.PutNote(n.t.Context(), key, note(holder), n.there[key].revision, life)
	if err == nil {
		n.there[key] = livingNote{revision, after, life}
	}
	return err
}

// lapses waits until a note is told to have lapsed. What is told before is what was put, once, or that another has lapsed.
func (n *notesThatLapse) lapses(key string) {
	n.t.Helper()
	for n.there[key].revision != 0 {
		c := receive(n.t, n.changes)
		put, ok := n.there[c.Key]
		switch lived := time.Since(put.after); {
		case !ok || c.Synced || c.Deleted != (c.Note == nil):
			n.t.Fatalf("while %s was to lapse, %+v was told", key, c)
		case !c.Deleted && (c.Revision > put.revision || c.Revision <= n.told):
			n.t.Fatalf("%+v was told after %d, and what was put is %+v", c, n.told, put)
		case c.Deleted && lived < put.life-time.Millisecond:
			n.t.Fatalf("%s lapsed after %s, and was put for %s", c.Key, lived, put.life)
		case c.Deleted:
			delete(n.there, c.Key)
		default:
			n.told = c.Revision
		}
	}
}

func testNotesLapse(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	n := &notesThatLapse{t: t, store: s, there: map[string]livingNote{}}
	must(t, n.put("servers.gone", 1, time.Hour))
	must(t, n.put("servers.kept", 1, time.Hour))
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	n.changes, err = h.peer(t).WatchNotes(watching)
	must(t, err)
	for _, key := range []string{"servers.gone", "servers.kept"} {
		if c := receive(t, n.changes); c.Key != key || c.Revision != n.there[key].revision || c.Note == nil {
			t.Fatalf("%s was told as %+v", key, c)
		}
		n.told = n.there[key].revision
	}
	if c := receive(t, n.changes); !c.Synced {
		t.Fatalf("not synced, but %+v", c)
	}
	// Each that lapses is told, and leaves room for a new one; one that is replaced lives on from then.
	const life = 3 * time.Second
	for {
		must(t, n.put("servers.kept", 1, life))
		put := n.there["servers.kept"]
		must(t, n.put("servers.gone", 1, time.Second))
		n.lapses("servers.gone")
		_, _, err = s.Note(ctx, "servers.gone")
		wantError(t, err, ErrNotFound)
		// On a machine that stood still for so long, there is nothing to replace any more.
		if n.there["servers.kept"] != put {
			continue
		}
		if err = n.put("servers.kept", 2, life); err == nil {
			break
		}
		wantError(t, err, ErrConflict)
		if lived := time.Since(put.after); lived < life {
			t.Fatalf("a note that was put for %s could not be replaced after %s", life, lived)
		}
		n.lapses("servers.kept")
	}
	kept := n.there["servers.kept"].revision
	n.lapses("servers.kept")
	_, err = s.PutNote(ctx, "servers.kept", note(3), kept, time.Hour)
	wantError(t, err, ErrConflict)
	again, err := s.PutNote(ctx, "servers.kept", note(3), 0, time.Hour)
	must(t, err)
	if c := receive(t, n.changes); c.Revision != again || c.Note.GetLease().GetHolder() != 3 {
		t.Fatalf("a note in the place of one that lapsed was told as %+v", c)
	}
}
