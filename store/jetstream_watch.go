package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// WatchRecords implements Registry. What is there at first is collected until it is all there, so that nothing is told that was
// replaced or deleted before the watch began: what a collector is started for is there.
func (s *JetStream) WatchRecords(ctx context.Context) (<-chan Change, error) {
	changes := make(chan Change)
	first, synced := map[string]Change{}, false
	err := s.follow(ctx, s.records, func(ctx context.Context, entry jetstream.KeyValueEntry) {
		switch {
		case entry == nil:
			synced = true
			for _, id := range slices.Sorted(maps.Keys(first)) {
				pass(ctx, changes, first[id])
			}
			first = nil
			pass(ctx, changes, Change{Synced: true})
		case synced:
			if change, ok := s.changeOf(entry); ok {
				pass(ctx, changes, change)
			}
		default:
			delete(first, entry.Key())
			if change, ok := s.changeOf(entry); ok && !change.Deleted {
				first[change.ID] = change
			}
		}
	}, func() { close(changes) })
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// pass gives a change to whoever watches, unless ctx ends before.
func pass(ctx context.Context, changes chan<- Change, change Change) {
	select {
	case changes <- change:
	case <-ctx.Done():
	}
}

// changeOf returns what the bucket of the records told; false where it cannot be read.
func (s *JetStream) changeOf(entry jetstream.KeyValueEntry) (Change, bool) {
	change := Change{ID: entry.Key(), Versioned: Versioned{Revision: entry.Revision()}}
	if entry.Operation() != jetstream.KeyValuePut {
		change.Deleted = true
		return change, true
	}
	record, err := decodeRecord(entry.Key(), entry.Value())
	if err != nil {
		s.logger.Error("a record cannot be read", "integration_id", entry.Key(), "error", err)
		return Change{}, false
	}
	change.Record = record
	return change, true
}

// watchCheckpoints begins to tell the open journals of the checkpoints that any process saves. One watch serves all journals.
func (s *JetStream) watchCheckpoints() error {
	return s.follow(context.Background(), s.checkpoints, func(_ context.Context, entry jetstream.KeyValueEntry) {
		if entry != nil {
			s.tell(entry)
		}
	}, func() {})
}

// tell gives a journal its newest checkpoint.
func (s *JetStream) tell(entry jetstream.KeyValueEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	journal := s.journals[entry.Key()]
	if journal == nil {
		return
	}
	if entry.Operation() != jetstream.KeyValuePut {
		if _, revision, _ := journal.get(); entry.Revision() > revision {
			s.forget(journal)
		}
		return
	}
	saved, err := decodeSaved(entry.Value())
	if err != nil {
		// Whoever writes next finds it in Recover.
		s.logger.Error("a checkpoint cannot be read", "journal", entry.Key(), "error", err)
		return
	}
	journal.told(saved, entry.Revision())
}

// forget needs the lock. It ends a journal that was deleted.
func (s *JetStream) forget(journal *jetJournal) {
	journal.end(fmt.Errorf("journal %s: %w", journal.uid, ErrNotFound))
	s.recent.forget(journal.Checkpoint().GetIdentity())
	if s.journals[journal.uid] == journal {
		delete(s.journals, journal.uid)
	}
}
