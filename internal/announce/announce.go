//go:build !announce

// Package announce names the points at which a process may be killed in a test. In an ordinary build a point does nothing and
// costs nothing; in one with the tag `announce` it tells its parent, and waits until it may go on.
package announce

// The points: before what they are named after.
const (
	// Start is when the service listens, and no collector has begun.
	Start = "start"
	// Recovered is when a journal was recovered, and is about to be read.
	Recovered = "recovered"
	Poll      = "poll"
	Append    = "append"
	// Checkpoint is when entries were appended, and the checkpoint behind them is about to be saved.
	Checkpoint = "checkpoint"
	Send       = "send"
	// Trim is when the facts that are still in force were repeated, and the checkpoint with the new floor is about to be saved.
	Trim = "trim"
	// Purge is when that checkpoint was saved, or found at start, and the entries before it are about to be dropped.
	Purge = "purge"
	// Key is when other sealing keys are about to be put into the key file, Reseal when secrets that another key sealed are.
	Key    = "key"
	Reseal = "reseal"
)

// Point does nothing in this build.
func Point(string) {}
