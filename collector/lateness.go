package collector

import (
	"time"

	"defender-integration/defender"
)

// arrivedLate says whether Microsoft showed an element late: polling had covered the time of its last update, and it was not there.
// What is read for the first time because a stream asks for what lies further back, or because the service was away, is not late.
func (c *Collector) arrivedLate(e *defender.Element) bool {
	since, through := c.checkpoint.GetPolledSince(), c.checkpoint.GetPolledThrough()
	return !e.ReadTime && since != nil && through != nil &&
		!e.Updated.Before(since.AsTime()) && e.Updated.Before(through.AsTime())
}

// observeLateness counts how long after its last update an element could be read, both by Microsoft's clock: how late Microsoft is,
// and at most a poll's interval more. What was updated while nobody polled tells nothing of that.
func (c *Collector) observeLateness(e *defender.Element, seen time.Time) {
	if e.ReadTime || c.watching.IsZero() || e.Updated.Before(c.watching) {
		return
	}
	c.mu.Lock()
	clock := c.clock
	c.mu.Unlock()
	c.metrics.late(c.id, max(0, seen.Add(clock).Sub(e.Updated)))
}
