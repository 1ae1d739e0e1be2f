package store

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// scripted is a watcher that tells what a test says, as one on a replica that is behind does.
type scripted struct {
	updates chan jetstream.KeyValueEntry
}

// Updates implements jetstream.KeyWatcher.
func (s *scripted) Updates() <-chan jetstream.KeyValueEntry { return s.updates }

// Stop implements jetstream.KeyWatcher.
func (s *scripted) Stop() error { return nil }

// Context implements jetstream.KeyWatcher.
func (s *scripted) Context() context.Context { return context.Background() }

// Error implements jetstream.KeyWatcher.
func (s *scripted) Error() <-chan error { return nil }

// toldEntry is an entry of a bucket.
type toldEntry struct {
	jetstream.KeyValueEntry
	key      string
	revision uint64
}

func (e toldEntry) Key() string      { return e.key }
func (e toldEntry) Revision() uint64 { return e.revision }

// A follower says that it has everything only when it has what the leader had, and tells no revision after a newer one of its key, whichever
// watcher it comes from.
func TestFollowerTellsWhatTheLeaderHad(t *testing.T) {
	var heard []string
	f := &follower{store: &JetStream{options: Options{Timeout: time.Second}}}
	f.handle = func(_ context.Context, entry jetstream.KeyValueEntry) {
		if entry == nil {
			heard = append(heard, "synced")
			return
		}
		heard = append(heard, entry.Key())
	}
	play := func(through uint64, entries ...jetstream.KeyValueEntry) {
		w := &scripted{updates: make(chan jetstream.KeyValueEntry, len(entries))}
		for _, entry := range entries {
			w.updates <- entry
		}
		close(w.updates)
		f.hear(t.Context(), &watcher{KeyWatcher: w, cancel: func() {}, through: through})
	}
	// Its replica has nothing yet of what was acknowledged, and says that this is all.
	play(5, toldEntry{key: "a", revision: 2}, nil, toldEntry{key: "b", revision: 4})
	if want := []string{"a", "b"}; !slices.Equal(heard, want) {
		t.Fatalf("heard %v, want %v", heard, want)
	}
	// The next one is on another replica, which is behind in what it tells of a.
	play(5, toldEntry{key: "a", revision: 1}, toldEntry{key: "b", revision: 4}, nil, toldEntry{key: "c", revision: 5}, toldEntry{key: "a", revision: 6})
	if want := []string{"a", "b", "c", "synced", "a"}; !slices.Equal(heard, want) {
		t.Fatalf("heard %v, want %v", heard, want)
	}
	// It is synced once.
	play(6, toldEntry{key: "a", revision: 6}, nil, toldEntry{key: "a", revision: 5}, toldEntry{key: "d", revision: 7})
	if want := []string{"a", "b", "c", "synced", "a", "d"}; !slices.Equal(heard, want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
}

// A watcher that lacks what the leader had a moment ago is behind.
func TestAWatcherThatIsBehind(t *testing.T) {
	s := openURL(t, startServer(t))
	f := &follower{store: s, bucket: s.records}
	revision, err := s.CreateRecord(t.Context(), record("one", "uid"))
	must(t, err)
	w := &watcher{}
	// The leader is asked for no longer than until the next look, which may be too short on a machine that is busy.
	eventually(t, "the leader's answer", func() bool {
		if f.behind(t.Context(), w) {
			t.Error("it is behind what nobody has asked the leader for")
		}
		return w.expected == revision
	})
	if !f.behind(t.Context(), w) {
		t.Error("it is not behind, and has told nothing")
	}
	if w.last = revision; f.behind(t.Context(), w) {
		t.Error("it is behind, and has told the newest")
	}
}
