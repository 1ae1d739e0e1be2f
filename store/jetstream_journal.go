package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/internal/announce"
)

// jetJournal is the one handle of a journal in this process.
type jetJournal struct {
	*view
	store *JetStream
	uid   string

	// writing is held by the writer's calls, one at a time. It guards what follows.
	writing sync.Mutex
	// writer says that Recover was called, and no Append failed since. The writer takes last for the stream's last sequence, and
	// revision for the checkpoint's.
	writer         bool
	last, revision uint64
	appended       appended

	damage damage
}

// stream returns the name of the stream that holds the entries of an identity. A uid has no dot, and an identity neither dot nor
// hyphen, so no two journals share a name.
func (j *jetJournal) stream(identity string) string {
	return j.store.options.Prefix + "-journal-" + j.uid + "-" + identity
}

// subject returns what the entries of an identity are published on.
func (j *jetJournal) subject(identity string) string {
	return j.store.options.Prefix + ".journal." + j.uid + "." + identity
}

// Journal implements Store.
func (s *JetStream) Journal(ctx context.Context, uid string) (Journal, error) {
	if err := checkUID(uid); err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	// The lock is held while the checkpoint is read, so that what the watch tells meanwhile waits until there is a handle to
	// tell it to.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if journal, ok := s.journals[uid]; ok {
		return journal, nil
	}
	journal := &jetJournal{store: s, uid: uid}
	saved, revision, err := s.checkpoint(ctx, uid)
	switch {
	case errors.Is(err, ErrNotFound):
		saved, revision, err = journal.create(ctx)
	case errors.Is(err, ErrDamaged):
		// Recover gives it a new identity; until then it has nothing to show.
		saved, err = newSaved(), nil
	}
	if err != nil {
		return nil, err
	}
	journal.view = newView(saved, revision)
	s.journals[uid] = journal
	return journal, nil
}

// checkpoint reads the checkpoint of a journal, or returns ErrNotFound; with ErrDamaged the revision is good.
func (s *JetStream) checkpoint(ctx context.Context, uid string) (saved, uint64, error) {
	stored, err := s.checkpoints.Get(ctx, uid)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return saved{}, 0, fmt.Errorf("journal %s: %w", uid, ErrNotFound)
	}
	if err != nil {
		return saved{}, 0, unavailable(err)
	}
	checkpoint, err := decodeSaved(stored.Value())
	return checkpoint, stored.Revision(), err
}

// Refresh implements Journal.
func (j *jetJournal) Refresh(ctx context.Context) (*storev1.Checkpoint, error) {
	if _, _, err := j.get(); err != nil {
		return nil, err
	}
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	s, revision, err := j.store.checkpoint(ctx, j.uid)
	if err != nil {
		return nil, err
	}
	j.told(s, revision)
	return s.checkpoint, nil
}

// create makes the first checkpoint of a journal, then its stream. Where another process was faster, its checkpoint holds.
func (j *jetJournal) create(ctx context.Context) (saved, uint64, error) {
	first := newSaved()
	value, err := first.encode()
	if err != nil {
		return saved{}, 0, err
	}
	var revision uint64
	err = j.store.write(ctx, func(ctx context.Context) (err error) {
		revision, err = retryMismatch(ctx, j.store.checkpoints, j.uid, 0, func() (uint64, error) {
			return create(ctx, j.store.checkpoints, j.uid, value)
		})
		return err
	})
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return j.store.checkpoint(ctx, j.uid)
	}
	if err != nil {
		return saved{}, 0, unavailable(err)
	}
	return first, revision, j.createStream(ctx, first.checkpoint.GetIdentity())
}

// createStream makes the stream of an identity, if it is not there, and gives one that is there the replicas that are wanted.
func (j *jetJournal) createStream(ctx context.Context, identity string) error {
	// The engine goes on with what nobody waits for any more, and would make the stream while it is being shut down.
	ctx, cancel := j.store.bound(context.WithoutCancel(ctx))
	defer cancel()
	return unavailable(j.store.ensureStream(ctx, j.journalConfig(identity)))
}

// DeleteJournal implements Store.
func (s *JetStream) DeleteJournal(ctx context.Context, uid string) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for _, bucket := range []jetstream.KeyValue{s.checkpoints, s.tests} {
		if err := bucket.Purge(ctx, uid); err != nil {
			return unavailable(err)
		}
	}
	s.mu.Lock()
	journal := s.journals[uid]
	if journal != nil {
		s.forget(journal)
	}
	s.mu.Unlock()
	if journal == nil {
		journal = &jetJournal{store: s, uid: uid}
	}
	return journal.deleteStreams(ctx, "")
}

// deleteStreams deletes the streams of all identities that are older than one; of all where that is empty. A writer that is late, whose
// journal another has given a new identity meanwhile, deletes nothing of that.
func (j *jetJournal) deleteStreams(ctx context.Context, keep string) error {
	streams := j.store.js.ListStreams(ctx, jetstream.WithStreamListSubject(j.subject("*")))
	created := map[string]time.Time{}
	for stream := range streams.Info() {
		created[stream.Config.Name] = stream.Created
	}
	if err := streams.Err(); err != nil {
		return unavailable(err)
	}
	kept, there := created[j.stream(keep)]
	for name, at := range created {
		if keep != "" && (!there || !at.Before(kept)) {
			continue
		}
		if err := j.store.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return unavailable(err)
		}
	}
	return nil
}

// save stores a checkpoint in the place of the one that has the writer's revision, and returns ErrFenced where another did.
func (j *jetJournal) save(ctx context.Context, next saved) error {
	value, err := next.encode()
	if err != nil {
		return err
	}
	// The watch may tell of it before the answer is here. Readers see it only when they find its entries without the engine.
	j.hold()
	defer j.release()
	var revision uint64
	err = j.store.write(ctx, func(ctx context.Context) (err error) {
		revision, err = compareAndSet(ctx, j.store.checkpoints, j.uid, value, j.revision)
		return err
	})
	switch {
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		j.resign()
		if _, _, err := j.store.checkpoint(ctx, j.uid); errors.Is(err, ErrNotFound) {
			return err
		}
		return fmt.Errorf("journal %s: the checkpoint: %w", j.uid, ErrFenced)
	case err != nil:
		return unavailable(err)
	}
	j.revision = revision
	// Nobody recovered the journal since the writer did, or the checkpoint would have another revision: what it appended is there.
	j.appended.settle(j.store.recent, next.checkpoint.GetIdentity(), next.checkpoint.GetLastSequence())
	j.set(next, revision)
	return nil
}

// resign makes the handle one that only reads, until it is recovered. The caller holds writing.
func (j *jetJournal) resign() {
	j.writer, j.appended = false, appended{}
}

// lockWriter begins a call that only the writer may make. The caller unlocks writing in every case.
func (j *jetJournal) lockWriter() error {
	j.writing.Lock()
	if _, _, err := j.get(); err != nil {
		return err
	}
	if !j.writer {
		return fmt.Errorf("journal %s: it must be recovered first: %w", j.uid, ErrFenced)
	}
	return nil
}

// SaveCheckpoint implements Journal.
func (j *jetJournal) SaveCheckpoint(ctx context.Context, checkpoint *storev1.Checkpoint) error {
	defer j.writing.Unlock()
	if err := j.lockWriter(); err != nil {
		return err
	}
	saved, revision, _ := j.get()
	if revision > j.revision {
		return fmt.Errorf("journal %s: the checkpoint is another's: %w", j.uid, ErrFenced)
	}
	next, err := saved.next(checkpoint, j.last)
	if err != nil {
		return fmt.Errorf("journal %s: %w", j.uid, err)
	}
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	return j.save(ctx, next)
}

// Trim implements Journal.
func (j *jetJournal) Trim(ctx context.Context, before uint64, floor time.Time) error {
	defer j.writing.Unlock()
	if err := j.lockWriter(); err != nil {
		return err
	}
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	saved, _, _ := j.get()
	next := saved.trimmed(before, floor)
	if err := j.save(ctx, next); err != nil {
		return err
	}
	return j.purge(ctx, next)
}

// purge drops the entries that a checkpoint says are trimmed.
func (j *jetJournal) purge(ctx context.Context, s saved) error {
	announce.Point(announce.Purge)
	return unavailable(j.store.write(ctx, func(ctx context.Context) error {
		stream, err := j.store.js.Stream(ctx, j.stream(s.checkpoint.GetIdentity()))
		if err != nil {
			return err
		}
		return stream.Purge(ctx, jetstream.WithPurgeSequence(s.first))
	}))
}

// Stats implements Journal.
func (j *jetJournal) Stats(ctx context.Context) (Stats, error) {
	saved, _, err := j.get()
	if err != nil {
		return Stats{}, err
	}
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	stats, _, err := j.stats(ctx, saved.checkpoint.GetIdentity())
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if saved.checkpoint.GetLastSequence() == 0 {
			return Stats{First: 1}, nil // Recover makes it.
		}
		return Stats{}, fmt.Errorf("journal %s: %w: its stream is missing", j.uid, ErrDamaged)
	}
	// What a checkpoint has trimmed is gone, also while it is about to be purged.
	stats.First = max(stats.First, saved.first)
	return stats, unavailable(err)
}

// stats asks the stream's leader for its bounds, and returns how many entries it says it has between them.
func (j *jetJournal) stats(ctx context.Context, identity string) (stats Stats, entries uint64, err error) {
	stream, err := j.store.js.Stream(ctx, j.stream(identity))
	if err != nil {
		return Stats{}, 0, err
	}
	if err := checkStreamFormat(stream.CachedInfo().Config); err != nil {
		return Stats{}, 0, err
	}
	state := stream.CachedInfo().State
	stats = Stats{First: state.FirstSeq, Last: state.LastSeq, Bytes: state.Bytes}
	if state.Msgs == 0 {
		stats.First = state.LastSeq + 1
	}
	return stats, state.Msgs, nil
}
