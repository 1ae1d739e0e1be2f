package store

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// WatchRecords implements Registry.
func (s *JetStream) WatchRecords(ctx context.Context) (<-chan Change, error) {
	changes := make(chan Change)
	synced := false
	err := s.follow(ctx, s.records, func(ctx context.Context, entry jetstream.KeyValueEntry) {
		change, ok := s.changeOf(entry)
		if !ok || change.Deleted && !synced {
			return
		}
		synced = synced || change.Synced
		select {
		case changes <- change:
		case <-ctx.Done():
		}
	}, func() { close(changes) })
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// changeOf returns what the bucket of the records told; false where it cannot be read.
func (s *JetStream) changeOf(entry jetstream.KeyValueEntry) (Change, bool) {
	if entry == nil {
		return Change{Synced: true}, true
	}
	change := Change{ID: entry.Key(), Versioned: Versioned{Revision: entry.Revision()}}
	if entry.Operation() != jetstream.KeyValuePut {
		change.Deleted = true
		return change, true
	}
	record, err := decodeRecord(entry.Key(), entry.Value())
	if err != nil {
		s.logger.Error("a record cannot be read", "integration", entry.Key(), "error", err)
		return Change{}, false
	}
	change.Record = record
	return change, true
}

// watchCheckpoints begins to tell the open journals of the checkpoints that any process saves. One watch serves all journals.
func (s *JetStream) watchCheckpoints() error {
	// Journal reads the checkpoint that there is, after the watch began: only later ones need telling.
	return s.follow(context.Background(), s.checkpoints, func(_ context.Context, entry jetstream.KeyValueEntry) {
		if entry != nil {
			s.tell(entry)
		}
	}, func() {}, jetstream.UpdatesOnly())
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

// follow watches a bucket, and gives what it tells to handle until ctx or the store ends, then calls done.
func (s *JetStream) follow(ctx context.Context, bucket jetstream.KeyValue,
	handle func(context.Context, jetstream.KeyValueEntry), done func(), options ...jetstream.WatchOpt,
) error {
	ctx, cancel := context.WithCancel(ctx)
	// The watch lives as long as the context that it is begun with, so the beginning is bounded apart.
	limit := time.AfterFunc(s.options.Timeout, cancel)
	watcher, err := bucket.WatchAll(ctx, options...)
	if err == nil && !limit.Stop() {
		err = context.DeadlineExceeded
	}
	if err != nil {
		limit.Stop()
		cancel()
		return unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
		return errClosed
	}
	stop := context.AfterFunc(s.closing, cancel)
	s.tasks.Go(func() {
		defer done()
		defer stop()
		s.handleUpdates(ctx, watcher, handle)
		cancel()
		// A watcher that nobody reads holds the client's goroutine for ever: stop it, and read to the end. That it is stopped
		// already, by its context, is no error.
		_ = watcher.Stop()
		for range watcher.Updates() {
			continue
		}
	})
	return nil
}

// handleUpdates gives what a watcher tells to handle until ctx ends, or the connection.
func (s *JetStream) handleUpdates(ctx context.Context, watcher jetstream.KeyWatcher, handle func(context.Context, jetstream.KeyValueEntry)) {
	for {
		select {
		case entry, ok := <-watcher.Updates():
			if !ok {
				return
			}
			handle(ctx, entry)
		case <-ctx.Done():
			return
		}
	}
}
