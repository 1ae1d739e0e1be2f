package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"defender-integration/cmd/defender-integration/internal/app"
	"defender-integration/collector"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/store"
)

// A service whose cluster is not there waits for it: alive, not ready, and telling every caller why. When the cluster comes, it serves.
func TestAClusterThatComesLaterIsWaitedFor(t *testing.T) {
	t.Parallel() // Readiness is looked at every few seconds.
	options := waitingOptions(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	started := make(chan error, 1)
	go func() {
		a, err := app.Start(ctx, options)
		if err == nil {
			started <- nil
			err = a.Run(ctx)
		}
		started <- err
	}()
	conn, err := grpc.NewClient("unix://"+options.Server.UnixSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	wantServing(t, conn, server.LivenessService, healthv1.HealthCheckResponse_SERVING)
	wantServing(t, conn, "", healthv1.HealthCheckResponse_NOT_SERVING)
	_, err = integrationv1.NewIntegrationServiceClient(conn).ListIntegrations(t.Context(), &integrationv1.ListIntegrationsRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a call is answered with %v", err)
	}

	dir := t.TempDir()
	nats := startNATS(t, options.Store.URL, dir)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	wantServing(t, conn, "", healthv1.HealthCheckResponse_SERVING)

	// And when it is away later on: not ready, and alive.
	nats.Shutdown()
	nats.WaitForShutdown()
	wantServing(t, conn, "", healthv1.HealthCheckResponse_NOT_SERVING)
	wantServing(t, conn, server.LivenessService, healthv1.HealthCheckResponse_SERVING)
	startNATS(t, options.Store.URL, dir)
	wantServing(t, conn, "", healthv1.HealthCheckResponse_SERVING)
	cancel()
	if err := <-started; err != nil {
		t.Error(err)
	}
}

// One that is told to stop while it waits does.
func TestWaitingForAClusterIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := app.Start(ctx, waitingOptions(t)); err == nil || ctx.Err() == nil {
		t.Errorf("it ended with %v before it was told to", err)
	}
}

// waitingOptions are those of a service on a cluster that is not there.
func waitingOptions(t *testing.T) app.Options {
	t.Helper()
	return app.Options{
		Server:         server.Options{UnixSocket: filepath.Join(t.TempDir(), "s")},
		Store:          store.Options{URL: "nats://" + freeAddress(t), Timeout: 2 * time.Second},
		SealingKeyFile: filepath.Join(t.TempDir(), "sealing.key"),
		Collecting:     collector.DefaultSettings(),
		Version:        "v0.0.0-test",
		Logger:         slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// freeAddress returns an address on this machine that was free a moment ago. It is one of the loopback network's where nobody else listens,
// where the system has more than the usual one: whatever port is taken meanwhile is another's.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// startNATS starts a NATS server at a URL, with its data in dir.
func startNATS(t *testing.T, url, dir string) *natsserver.Server {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", url[len("nats://"):])
	if err != nil {
		t.Fatal(err)
	}
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: address.IP.String(), Port: address.Port, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server did not start")
	}
	return s
}

// wantServing waits until a health service tells this of a service.
func wantServing(t *testing.T, conn *grpc.ClientConn, name string, want healthv1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ; ; time.Sleep(20 * time.Millisecond) {
		got, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: name}, grpc.WaitForReady(true))
		switch {
		case ctx.Err() != nil:
			t.Fatalf("%q: %v, %v, want %s", name, got, err, want)
		case err == nil && got.GetStatus() == want:
			return
		}
	}
}
