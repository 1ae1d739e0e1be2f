package stream

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector/collectortest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// BenchmarkDispatch takes an entry that concerns one stream to that stream, among others that it does not concern: the cost is
// not to depend on how many there are. One operation is indexing the entry, and finding it for the stream that was woken.
func BenchmarkDispatch(b *testing.B) {
	for _, streams := range []int{1, 100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			f := benchmarkFeed(b)
			all := make([]*subscriber, streams)
			for i := range all {
				all[i] = subscribed(f, deviceID(i))
			}
			one := all[streams/2]
			entry := revisionEntry(deviceID(streams / 2))
			b.ReportAllocs()
			for b.Loop() {
				position := f.last
				f.add(store.Positioned{Sequence: position + 1, Entry: entry})
				select {
				case <-one.wake:
				default:
					b.Fatal("the stream was not woken")
				}
				if sequences, _ := f.next(one, position); len(sequences) != 1 {
					b.Fatalf("%d entries concern the stream", len(sequences))
				}
			}
			for i, s := range all {
				if s != one && len(s.wake) > 0 {
					b.Fatalf("stream %d was woken", i)
				}
			}
		})
	}
}

func benchmarkFeed(b testing.TB) *feed {
	b.Helper()
	memory := store.NewMemory()
	b.Cleanup(func() { _ = memory.Close() })
	journal, err := memory.Journal(b.Context(), "uid")
	if err != nil {
		b.Fatal(err)
	}
	f := newFeed(journal)
	f.first = 1
	return f
}

// subscribed subscribes a stream for one device.
func subscribed(f *feed, id string) *subscriber {
	s := &subscriber{wake: make(chan struct{}, 1), keys: map[match.Key]struct{}{}, alerts: map[string]struct{}{}}
	f.subscribe(s)
	for _, key := range match.ActorKeys(&integrationv1.Actor{ActorId: id, MdeDeviceId: id}) {
		f.listen(s, key, "")
	}
	return s
}

func deviceID(i int) string { return fmt.Sprintf("%040x", i+1) }

func revisionEntry(id string) *storev1.Entry {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &storev1.Entry{Body: &storev1.Entry_Revision{Revision: &storev1.Revision{
		Key: "alert", UpdatedTime: timestamppb.New(at),
		Alert: collectortest.Alert("alert", id, "ws-1.contoso.test", at),
	}}}
}
