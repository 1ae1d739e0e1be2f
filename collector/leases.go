package collector

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/store"
)

const (
	// handOvers is how many leases a server hands over at once, and handOverPause lies between two times: every integration whose
	// collector moves is read from the beginning by the next one.
	handOvers     = 4
	handOverPause = time.Second
	// dealInterval is how often leases are looked at although nothing was told.
	dealInterval = time.Second
)

// deal takes and hands over leases until ctx ends.
func (c *cluster) deal(ctx context.Context) {
	for {
		select {
		case <-c.kick:
		case <-time.After(dealInterval):
		case <-ctx.Done():
			return
		}
		c.dealOnce(ctx)
	}
}

// dealOnce takes the leases that belong to this server now, and begins to hand over those that do not any more.
func (c *cluster) dealOnce(ctx context.Context) {
	apps := c.manager.applications()
	now := time.Now()
	c.mu.Lock()
	// Who has just come waits until those that come with it are there.
	if !c.synced || !now.Before(c.until) || now.Sub(c.began) < c.lease/10 {
		c.mu.Unlock()
		return
	}
	servers, holders := c.facts()
	owners := share(apps, servers, holders)
	maps.DeleteFunc(c.free, func(app string, _ time.Time) bool { return owners[app] == 0 }) // Those that are no more.
	var take []string
	for _, app := range apps {
		if c.takes(app, owners[app], holders[app], now) {
			take = append(take, app)
		}
	}
	var give []*hold
	for _, app := range sortedKeys(c.holds) {
		h := c.holds[app]
		if !h.over() && (owners[app] != c.id || c.leaving) {
			give = append(give, h)
		}
	}
	if !c.leaving {
		if now.Sub(c.handedOver) < handOverPause {
			give = nil
		}
		give = give[:min(len(give), handOvers)]
	}
	if len(give) > 0 {
		c.handedOver = now
	}
	c.mu.Unlock()
	for _, h := range give {
		c.handOver(ctx, h)
	}
	for _, app := range take {
		c.take(ctx, app)
	}
}

// facts returns the servers that take leases, and who holds which application. One whose holder a later version tells is held by a server
// that is none of ours. The caller holds mu.
func (c *cluster) facts() (servers []uint64, holders map[string]uint64) {
	if !c.leaving {
		servers = append(servers, c.id)
	}
	for server, p := range c.board.servers {
		if server != c.id && c.alive(server) && !p.note.GetServer().GetLeaving() {
			servers = append(servers, server)
		}
	}
	holders = map[string]uint64{}
	for app, p := range c.board.leases {
		if holder := p.note.GetLease().GetHolder(); c.alive(holder) {
			holders[app] = holder
		}
	}
	for app := range c.holds {
		holders[app] = c.id
	}
	return servers, holders
}

// takes says whether this server is to take an application now: one that is free and belongs to it, or that has been free for so long
// that whom it belongs to does not take it. The caller holds mu.
func (c *cluster) takes(app string, owner, holder uint64, now time.Time) bool {
	lease, noted := c.board.leases[app]
	if c.leaving || c.holds[app] != nil || noted && lease.note == nil || holder != 0 && holder != c.id {
		delete(c.free, app)
		return false
	}
	since, seen := c.free[app]
	if !seen {
		since = now
		c.free[app] = now
	}
	return owner == c.id || holder == c.id || now.Sub(since) >= c.lease
}

// take takes the lease of an application that has no holder, as far as is known.
func (c *cluster) take(ctx context.Context, app string) {
	c.mu.Lock()
	lease := c.board.leases[app]
	c.mu.Unlock()
	before := lease.note.GetLease().GetHolder()
	if before != 0 && before != c.id {
		// What was told may be late: whether the holder is dead is asked where its note was written.
		if _, _, err := c.notes.Note(ctx, serverKey(before)); !errors.Is(err, store.ErrNotFound) {
			return
		}
	}
	if !c.inTime() {
		return
	}
	revision, err := c.notes.PutNote(ctx, leaseKey(app), c.leaseNote(), lease.revision, noteLife)
	if err != nil {
		if !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			c.log.WarnContext(ctx, "a lease cannot be taken", "application", app, "error", err)
		}
		return
	}
	h := &hold{cluster: c, app: app, revision: revision, idle: make(chan struct{})}
	h.ctx, h.cancel = context.WithCancel(ctx)
	c.mu.Lock()
	c.holds[app] = h
	delete(c.free, app)
	c.mu.Unlock()
	c.manager.metrics.takeOvers.Inc()
	c.log.InfoContext(ctx, "lease taken", "application", app, "revision", revision)
	c.manager.budgets.forget(app)
	c.manager.assign()
	c.tasks.Go(func() { c.settle(ctx, h) })
}

func (c *cluster) leaseNote() *storev1.Note {
	return &storev1.Note{Body: &storev1.Note_Lease{Lease: &storev1.Lease{Holder: c.id}}}
}

// settle keeps the note of a lease alive, and forgets the lease when it has ended and nobody works under it any more.
func (c *cluster) settle(ctx context.Context, h *hold) {
	for {
		select {
		case <-time.After(noteLife / renewals):
			c.confirm(ctx, h)
		case <-h.idle:
			if h.givesBack() {
				c.giveBack(ctx, h)
			}
			c.manager.budgets.forget(h.app)
			c.mu.Lock()
			delete(c.holds, h.app)
			c.mu.Unlock()
			c.look()
			return
		case <-ctx.Done():
			h.end()
			return
		}
	}
}

// handOver stops collecting for an application. Its lease is given back when that has come to its end.
func (c *cluster) handOver(ctx context.Context, h *hold) {
	c.log.InfoContext(ctx, "lease handed over", "application", h.app)
	h.giveBack()
	h.end()
}

// giveBack deletes the note of a lease that has ended.
func (c *cluster) giveBack(ctx context.Context, h *hold) {
	err := c.notes.DeleteNote(ctx, leaseKey(h.app), h.has())
	if err != nil {
		if !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			c.log.WarnContext(ctx, "a lease cannot be given back; it is taken over when this server is no more", "application", h.app, "error", err)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// That will be told, too; until then it is not to be taken for one that this server has.
	if c.board.leases[h.app].revision <= h.has() {
		delete(c.board.leases, h.app)
	}
}

// confirm writes the note of a lease again, and says whether it is still this server's. Where it is another's, the hold ends.
func (c *cluster) confirm(ctx context.Context, h *hold) bool {
	if !h.good() {
		return false
	}
	revision, err := c.notes.PutNote(ctx, leaseKey(h.app), c.leaseNote(), h.has(), noteLife)
	if err == nil {
		h.renewed(revision)
		return true
	}
	if errors.Is(err, store.ErrConflict) {
		c.lost(h)
	}
	return false
}

// checkLost ends a hold whose lease is another's, as the board tells.
func (c *cluster) checkLost(app string) {
	c.mu.Lock()
	h, p := c.holds[app], c.board.leases[app]
	c.mu.Unlock()
	if h == nil || h.over() {
		return
	}
	if p.revision > h.has() && p.note.GetLease().GetHolder() != c.id {
		c.lost(h)
	}
}

// lost ends a hold whose lease is another's.
func (c *cluster) lost(h *hold) {
	c.log.Warn("a lease is another server's", "application", h.app)
	h.end()
}

// holdOf returns the lease of an application, where this server has it.
func (c *cluster) holdOf(app string) *hold {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.holds[app]; h != nil && !h.over() {
		return h
	}
	return nil
}

// held counts the leases that this server has.
func (c *cluster) held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(slices.DeleteFunc(slices.Collect(maps.Values(c.holds)), (*hold).over))
}
