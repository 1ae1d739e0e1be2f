package sequences_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// op is a kind of step.
type op string

// The kinds of steps. What each does, and what its numbers mean, is in play_test.go.
const (
	opAppear      op = "an alert appears"
	opChange      op = "an alert changes"
	opAgain       op = "an alert is shown in an earlier version"
	opDevice      op = "a device appears, or comes back"
	opRename      op = "a device is renamed"
	opMerge       op = "a device is merged into another"
	opGone        op = "a device is gone"
	opIll         op = "a device falls ill, or recovers"
	opFail        op = "Microsoft fails"
	opThrottle    op = "Microsoft throttles"
	opFailDevices op = "Microsoft fails to tell devices"
	opBreak       op = "the next read breaks off"
	opSlow        op = "the next read takes a pause"
	opAppend      op = "the next append fails"
	opCheckpoint  op = "the next checkpoint fails"
	opTrim        op = "the next trimming fails"
	opUnavailable op = "the store is unavailable"
	opKill        op = "the process is killed"
	opKillWriting op = "the process is killed while it writes"
	opOpen        op = "a stream is opened"
	opCut         op = "a stream is cut"
	opCutAfter    op = "a stream is cut after a few more events"
	opResume      op = "a stream is resumed"
	opPause       op = "the integration is paused, or resumed"
	opUpdate      op = "the integration is updated"
	opDamage      op = "the journal is damaged"
	opPass        op = "time passes"
	opHours       op = "hours pass"
)

// step is one step. Its numbers are chosen with it, and mean something for each kind; so a step does the same, or the like, when
// others are left out.
type step struct {
	op op
	n  [5]uint32
}

func (s step) String() string { return fmt.Sprintf("{%q, %v}", s.op, s.n) }

// of returns the i-th number as one below a bound.
func (s step) of(i, bound int) int { return int(s.n[i] % uint32(bound)) }

// pick returns one of the values, by the i-th number.
func (s step) pick(i int, values ...int) int { return values[s.of(i, len(values))] }

// weights are how often each kind comes.
var weights = []struct {
	op     op
	weight int
}{
	{opAppear, 14},
	{opChange, 12},
	{opAgain, 5},
	{opDevice, 4},
	{opRename, 4},
	{opMerge, 2},
	{opGone, 3},
	{opIll, 1},
	{opFail, 2},
	{opThrottle, 2},
	{opFailDevices, 2},
	{opBreak, 3},
	{opSlow, 3},
	{opAppend, 3},
	{opCheckpoint, 2},
	{opTrim, 1},
	{opUnavailable, 2},
	{opKill, 3},
	{opKillWriting, 3},
	{opOpen, 9},
	{opCut, 4},
	{opCutAfter, 3},
	{opResume, 7},
	{opPause, 1},
	{opUpdate, 1},
	{opDamage, 1},
	{opHours, 1},
}

// script is a sequence: its steps, and what holds through all of it.
type script struct {
	seed uint64
	// retention is how long the journal keeps entries, in seconds; skew is how far Microsoft's clock is ahead.
	retention, skew int
	steps           []step
}

// newScript makes the sequence of a seed. One for real time has no hours in it, and damages nothing, since that is done to files.
func newScript(seed uint64, fake bool) script {
	rng := rand.New(rand.NewPCG(seed, 0))
	month := 30 * 24 * 3600
	s := script{seed: seed, retention: month, skew: []int{0, 0, 0, -40, 40}[rng.IntN(5)]}
	if rng.IntN(3) == 0 {
		s.retention = []int{600, 3600, 3 * 3600}[rng.IntN(3)]
	}
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	draw := func() op {
		n := rng.IntN(total)
		for _, w := range weights {
			if n -= w.weight; n < 0 {
				return w.op
			}
		}
		return opPass
	}
	numbers := func() (n [5]uint32) {
		for i := range n {
			n[i] = rng.Uint32()
		}
		return n
	}
	s.steps = append(s.steps, step{opOpen, [5]uint32{}})
	for range 15 + rng.IntN(40) {
		next := draw()
		if !fake && next == opDamage {
			continue
		}
		s.steps = append(s.steps, step{next, numbers()})
		if rng.IntN(5) < 3 {
			s.steps = append(s.steps, step{opPass, numbers()})
		}
	}
	return s
}

// without returns the script but for the steps from one through before another.
func (s script) without(from, to int) script {
	s.steps = slices.Concat(s.steps[:from], s.steps[to:])
	return s
}
