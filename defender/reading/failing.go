package reading

import (
	"slices"
	"sync"
	"time"
)

const (
	// remembered is for how long it is remembered what Microsoft fails on. After that it is isolated anew, from what is there by then.
	remembered = 10 * time.Minute
	// maxRemembered is how many ranges are remembered: those of reads from several times on.
	maxRemembered = 2 * maxRanges
)

// Range is a span of last updates. Its start belongs to it, its end does not.
type Range struct {
	Start, End time.Time
}

// Parts returns a range in halves; as a whole where it is fine.
func (r Range) Parts(fine time.Duration) []Range {
	length := r.End.Sub(r.Start)
	if length <= fine {
		return []Range{r}
	}
	middle := r.Start.Add(length / 2).Truncate(Tick)
	return []Range{{r.Start, middle}, {middle, r.End}}
}

// Failing remembers for a while in which ranges Microsoft fails on some of the alerts, however few are asked for, so that the next read
// need not find them again. The zero value is ready for use, also by several at once.
type Failing struct {
	mu     sync.Mutex
	ranges []failingRange // in order, none of which meets another
}

// failingRange is a range with when it is forgotten.
type failingRange struct {
	Range

	until time.Time
}

// Since returns what is remembered at a time now of the range that begins at since, in order.
func (f *Failing) Since(since, now time.Time) []Range {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ranges []Range
	for _, r := range f.ranges {
		if r.until.After(now) && r.End.After(since) {
			ranges = append(ranges, Range{laterOf(r.Start, since), r.End})
		}
	}
	return ranges
}

// Learn takes in what a read found out at a time now: that what begins at since fails in the missing ranges, which are in order, and
// nowhere else before through; a zero through is no end. What fails was found when the remembered range was that it is in.
func (f *Failing) Learn(since, through time.Time, missing []Range, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var learned []failingRange
	for _, m := range missing {
		until := now.Add(remembered)
		for _, r := range f.ranges {
			if r.until.After(now) && r.until.Before(until) && r.Start.Before(m.End) && r.End.After(m.Start) {
				until = r.until
			}
		}
		learned = append(learned, failingRange{m, until})
	}
	for _, r := range f.ranges {
		if !r.until.After(now) {
			continue
		}
		if before := (Range{r.Start, earlierOf(r.End, since)}); before.Start.Before(before.End) {
			learned = append(learned, failingRange{before, r.until})
		}
		if after := (Range{laterOf(r.Start, through), r.End}); !through.IsZero() && after.Start.Before(after.End) {
			learned = append(learned, failingRange{after, r.until})
		}
	}
	slices.SortFunc(learned, func(a, b failingRange) int { return a.Start.Compare(b.Start) })
	f.ranges = learned[max(0, len(learned)-maxRemembered):]
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlierOf(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
