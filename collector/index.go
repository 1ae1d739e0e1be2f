package collector

import (
	"math"
	"time"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// digest is the front half of a SHA-256: enough to tell revisions apart, and half the memory.
type digest [16]byte

func digestOf(hash []byte) digest {
	var d digest
	copy(d[:], hash)
	return d
}

// index is what a collector knows of its journal: every revision that is in it, so that a revision enters once. It is built
// from the journal at start, and belongs to the collector's goroutine.
type index struct {
	alerts map[string]*history
	raw    map[digest]*history
	// entries has what trimming must know, in the journal's order.
	entries []indexed
}

// history is what is known of one alert.
type history struct {
	key       string
	newest    int64 // nanoseconds since 1970
	firstSeen int64 // likewise
	revisions []revision
}

// revision is one revision of an alert.
type revision struct {
	sequence uint64
	updated  int64 // nanoseconds since 1970
	content  digest
	// readTime says that the element told no last update: updated is when it was read.
	readTime bool
	// raw is the hash of the bytes that it was stored with, alias of other bytes that said the same, last seen.
	raw, alias digest
}

// indexed is an entry as far as trimming is concerned.
type indexed struct {
	sequence uint64
	made     int64  // nanoseconds since 1970
	updated  int64  // of a revision, likewise
	key      string // of a revision; else ""
}

// nanos returns a time as nanoseconds since 1970; one that they cannot tell (before 1678, after 2262) as the nearest that they can.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func newIndex() *index {
	return &index{alerts: map[string]*history{}, raw: map[digest]*history{}}
}

// known tells the adapter whether it need not decode an element.
func (x *index) known(rawHash [32]byte) (defender.Known, bool) {
	h, ok := x.raw[digestOf(rawHash[:])]
	if !ok {
		return defender.Known{}, false
	}
	d := digestOf(rawHash[:])
	for _, r := range h.revisions {
		if r.raw == d || r.alias == d {
			if r.readTime {
				return defender.Known{Key: h.key}, true
			}
			return defender.Known{Key: h.key, Updated: time.Unix(0, r.updated).UTC()}, true
		}
	}
	return defender.Known{}, false
}

// admits says whether an element is a revision that the journal has not: not seen before, and not older than what is there. One that
// tells no last update is never older.
func (x *index) admits(e *defender.Element) bool {
	h := x.alerts[e.Key]
	if h == nil {
		return true
	}
	content := digestOf(e.ContentHash[:])
	for i := range h.revisions {
		r := &h.revisions[i]
		if r.content == content {
			// The same in other words: remember the words, so that they are not decoded again.
			delete(x.raw, r.alias)
			r.alias = digestOf(e.RawHash[:])
			x.raw[r.alias] = h
			return false
		}
	}
	return e.ReadTime || nanos(e.Updated) >= h.newest
}

// before returns when the alert of that key was first read, or now, and the sequence of its last revision, or 0.
func (x *index) before(key string, now time.Time) (firstSeen time.Time, previous uint64) {
	h := x.alerts[key]
	if h == nil {
		return now, 0
	}
	return time.Unix(0, h.firstSeen), h.revisions[len(h.revisions)-1].sequence
}

// add takes an entry in: one of the journal's, or one that is about to be appended under that sequence.
func (x *index) add(sequence uint64, entry *storev1.Entry) {
	item := indexed{sequence: sequence, made: nanos(entry.GetEntryTime().AsTime())}
	if rev := entry.GetRevision(); rev != nil {
		item.updated, item.key = nanos(rev.GetUpdatedTime().AsTime()), rev.GetKey()
		h := x.alerts[item.key]
		if h == nil {
			h = &history{key: item.key, firstSeen: nanos(rev.GetFirstSeenTime().AsTime())}
			x.alerts[item.key] = h
		}
		if len(h.revisions) == 0 || item.updated > h.newest {
			h.newest = item.updated
		}
		r := revision{
			sequence: sequence,
			updated:  item.updated,
			content:  digestOf(rev.GetContentHash()),
			readTime: rev.GetAlert().GetLastUpdateTime() == nil,
			raw:      digestOf(rev.GetRawHash()),
		}
		h.revisions = append(h.revisions, r)
		x.raw[r.raw] = h
	}
	x.entries = append(x.entries, item)
}

// trim forgets the entries before a sequence.
func (x *index) trim(before uint64) {
	n := 0
	for ; n < len(x.entries) && x.entries[n].sequence < before; n++ {
		h := x.alerts[x.entries[n].key]
		if h == nil {
			continue
		}
		kept := h.revisions[:0]
		for _, r := range h.revisions {
			if r.sequence >= before {
				kept = append(kept, r)
				continue
			}
			delete(x.raw, r.raw)
			delete(x.raw, r.alias)
		}
		if h.revisions = kept; len(kept) == 0 {
			delete(x.alerts, h.key)
		}
	}
	x.entries = append([]indexed(nil), x.entries[n:]...)
}
