package collector

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// plan is when what is due. It belongs to the collector's goroutine.
type plan struct {
	record       *storev1.Record // the version that the adapter was made from
	connectError error           // why none could be made; nil where one was
	reconnect    time.Time       // when to try again to make one

	poll        time.Time // when the last poll began
	rereads     []time.Time
	pollPace    time.Duration // how far apart polls are so that the budget lasts
	closing     time.Time     // when the last closing read began
	closingPace time.Duration // likewise
	readBack    time.Time     // when the last reading back began
	devices     time.Time     // when the last look-up of devices began
	trim        time.Time
	saved       time.Time // polled_through as it was last made durable
	alertGate   gate
	devicesGate gate
	spent       spentDevices

	telemetry     time.Time              // when telemetry was last asked
	telemetryGate gate                   // and what keeps it from being asked again
	unanswered    *integrationv1.Problem // why it did not answer then
}

// spentDevices is that the budget keeps the devices from being looked up, for streams that wait.
type spentDevices struct {
	since time.Time // when it first did; zero while it does not
	until time.Time // when it lets them be
}

// gate keeps calls back after a failure.
type gate struct {
	until    time.Time
	failures int
	told     bool // Microsoft said until when, or the budget
	retired  bool // Microsoft no longer offers what is behind it: it opens when the integration is changed, or paused and resumed
}

func newPlan(settings Settings, now time.Time) plan {
	p := plan{trim: now}
	for range settings.Rereads {
		// The first re-read comes an interval after the start: the first poll reads back to where polling stood.
		p.rereads = append(p.rereads, now)
	}
	return p
}

// release opens the gates, since what they rest on may have been mended. What Microsoft said holds for the application still.
func (p *plan) release(sameApplication bool) {
	for _, g := range []*gate{&p.alertGate, &p.devicesGate, &p.telemetryGate} {
		if !g.told || !sameApplication {
			*g = gate{}
		}
	}
}

// fail closes a gate: until the time that Microsoft said, or for a growing, jittered wait.
func (g *gate) fail(s Settings, now, retryAt time.Time, permanent bool) {
	g.failures++
	wait := s.RetryMin << min(g.failures-1, 16)
	if wait = min(wait, s.RetryMax); permanent {
		wait = max(wait, s.RetryPermanent)
	}
	wait += time.Duration(rand.Int64N(int64(wait)/4 + 1))
	if g.until, g.told = now.Add(wait), retryAt.After(now); g.told {
		g.until = retryAt
	}
}

// step is one thing to do. What it returns has failed in the store.
type step func(context.Context) error

// idle is how long the collector sleeps where nothing is due.
const idle = time.Hour

// next returns what is to be done first, and when: what has been due for the longest, so that nothing starves where a read takes
// longer than the time between two, nor where one that fails keeps closing the gate before the others.
func (c *Collector) next(now time.Time) (step, time.Time) {
	var first step
	at, longest := now.Add(idle), now.Add(idle)
	// What waits for a gate has been due since before it opens.
	gated := func(s step, due time.Time, g gate) {
		if g.retired {
			return
		}
		when := laterOf(due, g.until)
		if when.Before(at) || when.Equal(at) && due.Before(longest) {
			first, at, longest = s, when, due
		}
	}
	propose := func(s step, when time.Time) { gated(s, when, gate{}) }
	c.mu.Lock()
	defer c.mu.Unlock()

	if integration := c.record.GetIntegration(); !integration.GetPaused() {
		if overdue := c.overdue(now); !overdue.After(now) && c.plan.alertGate.failures > 0 {
			// Reading was tried, and failed. Where it was not, as when the store was away, a closing read comes first.
			return c.failClosing, overdue
		}
		// In the order of importance: of what is due at one time the first proposed is done.
		propose(c.failClosing, c.overdue(now))
		if c.source == nil {
			propose(func(context.Context) error { return nil }, c.plan.reconnect) // connecting is tried before each step
		} else {
			if due, ok := c.closingDue(); ok {
				gated(c.close, laterOf(due, c.plan.closing.Add(max(c.settings.ClosingInterval, c.plan.closingPace))), c.plan.alertGate)
			}
			gated(c.poll, c.pollDue(), c.plan.alertGate)
			if to := c.uncovered(now); !to.IsZero() {
				gated(c.readBack, c.readBackDue(to), c.plan.alertGate)
			}
			if c.source.Devices() != nil && len(c.interest) > 0 {
				gated(c.lookUp, c.devicesDue(), c.plan.devicesGate)
			}
			if due, ok := c.questionsDue(); ok {
				gated(c.askTelemetry, due, c.plan.telemetryGate)
			}
			for i, r := range c.settings.Rereads {
				gated(func(ctx context.Context) error { return c.reread(ctx, i) }, c.plan.rereads[i].Add(r.Interval), c.plan.alertGate)
			}
		}
	}
	if len(c.fresh) > 0 && c.now.Devices != nil {
		propose(c.appendFresh, now)
	}
	if due, ok := c.answersDue(now); ok {
		propose(c.appendAnswers, due)
	}
	propose(c.trim, c.plan.trim)
	return first, at
}

// leastPart is how small a part of an interval lies between two polls at the least: one in so many.
const leastPart = 10

// pollDue returns when the next poll is due. Integrations that began together, as when the service starts or streams come back, do not poll
// together for ever, each poll waiting for all others: every integration polls at a time of its own within the interval. The poll that it gets
// there by comes early, or a little late. Where the budget slows polls down, the time between two is kept instead.
func (c *Collector) pollDue() time.Time {
	interval := c.interval()
	if c.plan.pollPace > interval || c.plan.poll.IsZero() {
		return c.plan.poll.Add(max(interval, c.plan.pollPace))
	}
	own := time.Duration(c.part * float64(interval))
	wait := own - time.Duration(c.plan.poll.UnixNano()%int64(interval))
	for wait < interval/leastPart {
		wait += interval
	}
	return c.plan.poll.Add(wait)
}

// partOf returns a part of one, another for each name.
func partOf(name string) float64 {
	sum := sha256.Sum256([]byte(name))
	return float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
}

// interval is how long lies between two polls now.
func (c *Collector) interval() time.Duration {
	polling := c.record.GetIntegration().GetPolling()
	if len(c.members) > 0 {
		if d := polling.GetFastInterval(); d != nil {
			return d.AsDuration()
		}
		return c.settings.FastInterval
	}
	if d := polling.GetSlowInterval(); d != nil {
		return d.AsDuration()
	}
	return c.settings.SlowInterval
}
