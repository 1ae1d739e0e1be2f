package defendertest

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"fmt"
	"iter"
	"slices"
	"time"
)

// Visibility says when a revision can be read. Without one it is at once.
type Visibility func(*revision)

// VisibleAt makes a revision visible at a time of the server's clock; until then the alert's revision before it is served.
func VisibleAt(at time.Time) Visibility { return func(r *revision) { r.visibleAt = at } }

// Late makes a revision visible that long after its last update, as Defender's alerts often are.
func Late(by time.Duration) Visibility {
	return func(r *revision) { r.visibleAt = r.updated.Add(by) }
}

// Withheld keeps a revision back until [Tenant.Release].
func Withheld() Visibility { return func(r *revision) { r.visibleAt = time.Time{} } }

// AddAlert adds an alert, or a new revision of the one of its id, and returns it with everything filled in.
func (t *Tenant) AddAlert(a Alert, visibility ...Visibility) Alert {
	a = a.withDefaults(t.server.Now())
	r := rendered(a, t.id)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(r, visibility)
	return a
}

// AddAlerts adds many alerts, such as those of [Generate], and returns how many.
func (t *Tenant) AddAlerts(alerts iter.Seq[Alert], visibility ...Visibility) int {
	n := 0
	for a := range alerts {
		t.AddAlert(a, visibility...)
		n++
	}
	return n
}

// AddRaw adds an element that Graph serves byte for byte, and no other API. Its id, times, status, severity and service source are
// read from it for filters and order; without an id it is a new alert under a key of its own, without a last update it counts as
// updated now. It need not be valid JSON. It returns the key that the record knows it by.
//
// An element of the id of another alert is a revision of that, also where the other is of another API: what came before is not served
// any more.
func (t *Tenant) AddRaw(raw []byte, visibility ...Visibility) string {
	return t.addRaw(rawGraphRevision(slices.Clone(raw)), visibility)
}

// AddRawEndpointAlert is AddRaw for Defender for Endpoint's list of alerts. The bytes are the same whether the evidence was asked for
// or not.
func (t *Tenant) AddRawEndpointAlert(raw []byte, visibility ...Visibility) string {
	return t.addRaw(rawEndpointRevision(slices.Clone(raw)), visibility)
}

// AddRawDetection is AddRaw for the alert exporter. The key is the FullId. The row is found by the LastProcessedTimeUtc in it, whenever
// it becomes visible; another of its FullId stands beside it.
func (t *Tenant) AddRawDetection(raw []byte, visibility ...Visibility) string {
	return t.addRaw(rawDetectionRevision(slices.Clone(raw)), visibility)
}

// addRaw adds a revision of which the bytes were given.
func (t *Tenant) addRaw(r *revision, visibility []Visibility) string {
	r.hash = sha256.Sum256(r.raw)
	if r.updated.IsZero() {
		r.updated = ticks(t.server.Now())
	}
	if r.created.IsZero() {
		r.created = r.updated
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r.key = cmp.Or(r.key, fmt.Sprintf("raw-%d", len(t.alerts.all)+1))
	t.add(r, visibility)
	return r.key
}

// Change adds a revision of an alert: change gets the newest one and alters it. Its last update moves to the server's time, or
// by a tick where that is not later, unless change sets it. Alerts that were added raw are changed by adding them raw again.
func (t *Tenant) Change(id string, change func(*Alert), visibility ...Visibility) (Alert, error) {
	now := t.server.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	revisions := t.alerts.byKey[id]
	if len(revisions) == 0 {
		return Alert{}, fmt.Errorf("no alert %q", id)
	}
	last := revisions[len(revisions)-1]
	if last.alert == nil {
		return Alert{}, fmt.Errorf("alert %q was added raw", id)
	}
	a := *last.alert
	// The slices are the newest revision's still: what change appends or replaces must not reach it.
	a.Techniques, a.Comments = slices.Clone(a.Techniques), slices.Clone(a.Comments)
	a.SystemTags, a.Evidence, a.Extra = slices.Clone(a.SystemTags), slices.Clone(a.Evidence), slices.Clone(a.Extra)
	before := a.LastUpdate
	change(&a)
	if a.LastUpdate.Equal(before) {
		a.LastUpdate = ticks(now)
		if !a.LastUpdate.After(before) {
			a.LastUpdate = before.Add(tick)
		}
	}
	a.ID = id
	a = a.withDefaults(now)
	t.add(rendered(a, t.id), visibility)
	return a, nil
}

// Release makes what is withheld of an alert visible now. It returns how many revisions that were.
func (t *Tenant) Release(key string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.server.Now()
	n := 0
	for _, r := range t.alerts.byKey[key] {
		if r.visibleAt.IsZero() && !r.gone {
			r.visibleAt = now
			heap.Push(&t.alerts.waiting, r)
			n++
		}
	}
	t.alerts.advance(now)
	return n
}

// RemoveAlert takes an alert away, as a tenant's retention does. Its revisions stay in the record.
func (t *Tenant) RemoveAlert(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.server.Now()
	for _, r := range t.alerts.byKey[key] {
		if !r.gone {
			t.alerts.hide(r, now)
		}
	}
	delete(t.alerts.current, key)
	t.alerts.fed = slices.DeleteFunc(t.alerts.fed, func(r *revision) bool { return r.key == key })
}

// rendered makes a revision of an alert.
func rendered(a Alert, tenantID string) *revision {
	raw := a.render(tenantID)
	return &revision{
		key: a.ID, raw: raw, hash: sha256.Sum256(raw), alert: &a,
		updated: a.LastUpdate, created: a.Created,
		status: a.Status, severity: a.Severity, serviceSource: a.ServiceSource,
	}
}

// add takes a revision in, under the tenant's mu. It takes the time there, so that every request that came at or after VisibleAt
// finds the revision.
func (t *Tenant) add(r *revision, visibility []Visibility) {
	now := t.server.Now()
	r.tenant, r.added, r.visibleAt, r.scheduled = t, now, now, len(visibility) > 0
	for _, v := range visibility {
		v(r)
	}
	t.alerts.add(r)
	t.alerts.advance(now)
}
