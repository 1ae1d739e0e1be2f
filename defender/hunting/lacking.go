package hunting

import (
	"sync"
	"time"
)

// lacking remembers for a while which tables the tenant does not have. The zero value is ready for use, also by several at once.
type lacking struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// has says whether a table was found missing lately.
func (l *lacking) has(table string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Before(l.until[table])
}

// add takes in that a table is missing.
func (l *lacking) add(table string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until == nil {
		l.until = map[string]time.Time{}
	}
	l.until[table] = now.Add(remembered)
}
