package hunting

import (
	"sync"
	"time"
)

const (
	// leastValues is how many values a query asks for at the least, whatever was found too much before: with fewer, the queries of one
	// read would not do for all.
	leastValues = 320
	// remembered is for how long it is remembered what was too much: it may have been Microsoft's bad hour.
	remembered = time.Hour
)

// size is how many values one query asks for: fewer for a while where Microsoft found more too much. The zero value is ready for use,
// also by several at once.
type size struct {
	mu    sync.Mutex
	fewer int
	until time.Time
}

// most returns how many values one query may ask for now.
func (s *size) most(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.until) {
		return s.fewer
	}
	return maxValues
}

// failed takes in that a query for so many values was too much. Of few values it was not their number.
func (s *size) failed(values int, now time.Time) {
	if values <= leastValues {
		return
	}
	fewer := min(max(values/2, leastValues), s.most(now))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fewer, s.until = fewer, now.Add(remembered)
}
