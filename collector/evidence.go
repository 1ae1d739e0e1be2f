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
	since  map[string]time.Time // by key: since when it has come without, as long as reads meet such alerts
	within int                  // how many the read under way has met
	key    string               // one of them
}

// begin begins a read.
func (b *bare) begin() { b.within, b.key = 0, "" }

// passes says whether an element without evidence is taken as it is.
func (b *bare) passes(e *defender.Element, now time.Time, wait time.Duration) bool {
	if b.since == nil {
		b.since = map[string]time.Time{}
	}
	since, ok := b.since[e.Key]
	if !ok {
		since = now
		b.since[e.Key] = now
	}
	if now.Sub(since) >= wait {
		delete(b.since, e.Key)
		return true
	}
	b.within++
	b.key = e.Key
	return false
}

// end ends a read that was whole otherwise: nil where it met no such alert.
func (b *bare) end() error {
	if b.within == 0 {
		b.since = nil
		return nil
	}
	return &defender.Error{Problem: &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_EVIDENCE_MISSING,
		Message: fmt.Sprintf("%d alerts came without their evidence, such as %q: they are not taken for revisions, and the read is not complete.", b.within, cut(b.key, 100)),
		Remedy:  "It is tried again, and such an alert is taken as it is after a while. If it stays, look at the alert in the Defender portal.",
	}}
}
