package server

import (
	"crypto/x509"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// readingTime is how long the callers on a connection that is to be closed have to read how their calls ended.
const readingTime = time.Second

// connection is a connection whose handshake is over, and what is known of who is at its other end. gRPC reads and writes it, and hands
// it to each call that comes over it as its AuthInfo: there is no other way from a call to its connection.
type connection struct {
	// Conn is the connection as gRPC uses it, with TLS where there is TLS. raw is the one below.
	net.Conn
	raw net.Conn
	// identities are who is at the other end, as package access writes them, the one that it is called by first.
	identities []string
	// local says that the other end is on this machine.
	local bool
	// certificates are the other end's and what it sent with it; none where it was not asked for one.
	certificates []*x509.Certificate

	// verified and granted are what was found out last, and of what.
	verified atomic.Pointer[verification]
	granted  atomic.Pointer[granting]

	home *connections
	used sync.Once

	mu sync.Mutex
	// calls is how many calls are under way.
	calls int
	// closing says that the connection is being closed, quiet that its last call has ended since.
	closing, quiet bool
}

// AuthType names what this is, as gRPC wants it.
func (c *connection) AuthType() string { return "connection" }

// Read reads. With the first Read gRPC has taken the connection over, and closes it whatever comes.
func (c *connection) Read(p []byte) (int, error) {
	c.used.Do(func() { c.home.add(c) })
	return c.Conn.Read(p)
}

// Close closes the connection.
func (c *connection) Close() error {
	c.home.remove(c)
	return c.Conn.Close()
}

// cut closes the connection at once, whatever is still to be sent, and says whether it was open.
func (c *connection) cut() bool { return c.raw.Close() == nil }

// underWay counts a call, and returns what counts it off again. Calls without a connection do not count.
func (c *connection) underWay() (ended func()) {
	if c == nil {
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.calls--
		c.closeWhereQuiet()
	}
}

// expel closes the connection once its calls have ended and their callers have had the time to read how; at the latest after the limit.
// It returns false where that is under way already.
func (c *connection) expel(limit time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.closing = true
	time.AfterFunc(limit, func() { c.cut() })
	c.closeWhereQuiet()
	return true
}

// closeWhereQuiet begins the end of a connection that is to be closed and has no call. Calls that come from then on are refused, and do
// not keep it.
func (c *connection) closeWhereQuiet() {
	if c.closing && !c.quiet && c.calls == 0 {
		c.quiet = true
		time.AfterFunc(readingTime, func() { c.cut() })
	}
}

// connections are the connections that are open.
type connections struct {
	mu  sync.Mutex
	set map[*connection]struct{}
}

func newConnections() *connections { return &connections{set: make(map[*connection]struct{})} }

func (s *connections) add(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set[c] = struct{}{}
}

func (s *connections) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, c)
}

// all returns the connections that are open now.
func (s *connections) all() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.set))
}
