package collector_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// pageAlerts is how many alerts a page has, and a poll of the benchmark.
const pageAlerts = 1000

// BenchmarkPoll takes a page of alerts of 5.7 KB, read and decoded already, into the journal: one operation is a poll. New ones are
// appended; known ones, which is what most of a poll's overlap brings, are to cost next to nothing.
func BenchmarkPoll(b *testing.B) {
	for _, known := range []bool{false, true} {
		b.Run(fmt.Sprintf("known=%t", known), func(b *testing.B) {
			source := &pages{begun: make(chan struct{}), pages: make(chan []*defender.Element)}
			runCollector(b, source)
			<-source.begun
			page := newPage(0)
			source.pages <- page
			<-source.begun
			b.ReportAllocs()
			polls := 0
			for b.Loop() {
				polls++
				if !known {
					b.StopTimer()
					page = newPage(polls)
					b.StartTimer()
				}
				source.pages <- page
				<-source.begun
			}
			b.ReportMetric(float64(polls)*pageAlerts/b.Elapsed().Seconds(), "alerts/s")
		})
	}
}

// runCollector runs the collector of one integration on a store in memory, which polls without a pause.
func runCollector(b *testing.B, source *pages) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	memory := store.NewMemory()
	_, err := memory.CreateRecord(ctx, &storev1.Record{Format: 1, Uid: "uid", Integration: &integrationv1.Integration{
		IntegrationId: "bench", DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE},
		CreateTime: timestamppb.Now(),
	}})
	if err != nil {
		b.Fatal(err)
	}
	settings := collector.DefaultSettings()
	settings.FastInterval, settings.SlowInterval, settings.Rereads = time.Nanosecond, time.Nanosecond, nil
	manager := collector.NewManager(collector.Options{
		Settings: settings, Store: memory, Log: slog.New(slog.DiscardHandler),
		Connect: func(*storev1.Record, defender.SpendFunc) (collector.Source, error) { return source, nil },
	})
	var running sync.WaitGroup
	running.Go(func() { _ = manager.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		running.Wait()
		_ = memory.Close()
	})
}

// newPage makes the elements of one page, other ones for each number.
func newPage(number int) []*defender.Element {
	at := time.Now()
	elements := make([]*defender.Element, pageAlerts)
	for i := range elements {
		raw := make([]byte, 5700)
		binary.BigEndian.PutUint64(raw, uint64(number*pageAlerts+i))
		id := fmt.Sprintf("alert-%d-%d", number, i)
		elements[i] = &defender.Element{
			Raw: raw, RawHash: sha256.Sum256(raw), ContentHash: sha256.Sum256(raw), Key: id, Updated: at,
			Alert: collectortest.Alert(id, "device", "ws-1.contoso.test", at),
		}
	}
	return elements
}

// pages is a source that serves in each poll the page that the benchmark gives.
type pages struct {
	begun chan struct{} // receives when a poll begins
	pages chan []*defender.Element
}

// Alerts returns the source itself.
func (s *pages) Alerts() defender.AlertSource { return s }

// Devices returns none.
func (s *pages) Devices() defender.DeviceSource      { return nil }
func (s *pages) Telemetry() defender.TelemetrySource { return nil }

// Close does nothing.
func (s *pages) Close() {}

// ReadAlerts serves the page.
func (s *pages) ReadAlerts(
	ctx context.Context, _ time.Time, known defender.KnownFunc, yield func(*defender.Element) error,
) (defender.Read, error) {
	select {
	case s.begun <- struct{}{}:
	case <-ctx.Done():
		return defender.Read{}, ctx.Err()
	}
	select {
	case page := <-s.pages:
		for _, e := range page {
			one := *e
			if _, one.Known = known(one.RawHash); !one.Known {
				one.Alert = proto.CloneOf(one.Alert)
			}
			if err := yield(&one); err != nil {
				return defender.Read{}, err
			}
		}
	case <-ctx.Done():
		return defender.Read{}, ctx.Err()
	}
	return defender.Read{Through: time.Now().Add(-time.Second), Asked: time.Now(), Elements: pageAlerts, Calls: 1}, nil
}
