package collector

import (
	"fmt"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// bare is what is known of alerts that came without their evidence. Such an element is no revision: taken for one, it would say that
// nothing is known of how the attack ended, and the next read would take that back. The read that met it is not whole. An alert of
// which Microsoft says nothing else for as long as is waited is taken as it is, so that one odd alert does not keep every proof away.
type bare struct {
	alerts map[string]*bareAlert // by key
	within int                   // how many the read under way has met
	key    string                // one of them
}

// bareAlert is an alert that came without its evidence.
type bareAlert struct {
	since   time.Time // since when every whole read that reached it has met it so
	updated time.Time // its last update
	met     bool      // by the read under way
}

// forgetBare is how long an alert is remembered that no read has reached since.
const forgetBare = 24 * time.Hour

// begin begins a read.
func (b *bare) begin() {
	b.within, b.key = 0, ""
	for key, a := range b.alerts {
		if a.met = false; time.Since(a.since) >= forgetBare {
			delete(b.alerts, key)
		}
	}
}

// passes says whether an element without evidence is taken as it is.
func (b *bare) passes(e *defender.Element, now time.Time, wait time.Duration) bool {
	if b.alerts == nil {
		b.alerts = map[string]*bareAlert{}
	}
	a := b.alerts[e.Key]
	if a == nil {
		a = &bareAlert{since: now}
		b.alerts[e.Key] = a
	}
	a.updated, a.met = e.Updated, true
	if now.Sub(a.since) >= wait {
		delete(b.alerts, e.Key)
		return true
	}
	b.within++
	b.key = e.Key
	return false
}

// end ends a read from a time on that was whole otherwise: nil where it met no such alert. One that it reached and did not meet is there
// with its evidence, or not at all; of those that lie further back it says nothing.
func (b *bare) end(since time.Time) error {
	for key, a := range b.alerts {
		if !a.met && !a.updated.Before(since) {
			delete(b.alerts, key)
		}
	}
	if b.within == 0 {
		return nil
	}
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_EVIDENCE_MISSING,
		Message: fmt.Sprintf("%d alerts came without their evidence, such as %q: they are not taken for revisions, and the read is not complete.", b.within, cut(b.key, 100)),
		Remedy:  "It is tried again, and such an alert is taken as it is after a while. If it stays, look at the alert in the Defender portal.",
	}}
}
