package judgement_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server"
	"defender-integration/server/stream"
	"defender-integration/store"
)

// house is the service in fake time: all of it but the engine, whose clock stands still there, and the adapters, whose sockets cannot
// be used. It has one integration for each case that is played.
type house struct {
	client integrationv1.IntegrationServiceClient

	mu      sync.Mutex
	sources map[string]*source // by integration

	stop func() error
}

// pollInterval is how long an alert may wait for the next poll.
const pollInterval = 5 * time.Minute

// settings are the collector's: polls are rarer than those of a service in earnest, so that hours cost little.
func settings() collector.Settings {
	s := collector.DefaultSettings()
	s.FastInterval, s.SlowInterval = pollInterval, pollInterval
	s.Budgets = nil // All integrations are those of one application.
	return s
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{sources: map[string]*source{}}
	memory := store.NewMemory()
	sealer, err := store.OpenSealer(filepath.Join(t.TempDir(), "key"), true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.DiscardHandler)
	manager := collector.NewManager(collector.Options{
		Settings: settings(), Store: memory, Connect: h.connect, Log: log, Wanted: wanted,
		DeviceKeys: func(d *integrationv1.Device) []string {
			var keys []string
			for _, key := range match.DeviceKeys(d) {
				keys = append(keys, key.String())
			}
			return keys
		},
	})
	streams := stream.New(ctx, stream.Options{Store: memory, Collectors: manager, Log: log})
	service, err := server.NewService(server.ServiceOptions{
		Records: memory, Sealer: sealer, Collectors: manager, Streams: streams, Logger: log,
		Test: func(context.Context, *integrationv1.Integration, *storev1.Secrets) *integrationv1.ConnectivityTest {
			return nil
		},
		Rules: server.Rules{
			Check:         func(*integrationv1.Integration, *storev1.Secrets) error { return nil },
			CheckFile:     func(string) error { return nil },
			CheckVariable: func(string) error { return nil },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	edge, err := server.New(server.Options{
		Service: service, Ready: memory.Ready, Logger: log, Registry: prometheus.NewRegistry(), Listener: listener,
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	h.client = integrationv1.NewIntegrationServiceClient(conn)
	serving, drain := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- edge.Serve(serving) }()
	var running sync.WaitGroup
	running.Go(func() { _ = manager.Run(ctx) })
	h.stop = func() error {
		err := conn.Close()
		drain()
		err = errors.Join(err, <-served)
		cancel()
		running.Wait()
		streams.Wait()
		return errors.Join(err, memory.Close())
	}
	return h
}

// connect makes the adapter of an integration: what plays its case.
func (h *house) connect(record *storev1.Record, _ defender.SpendFunc) (collector.Source, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sources[record.GetIntegration().GetIntegrationId()]
	if s == nil {
		return nil, fmt.Errorf("no case is played for %q", record.GetIntegration().GetIntegrationId())
	}
	return s, nil
}

// register registers the integration of a case.
func (h *house) register(ctx context.Context, id string, api integrationv1.Api, kind integrationv1.DeviceSource_Kind, s *source) error {
	h.mu.Lock()
	h.sources[id] = s
	h.mu.Unlock()
	_, err := h.client.RegisterIntegration(ctx, &integrationv1.RegisterIntegrationRequest{Integration: &integrationv1.Integration{
		IntegrationId: id, TenantId: tenantID, Api: api, DeviceSource: &integrationv1.DeviceSource{Kind: kind},
		Authentication: &integrationv1.Authentication{
			ClientId:   appID,
			Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: secret}},
		},
	}})
	return err
}
