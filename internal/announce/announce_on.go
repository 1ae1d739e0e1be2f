//go:build announce

// Package announce names the points at which a process may be killed in a test. In an ordinary build a point does nothing and
// costs nothing; in one with the tag `announce` it tells its parent, and waits until it may go on.
package announce

import (
	"fmt"
	"os"
	"sync"
)

// The points.
const (
	Poll       = "poll"
	Append     = "append"
	Checkpoint = "checkpoint"
	Send       = "send"
)

// The parent passes two pipes: it reads the points from the one and answers each with a byte on the other.
var (
	mu     sync.Mutex
	points = os.NewFile(3, "points")
	answer = os.NewFile(4, "answers")
)

// Point tells the parent that the process is at the point, and waits for its answer. Without a parent that listens it goes on.
func Point(name string) {
	mu.Lock()
	defer mu.Unlock()
	if points == nil || answer == nil {
		return
	}
	if _, err := fmt.Fprintln(points, name); err != nil {
		return
	}
	_, _ = answer.Read(make([]byte, 1))
}
