package stream_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server/stream"
	"defender-integration/store"
)

// fleetLease is how long the leases of a fleet outlive their server.
const fleetLease = 10 * time.Second

// fleet is several servers on one store, in fake time.
type fleet struct {
	t        *testing.T
	store    *store.Memory
	source   *collectortest.Source
	settings collector.Settings
	servers  []*server

	mu    sync.Mutex
	calls []spent
}

// spent is a call that was allowed.
type spent struct {
	at     time.Time
	server int
	limit  defender.Limit
}

// server is one of them.
type server struct {
	number  int
	store   *store.Memory
	gate    gate
	wire    wire
	metrics *prometheus.Registry
	manager *collector.Manager
	streams *stream.Streams
	cancel  context.CancelFunc
	done    chan struct{}
}

// newFleet starts servers in the test's bubble, with so many integrations of an application each.
func newFleet(t *testing.T, servers, integrations int, settings collector.Settings) *fleet {
	t.Helper()
	f := &fleet{t: t, store: store.NewMemory(), source: &collectortest.Source{}, settings: settings}
	for i := range integrations {
		f.register(i)
	}
	for range servers {
		f.start()
	}
	return f
}

// named returns the id of an integration of the fleet; the first is that of the requests of other tests.
func named(i int) string {
	if i == 0 {
		return integrationID
	}
	return fmt.Sprintf("%s-%d", integrationID, i)
}

func (f *fleet) register(i int) {
	f.t.Helper()
	_, err := f.store.CreateRecord(f.t.Context(), &storev1.Record{
		Format: 1, Uid: fmt.Sprintf("uid-%d", i),
		Integration: &integrationv1.Integration{
			IntegrationId:  named(i),
			TenantId:       "contoso.test",
			Authentication: &integrationv1.Authentication{ClientId: fmt.Sprintf("app-%d", i)},
			DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES},
			CreateTime:     timestamppb.Now(),
		},
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// start starts another server.
func (f *fleet) start() *server {
	s := &server{number: len(f.servers), store: f.store.Peer(), metrics: prometheus.NewRegistry(), done: make(chan struct{})}
	f.servers = append(f.servers, s)
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.manager = collector.NewManager(collector.Options{
		Settings: f.settings,
		Store:    &gated{s.store, &s.gate, &s.wire},
		Lease:    fleetLease,
		Metrics:  s.metrics,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			return f.source.Connect(func(ctx context.Context, limit defender.Limit) error {
				err := spend(ctx, limit)
				if err == nil {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.calls = append(f.calls, spent{time.Now(), s.number, limit})
				}
				return err
			}), nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string {
			var keys []string
			for _, k := range match.DeviceKeys(d) {
				keys = append(keys, k.String())
			}
			return keys
		},
		Log: slog.New(slog.DiscardHandler),
	})
	s.streams = stream.New(ctx, stream.Options{Store: s.store, Collectors: s.manager, Log: slog.New(slog.DiscardHandler)})
	go func() {
		defer close(s.done)
		_ = s.manager.Run(ctx)
		s.streams.Wait()
	}()
	return s
}

// wishes counts the wishes that were taken in.
func (f *fleet) wishes() int {
	total := 0
	for _, s := range f.servers {
		total += s.count("defender_integration_wishes")
	}
	return total
}

// count returns what a metric of a server has come to, over all integrations.
func (s *server) count(name string) int {
	families, err := s.metrics.Gather()
	if err != nil {
		panic(err)
	}
	total := 0.0
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name {
				total += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
			}
		}
	}
	return int(total)
}

// gate is a place where a server can be held, as one is that is stopped right before it appends.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil while it is open
}

// close makes whoever comes wait.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = make(chan struct{})
}

// open lets everybody through.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.closed)
	g.closed = nil
}

func (g *gate) pass() {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		<-closed
	}
}

// gated is a store whose journals are appended to through a gate, and whose notes over a wire.
type gated struct {
	*store.Memory

	gate *gate
	wire *wire
}

func (g *gated) Journal(ctx context.Context, uid string) (store.Journal, error) {
	journal, err := g.Memory.Journal(ctx, uid)
	if err != nil {
		return nil, err
	}
	return &gatedJournal{journal, g.gate}, nil
}

type gatedJournal struct {
	store.Journal

	gate *gate
}

func (j *gatedJournal) Append(ctx context.Context, entries []*storev1.Entry) (uint64, error) {
	j.gate.pass()
	return j.Journal.Append(ctx, entries)
}

// stop ends a server in order.
func (s *server) stop() {
	s.cancel()
	<-s.done
}

// kill ends a server as a kill does: it tells nobody.
func (s *server) kill() {
	s.store.SetUnavailable(true)
	s.stop()
}

// close ends the fleet.
func (f *fleet) close() {
	for _, s := range f.servers {
		s.stop()
	}
}

// open opens a stream at a server.
func (s *server) open(request *integrationv1.StreamAlertsRequest) *call {
	return (&house{streams: s.streams}).open(request)
}

// holder returns who collects an integration, as the lease says and the server itself; nil where nobody does.
func (f *fleet) holder(i int) *server {
	f.t.Helper()
	var holder *server
	for _, s := range f.servers {
		select {
		case <-s.done:
			continue
		default:
		}
		c, err := s.manager.Collector(f.t.Context(), named(i), fmt.Sprintf("uid-%d", i))
		if err != nil {
			f.t.Fatal(err)
		}
		if !c.Collects() {
			continue
		}
		if holder != nil {
			f.t.Fatalf("%s is collected by the servers %d and %d", named(i), holder.number, s.number)
		}
		holder = s
	}
	return holder
}

// other returns a server that runs and does not collect an integration.
func (f *fleet) other(i int) *server {
	f.t.Helper()
	holder := f.holder(i)
	for _, s := range f.servers {
		select {
		case <-s.done:
		default:
			if s != holder {
				return s
			}
		}
	}
	f.t.Fatal("there is no other server")
	return nil
}

// shares returns how many integrations each server collects.
func (f *fleet) shares(integrations int) []int {
	shares := make([]int, len(f.servers))
	for i := range integrations {
		if holder := f.holder(i); holder != nil {
			shares[holder.number]++
		}
	}
	return shares
}

// most returns how many calls of a limit were made in any span of so long, at the most.
func (f *fleet) most(limit defender.Limit, span time.Duration) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var at []time.Time
	for _, call := range f.calls {
		if call.limit == limit {
			at = append(at, call.at)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	most, from := 0, 0
	for i := range at {
		for at[i].Sub(at[from]) >= span {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// pause lets time pass, and what is to happen in it.
func pause(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
