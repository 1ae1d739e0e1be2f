package collector_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"defender-integration/collector"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/store"
)

// weighing is a store that knows how many bytes were appended at once at most.
type weighing struct {
	store.Store
	most atomic.Int64
}

func (w *weighing) Journal(ctx context.Context, uid string) (store.Journal, error) {
	journal, err := w.Store.Journal(ctx, uid)
	return weighed{journal, w}, err
}

// weighed is a journal of such a store.
type weighed struct {
	store.Journal
	store *weighing
}

func (j weighed) Append(ctx context.Context, entries []*storev1.Entry) (uint64, error) {
	size := int64(0)
	for _, entry := range entries {
		size += int64(proto.Size(entry))
	}
	j.store.most.Store(max(j.store.most.Load(), size))
	return j.Journal.Append(ctx, entries)
}

// What waits to be appended is bounded by its bytes, also where alerts are so large that they go without what Microsoft served.
func TestLargeAlertsAreAppendedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		weighing := &weighing{Store: b.store}
		b.startOn(collector.DefaultSettings(), b.source, weighing)
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		const alerts, size = 30, 700 << 10 // with its raw bytes more than an entry may have
		for i := range alerts {
			alert := titled(fmt.Sprint(i), "large", time.Now())
			alert.Description = strings.Repeat("x", size)
			b.source.Put(alert, time.Now())
		}
		time.Sleep(5 * time.Minute)
		if got := len(b.revisions()); got != alerts {
			t.Fatalf("%d revisions, want %d", got, alerts)
		}
		for _, p := range b.entries() {
			if rev := p.Entry.GetRevision(); rev != nil && !rev.GetOmission().GetRawOmitted() {
				t.Fatalf("revision %s has its raw bytes, and is not large", rev.GetKey())
			}
		}
		if most := weighing.most.Load(); most > 8<<20 {
			t.Errorf("%d bytes were appended at once", most)
		}
	})
}
