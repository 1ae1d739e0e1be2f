package defendertest

import (
	"cmp"
	"container/heap"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// revision is one version of an alert, rendered once in each API's shape.
type revision struct {
	tenant   *Tenant
	key      string // the alert's id
	number   int    // of the alert's revisions, from 1
	sequence int    // of all revisions of the tenant, from 1
	raw      []byte // as Graph serves it, or as it was given
	hash     [sha256.Size]byte
	alert    *Alert   // what it was rendered from; nil where the bytes were given
	api      Resource // the one API that has it, where the bytes were given; empty: each that has its service source

	// What is filtered and sorted by.
	updated, created                time.Time
	status, severity, serviceSource string

	added     time.Time
	scheduled bool      // when it becomes visible was said
	visibleAt time.Time // zero while withheld
	shown     bool      // it is, or was, served
	gone      bool      // a later revision took its place
	replaced  time.Time
	// Set when it is shown: the alert's revision that was shown before it, and when the alert exporter says that its detections
	// were processed.
	before    *revision
	processed time.Time

	servedTimes             int
	firstServed, lastServed time.Time
	lastAsked               time.Time // when the newest request came that it was served to

	// What follows is made when it is first asked for: raw for callers that do not send the Prefer header, the alert as Defender for
	// Endpoint serves it with evidence and without, and the detections that the revision published.
	plain                   lazyBytes
	endpoint, endpointPlain lazyBytes
	publishOnce             sync.Once
	published               published
}

// lazyBytes are bytes that are made once.
type lazyBytes struct {
	once  sync.Once
	bytes []byte
}

// isIn tells whether an API has the revision: Graph has every alert, the others have Defender for Endpoint's own.
func (r *revision) isIn(api Resource) bool {
	if r.api != "" {
		return r.api == api
	}
	return api == Graph || r.serviceSource == endpointSource
}

// alertTable holds a tenant's revisions. The tenant's mu guards it.
type alertTable struct {
	all     []*revision            // by sequence
	byKey   map[string][]*revision // each by number
	current map[string]*revision   // what is served of each alert
	byTime  []*revision            // the same, by last update, then sequence
	fed     []*revision            // what the alert exporter has published, by when it was processed, then sequence
	waiting revisionHeap           // not yet visible, not withheld, by visibleAt
	changed chan struct{}          // closed when something was served or shown; nil while nobody waits
}

func newAlertTable() alertTable {
	return alertTable{byKey: map[string][]*revision{}, current: map[string]*revision{}}
}

// byUpdate orders revisions as byTime does.
func byUpdate(a, b *revision) int {
	return cmp.Or(a.updated.Compare(b.updated), cmp.Compare(a.sequence, b.sequence))
}

// byProcessing orders revisions as fed does.
func byProcessing(a, b *revision) int {
	return cmp.Or(a.processed.Compare(b.processed), cmp.Compare(a.sequence, b.sequence))
}

// add takes a revision in. visibleAt is set in it.
func (t *alertTable) add(r *revision) {
	revisions := t.byKey[r.key]
	r.number, r.sequence = len(revisions)+1, len(t.all)+1
	t.byKey[r.key] = append(revisions, r)
	t.all = append(t.all, r)
	if !r.visibleAt.IsZero() {
		heap.Push(&t.waiting, r)
	}
}

// advance shows what has become visible by now.
func (t *alertTable) advance(now time.Time) {
	var fresh []*revision
	for len(t.waiting) > 0 && !t.waiting[0].visibleAt.After(now) {
		r := heap.Pop(&t.waiting).(*revision)
		if r.gone || r.visibleAt.IsZero() {
			continue
		}
		if old := t.current[r.key]; old != nil {
			if old.number > r.number {
				r.gone, r.replaced = true, now
				continue
			}
			t.hide(old, now)
			if i, found := slices.BinarySearchFunc(fresh, old, byUpdate); found {
				fresh = slices.Delete(fresh, i, i+1)
			}
		}
		// What is older and still waits will never be served.
		for _, older := range t.byKey[r.key][:r.number-1] {
			if !older.gone {
				older.gone, older.replaced = true, now
			}
		}
		t.show(r)
		i, _ := slices.BinarySearchFunc(fresh, r, byUpdate)
		fresh = slices.Insert(fresh, i, r)
	}
	if len(fresh) == 0 {
		return
	}
	t.byTime = merge(t.byTime, fresh)
	t.wake()
}

// show puts a revision into what is served, and publishes its detections. An alert that arrives late was processed late: where it was
// said when it becomes visible, that is when, and else its last update.
func (t *alertTable) show(r *revision) {
	for _, older := range slices.Backward(t.byKey[r.key][:r.number-1]) {
		if older.shown {
			r.before = older
			break
		}
	}
	r.shown = true
	t.current[r.key] = r
	r.processed = r.updated
	if r.scheduled && r.alert != nil {
		r.processed = ticks(r.visibleAt)
	}
	if r.isIn(SIEM) {
		i, _ := slices.BinarySearchFunc(t.fed, r, byProcessing)
		t.fed = slices.Insert(t.fed, i, r)
	}
}

// hide takes a revision out of what is served.
func (t *alertTable) hide(r *revision, now time.Time) {
	r.gone, r.replaced = true, now
	if i, found := slices.BinarySearchFunc(t.byTime, r, byUpdate); found {
		t.byTime = slices.Delete(t.byTime, i, i+1)
	}
}

// asOf is byTime as it was at a time before now.
func (t *alertTable) asOf(at time.Time) []*revision {
	var list []*revision
	for _, r := range t.all {
		if r.shown && !r.visibleAt.After(at) && (r.replaced.IsZero() || r.replaced.After(at)) {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, byUpdate)
	return list
}

// merge puts the sorted fresh into the sorted list. Appending, inserting a few and filling in many are all cheap.
func merge(list, fresh []*revision) []*revision {
	if len(list) == 0 || byUpdate(list[len(list)-1], fresh[0]) < 0 {
		return append(list, fresh...)
	}
	i, j := len(list)-1, len(fresh)-1
	list = append(list, fresh...)
	for k := len(list) - 1; j >= 0; k-- {
		if i >= 0 && byUpdate(list[i], fresh[j]) > 0 {
			list[k] = list[i]
			i--
		} else {
			list[k] = fresh[j]
			j--
		}
	}
	return list
}

// wake tells those who wait that something changed.
func (t *alertTable) wake() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// wait returns what is closed at the next change.
func (t *alertTable) wait() <-chan struct{} {
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// revisionHeap has the revision that becomes visible first in front.
type revisionHeap []*revision

func (h revisionHeap) Len() int { return len(h) }
func (h revisionHeap) Less(i, j int) bool {
	return cmp.Or(h[i].visibleAt.Compare(h[j].visibleAt), cmp.Compare(h[i].sequence, h[j].sequence)) < 0
}
func (h revisionHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is heap.Interface's.
func (h *revisionHeap) Push(x any) { *h = append(*h, x.(*revision)) }

// Pop is heap.Interface's.
func (h *revisionHeap) Pop() any {
	old := *h
	r := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return r
}

// rawMembers are the members of an element that was given in bytes.
type rawMembers map[string]json.RawMessage

// membersOf reads an element. There are none where it is no JSON object.
func membersOf(raw []byte) rawMembers {
	var members rawMembers
	if json.Unmarshal(raw, &members) != nil {
		return nil
	}
	return members
}

// text is a member that is a string; empty where it is not.
func (m rawMembers) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// time is a member that is a time in one of the layouts; zero where it is not.
func (m rawMembers) time(name string, layouts ...string) time.Time {
	for _, layout := range layouts {
		if at, err := time.Parse(layout, m.text(name)); err == nil {
			return ticks(at)
		}
	}
	return time.Time{}
}

// rawGraphRevision reads of an element's bytes what it is filtered and sorted by. What cannot be read stays empty.
func rawGraphRevision(raw []byte) *revision {
	members := membersOf(raw)
	return &revision{
		api: Graph, raw: raw, key: members.text("id"),
		updated: members.time("lastUpdateDateTime", time.RFC3339Nano), created: members.time("createdDateTime", time.RFC3339Nano),
		status: members.text("status"), severity: members.text("severity"), serviceSource: members.text("serviceSource"),
	}
}
