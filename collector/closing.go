package collector

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// closingDue returns when the first closing read is due, by this machine's clock. The caller holds mu.
func (c *Collector) closingDue() (time.Time, bool) {
	var first time.Time
	for m := range c.closings {
		if due := c.here(m.closing.Due); first.IsZero() || due.Before(first) {
			first = due
		}
	}
	return first, !first.IsZero()
}

// here turns a time of Microsoft's clock into the first one of this machine's at which a read that begins then is taken to have
// begun at or after it: Date headers tell whole seconds, and a second is taken off them. The caller holds mu.
func (c *Collector) here(due time.Time) time.Time { return due.Add(-c.clock).Add(time.Second) }

// close makes the closing read for all streams that wait for one now, from the earliest start among them.
func (c *Collector) close(ctx context.Context) error {
	now := time.Now()
	c.plan.closing = now
	var since time.Time
	c.mu.Lock()
	for m := range c.closings {
		if !c.here(m.closing.Due).After(now) && (since.IsZero() || m.closing.Since.Before(since)) {
			since = m.closing.Since
		}
	}
	c.mu.Unlock()
	if since.IsZero() {
		return nil
	}
	ctx, span := c.span(ctx, "closing read", c.closingLinks(now)...)
	defer span.End()
	return c.readDeep(withReserve(ctx), integrationv1.Pair_DEPTH_CLOSING, since)
}

// noteClosing takes note of what a closing read came to.
func (c *Collector) noteClosing(err error) {
	before := c.unclosed
	if c.unclosed = nil; err != nil {
		c.unclosed = since(problemOf(err), before)
	}
}

// overdue returns when the first member has waited for a closing read for as long as it is tried. The caller holds mu.
func (c *Collector) overdue(now time.Time) time.Time {
	first := now.Add(2 * idle)
	for m := range c.closings {
		if at := c.limit(m); at.Before(first) {
			first = at
		}
	}
	return first
}

// limit returns until when a member's closing read is tried.
func (c *Collector) limit(m *Member) time.Time {
	if c.hopeless(m) {
		return c.triedFrom(m)
	}
	return c.triedFrom(m).Add(c.settings.ClosingLimit).Add(m.stood)
}

// hopeless says that a member's closing read can never be made: it begins below the floor or before what Microsoft keeps, or at an API
// that Microsoft no longer offers.
func (c *Collector) hopeless(m *Member) bool {
	return m.closing.Since.Before(c.earliest(time.Now())) || c.plan.alertGate.retired
}

// triedFrom returns when trying a member's closing read begins, or began, by what is known of Microsoft's clock now. The caller
// holds mu.
func (c *Collector) triedFrom(m *Member) time.Time { return laterOf(c.here(m.closing.Due), m.asked) }

// failClosing tells the members whose time is over that no closing read succeeded: an entry for each closing that they wait for,
// since another stream may still get its own.
func (c *Collector) failClosing(ctx context.Context) error {
	now := time.Now()
	overdue := map[Closing]bool{}
	var waited []*Member
	c.mu.Lock()
	// Polls that are good meanwhile tell nothing of what keeps a closing read from being so.
	upstream := cmp.Or(c.now.Problem, c.unclosed)
	for m := range c.closings {
		if !c.limit(m).After(now) {
			overdue[*m.closing] = true
			waited = append(waited, m)
		}
	}
	c.mu.Unlock()
	if len(overdue) == 0 {
		return nil
	}
	return c.locked(ctx, func(ctx context.Context) error {
		c.addFacts(c.keys(), true)
		// Who was asked for is left out: where alerts may be missing, no verdict rests on a device.
		devices := c.deviceLookup()
		devices.Asked = nil
		for _, closing := range slices.SortedFunc(maps.Keys(overdue), func(a, b Closing) int { return a.compare(&b) }) {
			c.add(&storev1.Entry{
				EntryTime: timestamppb.Now(),
				Body: &storev1.Entry_FailedClosing{FailedClosing: &storev1.FailedClosing{
					Since:   timestamppb.New(closing.Since),
					Due:     timestamppb.New(closing.Due),
					Problem: c.whyNotClosed(closing, upstream),
					Devices: devices,
				}},
			})
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
		c.answer(waited)
		c.unclosed = nil
		return nil
	})
}

// compare orders closings by when they are due.
func (w *Closing) compare(other *Closing) int {
	return cmp.Or(w.Due.Compare(other.Due), w.Since.Compare(other.Since))
}

// whyNotClosed says why no closing read could answer a closing.
func (c *Collector) whyNotClosed(closing Closing, upstream *integrationv1.Problem) *integrationv1.Problem {
	if floor := timeOf(c.checkpoint.GetFloorTime()); closing.Since.Before(floor) {
		return historyGone(closing, "the journal reaches back to "+floor.UTC().Format(time.RFC3339)+" only.", "the journal's retention, or keep more of it.")
	}
	if kept := c.earliest(time.Now()); closing.Since.Before(kept) {
		return historyGone(closing, "Microsoft keeps alerts since "+kept.UTC().Format(time.RFC3339)+" only.", "what Microsoft keeps.")
	}
	if upstream != nil {
		return upstream
	}
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
		Message: "No closing read could be completed in time.",
		Remedy:  "Read in the service's log how long reads take, and ask for less at a time: shorter windows, or windows that end apart.",
	}
}

// historyGone tells that a window begins before what there still is.
func historyGone(closing Closing, reach, within string) *integrationv1.Problem {
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_HISTORY_GONE,
		Message: "The window begins at " + closing.Since.UTC().Format(time.RFC3339) + ", and " + reach,
		Remedy:  "Ask for windows inside " + within,
	}
}
