package server

import (
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that is to be closed waits for its calls, not for ever, and then for their callers to read how they ended; calls that come
// meanwhile do not keep it.
func TestWhenAConnectionIsClosed(t *testing.T) {
	const limit = 15 * time.Second
	tests := map[string]struct {
		// calls are under way when it is to be closed, and end after so long each.
		calls []time.Duration
		want  time.Duration
	}{
		"no call":               {nil, readingTime},
		"a call":                {[]time.Duration{10 * time.Second}, 10*time.Second + readingTime},
		"two calls":             {[]time.Duration{time.Second, 3 * time.Second}, 3*time.Second + readingTime},
		"a call that goes on":   {[]time.Duration{time.Hour}, limit},
		"a call that ends late": {[]time.Duration{limit - readingTime/2}, limit},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own, other := net.Pipe()
				conn := &connection{Conn: own, raw: own, home: newConnections()}
				began := time.Now()
				for _, lasts := range test.calls {
					time.AfterFunc(lasts, conn.underWay())
				}
				if !conn.expel(limit) || conn.expel(limit) {
					t.Error("it is not to be closed once")
				}
				// Others call all the time, and are refused at once.
				var over atomic.Bool
				var call func()
				call = func() {
					conn.underWay()()
					if !over.Load() {
						time.AfterFunc(readingTime/4, call)
					}
				}
				call()
				_, err := other.Read(make([]byte, 1))
				if took := time.Since(began); err == nil || took != test.want {
					t.Errorf("it was closed after %s with %v, want %s", took, err, test.want)
				}
				over.Store(true)
			})
		})
	}
}
