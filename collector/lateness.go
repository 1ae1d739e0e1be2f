package collector

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// absence is a time in which nobody read, by Microsoft's clock: from what was polled through last before it, through the first poll
// that was good after it. The interval at which the next poll would have come lies in it too, so that none of it is told as
// Microsoft's lateness.
type absence struct{ from, to time.Time }

// maxAbsences is how many absences are remembered. What became visible during one of those that came before them is told as if somebody
// had read then.
const maxAbsences = 1000

// lookAway takes note that nobody reads from now on: the service is paused, throttled or failing.
func (c *Collector) lookAway() { c.watching = time.Time{} }

// watch takes note of a good poll: somebody reads.
func (c *Collector) watch(pair *integrationv1.Pair) {
	if through := pair.GetThrough().AsTime(); c.watching.IsZero() {
		if len(c.absences) == maxAbsences {
			c.absences = append(c.absences[:0], c.absences[1:]...)
		}
		c.absences = append(c.absences, absence{c.leftOff(), through})
		c.watching = through
	}
	c.checkpoint.PolledThrough = pair.GetThrough()
}

// leftOff returns when the absence under way began: through when was polled before it, by this process or the one before; the zero
// time where never was, or where what was read is lost. What a crash kept from being made durable counts as not polled.
func (c *Collector) leftOff() time.Time {
	left := timeOf(c.checkpoint.GetPolledThrough())
	if n := len(c.absences); n > 0 {
		left = laterOf(left, c.absences[n-1].to)
	}
	return left
}

// away returns for how long nobody read between an element's last update and its reading at `seen`, by this machine's clock. Nothing of
// an alert was read before its first revision, which may already be an update of what nobody saw: with first it counts from the
// creation of the alert, where that was earlier. All of the time counts where reads did not reach back so far yet, as when the
// integration was registered later, or passed it over since Microsoft failed on it.
//
// It returns nil where that is not known: the element does not tell that time, or it lies below the floor, so that the alert may have
// been read and trimmed. Absences of an earlier process are known only as far as the last one.
func (c *Collector) away(e *defender.Element, first bool, seen time.Time) *durationpb.Duration {
	from, to := e.Updated, c.there(seen)
	created := e.Alert.GetCreatedTime()
	if first && created != nil && created.AsTime().Before(from) {
		from = created.AsTime()
	} else if e.ReadTime {
		return nil
	}
	if from.Before(timeOf(c.checkpoint.GetFloorTime())) {
		return nil
	}
	since := c.checkpoint.GetPolledSince()
	if since == nil || from.Before(since.AsTime()) || !e.ReadTime && c.passedOver(e.Updated) {
		return durationpb.New(max(0, to.Sub(from)))
	}
	var total time.Duration
	for _, a := range c.absences {
		total += overlap(a, from, to)
	}
	if c.watching.IsZero() {
		total += overlap(absence{c.leftOff(), to}, from, to)
	}
	return durationpb.New(total)
}

// overlap returns how much of the time from one moment to another lies in an absence.
func overlap(a absence, from, to time.Time) time.Duration {
	if from = laterOf(from, a.from); a.to.Before(to) {
		to = a.to
	}
	return max(0, to.Sub(from))
}

// there turns a time of this machine's clock into one of Microsoft's.
func (c *Collector) there(at time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return at.Add(c.clock)
}

// passedOver says that reads pass over what was last updated at a time, since Microsoft fails on it.
func (c *Collector) passedOver(updated time.Time) bool {
	for _, r := range c.missing.GetMissing() {
		if !updated.Before(r.GetStartTime().AsTime()) && updated.Before(r.GetEndTime().AsTime()) {
			return true
		}
	}
	return false
}

// arrivedLate says whether Microsoft showed an element late: polling had covered the time of its last update, and it was not there.
// What is read for the first time because a stream asks for what lies further back, because the service was away, or because Microsoft
// failed on it until now is not late.
func (c *Collector) arrivedLate(e *defender.Element) bool {
	since, through := c.checkpoint.GetPolledSince(), c.checkpoint.GetPolledThrough()
	return !e.ReadTime && since != nil && through != nil && !c.passedOver(e.Updated) &&
		!e.Updated.Before(since.AsTime()) && e.Updated.Before(through.AsTime())
}

// observeLateness counts how long after its last update an element could be read, both by Microsoft's clock: how late Microsoft is,
// and at most a poll's interval more. What was updated while nobody polled, or before, tells nothing of that.
func (c *Collector) observeLateness(e *defender.Element, seen time.Time) {
	if e.ReadTime || c.watching.IsZero() || e.Updated.Before(c.watching) || c.passedOver(e.Updated) {
		return
	}
	c.metrics.late(c.id, max(0, c.there(seen).Sub(e.Updated)))
}
