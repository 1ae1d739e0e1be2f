package collector

import (
	"context"
	"sync"
)

// hold is the lease of an application while this server has it. Its context ends when it is to be given up or was lost; the lease is
// given away only when everybody who joined has parted.
type hold struct {
	cluster *cluster
	app     string
	ctx     context.Context //nolint:containedctx // It is the life of the lease on this server.
	cancel  context.CancelFunc
	idle    chan struct{} // closed when it has ended, and nobody collects under it any more

	mu       sync.Mutex
	revision uint64 // of the lease's note
	joined   int    // collectors that work under it
	ended    bool
	back     bool // the lease is to be given back then
}

// join begins to collect under the lease; false where it has ended.
func (h *hold) join() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return false
	}
	h.joined++
	return true
}

// part ends what join began.
func (h *hold) part() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joined--
	if h.ended && h.joined == 0 {
		close(h.idle)
	}
}

// end makes everybody stop who collects under the lease. It may be called more than once.
func (h *hold) end() {
	h.cancel()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return
	}
	h.ended = true
	if h.joined == 0 {
		close(h.idle)
	}
}

// giveBack makes the lease be given back once it has ended, and nobody collects under it any more.
func (h *hold) giveBack() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.back = true
}

func (h *hold) givesBack() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.back
}

// over says that the lease has ended.
func (h *hold) over() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ended
}

// good says whether the lease may be used now: it has not ended, and its server's own note cannot have lapsed.
func (h *hold) good() bool { return h.ctx.Err() == nil && h.cluster.inTime() }

// has returns the revision of the lease's note.
func (h *hold) has() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.revision
}

// renewed takes note of the lease's note's new revision.
func (h *hold) renewed(revision uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.revision = revision
}
