package observing_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/cmd/defender-integration/internal/app"
	"defender-integration/cmd/defender-integration/internal/tracing"
	"defender-integration/collector"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/store"
)

const (
	tenantID = "11111111-2222-4333-8444-555555555555"
	appID    = "66666666-7777-4888-9999-000000000000"
	// patience bounds what a test waits for. It bounds a failing test, never a passing one.
	patience = time.Minute
	// poll is how often integrations read here.
	poll = 200 * time.Millisecond
)

// house is a simulated Microsoft with one tenant, the service as the command serve runs it, and where its spans go.
type house struct {
	t *testing.T

	microsoft *defendertest.Server
	tenant    *defendertest.Tenant
	service   *app.App
	client    integrationv1.IntegrationServiceClient
	spans     *receiver
	log       notebook
	// secrets are what was planted, and what Microsoft gave out.
	secrets notebook
	stop    func()
}

// notebook keeps what is written to it. It is safe for concurrent use.
type notebook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps what is written.
func (n *notebook) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.text.Write(p)
}

// lines returns what was written, line by line.
func (n *notebook) lines() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Split(strings.TrimSpace(n.text.String()), "\n")
}

// newHouse makes a house. The service logs all levels, serves metrics and profiles, and sends its spans to the receiver.
func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, spans: newReceiver(t)}
	var err error
	// It never asks to be called less often: how many calls the day takes depends on how fast the machine is.
	unlimited := defendertest.Limits{
		GraphAlerts: []defendertest.Rate{}, Hunting: []defendertest.Rate{}, Machines: []defendertest.Rate{}, SIEM: []defendertest.Rate{},
	}
	if h.microsoft, err = defendertest.New(defendertest.Options{TLS: true, Limits: unlimited}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.microsoft.Close(); err != nil {
			t.Error(err)
		}
	})
	h.tenant = h.microsoft.AddTenant(tenantID, "contoso.test")
	for _, device := range defendertest.SampleDevices() {
		device.LastSeen = h.microsoft.Now()
		h.tenant.AddDevice(device)
	}
	h.hear()

	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+h.spans.address)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	logger := slog.New(server.LogHandler(slog.NewJSONHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	running := context.WithoutCancel(t.Context())
	traces, err := tracing.Start(running, "v0.0.0-test", logger)
	if err != nil {
		t.Fatal(err)
	}
	settings := collector.DefaultSettings()
	settings.RetryMin, settings.RetryMax, settings.RetryPermanent = poll, poll, poll
	settings.ClosingInterval, settings.HuntingInterval, settings.DeviceRefresh, settings.DeviceInterval = poll, poll, poll, poll
	settings.Rereads, settings.TrimInterval = []collector.Reread{{Interval: poll, Span: time.Hour}}, poll
	for limit := range settings.Budgets {
		settings.Budgets[limit] = []collector.Allowance{{Period: time.Minute, Calls: 1 << 16}}
	}
	h.service, err = app.Start(running, app.Options{
		Server: server.Options{
			Address: "127.0.0.1:0", MetricsAddress: "127.0.0.1:0", AdminAddress: "127.0.0.1:0", DrainTimeout: time.Second,
		},
		Store: store.Options{Dir: filepath.Join(t.TempDir(), "data")}, Collecting: settings, Version: "v0.0.0-test", Logger: logger,
		AllowEndpoints: []string{net.JoinHostPort(h.microsoft.Host(), strconv.Itoa(h.microsoft.Port()))},
		Traces:         traces.Provider(), Integrations: h.configuration(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(running)
	done := make(chan error, 1)
	go func() { done <- h.service.Run(ctx) }()
	conn, err := grpc.NewClient("passthrough:///"+h.service.Addresses()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	h.client = integrationv1.NewIntegrationServiceClient(conn)
	h.stop = sync.OnceFunc(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := traces.Stop(running); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// configuration returns a folder of integrations that has none.
func (h *house) configuration() string {
	folder := h.t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "none.yaml"), []byte("# none\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return folder
}

// hear puts down each token and assertion that Microsoft is sent, and changes nothing.
func (h *house) hear() {
	h.microsoft.Inject(defendertest.Fault{Times: -1, Respond: defendertest.Cut(), Match: func(r *http.Request) bool {
		_ = r.ParseForm()
		for _, secret := range []string{strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.Form.Get("client_assertion")} {
			if secret != "" {
				_, _ = h.secrets.Write([]byte(secret + "\n"))
			}
		}
		return false
	}})
}

// integration returns the integration of the day, which authenticates with a certificate.
func (h *house) integration() *integrationv1.Integration {
	endpoint := &integrationv1.Endpoint{Host: h.microsoft.Host(), Port: int32(h.microsoft.Port())}
	return &integrationv1.Integration{
		IntegrationId: "contoso", TenantId: tenantID, Endpoint: endpoint,
		Authentication: &integrationv1.Authentication{
			ClientId: appID, AuthorizationUrl: h.microsoft.TokenURL(tenantID),
			Credential: &integrationv1.Authentication_ClientCertificate{
				ClientCertificate: &integrationv1.ClientCertificate{Pem: h.certificate()},
			},
		},
		DeviceSource: &integrationv1.DeviceSource{Endpoint: endpoint},
		Trust:        &integrationv1.Trust{CaPem: string(h.microsoft.CAPEM())},
		Polling:      &integrationv1.Polling{FastInterval: durationpb.New(poll), SlowInterval: durationpb.New(poll)},
	}
}

// certificate registers an application with a certificate, and returns that with its key in PEM.
func (h *house) certificate() string {
	h.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "contoso-defender"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 6, 0),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		h.t.Fatal(err)
	}
	application := h.tenant.AddApplication(appID, "planted~"+rand.Text(), defendertest.RoleSecurityAlertRead,
		defendertest.RoleThreatHuntingRead, defendertest.RoleMachineRead)
	application.AddCertificate(certificate)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	_, _ = h.secrets.Write([]byte(strings.Split(text, "\n")[10] + "\n"))
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})) + text
}

// until waits until something holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
