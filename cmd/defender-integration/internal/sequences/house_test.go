package sequences_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server"
	"defender-integration/server/failure"
	"defender-integration/server/stream"
	"defender-integration/store"
)

const (
	integrationID = "contoso"
	journalUID    = "uid-1"
)

// pace is how fast a sequence is played: how long what is called a second takes.
type pace struct {
	unit time.Duration
	// fake says that time is fake: it passes at once, and settled waits until nothing more happens without it.
	fake bool
}

// of returns a number of seconds.
func (p pace) of(seconds int) time.Duration { return time.Duration(seconds) * p.unit }

// settings are the collector's: polls are rarer than those of a service in earnest, so that hours cost little; overlap and spans are
// the same.
func (p pace) settings(retention int) collector.Settings {
	s := collector.DefaultSettings()
	s.FastInterval, s.SlowInterval, s.Overlap = p.of(30), p.of(120), p.of(300)
	s.Rereads = []collector.Reread{{Interval: p.of(300), Span: p.of(2 * 3600)}, {Interval: p.of(3600), Span: p.of(24 * 3600)}}
	s.ClosingInterval, s.ClosingLimit = p.of(30), p.of(300)
	s.DeviceInterval, s.DeviceRefresh = p.of(300), p.of(60)
	s.RetryMin, s.RetryMax, s.RetryPermanent = p.of(1), p.of(60), p.of(60)
	s.RetentionAge, s.TrimInterval = p.of(retention), p.of(60)
	if !p.fake {
		s.Budgets = nil // They are for minutes and hours.
	}
	return s
}

// edge is a gRPC server over connections in memory, which outlives the processes behind it: making one costs more than a sequence.
type edge struct {
	integrationv1.UnimplementedIntegrationServiceServer
	life   atomic.Pointer[life]
	client integrationv1.IntegrationServiceClient
	close  func() error
}

// StreamAlerts streams from the process that lives.
func (e *edge) StreamAlerts(
	request *integrationv1.StreamAlertsRequest, s grpc.ServerStreamingServer[integrationv1.StreamAlertsResponse],
) error {
	l := e.life.Load()
	if l == nil {
		return failure.Draining()
	}
	err := l.streams.Stream(s.Context(), request, s.Send)
	select {
	case <-l.dead:
		// Whatever a process that was killed would say, nobody hears it.
		return failure.Draining()
	default:
		return err
	}
}

func newEdge(t *testing.T) *edge {
	t.Helper()
	e := &edge{}
	listener := bufconn.Listen(1 << 20)
	s, err := server.New(server.Options{
		Service: e, Ready: func(context.Context) error { return nil }, Logger: slog.New(slog.DiscardHandler),
		Registry: prometheus.NewRegistry(), Listener: listener,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	e.client = integrationv1.NewIntegrationServiceClient(conn)
	e.close = func() error {
		err := conn.Close()
		cancel()
		return errors.Join(err, <-served)
	}
	return e
}

// house is the service with its world: what outlives its processes.
type house struct {
	pace      pace
	settings  collector.Settings
	edge      *edge
	microsoft *microsoft
	witness   *witness
	// open opens the store, of which a process has one.
	open func() (store.Store, error)
	// memory is the store of the life in force, where it is one in memory.
	memory *store.Memory

	life *life
}

// life is a process: what is lost when it is killed.
type life struct {
	store   store.Store
	manager *collector.Manager
	streams *stream.Streams
	die     func()
	dead    <-chan struct{} // closed when it was killed
	ended   func() error
}

// start starts a process.
func (h *house) start() error {
	opened, err := h.open()
	if err != nil {
		return err
	}
	h.memory, _ = opened.(*store.Memory)
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{die: cancel, dead: ctx.Done()}
	l.store = &watchedStore{Store: opened, witness: h.witness, life: l}
	log := slog.New(slog.DiscardHandler)
	l.manager = collector.NewManager(collector.Options{
		Settings: h.settings,
		Store:    l.store,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			h.microsoft.mu.Lock()
			defer h.microsoft.mu.Unlock()
			h.microsoft.spend = spend
			return h.microsoft, nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string {
			var keys []string
			for _, k := range match.DeviceKeys(d) {
				keys = append(keys, k.String())
			}
			return keys
		},
		Log: log,
	})
	l.streams = stream.New(ctx, stream.Options{Store: l.store, Collectors: l.manager, Log: log})
	var running sync.WaitGroup
	l.ended = func() error {
		running.Wait()
		l.streams.Wait()
		return opened.Close()
	}
	h.witness.mu.Lock()
	h.witness.life = l
	h.witness.mu.Unlock()
	running.Go(func() { _ = l.manager.Run(ctx) })
	h.life = l
	h.edge.life.Store(l)
	return nil
}

// kill ends the process as a kill does: what it has not written is lost.
func (h *house) kill() error {
	h.edge.life.Store(nil)
	h.witness.kill(h.life)
	return h.life.ended()
}

// register registers the integration.
func (h *house) register() error {
	_, err := h.life.store.CreateRecord(context.Background(), &storev1.Record{
		Format: 1, Uid: journalUID,
		Integration: &integrationv1.Integration{
			IntegrationId:  integrationID,
			TenantId:       "contoso.test",
			Authentication: &integrationv1.Authentication{ClientId: "app"},
			DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES},
			CreateTime:     timestamppb.Now(),
		},
	})
	return err
}

// update changes the integration.
func (h *house) update(change func(*integrationv1.Integration)) error {
	ctx := context.Background()
	// Behind the witness: an operator tries again until it is done.
	inner := h.life.store.(*watchedStore).Store
	record, revision, err := inner.Record(ctx, integrationID)
	if err != nil {
		return err
	}
	record = proto.CloneOf(record)
	change(record.GetIntegration())
	record.Integration.UpdateTime = timestamppb.Now()
	_, err = inner.UpdateRecord(ctx, record, revision)
	return err
}

// onMemory makes each process of a house open a store on the same data in memory.
func onMemory() func() (store.Store, error) {
	var last *store.Memory
	return func() (store.Store, error) {
		if last == nil {
			last = store.NewMemory()
		} else {
			last = last.Peer()
		}
		return last, nil
	}
}

// onEngine makes each process of a house open the real engine in one folder.
func onEngine(dir string) func() (store.Store, error) {
	return func() (store.Store, error) {
		opened, err := store.OpenJetStream(context.Background(), store.Options{Dir: dir, MaxBytes: 1 << 30})
		if err != nil {
			return nil, fmt.Errorf("open the engine: %w", err)
		}
		return opened, nil
	}
}
