package defendertest

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Fault makes the server answer some requests otherwise.
type Fault struct {
	// Route is the name of the route that it is about, such as [RouteAlerts]; empty: every route.
	Route string
	// Match says which requests it is about; nil: all of the route.
	Match func(*http.Request) bool
	// After is how many matching requests pass before it acts.
	After int
	// Times is how many matching requests it acts on; 0 stands for one, a negative number for every one until it is removed.
	Times int
	// Respond makes the answer. Required, but with Lag: there it stands for the answer that is due.
	Respond Responder
	// Lag makes a replica answer that is that far behind: alerts that became visible since are not there, and those that were replaced
	// since are there as they were. It is for lists of alerts.
	Lag time.Duration
}

// Responder makes a fault's answer. next gives what the request would have been answered with, after all checks and counted
// against the limits; a responder that does not call it answers in front of everything. Returning nil cuts the connection without
// an answer. ctx ends with the request and with the server.
type Responder func(ctx context.Context, r *http.Request, next func() *Answer) *Answer

// Respond answers with a status, headers and a body. The Content-Type is JSON's unless the headers have one.
func Respond(status int, header http.Header, body string) Responder {
	return func(context.Context, *http.Request, func() *Answer) *Answer {
		a := NewAnswer(status, body)
		for name, values := range header {
			a.Header[name] = slices.Clone(values)
		}
		return a
	}
}

// Retired answers as an API that was switched off: 410, without a body. What Microsoft will answer is not documented.
func Retired() Responder { return Respond(http.StatusGone, nil, "") }

// Delay waits before the request is looked at. Time is this machine's: it is the caller that waits.
func Delay(by time.Duration) Responder {
	return func(ctx context.Context, _ *http.Request, next func() *Answer) *Answer {
		timer := time.NewTimer(by)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			return next()
		}
	}
}

// Throttle answers that there were too many calls, with a Retry-After as it is given; without one where that is empty.
func Throttle(status int, retryAfter string) Responder {
	header := http.Header{}
	if retryAfter != "" {
		header.Set("Retry-After", retryAfter)
	}
	return Respond(status, header, `{"error":{"code":"TooManyRequests","message":"Too many requests."}}`)
}

// Hang never answers: the request stays open until the caller gives up or the server is closed.
func Hang() Responder {
	return func(ctx context.Context, _ *http.Request, _ func() *Answer) *Answer {
		<-ctx.Done()
		return nil
	}
}

// Hold keeps the true answer back until release is closed.
func Hold(release <-chan struct{}) Responder {
	return func(ctx context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		select {
		case <-ctx.Done():
			return nil
		case <-release:
			return answer
		}
	}
}

// Cut closes the connection without an answer.
func Cut() Responder {
	return func(context.Context, *http.Request, func() *Answer) *Answer { return nil }
}

// Pause sends the true answer up to n bytes of its body, and the rest when release is closed.
func Pause(n int, release <-chan struct{}) Responder {
	return func(_ context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		answer.Pause, answer.PauseAfter = release, n
		return answer
	}
}

// Reset sends the true answer up to n bytes of its body, then resets the connection (RST). Where n is negative, nothing is sent before.
func Reset(n int) Responder {
	return func(_ context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		answer.Cut, answer.CutAfter, answer.Reset = true, n, true
		return answer
	}
}

// Truncate sends the true answer up to n bytes of its body, then cuts the connection.
func Truncate(n int) Responder {
	return func(_ context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		answer.Cut, answer.CutAfter = true, n
		return answer
	}
}

// TruncateCleanly sends the true answer up to n bytes of its body and ends it as if that were all: HTTP is whole, the JSON is not.
func TruncateCleanly(n int) Responder {
	return func(_ context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		answer.truncate(n)
		return answer
	}
}

// Edit changes the true answer. Where it changes the status or the length of the body, the alerts in it do not count as served.
func Edit(change func(*Answer)) Responder {
	return func(_ context.Context, _ *http.Request, next func() *Answer) *Answer {
		answer := next()
		change(answer)
		return answer
	}
}

// faults are those that were injected. Of several that match, the first injected acts.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Inject adds a fault. The function that it returns removes it, and may be called more than once.
func (s *Server) Inject(fault Fault) (remove func()) {
	if fault.Times == 0 {
		fault.Times = 1
	}
	if fault.Respond == nil {
		fault.Respond = func(_ context.Context, _ *http.Request, next func() *Answer) *Answer { return next() }
	}
	f := &fault
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, f)
	return func() {
		s.faults.mu.Lock()
		defer s.faults.mu.Unlock()
		s.faults.list = slices.DeleteFunc(s.faults.list, func(other *Fault) bool { return other == f })
	}
}

// take returns the fault that acts on a request, nil where none does, and uses it up by one.
func (f *faults) take(route string, r *http.Request) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.list {
		if fault.Route != "" && fault.Route != route || fault.Match != nil && !fault.Match(r) {
			continue
		}
		if fault.After > 0 {
			fault.After--
			continue
		}
		if fault.Times > 0 {
			if fault.Times--; fault.Times == 0 {
				f.list = slices.Delete(f.list, i, i+1)
			}
		}
		return fault
	}
	return nil
}
