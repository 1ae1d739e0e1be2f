package collector

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"defender-integration/internal/announce"
)

const tick = 100 * time.Nanosecond

// trim drops the front of the journal that is older than it is to be kept, or beyond its size. The floor moves just past the
// newest last update in what is dropped, so that nothing of it can enter again.
func (c *Collector) trim(ctx context.Context) error {
	now := time.Now()
	c.plan.trim = now.Add(c.settings.TrimInterval)
	stats, err := c.journal.Stats(ctx)
	if err != nil {
		return &storeError{err}
	}
	c.measured(stats)
	drop := c.outlived(now)
	if stats.Bytes > c.settings.RetentionBytes && stats.Last >= stats.First {
		// A tenth more than must go, so that not every append trims.
		surplus := stats.Bytes - c.settings.RetentionBytes + c.settings.RetentionBytes/10
		share := float64(surplus) / float64(stats.Bytes) * float64(stats.Last-stats.First+1)
		drop = max(drop, min(int(share)+1, len(c.index.entries)))
	}
	if drop == 0 {
		return nil
	}
	before := c.index.entries[drop-1].sequence + 1
	// It moves a tick at least (100 ns, the least that Microsoft tells times apart by): readers learn of a trimming by it.
	floor := c.checkpoint.GetFloorTime().AsTime().Add(tick)
	for _, e := range c.index.entries[:drop] {
		if e.key == "" {
			continue
		}
		past := time.Unix(0, e.updated).Add(tick)
		if past.After(now) {
			// Never past now: what is updated from now on is admitted whatever a broken clock wrote.
			past = now
		}
		floor = laterOf(floor, past)
	}
	return c.locked(ctx, func(ctx context.Context) error {
		c.repeatFacts(before)
		if err := c.flush(ctx); err != nil {
			return err
		}
		announce.Point(announce.Trim)
		c.checkpoint.FloorTime = stampOf(floor)
		if err := c.journal.Trim(c.writing(ctx), before, floor); err != nil {
			return c.failedWrite(err)
		}
		c.index.trim(before)
		c.log.InfoContext(ctx, "journal trimmed", "first_sequence", before, "floor", floor)
		return nil
	})
}

// outlived counts the entries at the front that are older than they are to be kept.
func (c *Collector) outlived(now time.Time) int {
	oldest := now.Add(-c.settings.RetentionAge)
	n, _ := slices.BinarySearchFunc(c.index.entries, oldest, func(e indexed, t time.Time) int { return cmp.Compare(e.made, t.UnixNano()) })
	return n
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
