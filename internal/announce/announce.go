//go:build !announce

// Package announce names the points at which a process may be killed in a test. In an ordinary build a point does nothing and
// costs nothing; in one with the tag `announce` it tells its parent, and waits until it may go on.
package announce

// The points.
const (
	Poll       = "poll"
	Append     = "append"
	Checkpoint = "checkpoint"
	Send       = "send"
)

// Point does nothing in this build.
func Point(string) {}
