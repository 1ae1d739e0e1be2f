package stream_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/stream"
	"defender-integration/store"
)

// BenchmarkSessions takes an alert from a poll to the one stream that it concerns, among others that are open, each for an Actor
// of its own. One operation is a poll that returns one alert, until its event is sent. The other streams are told of the poll by a
// progress event each, which the contract asks for: how many such events a poll makes of each stream is reported, how much memory
// a stream takes, without gRPC's, and what a poll costs once all are told.
func BenchmarkSessions(b *testing.B) {
	for _, streams := range []int{1, 1000, 10_000} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) { benchmarkSessions(b, streams) })
	}
}

func benchmarkSessions(b *testing.B, streams int) {
	h := newBenchmarkHouse(b)
	before := memoryInUse()
	for i := range streams {
		h.open(i)
	}
	// The first poll tells all streams, so that what is counted afterwards has settled.
	h.alert(0)
	h.settle(b, streams)
	perStream := float64(memoryInUse()-before) / float64(streams)
	told := h.progress.Load()
	polls := 0
	var latency time.Duration
	for b.Loop() {
		latency += h.alert(polls % streams)
		h.settle(b, streams)
		polls++
	}
	b.ReportMetric(float64(latency.Microseconds())/float64(polls), "µs-to-event")
	b.ReportMetric(float64(h.progress.Load()-told)/float64(polls)/float64(streams), "progress/poll/stream")
	b.ReportMetric(perStream, "B/stream")
}

// benchmarkHouse is a service without gRPC and HTTP, whose polls return what the benchmark gives.
type benchmarkHouse struct {
	ctx      context.Context //nolint:containedctx // It is the benchmark's.
	streams  *stream.Streams
	alerts   chan *integrationv1.Alert
	polled   chan struct{} // receives when a poll begins
	sent     chan struct{} // receives when an alert's event was sent
	running  sync.WaitGroup
	progress atomic.Int64
	number   int
}

func newBenchmarkHouse(b *testing.B) *benchmarkHouse {
	ctx, cancel := context.WithCancel(context.Background())
	h := &benchmarkHouse{ctx: ctx, alerts: make(chan *integrationv1.Alert), polled: make(chan struct{}), sent: make(chan struct{})}
	memory := store.NewMemory()
	settings := collector.DefaultSettings()
	settings.FastInterval, settings.SlowInterval, settings.Rereads = time.Nanosecond, time.Nanosecond, nil
	_, err := memory.CreateRecord(ctx, &storev1.Record{Format: 1, Uid: "uid", Integration: &integrationv1.Integration{
		IntegrationId: integrationID, DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE},
		CreateTime: timestamppb.Now(),
	}})
	if err != nil {
		b.Fatal(err)
	}
	manager := collector.NewManager(collector.Options{
		Settings: settings, Store: memory, Log: slog.New(slog.DiscardHandler),
		Connect: func(*storev1.Record, defender.SpendFunc) (collector.Source, error) {
			given := &givenSource{house: h}
			given.TakeDevicesAway()
			return given, nil
		},
	})
	h.streams = stream.New(ctx, stream.Options{Store: memory, Collectors: manager, Log: slog.New(slog.DiscardHandler)})
	h.running.Go(func() { _ = manager.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		h.running.Wait()
		h.streams.Wait()
		_ = memory.Close()
	})
	<-h.polled
	return h
}

// open opens the stream for the device i and returns when it has been told how far collecting is.
func (h *benchmarkHouse) open(i int) {
	began := make(chan struct{})
	var once sync.Once
	h.running.Go(func() {
		_ = h.streams.Stream(h.ctx, &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Reference: "job",
			Actors: []*integrationv1.Actor{{ActorId: "actor", MdeDeviceId: deviceID(i)}},
		}, func(r *integrationv1.StreamAlertsResponse) error {
			switch {
			case r.GetAlert() != nil:
				h.sent <- struct{}{}
			case r.GetProgress() != nil:
				h.progress.Add(1)
				once.Do(func() { close(began) })
			}
			return nil
		})
	})
	<-began
}

// alert lets the poll under way return an alert about the device i, and returns how long it took to be sent.
func (h *benchmarkHouse) alert(i int) time.Duration {
	h.number++
	began := time.Now()
	h.alerts <- collectortest.Alert(fmt.Sprint("alert-", h.number), deviceID(i), "", began)
	<-h.sent
	took := time.Since(began)
	<-h.polled
	return took
}

// settle waits until every stream has been told of the pairs up to now and none is still being told.
func (h *benchmarkHouse) settle(b *testing.B, streams int) {
	b.Helper()
	deadline := time.Now().Add(time.Minute)
	quiet := 0
	for last := h.progress.Load(); quiet < 3; {
		time.Sleep(time.Millisecond)
		now := h.progress.Load()
		if quiet++; now != last {
			last, quiet = now, 0
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d streams are still being told", streams)
		}
	}
}

func deviceID(i int) string { return fmt.Sprintf("%040x", i+1) }

// memoryInUse returns what heap and stacks take after a collection.
func memoryInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// givenSource serves in each poll the one alert that the benchmark gives.
type givenSource struct {
	collectortest.Source
	house *benchmarkHouse
}

// Alerts returns the source itself.
func (s *givenSource) Alerts() defender.AlertSource { return s }

// ReadAlerts waits for the alert.
func (s *givenSource) ReadAlerts(
	ctx context.Context, _ time.Time, _ defender.KnownFunc, yield func(*defender.Element) error,
) (defender.Read, error) {
	select {
	case s.house.polled <- struct{}{}:
	case <-ctx.Done():
		return defender.Read{}, ctx.Err()
	}
	select {
	case alert := <-s.house.alerts:
		raw := []byte(alert.GetId())
		element := &defender.Element{
			Raw: raw, RawHash: sha256.Sum256(raw), ContentHash: sha256.Sum256(raw),
			Key: alert.GetId(), Updated: alert.GetLastUpdateTime().AsTime(), Alert: alert,
		}
		if err := yield(element); err != nil {
			return defender.Read{}, err
		}
	case <-ctx.Done():
		return defender.Read{}, ctx.Err()
	}
	return defender.Read{Through: time.Now().Add(-time.Second), Asked: time.Now(), Elements: 1, Calls: 1}, nil
}
