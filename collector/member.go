package collector

import (
	"context"
	"fmt"
	"slices"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// Member is a stream that takes part in a collector: while there is one the collector polls fast, and the devices that fit its
// keys are looked up. It is safe for concurrent use.
type Member struct {
	collector *Collector
	keys      []string
	// Guarded by the collector's mu.
	closing *Closing
	reach   time.Time
	asked   time.Time     // when the closing read was asked for
	stood   time.Duration // of that, how long the integration was paused
}

// Closing is what a bounded stream waits for: a pair with a `since` at or before Since and a `through` at or after Due.
type Closing struct {
	// Since is the window's start less the tolerance.
	Since time.Time
	// Due is the window's end and the wait.
	Due time.Time
}

// Join makes a stream a member. Actors are the keys of each of its Actors, which devices that concern it share one of; none for a
// stream that asks for no Actors.
//
// The checkpoint that it returns is the journal's when the stream became a member: every pair after it was appended with the
// facts of the devices that fit the stream's keys before it.
func (c *Collector) Join(ctx context.Context, actors [][]string) (*Member, *storev1.Checkpoint, error) {
	select {
	case <-c.recovered:
	case <-c.done:
		return nil, nil, ErrStopped
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("wait for the journal: %w", ctx.Err())
	}
	select {
	case c.appending <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("wait for the journal: %w", ctx.Err())
	}
	defer func() { <-c.appending }()

	m := &Member{collector: c, keys: slices.Concat(actors...)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[m] = struct{}{}
	c.traceMember(ctx, m)
	for _, k := range m.keys {
		c.interest[k]++
		if c.interest[k] == 1 {
			c.fresh = append(c.fresh, k)
		}
	}
	for _, keys := range actors {
		c.unresolved = c.unresolved || len(c.now.Devices.Fitting(keys)) == 0
	}
	c.wakeUp()
	return m, c.journal.Checkpoint(), nil
}

// SetClosing asks for a closing read. It is shared with all that are due together.
func (m *Member) SetClosing(closing Closing) {
	c := m.collector
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.members[m]; !ok {
		return
	}
	m.closing, m.asked = &closing, time.Now()
	c.closings[m] = struct{}{}
	c.wakeUp()
}

// SetReach asks for everything with a last update since a time. Where less was read, the collector reads back to it, once for all
// that ask.
func (m *Member) SetReach(since time.Time) {
	c := m.collector
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.members[m]; !ok {
		return
	}
	m.reach = since
	c.reaching[m] = struct{}{}
	c.wakeUp()
}

// Leave ends the membership. It may be called more than once.
func (m *Member) Leave() {
	c := m.collector
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.members[m]; !ok {
		return
	}
	delete(c.members, m)
	delete(c.closings, m)
	delete(c.reaching, m)
	delete(c.traces, m)
	c.withdraw(m)
	for _, k := range m.keys {
		if c.interest[k]--; c.interest[k] == 0 {
			delete(c.interest, k)
		}
	}
	c.wakeUp()
}
