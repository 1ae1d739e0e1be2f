package collector_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// timed is a source that notes when it is read.
type timed struct {
	*collectortest.Source

	mu  sync.Mutex
	all []time.Time
}

func (s *timed) Alerts() defender.AlertSource { return s }

func (s *timed) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	s.mu.Lock()
	s.all = append(s.all, time.Now())
	s.mu.Unlock()
	return s.Source.ReadAlerts(ctx, since, known, yield)
}

// since returns when it was read since a time.
func (s *timed) since(began time.Time) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(at time.Time) bool { return at.Before(began) })
}

// Integrations begin together when the service starts, and a stream comes to all of them at one time. They poll at once each time, and soon
// each at another time within the interval: no more often than twice in it, never later than a tenth after it, and from then on exactly
// once in it.
func TestIntegrationsDoNotPollTogetherForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 100
		settings := collector.DefaultSettings()
		settings.Rereads = nil
		memory := store.NewMemory()
		sources := map[string]*timed{}
		for i := range count {
			id := fmt.Sprint("tenant-", i)
			sources[id] = &timed{Source: &collectortest.Source{}}
			if _, err := memory.CreateRecord(t.Context(), &storev1.Record{Format: 1, Uid: "uid-" + id, Integration: &integrationv1.Integration{
				IntegrationId: id, TenantId: id, Authentication: &integrationv1.Authentication{ClientId: "app"}, CreateTime: timestamppb.Now(),
			}}); err != nil {
				t.Fatal(err)
			}
		}
		manager := collector.NewManager(collector.Options{
			Settings: settings, Store: memory, Log: slog.New(slog.DiscardHandler),
			Connect: func(record *storev1.Record, _ defender.SpendFunc) (collector.Source, error) {
				return sources[record.GetIntegration().GetIntegrationId()], nil
			},
			DeviceKeys: func(d *integrationv1.Device) []string { return []string{d.GetDeviceDnsName()} },
		})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = manager.Run(ctx) })
		defer running.Wait()
		defer stop()

		wantSpread(t, sources, settings.SlowInterval, 0)
		for id := range sources {
			c, err := manager.Collector(t.Context(), id, "uid-"+id)
			if err != nil {
				t.Fatal(err)
			}
			m, _, err := c.Join(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Leave()
		}
		wantSpread(t, sources, settings.FastInterval, settings.FastInterval)
	})
}

// wantSpread lets ten intervals pass, and wants each of the sources to be read by then at a time of its own, after at most latest from now.
func wantSpread(t *testing.T, sources map[string]*timed, interval, latest time.Duration) {
	t.Helper()
	began := time.Now()
	time.Sleep(10*interval + interval/2)
	tenths := map[time.Duration]int{}
	for id, source := range sources {
		reads := source.since(began)
		if len(reads) < 10 || len(reads) > 12 {
			t.Fatalf("%s was read %d times in ten and a half intervals", id, len(reads))
		}
		if wait := reads[0].Sub(began); wait > latest {
			t.Errorf("%s was first read after %s, want %s", id, wait, latest)
		}
		for i := 1; i < len(reads); i++ {
			if gap := reads[i].Sub(reads[i-1]); gap < interval/10 || gap > interval+interval/10 || i > 2 && gap != interval {
				t.Errorf("%s: the read %d came %s after the one before, and the interval is %s", id, i, gap, interval)
			}
		}
		tenths[time.Duration(reads[len(reads)-1].UnixNano())%interval*10/interval]++
	}
	for tenth := range time.Duration(10) {
		if n := tenths[tenth]; n < len(sources)/40 || n > len(sources)/4 {
			t.Errorf("in the tenth %d of the interval %d of %d integrations are read", tenth, n, len(sources))
		}
	}
}
