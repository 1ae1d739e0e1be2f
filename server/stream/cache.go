package stream

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"defender-integration/store"
)

// cacheBytes is how much of the newest entries of a journal is kept decoded, as they are encoded. Streams that are up to date
// read nothing else.
const cacheBytes = 16 << 20

// cache has the newest entries of a journal.
type cache struct {
	mu      sync.Mutex
	entries []sized // consecutive sequences
	bytes   int
}

type sized struct {
	store.Positioned
	size int
}

func (c *cache) add(p store.Positioned) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := sized{Positioned: p, size: proto.Size(p.Entry)}
	c.entries = append(c.entries, one)
	c.bytes += one.size
	drop := 0
	for c.bytes > cacheBytes && drop < len(c.entries)-1 {
		c.bytes -= c.entries[drop].size
		c.entries[drop] = sized{}
		drop++
	}
	c.entries = c.entries[drop:]
}

func (c *cache) get(sequence uint64) (store.Positioned, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) == 0 || sequence < c.entries[0].Sequence {
		return store.Positioned{}, false
	}
	i := sequence - c.entries[0].Sequence
	if i >= uint64(len(c.entries)) {
		return store.Positioned{}, false
	}
	return c.entries[i].Positioned, true
}
