package collector_test

import (
	"context"
	"log/slog"
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

// meter is what all calls at Defender for Endpoint have in common: Microsoft's count of them, for one application and tenant.
type meter struct {
	mu    sync.Mutex
	calls []time.Time
	polls map[string][]time.Time // of those, the first of each poll, by integration
}

// call takes a call down, the first of a poll of an integration where poll names one.
func (m *meter) call(poll string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, time.Now())
	if poll != "" {
		m.polls[poll] = append(m.polls[poll], time.Now())
	}
}

// within returns the most calls in any span of a length.
func (m *meter) within(period time.Duration) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	most, first := 0, 0
	for i, at := range m.calls {
		for at.Sub(m.calls[first]) >= period {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// metered is Defender for Endpoint with more pages the deeper a read reaches. Each page is a call of its own.
type metered struct {
	*collectortest.Source
	id    string
	meter *meter
	spend defender.SpendFunc
}

func (m *metered) Alerts() defender.AlertSource        { return m }
func (m *metered) Devices() defender.DeviceSource      { return m }
func (m *metered) Telemetry() defender.TelemetrySource { return nil }

func (m *metered) pages(ctx context.Context, n int, poll string) error {
	for range n {
		if err := m.spend(ctx, defender.LimitEndpoint); err != nil {
			return err
		}
		m.meter.call(poll)
		poll = ""
		time.Sleep(200 * time.Millisecond)
	}
	return nil
}

func (m *metered) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	depth := time.Since(since)
	pages, poll := 1+int(depth/time.Hour), ""
	if depth < 30*time.Minute {
		poll = m.id
	}
	if err := m.pages(ctx, pages, poll); err != nil {
		return defender.Read{}, err
	}
	read, err := m.Source.ReadAlerts(ctx, since, known, yield)
	read.Calls = pages
	return read, err
}

func (m *metered) ReadDevices(ctx context.Context, wanted defender.Wanted, yield func(*integrationv1.Device) error) (defender.Read, error) {
	if err := m.pages(ctx, 4, ""); err != nil {
		return defender.Read{}, err
	}
	return m.Source.ReadDevices(ctx, wanted, yield)
}

// A day of work of two integrations of one application, with streams that come, wait for their closing and go, tests of the links, and
// a crash every 37 minutes, asks for more than Microsoft allows at all times. Yet no minute has more than Microsoft's 100 calls and no
// hour more than 1,500, wherever they begin, and both are polled all day.
func TestADayWithinMicrosoftsLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.FastInterval = 3 * time.Second
		mem := store.NewMemory()
		all := &meter{polls: map[string][]time.Time{}}
		ids := []string{"one", "two"}
		for _, id := range ids {
			if _, err := mem.CreateRecord(t.Context(), &storev1.Record{Format: 1, Uid: "uid-" + id, Integration: &integrationv1.Integration{
				IntegrationId: id, TenantId: "contoso.test", Authentication: &integrationv1.Authentication{ClientId: "app"},
				Api:          integrationv1.Api_API_DEFENDER_FOR_ENDPOINT,
				DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES}, CreateTime: timestamppb.Now(),
			}}); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); {
			ctx, crash := context.WithTimeout(t.Context(), 37*time.Minute)
			manager := collector.NewManager(collector.Options{
				Settings: settings, Store: mem, Log: slog.New(slog.DiscardHandler),
				Connect: func(record *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
					return &metered{Source: &collectortest.Source{}, id: record.GetIntegration().GetIntegrationId(), meter: all, spend: spend}, nil
				},
				DeviceKeys: func(d *integrationv1.Device) []string { return []string{d.GetDeviceDnsName()} },
			})
			var living sync.WaitGroup
			living.Go(func() { _ = manager.Run(ctx) })
			for _, id := range ids {
				living.Go(func() { comeAndGo(ctx, manager, id) })
			}
			living.Go(func() { testLinks(ctx, manager, all) })
			living.Wait()
			crash()
		}
		if n := all.within(time.Minute); n > 100 {
			t.Errorf("%d calls in a minute", n)
		}
		if n := all.within(time.Hour); n > 1500 || n < 1000 {
			t.Errorf("%d calls in an hour, want no more than 1,500, and the allowance used", n)
		}
		for _, id := range ids {
			polls, longest := all.polls[id], time.Duration(0)
			for i, at := range polls[1:] {
				longest = max(longest, at.Sub(polls[i]))
			}
			if longest > 3*time.Minute {
				t.Errorf("%s was not polled for %v", id, longest)
			}
			t.Logf("%s: %d polls, at most %v apart", id, len(polls), longest)
		}
		t.Logf("%d calls in a day; at most %d in a minute and %d in an hour", len(all.calls), all.within(time.Minute), all.within(time.Hour))
	})
}

// comeAndGo is a stream that asks for an Actor and a closing read, again and again.
func comeAndGo(ctx context.Context, manager *collector.Manager, id string) {
	for ctx.Err() == nil {
		c, err := manager.Collector(ctx, id, "uid-"+id)
		if err != nil {
			return
		}
		member, _, err := c.Join(ctx, [][]string{{"ws-one.contoso.test"}})
		if err != nil {
			return
		}
		now := time.Now()
		member.SetReach(now.Add(-3 * time.Hour))
		member.SetClosing(collector.Closing{Since: now.Add(-2 * time.Hour), Due: now.Add(time.Minute)})
		select {
		case <-time.After(5 * time.Minute):
		case <-ctx.Done():
		}
		member.Leave()
	}
}

// testLinks calls as tests of the links do, for the same application.
func testLinks(ctx context.Context, manager *collector.Manager, all *meter) {
	integration := &integrationv1.Integration{TenantId: "contoso.test", Authentication: &integrationv1.Authentication{ClientId: "app"}}
	for ctx.Err() == nil {
		for range 3 {
			if manager.Spender(integration)(ctx, defender.LimitEndpoint) == nil {
				all.call("")
			}
		}
		select {
		case <-time.After(time.Minute):
		case <-ctx.Done():
		}
	}
}
