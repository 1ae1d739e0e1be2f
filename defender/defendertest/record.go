package defendertest

import (
	"context"
	"crypto/sha256"
	"slices"
	"time"
)

// Revision is what the record knows of one version of an alert. Times are the server's clock.
type Revision struct {
	// Key is the alert's id, a raw detection's FullId; Number the revision's number among the alert's, Sequence among all of the
	// tenant's, both from 1 in the order in which they were added.
	Key              string
	Number, Sequence int
	// Raw are the bytes as Graph serves them, or as they were given, not to be modified; Hash is their SHA-256. A caller that does
	// not send `Prefer: include-unknown-enum-members` may have got others. [Revision.Elements] has those of every API.
	Raw  []byte
	Hash [sha256.Size]byte
	// LastUpdate and Created are the alert's.
	LastUpdate, Created time.Time
	// Added is when the script added it.
	Added time.Time
	// VisibleAt is from when it can be read; zero while it is withheld. Visible says that it can be now.
	VisibleAt time.Time
	Visible   bool
	// Replaced is when it could not be read any more: a later revision took its place, or the alert was removed. Zero before.
	Replaced time.Time
	// Served is how many whole answers held it, of any API, the first sent at FirstServed and the last at LastServed. An answer counts
	// when the connection took all its bytes; whether the caller made use of them, the server cannot know. An answer of the alert
	// exporter held it when it had every detection that the revision published: where it published none, any that covers its time.
	Served                  int
	FirstServed, LastServed time.Time

	revision  *revision
	published bool
}

// Elements are the elements that an API serves of the revision, byte for byte, not to be modified: one of Graph's, one of Defender for
// Endpoint's with its evidence, and as many of the alert exporter's as the revision published detections when it became visible. There
// is none where the API does not have the alert.
func (r Revision) Elements(api Resource) [][]byte {
	switch {
	case !r.revision.isIn(api):
		return nil
	case api == DefenderForEndpoint:
		return [][]byte{r.revision.endpointBytes(true)}
	case api != SIEM:
		return [][]byte{r.Raw}
	case !r.published:
		return nil
	}
	rows := r.revision.detections()
	elements := make([][]byte, len(rows))
	for i, row := range rows {
		elements[i] = row.raw
	}
	return elements
}

func (r *revision) snapshot() Revision {
	return Revision{
		Key: r.key, Number: r.number, Sequence: r.sequence, Raw: r.raw, Hash: r.hash, LastUpdate: r.updated, Created: r.created,
		Added: r.added, VisibleAt: r.visibleAt, Visible: r.shown && !r.gone, Replaced: r.replaced,
		Served: r.servedTimes, FirstServed: r.firstServed, LastServed: r.lastServed,
		revision: r, published: r.shown,
	}
}

// Revisions returns the revisions of the alerts with these keys, each alert's oldest first; of all alerts, in the order in
// which they were added, where no key is given.
func (t *Tenant) Revisions(keys ...string) []Revision {
	now := t.server.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alerts.advance(now)
	list := t.alerts.all
	if len(keys) > 0 {
		list = nil
		for _, key := range keys {
			list = append(list, t.alerts.byKey[key]...)
		}
	}
	snapshots := make([]Revision, len(list))
	for i, r := range list {
		snapshots[i] = r.snapshot()
	}
	return snapshots
}

// Held returns how many revisions were added so far, those that are not visible among them.
func (t *Tenant) Held() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.alerts.all)
}

// ServedAll tells whether each alert's newest revision was served, of those with these keys or of all. Revisions that are
// withheld do not count; those that wait for their time do.
func (t *Tenant) ServedAll(keys ...string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.servedAll(keys, time.Time{})
}

// servedAll is ServedAll under mu; since, where set, asks for a serving to a request that came at or after it.
func (t *Tenant) servedAll(keys []string, since time.Time) bool {
	done := func(revisions []*revision) bool {
		for _, r := range slices.Backward(revisions) {
			if !r.visibleAt.IsZero() && !r.gone {
				return r.servedTimes > 0 && !r.lastAsked.Before(since)
			}
		}
		return true
	}
	if len(keys) == 0 {
		for _, revisions := range t.alerts.byKey {
			if !done(revisions) {
				return false
			}
		}
		return true
	}
	return !slices.ContainsFunc(keys, func(key string) bool { return !done(t.alerts.byKey[key]) })
}

// WaitServed waits until [Tenant.ServedAll] holds: an alert that is changed only then had its revision read by someone.
func (t *Tenant) WaitServed(ctx context.Context, keys ...string) error {
	return t.WaitServedSince(ctx, time.Time{}, keys...)
}

// WaitServedSince waits until each alert's newest revision was served to a request that came at or after a time of the server's
// clock. A script that killed its reader waits so for the next one to have read it.
func (t *Tenant) WaitServedSince(ctx context.Context, since time.Time, keys ...string) error {
	for {
		t.mu.Lock()
		done, changed := t.servedAll(keys, since), t.alerts.wait()
		t.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// markServed puts down that revisions were sent, to a request that came at asked.
func (t *Tenant) markServed(revisions []*revision, asked time.Time) {
	at := t.server.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range revisions {
		if r.servedTimes++; r.servedTimes == 1 {
			r.firstServed = at
		}
		r.lastServed = at
		if asked.After(r.lastAsked) {
			r.lastAsked = asked
		}
	}
	t.alerts.wake()
}
