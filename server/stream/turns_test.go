package stream_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// wire is how slowly notes about integrations are written, and how many at once and in all.
type wire struct {
	takes               time.Duration
	now, most, together atomic.Int64
}

// PutNote takes as long as the wire does.
func (g *gated) PutNote(ctx context.Context, key string, note *storev1.Note, revision uint64, life time.Duration) (uint64, error) {
	if !strings.HasPrefix(key, "wishes.") && !strings.HasPrefix(key, "presents.") {
		return g.Memory.PutNote(ctx, key, note, revision, life)
	}
	g.wire.together.Add(1)
	now := g.wire.now.Add(1)
	defer g.wire.now.Add(-1)
	for most := g.wire.most.Load(); now > most && !g.wire.most.CompareAndSwap(most, now); most = g.wire.most.Load() {
		continue
	}
	time.Sleep(g.wire.takes)
	return g.Memory.PutNote(ctx, key, note, revision, life)
}

// Streams that come together by the hundred, where notes are written slowly, are told in few writes, a few at once: who waits for a turn takes
// along what has come meanwhile.
func TestStreamsThatComeTogetherAreToldTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const integrations, streams = 20, 600
		f := newFleet(t, 2, integrations, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		one := f.servers[0]
		one.wire.takes = 200 * time.Millisecond
		before := one.wire.together.Load()
		var calls []*call
		for i := range streams {
			calls = append(calls, one.open(&integrationv1.StreamAlertsRequest{IntegrationId: named(i % integrations)}))
			time.Sleep(10 * time.Millisecond)
		}
		pause(5 * time.Second)
		if most := one.wire.most.Load(); most > 4 {
			t.Errorf("%d notes were written at once", most)
		}
		if written := one.wire.together.Load() - before; written > streams/2 {
			t.Errorf("%d notes were written for %d streams", written, streams)
		}
		if wishes := f.wishes(); wishes != integrations/2 {
			t.Errorf("%d wishes were taken in, want %d", wishes, integrations/2)
		}
		for _, c := range calls {
			c.close()
		}
	})
}
