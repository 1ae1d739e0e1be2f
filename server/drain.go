package server

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// openStreams are the streams that are under way, so that they can be ended from outside: all when the server drains, single ones when
// what is in force no longer allows them.
type openStreams struct {
	mu  sync.Mutex
	set map[*openStream]struct{}
	// draining says that all have been ended, and that those that come are.
	draining bool
}

// openStream is a stream that is under way. end cancels its context, with why it ends as the cause: a *failure.Error.
type openStream struct {
	call *call
	end  context.CancelCauseFunc
}

// requestLimit is how long the request of a stream may take to come once the stream is open.
const requestLimit = 30 * time.Second

func newOpenStreams() *openStreams { return &openStreams{set: make(map[*openStream]struct{})} }

// add adds a stream, and ends it at once where the server drains.
func (o *openStreams) add(s *openStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.set[s] = struct{}{}
	if o.draining {
		s.end(failure.Draining())
	}
}

func (o *openStreams) remove(s *openStream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.set, s)
}

// drain ends all streams, and those that come.
func (o *openStreams) drain() {
	o.mu.Lock()
	o.draining = true
	o.mu.Unlock()
	o.endWhere(func(*call) *failure.Error { return failure.Draining() })
}

// endWhere ends the streams for whose call why returns a failure, with that.
func (o *openStreams) endWhere(why func(*call) *failure.Error) {
	o.mu.Lock()
	open := slices.Collect(maps.Keys(o.set))
	o.mu.Unlock()
	for _, s := range open {
		if failed := why(s.call); failed != nil {
			s.end(failed)
		}
	}
}

// endable keeps each stream among the open ones for as long as it runs: when it is ended from there, the stream's own context is
// cancelled, and whatever its handler makes of that, the caller gets the failure that it was ended with. Unary calls are left to finish.
//
// Without it an open stream, and a Health.Watch above all (https://github.com/grpc/grpc-go/issues/8882), holds the server's
// graceful stop until its deadline.
func endable(open *openStreams) interceptor {
	return interceptor{
		unary: func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			defer callerFrom(ctx).conn.underWay()()
			return handler(ctx, request)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			defer callerFrom(stream.Context()).conn.underWay()()
			ctx, cancel := context.WithCancelCause(stream.Context())
			defer cancel(nil)
			entry := &openStream{call: callFrom(ctx), end: cancel}
			open.add(entry)
			defer open.remove(entry)

			wrapped := middleware.WrappedServerStream{ServerStream: stream, WrappedContext: ctx}
			var err error
			if info.IsClientStream {
				err = interruptible(ctx, func() error { return handler(srv, &wrapped) })
			} else {
				err = handler(srv, &requestStream{wrapped})
			}
			if ended, ok := errors.AsType[*failure.Error](context.Cause(ctx)); ok && err != nil {
				return ended
			}
			return err
		},
	}
}

// requestStream is a stream with a single request, for which its handler waits no longer than it should, nor longer than its context
// lasts. The handler itself needs no goroutine of its own for that, which each stream would hold for hours.
type requestStream struct{ middleware.WrappedServerStream }

// RecvMsg receives the request.
func (s *requestStream) RecvMsg(message any) error {
	ctx, cancel := context.WithTimeoutCause(s.WrappedContext, requestLimit, failure.New(
		integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "the request did not come within %s after its stream was opened", requestLimit))
	defer cancel()
	err := interruptible(ctx, func() error { return s.WrappedServerStream.RecvMsg(message) })
	if late, ok := errors.AsType[*failure.Error](context.Cause(ctx)); ok && err != nil {
		return late
	}
	return err
}

// interruptible runs what may wait for a caller's next message, which no context interrupts, and returns as soon as
// ctx ends. The wait itself ends right after: gRPC fails the receiving side of a stream that has its status.
func interruptible(ctx context.Context, wait func() error) error {
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
