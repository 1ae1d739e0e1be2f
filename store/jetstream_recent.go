package store

import (
	"slices"
	"sync"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

const (
	// recentBytes bounds the entries that are kept decoded, over all journals, as they are encoded.
	recentBytes = 8 << 20
	// recentTip is how many entries before the checkpoint are worth keeping when they are read.
	recentTip = 1024
)

// recent keeps the newest entries of all journals decoded, so that those who follow a journal need nothing of the engine: it
// keeps whole blocks of a stream's file in memory for a while after a read of one entry.
//
// It has only what a checkpoint names. That never changes: the end of a journal goes back, and a sequence is given again, only
// together with a new identity. So nothing in it can be out of date; it is for the reader to ask only for what is within the
// bounds of the checkpoint that it sees.
type recent struct {
	mu      sync.Mutex
	entries map[recentKey]*storev1.Entry
	// order has what is in entries, the oldest first.
	order []recentItem
	bytes int
}

// recentKey names an entry over all journals: no two have the same identity.
type recentKey struct {
	identity string
	sequence uint64
}

// recentItem is a key, and how large its entry is, in bytes.
type recentItem struct {
	recentKey
	size int
}

func newRecent() *recent {
	return &recent{entries: make(map[recentKey]*storev1.Entry)}
}

// add takes in an entry, for which the oldest go.
func (r *recent) add(identity string, entry Positioned, size int) {
	key := recentKey{identity, entry.Sequence}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.entries[key]; ok {
		return
	}
	r.entries[key] = entry.Entry
	r.order = append(r.order, recentItem{key, size})
	r.bytes += size
	drop := 0
	for ; r.bytes > recentBytes; drop++ {
		r.bytes -= r.order[drop].size
		delete(r.entries, r.order[drop].recentKey)
	}
	r.order = r.order[drop:]
}

// get returns an entry, where it is there.
func (r *recent) get(identity string, sequence uint64) (Positioned, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	entry, ok := r.entries[recentKey{identity, sequence}]
	return Positioned{Sequence: sequence, Entry: entry}, ok
}

// missing returns the last sequence, through `through` at most, of those from `from` on that are not there; from is not.
func (r *recent) missing(identity string, from, through uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; from < through; from++ {
		if _, ok := r.entries[recentKey{identity, from + 1}]; ok {
			break
		}
	}
	return from
}

// forget drops the entries of an identity.
func (r *recent) forget(identity string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order = slices.DeleteFunc(r.order, func(item recentItem) bool {
		if item.identity != identity {
			return false
		}
		delete(r.entries, item.recentKey)
		r.bytes -= item.size
		return true
	})
}

// appended are the entries that a writer appended since its last checkpoint: it does not know yet that they stay.
type appended struct {
	entries []Positioned
	sizes   []int
	bytes   int
}

// add takes in a batch that begins at the sequence first. Where that makes too much, what came before it goes.
func (a *appended) add(first uint64, entries []*storev1.Entry, framed [][]byte) {
	size := 0
	for _, one := range framed {
		size += len(one)
	}
	if a.bytes+size > recentBytes {
		*a = appended{}
	}
	a.bytes += size
	for i, entry := range entries {
		a.entries = append(a.entries, Positioned{Sequence: first + uint64(i), Entry: entry})
		a.sizes = append(a.sizes, len(framed[i]))
	}
}

// settle gives `to` what a checkpoint of the writer, at the sequence last, made sure of.
func (a *appended) settle(to *recent, identity string, last uint64) {
	count := 0
	for ; count < len(a.entries) && a.entries[count].Sequence <= last; count++ {
		to.add(identity, a.entries[count], a.sizes[count])
		a.bytes -= a.sizes[count]
	}
	if count == len(a.entries) {
		*a = appended{}
		return
	}
	a.entries, a.sizes = slices.Clone(a.entries[count:]), slices.Clone(a.sizes[count:])
}
