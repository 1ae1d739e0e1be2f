package collector

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// spendingSource is an adapter that makes one call for each read.
type spendingSource struct{ spend defender.SpendFunc }

func (s *spendingSource) Alerts() defender.AlertSource        { return s }
func (s *spendingSource) Devices() defender.DeviceSource      { return s }
func (s *spendingSource) Telemetry() defender.TelemetrySource { return nil }
func (s *spendingSource) Close()                              {}

func (s *spendingSource) ReadAlerts(ctx context.Context, _ time.Time, _ defender.KnownFunc, _ func(*defender.Element) error) (defender.Read, error) {
	return defender.Read{Through: time.Now(), Asked: time.Now()}, s.spend(ctx, defender.LimitGraphAlerts)
}

func (s *spendingSource) ReadDevices(ctx context.Context, _ defender.Wanted, _ func(*integrationv1.Device) error) (defender.Read, error) {
	return defender.Read{}, s.spend(ctx, defender.LimitEndpoint)
}

// A server that stood still for longer than a lease makes no call by it, and recovers no journal. That is the end of the lease, and nothing that failed at Microsoft.
func TestCallAfterTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Options{
			Settings: DefaultSettings(), Store: store.NewMemory(), Lease: 10 * time.Second, Log: slog.New(slog.DiscardHandler),
			DeviceKeys: func(*integrationv1.Device) []string { return nil },
		})
		m.cluster = newCluster(m)
		m.cluster.until = time.Now().Add(10 * time.Second)
		h := &hold{cluster: m.cluster, idle: make(chan struct{})}
		h.ctx, h.cancel = context.WithCancel(t.Context())
		m.cluster.holds["app"] = h
		c := newCollector(m, &storev1.Record{Integration: &integrationv1.Integration{}, Uid: "uid"})
		c.hold, c.index, c.checkpoint = h, newIndex(), &storev1.Checkpoint{}
		spend := c.spender("app")
		c.source = &spendingSource{spend: spend}
		if err := spend(t.Context(), defender.LimitGraphAlerts); err != nil {
			t.Fatalf("by a lease: %v", err)
		}
		time.Sleep(11 * time.Second) // Nobody renews the server's note.
		if err := spend(t.Context(), defender.LimitGraphAlerts); !errors.Is(err, ErrStopped) || !h.over() {
			t.Errorf("after the lease: %v, and it has ended: %t", err, h.over())
		}
		if pair, err := c.read(t.Context(), integrationv1.Pair_DEPTH_POLL, time.Now().Add(-time.Minute)); pair != nil || err != nil {
			t.Errorf("a read came to %v, %v", pair, err)
		}
		if err := c.lookUp(t.Context()); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if c.collect(ctx); ctx.Err() != nil {
			t.Error("it goes on collecting")
		}
		if now, _ := c.Snapshot(); now.Problem != nil || now.DeviceProblem != nil {
			t.Errorf("told are %v and %v", now.Problem, now.DeviceProblem)
		}
	})
}
