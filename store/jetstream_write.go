package store

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// patience is how long the engine may take for a write before it is suspected to take none any more.
	patience = 3 * time.Second
	// keepInterval is how often a server that is suspected is looked after.
	keepInterval = time.Second
)

// write calls f, which writes through the engine, with a bounded context. It does not where the disk takes nothing: a server that
// meets the end of the disk takes nothing more until it is restarted. Where the engine does not answer, the server in this process is
// suspected.
func (s *JetStream) write(ctx context.Context, f func(context.Context) error) error {
	if s.room != nil {
		if err := s.room.spared(); err != nil {
			return err
		}
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	began := time.Now()
	err := f(ctx)
	if s.embedded != nil && unanswered(err) && time.Since(began) >= min(patience, s.options.Timeout) {
		s.embedded.suspected()
	}
	return err
}

// unanswered says whether an error may be that of an engine that does not answer.
func unanswered(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrNoStreamResponse)
}

// heal restarts the server in this process where it did not answer a write, and the disk takes something again.
func (s *JetStream) heal() error {
	if s.embedded == nil {
		return nil
	}
	restarted, err := s.embedded.heal(s.room.takes)
	if err != nil || !restarted && !s.conn.IsReconnecting() {
		return err
	}
	// The client reconnects by itself; the next call would find it still doing so. What waits while it reconnects is told that the
	// connection is closed, though another has taken its place: that is asked again.
	for deadline := time.Now().Add(s.options.Timeout); ; {
		err := s.conn.FlushTimeout(s.options.Timeout)
		if err == nil || !errors.Is(err, nats.ErrConnectionClosed) || s.conn.IsClosed() || time.Now().After(deadline) {
			return unavailable(err)
		}
	}
}

// keep heals until the store is closed. A writer heals when it recovers its journal, but what is written beside the journals has none
// that does.
func (s *JetStream) keep() {
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	told := false
	for {
		select {
		case <-s.closing.Done():
			return
		case <-ticker.C:
		}
		err := s.heal()
		if err != nil && !told {
			s.logger.Error("the store's server takes nothing, and cannot be restarted yet", "error", err)
		}
		told = err != nil
	}
}
