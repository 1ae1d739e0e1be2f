package client

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// shortestWait keeps a server that asks to come again at once from being called in a busy loop.
	shortestWait = 10 * time.Millisecond
	// longestAsked is the longest wait that a server may ask for.
	longestAsked = 5 * time.Minute
)

// waits is how long to wait before reconnecting where the server does not say.
type waits struct {
	first, longest time.Duration
}

// wait is the state of a stream that reconnects.
type wait struct {
	waits
	upcoming time.Duration
}

func (w waits) begin() *wait { return &wait{waits: w, upcoming: w.first} }

// reset begins again with the first wait, after a connection that brought something.
func (w *wait) reset() { w.upcoming = w.first }

// next returns how long to wait after this error: what the server asks for, lengthened at random by up to a fifth, so that all
// who were sent away together do not come back together; or the growing wait, shortened at random by up to a half.
func (w *wait) next(err error) time.Duration {
	grown := w.upcoming
	w.upcoming = min(2*grown, w.longest)
	if asked := askedWait(err); asked > 0 {
		asked = min(max(asked, shortestWait), longestAsked)
		return asked + rand.N(asked/5+1)
	}
	return grown - rand.N(grown/2+1)
}

// askedWait returns the delay of the error's RetryInfo, zero where it has none.
func askedWait(err error) time.Duration { return retryInfo(err).GetRetryDelay().AsDuration() }

// retryInfo returns the error's RetryInfo, nil where it has none.
func retryInfo(err error) *errdetails.RetryInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info
		}
	}
	return nil
}

// retryable says that the error passes by itself. UNAVAILABLE does, whoever says so. RESOURCE_EXHAUSTED does where it says when: what a
// request can never have, as where it is too large, is exhausted for good.
func retryable(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.ResourceExhausted && retryInfo(err) != nil
}

// sleep waits, or returns the cause of the context's end.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
