package defendertest

import (
	"context"
	"net/url"
	"sync"
	"time"
)

// Call is one request that the server got.
type Call struct {
	// Number counts the calls from 1.
	Number int
	// Time is when it came, by the server's clock.
	Time time.Time
	// Route is the route's name; [RouteUnknown] where nothing is played there.
	Route string
	// Method and Path are the request's.
	Method, Path string
	// Query are the request's query options, decoded.
	Query url.Values
	// Hunting is the text of the hunting query, where it was one.
	Hunting string
	// Tenant and App are whose call it was: of the token's grant, or of the form where a token was asked for. They are empty where
	// that was not readable.
	Tenant, App string
	// Status is what it was answered with; 0 while it is not answered, and where the connection was cut without an answer.
	Status int
	// Done says that nothing of the answer is still to come.
	Done bool
	// Faulty says that a fault answers, also while it does not yet.
	Faulty bool
	// Elements is how many alerts, detections, devices or rows the answer held.
	Elements int
}

// maxCalls is how many calls the record keeps in detail; the oldest are dropped beyond it.
const maxCalls = 1 << 17

// calls is the record of calls.
type calls struct {
	mu    sync.Mutex
	list  []Call
	first int // the number of list[0]
	wake  chan struct{}
}

// begin adds a call and returns its number.
func (c *calls) begin(call Call) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == maxCalls {
		c.list = append(c.list[:0:0], c.list[maxCalls/2:]...)
		c.first += maxCalls / 2
	}
	if c.first == 0 {
		c.first = 1
	}
	call.Number = c.first + len(c.list)
	c.list = append(c.list, call)
	c.wakeAll()
	return call.Number
}

// finish puts down how a call ended.
func (c *calls) finish(call Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call.Done = true
	if i := call.Number - c.first; i >= 0 {
		c.list[i] = call
	}
	c.wakeAll()
}

func (c *calls) wakeAll() {
	if c.wake != nil {
		close(c.wake)
		c.wake = nil
	}
}

// Calls returns the calls that filter takes, in the order in which they came; all where it is nil. The last 65,536 calls at
// least are kept.
func (s *Server) Calls(filter func(Call) bool) []Call {
	list, _ := s.calls.filtered(filter)
	return list
}

func (c *calls) filtered(filter func(Call) bool) ([]Call, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Call
	for _, call := range c.list {
		if filter == nil || filter(call) {
			list = append(list, call)
		}
	}
	if c.wake == nil {
		c.wake = make(chan struct{})
	}
	return list, c.wake
}

// WaitCalls waits until at least n calls are there that filter takes, and returns them.
func (s *Server) WaitCalls(ctx context.Context, n int, filter func(Call) bool) ([]Call, error) {
	for {
		list, changed := s.calls.filtered(filter)
		if len(list) >= n {
			return list, nil
		}
		select {
		case <-ctx.Done():
			return list, ctx.Err()
		case <-changed:
		}
	}
}

// OnRoute is a filter for [Server.Calls]: the calls of one route.
func OnRoute(route string) func(Call) bool { return func(c Call) bool { return c.Route == route } }
