package defendertest

import (
	"slices"
	"sync"
	"time"
)

// Rate is a number of calls in a span of time.
type Rate struct {
	Calls  int
	Period time.Duration
}

// Limits are how many calls each API takes of one application in one tenant. Nil stands for Microsoft's own, an empty list for
// no limit.
type Limits struct {
	// GraphAlerts is 150 a minute (https://learn.microsoft.com/en-us/graph/throttling-limits).
	GraphAlerts []Rate
	// Hunting is 45 a minute, of all applications of the tenant together
	// (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview).
	Hunting []Rate
	// Machines is Defender for Endpoint's: 100 a minute and 1,500 an hour, its lists of machines and of alerts together
	// (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines, and what its refusals say that they count by).
	Machines []Rate
	// SIEM is the alert exporter's. Microsoft documents none, and nil is none.
	SIEM []Rate
}

func (l Limits) withDefaults() Limits {
	if l.GraphAlerts == nil {
		l.GraphAlerts = []Rate{{150, time.Minute}}
	}
	if l.Hunting == nil {
		l.Hunting = []Rate{{45, time.Minute}}
	}
	if l.Machines == nil {
		l.Machines = []Rate{{100, time.Minute}, {1500, time.Hour}}
	}
	return l
}

// SetLimits replaces the limits. What was counted stays counted.
func (s *Server) SetLimits(limits Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Limits = limits.withDefaults()
}

func (s *Server) limits() Limits {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.options.Limits
}

// limitKey is what calls are counted by.
type limitKey struct {
	counter, tenant, app string
}

// limiter counts calls in sliding windows of the server's clock. A call that was refused is not counted.
type limiter struct {
	mu    sync.Mutex
	times map[limitKey][]time.Time // of the calls that were let through, ascending
}

func newLimiter() *limiter { return &limiter{times: map[limitKey][]time.Time{}} }

// take counts a call, or says which rate is used up and how long until a call is free again.
func (l *limiter) take(key limitKey, rates []Rate, now time.Time) (ok bool, spent Rate, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var longest time.Duration
	for _, rate := range rates {
		longest = max(longest, rate.Period)
	}
	// Calls of the future were made before the clock was set back: they are forgotten, or they would bar the key until then.
	times := slices.DeleteFunc(l.times[key], func(t time.Time) bool { return t.After(now) || now.Sub(t) >= longest })
	l.times[key] = times
	for _, rate := range rates {
		if len(times) < rate.Calls {
			continue
		}
		// A call is free when the one that is `Calls` back has left the window.
		left := rate.Period
		if rate.Calls > 0 {
			left = rate.Period - now.Sub(times[len(times)-rate.Calls])
		}
		if left > wait {
			spent, wait = rate, left
		}
	}
	if wait > 0 {
		return false, spent, wait
	}
	if longest > 0 {
		l.times[key] = append(times, now)
	}
	return true, Rate{}, 0
}
