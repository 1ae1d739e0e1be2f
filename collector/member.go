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
	joined    *storev1.Served
	// Guarded by the collector's mu.
	number  uint64 // of its closing
	stream  uint64 // by which a pair names it
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
// The checkpoint that it returns is the journal's when the stream became a member. Of the pairs after it, those that name the stream were
// appended with the facts about the devices that fit its keys before them: it asks for one by [Member.SetClosing].
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
	m.stream = StreamName(m.keys)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[m] = struct{}{}
	c.traceMember(ctx, m)
	came := false
	for _, k := range m.keys {
		came = c.want(k) || came
	}
	if c.cluster != nil {
		// While this server collects, a key that is no news may be one of another server's streams, whose wish may go before this server's comes.
		if came || c.holding || c.generation == 0 {
			c.generation++
		}
		m.joined = &storev1.Served{Server: c.cluster.id, Generation: c.generation}
	}
	for _, keys := range actors {
		c.unresolved = c.unresolved || len(c.now.Devices.Fitting(keys)) == 0
	}
	c.wakeUp()
	return m, c.journal.Checkpoint(), nil
}

// Joined tells as what the stream became a member, among servers that share a store: a look-up of another server that served this
// generation of this server, or a later one, asked for its keys. It is nil where the server is alone.
func (m *Member) Joined() *storev1.Served { return m.joined }

// want makes a key one that devices which concern a member have, and says whether it was none before. The caller holds mu.
func (c *Collector) want(key string) bool {
	c.interest[key]++
	if c.interest[key] > 1 {
		return false
	}
	c.fresh = append(c.fresh, key)
	return true
}

// unwant ends what want began. The caller holds mu.
func (c *Collector) unwant(key string) {
	if c.interest[key]--; c.interest[key] == 0 {
		delete(c.interest, key)
	}
}

// SetClosing asks for a closing read. It is shared with all that are due together.
func (m *Member) SetClosing(closing Closing) {
	c := m.collector
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.members[m]; !ok {
		return
	}
	c.numbers++
	m.closing, m.asked, m.number = &closing, time.Now(), c.numbers
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
	c.withdraw(m, func([16]byte) bool { return false })
	for _, k := range m.keys {
		c.unwant(k)
	}
	c.wakeUp()
}
