package collector

import (
	"math"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// unpaced is the part of an allowance that may be spent without slowing down.
const unpaced = 0.5

// pace returns how far apart reads of so many calls should begin, so that the budget lasts: nothing until half of an allowance is
// spent, then ever further, and never further than what spreads the reserve over its period. Without it, fast polls would spend an
// hour's calls in less than an hour, and nothing would be polled for the rest of it. Integrations of one application slow down alike.
func (b *budgets) pace(integration *integrationv1.Integration, limit defender.Limit, calls int) time.Duration {
	app := application(integration)
	b.mu.Lock()
	sharing := len(b.sharing[app])
	b.mu.Unlock()
	return time.Duration(max(calls, 1)*max(sharing, 1)) * b.of(app, limit).gap()
}

// gap is the pace of single calls.
func (b *budget) gap() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	var gap time.Duration
	for _, a := range b.allowances {
		// Deeper reads and look-ups may not spend the reserve: polls leave some of the rest to them.
		share := float64(max(a.Calls-a.Reserve, 1))
		spent := float64(b.within(now, a.Period)) / share
		if spent <= unpaced {
			continue
		}
		// At the limit, what the whole allowance takes on average; at the half, twice as fast.
		rate := max((1-spent)/(1-unpaced)*share, float64(max(a.Reserve, 1)))
		gap = max(gap, time.Duration(math.Ceil(float64(a.Period)/rate)))
	}
	return gap
}

// setPace slows polls, or closing reads, down where the last one of that many calls shows that the budget would not last otherwise.
func (c *Collector) setPace(depth integrationv1.Pair_Depth, calls int) {
	integration := c.plan.record.GetIntegration()
	pace := c.budgets.pace(integration, defender.LimitOf(integration.GetApi()), calls)
	switch depth {
	case integrationv1.Pair_DEPTH_POLL:
		c.plan.pollPace = pace
	case integrationv1.Pair_DEPTH_CLOSING:
		c.plan.closingPace = pace
	}
}

// share takes note of who spends an application's budget; unshare ends that.
func (b *budgets) share(app string, c *Collector) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sharing[app] == nil {
		b.sharing[app] = map[*Collector]struct{}{}
	}
	b.sharing[app][c] = struct{}{}
}

func (b *budgets) unshare(app string, c *Collector) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if delete(b.sharing[app], c); len(b.sharing[app]) == 0 {
		delete(b.sharing, app)
	}
}
