package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// mismatchTries and mismatchPause bound how long a leader is given to take in the write before.
	mismatchTries = 50
	mismatchPause = 10 * time.Millisecond
)

// compareAndSet replaces the value of a key that has this revision (0: that has none), or returns ErrKeyRevisionMismatch.
func compareAndSet(ctx context.Context, bucket jetstream.KeyValue, key string, value []byte, revision uint64) (uint64, error) {
	return retryMismatch(ctx, bucket, key, revision, func() (uint64, error) {
		return bucket.Update(ctx, key, value, revision)
	})
}

// retryMismatch calls write, and again while it says that the key does not have the revision that it does have. The leader of a
// cluster says so while it still counts an earlier write as under way, also one that it acknowledged a moment ago.
func retryMismatch(ctx context.Context, bucket jetstream.KeyValue, key string, revision uint64, write func() (uint64, error)) (uint64, error) {
	for try := 1; ; try++ {
		written, err := write()
		if try == mismatchTries || !errors.Is(err, jetstream.ErrKeyRevisionMismatch) || !hasRevision(ctx, bucket, key, revision) {
			return written, err
		}
		select {
		case <-time.After(mismatchPause):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// hasRevision says whether a key has a revision.
func hasRevision(ctx context.Context, bucket jetstream.KeyValue, key string, revision uint64) bool {
	stored, err := bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return revision == 0
	}
	return err == nil && stored.Revision() == revision
}

// create stores the value of a key that has none, or returns ErrKeyRevisionMismatch.
func create(ctx context.Context, bucket jetstream.KeyValue, key string, value []byte, options ...jetstream.KVCreateOpt) (uint64, error) {
	revision, err := bucket.Create(ctx, key, value, options...)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, fmt.Errorf("%w: %w", jetstream.ErrKeyRevisionMismatch, err)
	}
	return revision, err
}
