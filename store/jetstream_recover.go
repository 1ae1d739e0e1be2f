package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// damage remembers the identity in which a reader found damage, so that the next Recover believes it, although the engine may
// still say that all is well.
type damage struct {
	mu       sync.Mutex
	identity string
}

// found notes damage.
func (d *damage) found(identity string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.identity = identity
}

// in says whether damage was found in an identity.
func (d *damage) in(identity string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return identity == d.identity
}

// Recover implements Journal.
func (j *jetJournal) Recover(ctx context.Context) (*storev1.Checkpoint, error) {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.resign()
	seen, _, err := j.get()
	if err != nil {
		return nil, err
	}
	// From here on, what the engine has is what counts.
	j.store.recent.forget(seen.checkpoint.GetIdentity())
	if err := j.store.heal(); err != nil {
		return nil, err
	}
	bounded, cancel := j.store.bound(ctx)
	defer cancel()
	saved, revision, err := j.store.checkpoint(bounded, j.uid)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return nil, err
	}
	j.revision = revision
	last, missing := uint64(0), err
	if missing == nil {
		last, missing = j.verify(ctx, saved)
	}
	// A checkpoint is saved in any case: its new revision is what refuses the checkpoints of the writer before.
	switch {
	case missing == nil:
		saved = saved.advanced(last)
	case errors.Is(missing, ErrDamaged):
		j.store.logger.ErrorContext(ctx, "a journal is damaged and begins anew", "journal", j.uid, "error", missing)
		saved, last = saved.renewed(), 0
	default:
		return nil, missing
	}
	if err := j.settle(ctx, saved); err != nil {
		return nil, err
	}
	j.writer, j.last = true, last
	return saved.checkpoint, nil
}

// settle saves the checkpoint that Recover decided on, and then makes the streams what it says, so that an end between the two
// is made good by the next Recover.
func (j *jetJournal) settle(ctx context.Context, s saved) error {
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	if err := j.save(ctx, s); err != nil {
		return err
	}
	identity := s.checkpoint.GetIdentity()
	if s.checkpoint.GetLastSequence() == 0 || j.store.options.URL != "" {
		if err := j.createStream(ctx, identity); err != nil {
			return err
		}
	}
	if s.first > 1 {
		if err := j.purge(ctx, s); err != nil {
			return err
		}
	}
	return j.deleteStreams(ctx, identity)
}

// verify returns the stream's last sequence, or ErrDamaged where something is missing or unreadable of what the checkpoint names
// and of what comes after it. It reads only the entries that no reader can have seen, and the one before them; the others are
// verified by whoever reads them.
func (j *jetJournal) verify(ctx context.Context, s saved) (last uint64, err error) {
	if j.damage.in(s.checkpoint.GetIdentity()) {
		return 0, fmt.Errorf("%w: a reader found it", ErrDamaged)
	}
	err = j.surely(ctx, func() error {
		last, err = j.look(ctx, s)
		return err
	})
	return last, err
}

// look is verify by what the stream's leader says now.
func (j *jetJournal) look(ctx context.Context, s saved) (uint64, error) {
	identity, end := s.checkpoint.GetIdentity(), s.checkpoint.GetLastSequence()
	bounded, cancel := j.store.bound(ctx)
	defer cancel()
	stats, entries, err := j.stats(bounded, identity)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound) && end == 0:
		return 0, nil // It was being made, or made anew.
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, fmt.Errorf("%w: its stream is missing", ErrDamaged)
	case err != nil:
		return 0, unavailable(err)
	case stats.Last < end:
		return 0, fmt.Errorf("%w: it ends at %d, the checkpoint is at %d", ErrDamaged, stats.Last, end)
	case stats.First > s.first:
		return 0, fmt.Errorf("%w: it begins at %d, and was trimmed only before %d", ErrDamaged, stats.First, s.first)
	case entries != stats.Last+1-stats.First:
		return 0, fmt.Errorf("%w: it has %d entries from %d through %d", ErrDamaged, entries, stats.First, stats.Last)
	}
	for _, err := range j.scan(ctx, identity, max(end, stats.First), stats.Last) {
		if err != nil {
			return 0, err
		}
	}
	return stats.Last, nil
}

const (
	// staleLeader is for how long a stream's leader on a cluster may answer by what it had, after it lost touch: one that stood still, until
	// it hears of its successor; one that was cut off from the others, until it finds that out, which is 10 seconds by a look every 10.
	staleLeader = 25 * time.Second
	// staleInterval is how often it is asked again meanwhile.
	staleInterval = time.Second
)

// surely returns what ask does. That something is missing on a cluster is believed only when it is said for longer than a leader answers that
// is none any more: a journal that begins anew cannot be had back.
func (j *jetJournal) surely(ctx context.Context, ask func() error) error {
	certain := time.Now().Add(cmp.Or(j.store.options.staleLeader, staleLeader))
	for suspected := false; ; suspected = true {
		err := ask()
		if j.store.options.URL == "" || !errors.Is(err, ErrDamaged) || time.Now().After(certain) {
			return err
		}
		if !suspected {
			j.store.logger.WarnContext(ctx, "the cluster lacks something of a journal; it is asked again, since it may be a server that lost touch which says so",
				"journal", j.uid, "error", err)
		}
		select {
		case <-time.After(min(staleInterval, time.Until(certain)+time.Millisecond)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
