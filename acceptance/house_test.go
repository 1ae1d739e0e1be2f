package acceptance_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/acceptance/process"
	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The integration of every house.
const integrationID = "contoso"

// patience bounds what a test waits for. It bounds a failing test, never a passing one.
const patience = 60 * time.Second

// house is a simulated Microsoft and what a service needs to run beside it: a data directory and a unix socket, which stay when
// the service is started again.
type house struct {
	microsoft *defendertest.Server
	tenant    *defendertest.Tenant
	app       *defendertest.Application
	program   string
	dir       string
	socket    string
}

// newHouse makes a house without a service. Microsoft's limits are off: what is tested is what the service does within them.
func newHouse(t *testing.T, program string) *house {
	t.Helper()
	return newHouseBeside(t, program, defendertest.Options{})
}

// newHouseBeside is newHouse with settings of the simulated Microsoft; its limits are off still.
func newHouseBeside(t *testing.T, program string, options defendertest.Options) *house {
	t.Helper()
	options.Limits = defendertest.Limits{GraphAlerts: []defendertest.Rate{}, Machines: []defendertest.Rate{}, Hunting: []defendertest.Rate{}}
	microsoft, err := defendertest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := microsoft.Close(); err != nil {
			t.Error(err)
		}
	})
	// The path of a unix socket may be 107 bytes long, which a test's own folder can pass.
	dir, err := os.MkdirTemp("", "house")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	h := &house{microsoft: microsoft, program: program, dir: dir, socket: filepath.Join(dir, "s")}
	h.tenant = microsoft.AddTenant(defendertest.RunTenantID, "contoso.test")
	h.app = h.tenant.AddApplication(defendertest.RunAppID, defendertest.RunSecret, defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead)
	for _, device := range defendertest.SampleDevices() {
		device.LastSeen = microsoft.Now()
		h.tenant.AddDevice(device)
	}
	return h
}

// serve starts the service on the unix socket. Its own budget is out of the way; flags come after, and win.
func (h *house) serve(t *testing.T, files []*os.File, flags ...string) *process.Process {
	t.Helper()
	args := []string{
		"serve", "--listen", "none", "--unix-socket", h.socket, "--metrics-address", "none", "--data-dir", filepath.Join(h.dir, "data"),
		"--allow-http", "--allow-endpoint", h.origin(),
		"--budget", "graph-alerts=100000/1m", "--budget", "defender-for-endpoint=100000/1m", "--budget", "defender-for-endpoint=100000/1h",
	}
	if authority := h.microsoft.CAPEM(); authority != nil {
		file := filepath.Join(h.dir, "authority.pem")
		if err := os.WriteFile(file, authority, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--trusted-ca-file", file)
	}
	return process.Start(t, process.Command{Path: h.program, Args: append(args, flags...), Files: files})
}

// origin is the simulated Microsoft's host and port.
func (h *house) origin() string {
	return net.JoinHostPort(h.microsoft.Host(), strconv.Itoa(h.microsoft.Port()))
}

// dial makes a connection that comes back soon after the service does.
func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.2, MaxDelay: 100 * time.Millisecond},
		MinConnectTimeout: time.Second,
	}))
}

// connect returns a client over a connection of its own.
func (h *house) connect(t *testing.T) *client.Client {
	t.Helper()
	conn, err := dial(h.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client.New(conn, client.WithWaits(10*time.Millisecond, 100*time.Millisecond))
}

// register registers the tenant, waiting until the service is there.
func (h *house) register(t *testing.T, c *client.Client, devices integrationv1.DeviceSource_Kind) {
	t.Helper()
	h.registerAs(t, c, integrationID, defendertest.RunAppID, devices)
}

// registerAs registers the tenant under an id, to be read as an application of it that has the usual secret.
func (h *house) registerAs(t *testing.T, c *client.Client, id, application string, devices integrationv1.DeviceSource_Kind) {
	t.Helper()
	endpoint := &integrationv1.Endpoint{
		Host: h.microsoft.Host(), Port: int32(h.microsoft.Port()), Protocol: integrationv1.Protocol_PROTOCOL_HTTP,
	}
	if h.microsoft.CAPEM() != nil {
		endpoint.Protocol = integrationv1.Protocol_PROTOCOL_HTTPS
	}
	source := &integrationv1.DeviceSource{Kind: devices}
	if devices != integrationv1.DeviceSource_KIND_NONE {
		source.Endpoint = endpoint
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := c.Service().RegisterIntegration(ctx, &integrationv1.RegisterIntegrationRequest{Integration: &integrationv1.Integration{
		IntegrationId: id, TenantId: defendertest.RunTenantID, Endpoint: endpoint, DeviceSource: source,
		Authentication: &integrationv1.Authentication{
			ClientId:         application,
			Credential:       &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: defendertest.RunSecret}},
			AuthorizationUrl: h.microsoft.TokenURL(defendertest.RunTenantID),
		},
	}}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
}

// calls counts the calls that Microsoft got, by route.
func (h *house) calls() map[string]int {
	counts := map[string]int{}
	for _, call := range h.microsoft.Calls(nil) {
		counts[call.Route]++
	}
	return counts
}

// following asks for everything that happened from a time on, without an end.
func following(from time.Time, actors ...*integrationv1.Actor) *integrationv1.StreamAlertsRequest {
	return &integrationv1.StreamAlertsRequest{
		IntegrationId: integrationID, Actors: actors, IncludeRaw: true, Window: &integrationv1.Window{StartTime: timestamppb.New(from)},
	}
}

// bounded asks for what happened between two times, without waiting for late alerts.
func bounded(from, to time.Time, actors ...*integrationv1.Actor) *integrationv1.StreamAlertsRequest {
	request := following(from, actors...)
	request.Window.EndTime, request.Wait, request.Tolerance = timestamppb.New(to), durationpb.New(0), durationpb.New(0)
	return request
}
