package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/store"
)

const (
	// noteLife is how long a note lives that counts for no longer than the server that wrote it; it is written again three times in that
	// time. What a server that died leaves behind is gone then.
	noteLife = time.Hour
	// renewals is how often a server's note is renewed within a lease.
	renewals = 3
	// postsAtOnce is how many notes about integrations a server writes at once. Who waits for a turn gathers what has come meanwhile, so that
	// thousands of streams that come together are not thousands of writes, which a cluster makes durable one by one.
	postsAtOnce = 4
)

// errLapsed says that the others take this server for dead, since its note has lapsed.
var errLapsed = errors.New("this server lost touch with the store for longer than a lease, and the others took it for dead")

// cluster is this server among those that share its store, for one incarnation: from when its note is put until that lapses. It is dead
// for the others then, and begins anew under another name.
type cluster struct {
	manager *Manager
	notes   store.Notes
	log     *slog.Logger
	lease   time.Duration
	id      uint64
	began   time.Time

	kick  chan struct{} // capacity 1: what leases depend on has changed
	hurry chan struct{} // capacity 1: the server's own note is to be written now
	posts chan struct{} // held, as a semaphore, while a note about an integration is written

	renewing sync.Mutex // held while the server's own note is written
	revision uint64     // of that; guarded by renewing

	mu         sync.Mutex
	until      time.Time // until when the server's note cannot have lapsed, by this machine's clock
	leaving    bool
	synced     bool
	board      *board
	holds      map[string]*hold     // by application
	free       map[string]time.Time // since when an application was seen without a holder
	handedOver time.Time            // when leases were last begun to be handed over
	tasks      sync.WaitGroup       // one for each lease that is held
}

func newCluster(m *Manager) *cluster {
	id := rand.Uint64()
	return &cluster{
		manager: m,
		notes:   m.options.Store,
		log:     m.options.Log.With("server", fmt.Sprintf("%016x", id)),
		lease:   max(m.options.Lease.Truncate(time.Second), time.Second), // A note's life counts whole seconds.
		id:      id,
		began:   time.Now(),
		kick:    make(chan struct{}, 1),
		hurry:   make(chan struct{}, 1),
		posts:   make(chan struct{}, postsAtOnce),
		leaving: m.retired(),
		board:   newBoard(),
		holds:   map[string]*hold{},
		free:    map[string]time.Time{},
	}
}

// run takes part until ctx ends, or until the others take this server for dead, which is errLapsed.
func (c *cluster) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	parts.Go(func() { c.watch(ctx) })
	parts.Go(func() { c.deal(ctx) })
	for {
		select {
		case <-time.After(c.lease / renewals):
		case <-c.hurry:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := c.renew(ctx); err != nil {
			return err
		}
	}
}

// renew puts the server's note, trying until it is there. Where its time is over, everything that is held is stopped meanwhile.
func (c *cluster) renew(ctx context.Context) error {
	c.renewing.Lock()
	defer c.renewing.Unlock()
	for {
		if !c.inTime() {
			c.stop("this server could not renew its note in time")
			// Whoever follows another server tells its streams; from the store nothing comes that would wake it.
			for _, collector := range c.manager.all() {
				collector.wakeUp()
			}
		}
		err := c.put(ctx)
		switch {
		case err == nil, errors.Is(err, errLapsed), ctx.Err() != nil:
			return err
		}
		c.log.WarnContext(ctx, "the server's note cannot be renewed", "error", err)
		select {
		case <-time.After(c.lease / (4 * renewals)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// put puts the server's note once. The caller holds renewing.
func (c *cluster) put(ctx context.Context) error {
	began := time.Now()
	c.mu.Lock()
	until, leaving := c.until, c.leaving
	c.mu.Unlock()
	if !until.After(began) {
		until = began.Add(c.lease / renewals)
	}
	bounded, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	note := &storev1.Note{Body: &storev1.Note_Server{Server: &storev1.Server{Leaving: leaving}}}
	revision, err := c.notes.PutNote(bounded, serverKey(c.id), note, c.revision, c.lease)
	if errors.Is(err, store.ErrConflict) {
		// Nobody else writes it: it has lapsed, or what was written before was never acknowledged, and it is not known when that was.
		_, revision, err = c.notes.Note(bounded, serverKey(c.id))
		switch {
		case errors.Is(err, store.ErrNotFound):
			return errLapsed
		case err != nil:
			return err
		}
		c.revision = revision
		return fmt.Errorf("renew it again: %w", store.ErrConflict)
	}
	if err != nil {
		return err
	}
	c.revision = revision
	c.mu.Lock()
	defer c.mu.Unlock()
	// It lives from when the store took it, which was later. What is held must have stopped before.
	c.until = began.Add(c.lease - c.lease/10)
	return nil
}

// inTime says whether the server's note cannot have lapsed yet.
func (c *cluster) inTime() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.until)
}

// stop ends everything that is held.
func (c *cluster) stop(why string) {
	c.mu.Lock()
	holds := make([]*hold, 0, len(c.holds))
	for _, h := range c.holds {
		if !h.over() {
			holds = append(holds, h)
		}
	}
	c.mu.Unlock()
	if len(holds) > 0 {
		c.log.Warn("collecting is stopped", "reason", why, "leases", len(holds))
	}
	for _, h := range holds {
		h.end()
	}
}

// retire makes the server hand everything over, and take nothing any more.
func (c *cluster) retire() {
	c.mu.Lock()
	c.leaving = true
	c.mu.Unlock()
	c.look()
	select {
	case c.hurry <- struct{}{}:
	default:
	}
}

// leave gives everything back after the collectors have stopped, so that the others need not wait until it lapses.
func (c *cluster) leave(ctx context.Context) {
	c.stop("this server leaves")
	c.tasks.Wait()
	ctx, cancel := context.WithTimeout(ctx, c.lease)
	defer cancel()
	c.mu.Lock()
	holds := c.holds
	c.holds = map[string]*hold{}
	c.mu.Unlock()
	for _, app := range sortedKeys(holds) {
		<-holds[app].idle
		c.giveBack(ctx, holds[app])
	}
	c.renewing.Lock()
	defer c.renewing.Unlock()
	if err := c.notes.DeleteNote(ctx, serverKey(c.id), c.revision); err != nil && !errors.Is(err, store.ErrConflict) {
		c.log.WarnContext(ctx, "the server's note cannot be deleted; it lapses", "error", err)
	}
}

// watch follows the notes until ctx ends.
func (c *cluster) watch(ctx context.Context) {
	for ctx.Err() == nil {
		changes, err := c.notes.WatchNotes(ctx)
		if err == nil {
			c.follow(ctx, changes)
		} else if ctx.Err() == nil {
			c.log.ErrorContext(ctx, "the other servers cannot be watched", "error", err)
		}
		select {
		case <-time.After(c.manager.options.Settings.RetryMin):
		case <-ctx.Done():
		}
	}
}

// follow takes the changes of a watch in until that ends. What was known before it began counts until it has told everything.
func (c *cluster) follow(ctx context.Context, changes <-chan store.NoteChange) {
	next := newBoard()
	synced := false
	for change := range changes {
		if change.Synced {
			synced = true
			c.mu.Lock()
			c.board, c.synced = next, true
			c.mu.Unlock()
			c.told()
			continue
		}
		s, ok := subjectOf(change.Key)
		if !ok {
			continue
		}
		c.mu.Lock()
		before, was := next.servers[s.server]
		next.post(s, change, time.Now())
		c.mu.Unlock()
		// That a server is still there is no news.
		same := s.kind == serverNotes && was && !change.Deleted && proto.Equal(before.note, change.Note)
		if synced && !same && ctx.Err() == nil {
			c.tell(s)
		}
	}
}

// told makes everybody look at the board anew.
func (c *cluster) told() {
	c.look()
	for _, collector := range c.manager.all() {
		collector.takeWishes()
		collector.wakeUp()
	}
}

// tell tells whom a note concerns that it changed.
func (c *cluster) tell(s subject) {
	switch s.kind {
	case serverNotes:
		c.look()
		for _, collector := range c.manager.all() {
			collector.takeWish(s.server)
			collector.wakeUp()
		}
	case leaseNotes:
		c.checkLost(s.app)
		c.look()
		for _, collector := range c.manager.of(s.app) {
			collector.wakeUp()
		}
	case wishNotes:
		if collector := c.manager.journal(s.journal); collector != nil {
			collector.takeWish(s.server)
		}
	case presentNotes:
		if collector := c.manager.journal(s.journal); collector != nil {
			collector.wakeUp()
		}
	}
}

// look makes the leases be dealt anew.
func (c *cluster) look() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// inTurn calls f when it is its turn to write a note about an integration.
func (c *cluster) inTurn(ctx context.Context, f func() error) error {
	select {
	case c.posts <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.posts }()
	return f()
}

// alive says whether a server is there, as far as is known. The caller holds mu.
func (c *cluster) alive(server uint64) bool {
	if server == c.id {
		return true
	}
	p, ok := c.board.servers[server]
	return ok && time.Since(p.seen) < 2*c.lease
}

// wish returns what a server wishes of an integration's collector; nil where it wishes nothing, or is no more.
func (c *cluster) wish(journal string, server uint64) *storev1.Wish {
	c.mu.Lock()
	defer c.mu.Unlock()
	if server == c.id || !c.alive(server) {
		return nil
	}
	return c.board.wish(journal, server)
}

// partly says that some of a server's wish is there, as while another version of it is being written.
func (c *cluster) partly(journal string, server uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alive(server) && len(c.board.wishes[journal][server]) > 0
}

// wishing returns the servers that have a wish for an integration's collector.
func (c *cluster) wishing(journal string) []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.board.wishing(journal)
}

// present returns how an integration does, as the server tells that collects for its application; nil where none does, or none has told.
func (c *cluster) present(app, journal string) *storev1.Present {
	c.mu.Lock()
	defer c.mu.Unlock()
	holder := c.board.leases[app].note.GetLease().GetHolder()
	present := c.board.presents[journal].note.GetPresent()
	if holder == 0 || holder == c.id || !c.alive(holder) || present.GetHolder() != holder {
		return nil
	}
	return present
}

// presentRevision returns the revision of the note that tells how an integration does; 0 where there is none.
func (c *cluster) presentRevision(journal string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.board.presents[journal].revision
}

// servers counts the servers that are there.
func (c *cluster) servers() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := 1
	for server := range c.board.servers {
		if server != c.id && c.alive(server) {
			count++
		}
	}
	return count
}
