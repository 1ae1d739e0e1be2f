package store

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// lookInterval is how often a watcher on a cluster is compared with the leader. One that lacks what the leader had a moment ago, since
	// its replica is gone, stopped or behind, is replaced.
	lookInterval = time.Second
	// againInterval is how long after a failure the next watcher is begun.
	againInterval = 500 * time.Millisecond
)

// follower follows a bucket by one watcher after another, and tells each revision once.
type follower struct {
	store  *JetStream
	bucket jetstream.KeyValue
	handle func(context.Context, jetstream.KeyValueEntry)
	// told is the newest revision that was told. Each watcher tells in the order of revisions, so that all before it was told too, or was
	// replaced: a watcher that takes another's place begins from the front, and one on a replica that is behind with what was replaced
	// long ago.
	told uint64
	// synced says that everything was told that was there when following began.
	synced bool
}

// watcher is one watcher of a bucket.
type watcher struct {
	jetstream.KeyWatcher
	cancel context.CancelFunc
	// through is the newest revision that the leader had before the watcher began, last the newest that it told, marked that it says to have
	// told what its own replica had.
	through, last uint64
	marked        bool
	// expected is the newest revision that the leader had when it was last asked.
	expected uint64
}

// follow watches a bucket, and gives what it tells to handle until ctx or the store ends, then calls done. It tells the newest of each key,
// then nil once that is everything that was there when following began, then every change; of a key never an older revision after a newer.
func (s *JetStream) follow(ctx context.Context, bucket jetstream.KeyValue,
	handle func(context.Context, jetstream.KeyValueEntry), done func(),
) error {
	ctx, cancel := context.WithCancel(ctx)
	f := &follower{store: s, bucket: bucket, handle: handle}
	w, err := f.begin(ctx)
	if err != nil {
		cancel()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		w.end()
		cancel()
		return errClosed
	}
	stop := context.AfterFunc(s.closing, cancel)
	s.tasks.Go(func() {
		defer done()
		defer cancel()
		defer stop()
		for w != nil {
			f.hear(ctx, w)
			w.end()
			w = f.again(ctx)
		}
	})
	return nil
}

// begin begins a watcher.
func (f *follower) begin(ctx context.Context) (*watcher, error) {
	ctx, cancel := context.WithCancel(ctx)
	// The watcher lives as long as the context that it is begun with, so the beginning is bounded apart.
	limit := time.AfterFunc(f.store.options.Timeout, cancel)
	w := &watcher{cancel: cancel}
	var err error
	if w.through, err = f.store.newest(ctx, f.bucket); err == nil {
		w.KeyWatcher, err = f.bucket.WatchAll(ctx)
	}
	if !limit.Stop() && err == nil {
		w.end()
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, unavailable(err)
	}
	return w, nil
}

// again begins a watcher in the place of one that ended, as soon as the engine lets it; nil where ctx ends before.
func (f *follower) again(ctx context.Context) *watcher {
	for told := false; ctx.Err() == nil; {
		w, err := f.begin(ctx)
		if err == nil {
			return w
		}
		if !told && ctx.Err() == nil {
			f.store.logger.WarnContext(ctx, "a bucket cannot be watched; it is tried again until it can", "bucket", f.bucket.Bucket(), "error", err)
			told = true
		}
		select {
		case <-time.After(againInterval):
		case <-ctx.Done():
		}
	}
	return nil
}

// hear tells what a watcher tells until ctx ends, or the watcher does, or it is behind.
func (f *follower) hear(ctx context.Context, w *watcher) {
	var look <-chan time.Time
	if f.store.options.URL != "" {
		ticker := time.NewTicker(lookInterval)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case entry, ok := <-w.Updates():
			if !ok {
				return
			}
			f.tell(ctx, w, entry)
		case <-look:
			if len(w.Updates()) == 0 && f.behind(ctx, w) {
				f.store.logger.InfoContext(ctx, "a watch is behind, and begins anew", "bucket", f.bucket.Bucket(), "at", w.last)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// tell tells what a watcher told, nil for its own end of the beginning.
func (f *follower) tell(ctx context.Context, w *watcher, entry jetstream.KeyValueEntry) {
	if entry == nil {
		w.marked = true
	} else {
		w.last = max(w.last, entry.Revision())
		if entry.Revision() > f.told {
			f.told = entry.Revision()
			f.handle(ctx, entry)
		}
	}
	// A watcher tells what its own replica has, which may be less than what was acknowledged.
	if !f.synced && w.marked && w.last >= w.through {
		f.synced = true
		f.handle(ctx, nil)
	}
}

// behind says whether a watcher lacks what the leader had when it was last asked, and asks it again.
func (f *follower) behind(ctx context.Context, w *watcher) bool {
	lacks := w.last < w.expected
	ctx, cancel := context.WithTimeout(ctx, lookInterval)
	defer cancel()
	if newest, err := f.store.newest(ctx, f.bucket); err == nil {
		w.expected = newest
	}
	return lacks
}

// end ends the watcher. One that nobody reads holds the client's goroutine for ever: it is stopped, and read to the end.
func (w *watcher) end() {
	w.cancel()
	// That it is stopped already, by its context, is no error.
	_ = w.Stop()
	for range w.Updates() {
		continue
	}
}

// newest returns the newest revision in a bucket, by the leader of its stream; 0 where it is empty.
func (s *JetStream) newest(ctx context.Context, bucket jetstream.KeyValue) (uint64, error) {
	revision, _, err := s.leaderMessage(ctx, "KV_"+bucket.Bucket(), `{"last_by_subj":">"}`)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	return revision, err
}
