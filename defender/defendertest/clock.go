package defendertest

import (
	"sync"
	"time"
)

// Clock tells the time.
type Clock interface {
	// Now returns the time.
	Now() time.Time
}

// systemClock is this machine's.
type systemClock struct{}

// Now returns this machine's time.
func (systemClock) Now() time.Time { return time.Now() }

// movableClock is Microsoft's clock: another one, and an offset to it.
type movableClock struct {
	base Clock

	mu     sync.Mutex
	offset time.Duration
}

// Now returns the time in UTC.
func (c *movableClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.base.Now().Add(c.offset).UTC()
}

func (c *movableClock) set(offset time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset = offset
}

func (c *movableClock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += by
}

// tick is the finest step of time that Microsoft writes: 100 nanoseconds, seven digits of a second.
const tick = 100 * time.Nanosecond

// ticks drops what is finer than a tick, and the monotonic reading, so that a time equals what is read back from its text.
func ticks(t time.Time) time.Time { return t.UTC().Truncate(tick) }

// formatTime writes a time as Graph and Defender for Endpoint do: UTC, up to seven digits without the trailing zeros.
func formatTime(t time.Time) string { return ticks(t).Format("2006-01-02T15:04:05.9999999Z") }
