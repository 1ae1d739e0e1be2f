package collector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

const (
	// wishInterval is the least time between two times that what streams want is gathered, and written for each part that it takes: it is
	// written whole, also where one stream came to thousands.
	wishInterval = 250 * time.Millisecond
	// patience is how long nobody needs to say how an integration does before it is told that nobody collects.
	patience = 2 * time.Second
)

// posting is what this server has written of what its streams want. It belongs to the collector's goroutine.
type posting struct {
	wish      *storev1.Wish // as it was written, but for the version; nil where none stands
	version   uint64
	revisions []uint64  // of its parts
	at        time.Time // when it was last written
	looked    time.Time // when it was last gathered
}

// assign makes the collector work under a lease, or follow the server that has it where there is none.
func (c *Collector) assign(h *hold) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease == h {
		return
	}
	c.lease = h
	if c.unassign != nil {
		c.unassign()
	}
}

// takeTurns collects while this server has the lease, and follows the server that has it otherwise, until ctx ends.
func (c *Collector) takeTurns(ctx context.Context) {
	for ctx.Err() == nil {
		turn, cancel := context.WithCancel(ctx)
		c.mu.Lock()
		h := c.lease
		c.unassign = cancel
		c.mu.Unlock()
		if h != nil && h.join() {
			c.collectUnder(turn, h)
			h.part()
		} else {
			c.follow(turn)
		}
		cancel()
	}
}

// collectUnder collects until the lease ends, or ctx.
func (c *Collector) collectUnder(ctx context.Context, h *hold) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(h.ctx, cancel)()
	c.begin(h)
	defer c.cease()
	var telling sync.WaitGroup
	telling.Go(func() { c.tellOthers(ctx, h) })
	c.collect(ctx)
	cancel()
	telling.Wait()
}

// begin makes this the server that collects, before anything is read.
func (c *Collector) begin(h *hold) {
	c.hold = h
	// What was known when it last collected is out of date.
	c.checkpoint, c.absences, c.watching, c.bare, c.missing, c.unclosed = nil, nil, time.Time{}, bare{}, nil, nil
	c.plan = plan{}
	c.mu.Lock()
	c.holding, c.damaged = true, false
	record := c.record
	c.mu.Unlock()
	c.update(func(s *Snapshot) {
		if s.unattended {
			s.Problem, s.unattended = nil, false
			s.state, s.since = stateOf(record), time.Now()
		}
		s.lookUp = LookUp{}
	})
	c.takeWishes()
}

// cease ends that.
func (c *Collector) cease() {
	c.mu.Lock()
	c.holding = false
	for _, server := range sortedKeys(c.remotes) {
		c.dropRemote(server)
	}
	clear(c.answered)
	c.telemetryDone = false
	c.mu.Unlock()
	c.hold, c.index, c.facts, c.pending, c.size = nil, nil, nil, nil, 0
	c.waiting.Store(0)
	c.took = nil
	c.update(func(s *Snapshot) {
		if s.Devices != nil {
			found := s.lookUp
			s.Devices, s.Elsewhere = nil, &found
		}
		s.lookUp = LookUp{}
	})
}

// follow tells the server that collects what streams want here, and takes on what it tells, until ctx ends.
func (c *Collector) follow(ctx context.Context) {
	unattended := time.Now()
	for {
		again := c.post(ctx)
		if err := c.open(ctx); err != nil && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "the journal cannot be opened", "error", err)
			again = min(again, c.settings.RetryMin)
		}
		if present := c.cluster.present(c.application(), c.uid); present != nil && c.cluster.inTime() {
			unattended = time.Now()
			c.takePresent(present)
		} else if wait := patience - time.Since(unattended); wait <= 0 {
			c.tellUnattended()
		} else {
			again = min(again, wait)
		}
		timer := time.NewTimer(again)
		select {
		case <-c.wake:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// open opens the journal for those who read it.
func (c *Collector) open(ctx context.Context) error {
	select {
	case <-c.recovered:
		return nil
	default:
	}
	journal, err := c.options.Store.Journal(ctx, c.uid)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	c.mu.Lock()
	c.journal = journal
	c.clock = journal.Checkpoint().GetClock().AsDuration()
	c.mu.Unlock()
	close(c.recovered)
	return nil
}

// takePresent takes on how the integration does.
func (c *Collector) takePresent(present *storev1.Present) {
	c.mu.Lock()
	if c.journal != nil {
		c.clock = c.journal.Checkpoint().GetClock().AsDuration()
	}
	c.mu.Unlock()
	if c.took == present {
		return
	}
	c.took = present
	c.update(func(s *Snapshot) {
		s.take(present)
		s.unattended = false
	})
}

// tellUnattended tells that nobody collects.
func (c *Collector) tellUnattended() {
	problem := c.presentProblem()
	c.took = nil
	c.mu.Lock()
	told := c.now.unattended && c.now.Problem.GetMessage() == problem.GetMessage()
	c.mu.Unlock()
	if told {
		return
	}
	c.update(func(s *Snapshot) {
		s.Problem, s.unattended = since(problem, s.Problem), true
		s.NextPoll, s.ThrottledUntil = time.Time{}, time.Time{}
		if failing := integrationv1.IntegrationStatus_STATE_FAILING; s.state != failing {
			s.state, s.since = failing, time.Now()
		}
	})
}

// post writes what the streams on this server want, where that is other than what stands, and returns when to look again.
func (c *Collector) post(ctx context.Context) time.Duration {
	p := &c.posting
	age := time.Since(p.at)
	wait := max(wishInterval-time.Since(p.looked), wishInterval*time.Duration(len(p.revisions))-age)
	if wait > 0 {
		return wait
	}
	p.looked = time.Now()
	wish := c.wished()
	if proto.Equal(wish, p.wish) && (wish == nil || age < noteLife/renewals) {
		return noteLife / renewals
	}
	err := c.cluster.inTurn(ctx, func() error {
		p.at = time.Now()
		wish = c.wished()
		return c.write(ctx, wish)
	})
	if err != nil {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "the server that collects cannot be told what streams want", "error", err)
		}
		p.wish = nil
		return c.settings.RetryMin
	}
	p.wish = wish
	return noteLife / renewals
}

// write writes a wish in place of the one that stands.
func (c *Collector) write(ctx context.Context, wish *storev1.Wish) error {
	p := &c.posting
	var parts []*storev1.Wish
	if wish != nil {
		p.version++
		wish = proto.CloneOf(wish)
		wish.Version = p.version
		parts = split(wish)
	}
	for len(p.revisions) < len(parts) {
		p.revisions = append(p.revisions, 0)
	}
	for i, part := range parts {
		var err error
		p.revisions[i], err = c.putNote(ctx, wishKey(c.uid, c.cluster.id, i), &storev1.Note{Body: &storev1.Note_Wish{Wish: part}}, p.revisions[i])
		if err != nil {
			return err
		}
	}
	for i := len(p.revisions) - 1; i >= len(parts); i-- {
		err := c.options.Store.DeleteNote(ctx, wishKey(c.uid, c.cluster.id, i), p.revisions[i])
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
		p.revisions = p.revisions[:i]
	}
	return nil
}
