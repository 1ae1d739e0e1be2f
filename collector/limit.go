package collector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	// readLimit is how long one read of alerts may take as a whole, pages and waits included. In that time the budget allows for more
	// pages than any read has; what takes longer hangs, or trickles. It is less than a closing read is tried for, so that one that begins
	// behind a read that hangs still has its time, and streams that ask for one meanwhile are told in theirs.
	readLimit = 10 * time.Minute
	// lastTry is what a read has at least, also where a closing is about to be told to have failed: that it is told a little later is
	// better than that it fails for want of a minute.
	lastTry = time.Minute
)

// errSetAside is the cause of the end of a read because the integration was paused, or is to be read in another way.
var errSetAside = errors.New("the integration was paused or changed while it was read")

// tooLong is the cause of the end of a read that took longer than a time.
func tooLong(limit time.Duration) error {
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE,
		Message: fmt.Sprintf("Reading the alerts took longer than %s, and was given up. What it brought is kept.", limit.Round(time.Second)),
		Remedy:  "It is tried again. If it stays, look at Microsoft's service health, and at the network and the proxy on the way to it.",
	}}
}

// bounded returns a context for one read, which ends with a cause that may be told: when the read takes too long, when a stream that
// waits for a closing read is to be told that there is none (one goroutine does both), and when the integration is paused or changed.
func (c *Collector) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	until := now.Add(readLimit)
	for m := range c.closings {
		// What cannot be made anyway is no reason to break a read off.
		limit := c.limit(m)
		if limit.After(now) && !c.hopeless(m) && laterOf(limit, now.Add(lastTry)).Before(until) {
			until = laterOf(limit, now.Add(lastTry))
		}
	}
	timed, cancelTime := context.WithDeadlineCause(ctx, until, tooLong(until.Sub(now)))
	timed, setAside := context.WithCancelCause(timed)
	c.setAside = setAside
	return timed, func() {
		setAside(nil)
		cancelTime()
	}
}
