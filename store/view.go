package store

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// view is the newest checkpoint that this process knows of. It wakes those who wait for a newer one.
type view struct {
	mu       sync.Mutex
	saved    saved
	revision uint64
	// ended is why there will be no newer one: ErrNotFound after a deletion, ErrUnavailable after Close.
	ended error
	// changed is closed, and replaced, with each change.
	changed chan struct{}

	// holding says that what is told waits; held is the newest of it, at the revision heldRevision.
	holding      bool
	held         saved
	heldRevision uint64
}

func newView(s saved, revision uint64) *view {
	return &view{saved: s, revision: revision, changed: make(chan struct{})}
}

// set takes a checkpoint, if it is newer.
func (v *view) set(s saved, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.take(s, revision)
}

// take needs the lock.
func (v *view) take(s saved, revision uint64) {
	if v.ended != nil || revision <= v.revision {
		return
	}
	v.saved, v.revision = s, revision
	v.wake()
}

// told is set for a checkpoint that any process saved: between hold and release it waits.
func (v *view) told(s saved, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case !v.holding:
		v.take(s, revision)
	case revision > v.heldRevision:
		v.held, v.heldRevision = s, revision
	}
}

// hold makes what is told wait for release.
func (v *view) hold() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.holding = true
}

// release takes the newest of what was told since hold.
func (v *view) release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.take(v.held, v.heldRevision)
	v.holding, v.held, v.heldRevision = false, saved{}, 0
}

// end tells everybody who waits, now or later, that nothing comes any more.
func (v *view) end(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended != nil {
		return
	}
	v.ended = err
	v.wake()
}

// wake needs the lock.
func (v *view) wake() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// get returns the newest checkpoint, or why there is none any more.
func (v *view) get() (saved, uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.saved, v.revision, v.ended
}

// Checkpoint implements Journal.
func (v *view) Checkpoint() *storev1.Checkpoint {
	s, _, _ := v.get()
	return s.checkpoint
}

// Wait implements Journal.
func (v *view) Wait(ctx context.Context, identity string, after uint64, floor time.Time) (*storev1.Checkpoint, error) {
	for {
		v.mu.Lock()
		checkpoint, ended, changed := v.saved.checkpoint, v.ended, v.changed
		v.mu.Unlock()
		switch {
		case ended != nil:
			return nil, ended
		case checkpoint.GetIdentity() != identity, checkpoint.GetLastSequence() > after, floorOf(checkpoint).After(floor):
			return checkpoint, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// floorOf returns a checkpoint's floor; the zero time where it has none.
func floorOf(checkpoint *storev1.Checkpoint) time.Time {
	if checkpoint.GetFloorTime() == nil {
		return time.Time{}
	}
	return checkpoint.GetFloorTime().AsTime()
}

// timestampOf is the reverse of floorOf.
func timestampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
