package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is the client secret that the tests register. It must never come out again.
const secret = "s3cr3t-that-nobody-may-see"

// harness is a server in memory, with fakes for what stands below the RPCs.
type harness struct {
	client   integrationv1.IntegrationServiceClient
	health   healthv1.HealthClient
	conn     *grpc.ClientConn
	store    *store.Memory
	streams  *fakeStreams
	statuses *fakeCollectors
	tests    *fakeTest
	log      *logBuffer
	registry *prometheus.Registry
	service  *server.Service
	listener *bufconn.Listener
	// stop ends Serve's context and returns what Serve returned.
	stop func() error
}

type harnessOptions struct {
	allowed []string
	clear   bool
	// configured says that integrations are given as configuration.
	configured bool
	// change changes the server's options, started is given the server.
	change  func(*server.Options)
	started func(*server.Server)
}

func newHarness(t *testing.T, options harnessOptions) *harness {
	t.Helper()
	allowed, err := defender.NewAllowList(options.allowed, options.clear)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{
		store: store.NewMemory(), streams: &fakeStreams{}, statuses: &fakeCollectors{}, tests: &fakeTest{}, log: &logBuffer{},
		registry: prometheus.NewRegistry(), listener: bufconn.Listen(1 << 20),
	}
	// A real sealer: that a secret is sealed is half of what the tests are about.
	sealer, err := store.OpenSealer(filepath.Join(t.TempDir(), "key"), true)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(server.LogHandler(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	service, err := server.NewService(server.ServiceOptions{
		Records: h.store, Sealer: sealer, Collectors: h.statuses, Streams: h.streams, Logger: logger,
		Test: h.tests.test, Version: "v0.0.0-test", Configured: options.configured,
		Rules: server.Rules{Check: checkSettings, CheckFile: checkFile, CheckVariable: checkVariable, Allowed: allowed},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.service = service
	serverOptions := server.Options{
		Service: service, Ready: h.store.Ready, Logger: logger, Registry: h.registry, Listener: h.listener,
	}
	if options.change != nil {
		options.change(&serverOptions)
	}
	s, err := server.New(serverOptions)
	if err != nil {
		t.Fatal(err)
	}
	if options.started != nil {
		options.started(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := errors.Join(h.stop(), h.store.Close()); err != nil {
			t.Error(err)
		}
	})
	h.conn = h.dial(t)
	h.client, h.health = integrationv1.NewIntegrationServiceClient(h.conn), healthv1.NewHealthClient(h.conn)
	return h
}

// dial makes a connection in memory, for the length of the test.
func (h *harness) dial(t *testing.T, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///memory", append(options,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return h.listener.DialContext(ctx) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// register registers an integration.
func (h *harness) register(t *testing.T, integration *integrationv1.Integration) *integrationv1.Integration {
	t.Helper()
	response, err := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: integration})
	if err != nil {
		t.Fatalf("register %s: %v", integration.GetIntegrationId(), err)
	}
	return response.GetIntegration()
}

// contoso returns valid settings.
func contoso(changes ...func(*integrationv1.Integration)) *integrationv1.Integration {
	integration := &integrationv1.Integration{
		IntegrationId: "contoso",
		TenantId:      "contoso.onmicrosoft.com",
		Authentication: &integrationv1.Authentication{
			ClientId:   "11111111-2222-3333-4444-555555555555",
			Credential: clientSecret(secret),
		},
	}
	for _, change := range changes {
		change(integration)
	}
	return integration
}

func clientSecret(value string) *integrationv1.Authentication_ClientSecret {
	return &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: value}}
}

func clientCertificate(pem string) *integrationv1.Authentication_ClientCertificate {
	return &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{Pem: pem}}
}

// wantFailure checks code and reason of a failure and that its words hold each of the texts, and returns its ErrorInfo.
func wantFailure(t *testing.T, err error, code codes.Code, reason integrationv1.ErrorReason, words ...string) *errdetails.ErrorInfo {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		t.Fatalf("code %s (%q), want %s", st.Code(), st.Message(), code)
	}
	info := detail[*errdetails.ErrorInfo](st)
	if info.GetReason() != reason.String() || info.GetDomain() != "defender.integration.v1" {
		t.Fatalf("details %v, want the reason %s", st.Details(), reason)
	}
	for _, word := range words {
		if !strings.Contains(st.Message(), word) {
			t.Errorf("message %q does not say %q", st.Message(), word)
		}
	}
	return info
}

// detail returns the status's detail of a type, the zero value where it has none.
func detail[D any](st *status.Status) D {
	for _, one := range st.Details() {
		if found, ok := one.(D); ok {
			return found
		}
	}
	var none D
	return none
}

// eventually waits until a condition holds that another goroutine brings about, and fails when it takes absurdly long.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 seconds", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// fakeCollectors tells the statuses that a test sets.
type fakeCollectors struct {
	mu       sync.Mutex
	statuses map[string]*integrationv1.IntegrationStatus
}

func (c *fakeCollectors) Status(uid string) *integrationv1.IntegrationStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.statuses[uid]
}

func (c *fakeCollectors) set(uid string, status *integrationv1.IntegrationStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statuses = map[string]*integrationv1.IntegrationStatus{uid: status}
}

// fakeStreams streams what a test says.
type fakeStreams struct {
	run func(context.Context, *integrationv1.StreamAlertsRequest, func(*integrationv1.StreamAlertsResponse) error) error
}

func (s *fakeStreams) Stream(
	ctx context.Context, request *integrationv1.StreamAlertsRequest, send func(*integrationv1.StreamAlertsResponse) error,
) error {
	return s.run(ctx, request, send)
}

// fakeTest keeps what it was called with and returns the result that a test sets.
type fakeTest struct {
	settings *integrationv1.Integration
	secrets  *storev1.Secrets
	result   *integrationv1.ConnectivityTest
	// wait is waited for, where it is set.
	wait func()
}

func (f *fakeTest) test(_ context.Context, settings *integrationv1.Integration, secrets *storev1.Secrets) *integrationv1.ConnectivityTest {
	f.settings, f.secrets = settings, secrets
	if f.wait != nil {
		f.wait()
	}
	if f.result == nil {
		return &integrationv1.ConnectivityTest{}
	}
	return f.result
}

// unusable is a certificate that no connection can be made with.
const unusable = "a certificate without its key"

// worn is the tenant of an integration with which no connection can be made any more.
const worn = "worn.test"

func checkSettings(integration *integrationv1.Integration, secrets *storev1.Secrets) error {
	if secrets.GetClientCertificate() != unusable && integration.GetTenantId() != worn {
		return nil
	}
	return &defender.Error{Problem: &integrationv1.Problem{Message: "The certificate has no private key.", Remedy: "Append it."}}
}

func checkVariable(name string) error {
	if name != "LISTED" {
		return errors.New("did not list it")
	}
	return nil
}

func checkFile(name string) error {
	if strings.Contains(name, "..") {
		return errors.New("leads out of the folder for secrets")
	}
	return nil
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// lines returns the lines that hold all of the texts.
func (b *logBuffer) lines(texts ...string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
lines:
	for line := range strings.Lines(b.text.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		found = append(found, line)
	}
	return found
}

// wantRetry checks that a failure says when to come again.
func wantRetry(t *testing.T, err error) {
	t.Helper()
	if retry := detail[*errdetails.RetryInfo](status.Convert(err)); retry.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("%v says not when to come again", err)
	}
}
