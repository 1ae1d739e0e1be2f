package collector

import (
	"context"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// readBack reads back to where streams ask for alerts from, once for all that ask.
func (c *Collector) readBack(ctx context.Context) error {
	c.plan.readBack = time.Now()
	c.mu.Lock()
	since := c.wanted(time.Now())
	c.mu.Unlock()
	pair, err := c.read(ctx, integrationv1.Pair_DEPTH_REREAD, since)
	if pair == nil {
		return err
	}
	return c.prove(ctx, pair, true)
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
	kept := min(c.settings.RetentionAge, c.settings.UpstreamRetention)
	return laterOf(laterOf(reach, now.Add(-kept)), timeOf(c.checkpoint.GetFloorTime()))
}

// uncovered returns how far back streams ask for alerts where that is before what was read; otherwise zero. The caller holds mu.
func (c *Collector) uncovered(now time.Time) time.Time {
	covered := c.checkpoint.GetPolledSince()
	if wanted := c.wanted(now); covered != nil && !wanted.IsZero() && wanted.Before(covered.AsTime()) {
		return wanted
	}
	return time.Time{}
}

// tellCoverage tells since when everything was read, and where to the collector reads back, where either is other than was told.
func (c *Collector) tellCoverage() {
	covered := timeOf(c.checkpoint.GetPolledSince())
	c.mu.Lock()
	back := c.uncovered(time.Now())
	same := covered.Equal(c.now.Covered) && back.IsZero() == c.now.ReadingBack.IsZero()
	c.mu.Unlock()
	if !same {
		c.update(func(s *Snapshot) { s.Covered, s.ReadingBack = covered, back })
	}
}
