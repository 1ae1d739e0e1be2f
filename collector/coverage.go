package collector

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// readBackAgain is how long after the last reading back what it passed over is asked for again, where streams ask for it still: as
// often as the deepest read that comes by itself.
const readBackAgain = time.Hour

// readBack reads back to where streams ask for alerts from, once for all that ask.
func (c *Collector) readBack(ctx context.Context) error {
	c.plan.readBack = time.Now()
	c.mu.Lock()
	since := c.wanted(time.Now())
	c.mu.Unlock()
	ctx, span := c.span(ctx, "read back", c.reachLinks()...)
	defer span.End()
	return c.readDeep(ctx, integrationv1.Pair_DEPTH_REREAD, since)
}

// wanted returns how far back streams ask for alerts, never below the floor, what is kept here and what Microsoft keeps; zero where
// none asks. The caller holds mu.
func (c *Collector) wanted(now time.Time) time.Time {
	var reach time.Time
	for m := range c.reaching {
		if reach.IsZero() || m.reach.Before(reach) {
			reach = m.reach
		}
	}
	if reach.IsZero() {
		return time.Time{}
	}
	return laterOf(laterOf(reach, now.Add(-c.settings.RetentionAge)), c.earliest(now))
}

// earliest returns since when a read can be of everything: not below the floor, and no longer ago than Microsoft keeps alerts.
func (c *Collector) earliest(now time.Time) time.Time {
	return laterOf(timeOf(c.checkpoint.GetFloorTime()), now.Add(-c.settings.UpstreamRetention))
}

// uncovered returns how far back streams ask for alerts where that is before what was read; otherwise zero. The caller holds mu.
func (c *Collector) uncovered(now time.Time) time.Time {
	covered := c.checkpoint.GetCoveredSince()
	if wanted := c.wanted(now); covered != nil && !wanted.IsZero() && wanted.Before(covered.AsTime()) {
		return wanted
	}
	return time.Time{}
}

// readBackDue returns when the collector is to read back to a time. The caller holds mu.
func (c *Collector) readBackDue(to time.Time) time.Time {
	if polled := c.checkpoint.GetPolledSince(); polled != nil && !to.Before(polled.AsTime()) {
		return c.plan.readBack.Add(readBackAgain) // It was read back to, and some of it was passed over.
	}
	return c.plan.readBack.Add(c.settings.ClosingInterval)
}

// missingIn returns the problem of a read that passed over what Microsoft fails on, and read all else; nil where err is anything else, or
// nothing was read behind what was passed over.
func missingIn(err error, read defender.Read) *integrationv1.Problem {
	problem := problemOf(err)
	ranges := problem.GetMissing()
	if problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED || len(ranges) == 0 ||
		!ranges[len(ranges)-1].GetEndTime().AsTime().Before(read.Through) {
		return nil
	}
	return problem
}

// cover takes note of a good read from a time on, and of what it passed over: until a read has all of that, or no read reaches it any
// more, it is told. Polls go on without a break from the first one on, so what one read reached back to stays covered.
func (c *Collector) cover(ctx context.Context, from time.Time, pair *integrationv1.Pair, passedOver *integrationv1.Problem) {
	lower := func(t *timestamppb.Timestamp) *timestamppb.Timestamp {
		if t == nil || from.Before(t.AsTime()) {
			return timestamppb.New(from)
		}
		return t
	}
	c.checkpoint.PolledSince = lower(c.checkpoint.GetPolledSince())
	missing := unreached(c.missing.GetMissing(), from, pair.GetThrough().AsTime().Add(-c.deepest()))
	told := c.missing
	if passedOver == nil {
		c.checkpoint.CoveredSince = lower(c.checkpoint.GetCoveredSince())
	} else {
		c.checkpoint.CoveredSince = pair.GetSince()
		missing = append(missing, passedOver.GetMissing()...)
		told = passedOver
	}
	if len(missing) == 0 {
		c.missing = nil
		return
	}
	if passedOver != nil && !slices.EqualFunc(c.missing.GetMissing(), missing, sameRange) {
		c.log.WarnContext(ctx, "some of the alerts cannot be read, all others were", "error", passedOver.GetMessage())
	}
	dated := since(told, c.missing)
	dated.Missing = missing
	c.missing = dated
}

// unreached returns what of ranges lies before what a read reached, but for those that end before oldest, which no read reaches by itself
// any more.
func unreached(ranges []*integrationv1.TimeRange, reached, oldest time.Time) []*integrationv1.TimeRange {
	var left []*integrationv1.TimeRange
	for _, r := range ranges {
		end := r.GetEndTime().AsTime()
		if !r.GetStartTime().AsTime().Before(reached) || end.Before(oldest) {
			continue
		}
		if end.After(reached) {
			end = reached
		}
		left = append(left, &integrationv1.TimeRange{StartTime: r.GetStartTime(), EndTime: timestamppb.New(end)})
	}
	return left
}

func sameRange(a, b *integrationv1.TimeRange) bool { return proto.Equal(a, b) }

// deepest returns how far back reads reach by themselves.
func (c *Collector) deepest() time.Duration {
	deepest := c.settings.Overlap
	for _, r := range c.settings.Rereads {
		deepest = max(deepest, r.Span)
	}
	return deepest
}

// tellCoverage tells since when everything was read, and where to the collector reads back, where either is other than was told.
func (c *Collector) tellCoverage() {
	covered := timeOf(c.checkpoint.GetCoveredSince())
	c.mu.Lock()
	back := c.uncovered(time.Now())
	same := covered.Equal(c.now.Covered) && back.IsZero() == c.now.ReadingBack.IsZero()
	c.mu.Unlock()
	if !same {
		c.update(func(s *Snapshot) { s.Covered, s.ReadingBack = covered, back })
	}
}
