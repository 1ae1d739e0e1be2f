package origin_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/cmd/defender-integration/internal/app"
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
	patience = 30 * time.Second
	// poll is how often integrations read here: the most often that there is.
	poll = 100 * time.Millisecond
)

// setting changes what a house is made of, before the service starts.
type setting func(*house)

// house is a simulated Microsoft with one tenant, the service, and a listener that must stay silent.
type house struct {
	t *testing.T

	microsoft *defendertest.Server
	tenant    *defendertest.Tenant
	app       *defendertest.Application
	witness   *witness
	// secret is the application's.
	secret string
	// folder is where files of secrets are, data where the service keeps its own.
	folder, data string

	simulated defendertest.Options
	options   app.Options
	// unwatched leaves the witness out of what the service may call.
	unwatched bool

	client integrationv1.IntegrationServiceClient
	// metrics is where the service serves them; empty where it does not.
	metrics string
	// stop stops the service that runs.
	stop func()
	// log and answers are all that the service wrote there, and all that it answered.
	log, answers notebook
	planted      secrets
	asked        asked
}

// newHouse makes a house and starts the service, which may call the simulated Microsoft and the witness, and trusts both: what keeps
// a token from the witness is what is tested, and not that it could not be reached. The house is closed, and searched, when the test
// is over.
func newHouse(t *testing.T, settings ...setting) *house {
	t.Helper()
	h := &house{
		t: t, secret: "planted~" + rand.Text() + "&/+= %", folder: t.TempDir(), data: filepath.Join(t.TempDir(), "data"),
		simulated: defendertest.Options{TLS: true, Limits: defendertest.Limits{
			GraphAlerts: []defendertest.Rate{}, Hunting: []defendertest.Rate{}, Machines: []defendertest.Rate{}, SIEM: []defendertest.Rate{},
		}},
		planted: secrets{by: map[string]string{}}, asked: asked{by: map[string]int{}},
	}
	h.options = app.Options{
		Server: server.Options{Address: "127.0.0.1:0", DrainTimeout: time.Second},
		Store:  store.Options{Dir: h.data}, SecretsDir: h.folder, SecretVariables: []string{secretVariable}, AllowHTTP: true, Collecting: collecting(),
		Version: "v0.0.0-test", Logger: slog.New(slog.NewJSONHandler(&h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	h.witness = newWitness(t)
	for _, set := range settings {
		set(h)
	}
	var err error
	if h.microsoft, err = defendertest.New(h.simulated); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.microsoft.Close(); err != nil {
			t.Error(err)
		}
	})
	h.tenant = h.microsoft.AddTenant(tenantID, "contoso.test")
	h.app = h.tenant.AddApplication(appID, h.secret, roles()...)
	h.planted.add("the client secret", h.secret)
	h.watch()
	for _, device := range defendertest.SampleDevices() {
		device.LastSeen = h.microsoft.Now()
		h.tenant.AddDevice(device)
	}
	h.raise("first")
	h.options.AllowEndpoints = append(h.options.AllowEndpoints, h.address())
	if !h.unwatched {
		h.options.AllowEndpoints = append(h.options.AllowEndpoints, h.witness.addr())
	}
	h.options.TrustedCAFile = filepath.Join(t.TempDir(), "authorities.pem")
	write(t, h.options.TrustedCAFile, string(h.microsoft.CAPEM())+string(h.witness.ca))
	h.serve()
	h.witness.control(t)
	return h
}

// collecting are settings of a service in a hurry, whose own budget is out of the way.
func collecting() collector.Settings {
	settings := collector.DefaultSettings()
	settings.RetryMin, settings.RetryMax = poll/2, poll
	for limit := range settings.Budgets {
		settings.Budgets[limit] = []collector.Allowance{{Period: time.Minute, Calls: 1 << 20}}
	}
	return settings
}

// roles are all that the APIs ask for.
func roles() []string {
	return []string{
		defendertest.RoleSecurityAlertRead, defendertest.RoleThreatHuntingRead, defendertest.RoleMachineRead, defendertest.RoleAlertRead,
	}
}

// serve starts the service, and has it stopped and its house searched when the test is over, where it is not stopped before.
func (h *house) serve() {
	h.t.Helper()
	running := context.WithoutCancel(h.t.Context())
	a, err := app.Start(running, h.options)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(running)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	conn, err := grpc.NewClient("passthrough:///"+a.Addresses()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(h.hearCall), grpc.WithStreamInterceptor(h.hearStream))
	if err != nil {
		h.t.Fatal(err)
	}
	h.client = integrationv1.NewIntegrationServiceClient(conn)
	if address := a.MetricsAddress(); address != nil {
		h.metrics = address.String()
	}
	h.stop = sync.OnceFunc(func() {
		_ = conn.Close()
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
	})
	stop := h.stop
	h.t.Cleanup(func() {
		stop()
		h.witness.wantSilence(h.t)
		h.planted.wantNone(h.t, "the log", h.log.bytes())
		h.planted.wantNone(h.t, "the answers", h.answers.bytes())
		h.planted.wantNoneInFiles(h.t, h.data, tenantID)
		h.wantWholeLog()
	})
}

// wantWholeLog checks that the log has lines of calls at APIs, which are written at debug level alone: that it is not a part
// of it that was searched.
func (h *house) wantWholeLog() {
	h.t.Helper()
	answered := h.microsoft.Calls(func(c defendertest.Call) bool { return c.Route == defendertest.RouteAlerts && c.Status != 0 })
	if len(answered) > 0 && !bytes.Contains(h.log.bytes(), []byte(`"level":"DEBUG"`)) {
		h.t.Error("the log has no line at debug level")
	}
}

// hearCall and hearStream put down what the service answers.
func (h *house) hearCall(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	h.hear(reply, err)
	return err
}

func (h *house) hearStream(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, conn, method, options...)
	if err != nil {
		h.hear(nil, err)
		return nil, err
	}
	return &heardStream{ClientStream: stream, hear: h.hear}, nil
}

func (h *house) hear(reply any, err error) {
	if err != nil {
		h.answers.message(status.Convert(err).Proto())
	} else if message, ok := reply.(proto.Message); ok {
		h.answers.message(message)
	}
}

// heardStream is a stream of which each event is put down.
type heardStream struct {
	grpc.ClientStream
	hear func(reply any, err error)
}

// RecvMsg receives an event.
func (s *heardStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	s.hear(message, err)
	return err
}

// asked counts the token requests, by application and target.
type asked struct {
	mu sync.Mutex
	by map[string]int
	// secrets are the client secrets that were sent, in order.
	secrets []string
}

// watch looks at each request that Microsoft gets, and changes nothing: how many tokens are asked for, and what is secret.
func (h *house) watch() {
	h.microsoft.Inject(defendertest.Fault{Times: -1, Respond: defendertest.Cut(), Match: func(r *http.Request) bool {
		h.planted.addToken("an access token", strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if !strings.HasSuffix(r.URL.Path, "/token") || r.ParseForm() != nil {
			return false
		}
		h.planted.addToken("an assertion", r.Form.Get("client_assertion"))
		scope, _, _ := strings.Cut(r.Form.Get("scope"), " ")
		target := strings.TrimSuffix(scope, "/.default") + r.Form.Get("resource")
		h.asked.mu.Lock()
		defer h.asked.mu.Unlock()
		h.asked.secrets = append(h.asked.secrets, r.Form.Get("client_secret"))
		h.asked.by[strings.TrimSpace(r.Form.Get("client_id")+" "+target)]++
		return false
	}})
}

// wantAsked checks how many tokens an application has asked for, by target.
func (h *house) wantAsked(clientID string, want map[defendertest.Resource]int) {
	h.t.Helper()
	wanted := map[string]int{}
	for target, count := range want {
		wanted[strings.TrimSpace(clientID+" "+string(target))] = count
	}
	h.asked.mu.Lock()
	defer h.asked.mu.Unlock()
	if !maps.Equal(h.asked.by, wanted) {
		h.t.Errorf("tokens were asked for %v, want %v", h.asked.by, wanted)
	}
}

// raise raises an alert on the first device.
func (h *house) raise(title string) {
	h.tenant.AddAlert(defendertest.Alert{Title: title, Evidence: []defendertest.Evidence{
		defendertest.DeviceEvidence{Device: defendertest.SampleDevices()[0]},
	}})
}

// address is Microsoft's host and port.
func (h *house) address() string {
	return net.JoinHostPort(h.microsoft.Host(), strconv.Itoa(h.microsoft.Port()))
}

// host returns where Microsoft is.
func (h *house) host() *integrationv1.Endpoint {
	protocol := integrationv1.Protocol_PROTOCOL_HTTPS
	if !h.simulated.TLS {
		protocol = integrationv1.Protocol_PROTOCOL_HTTP
	}
	return &integrationv1.Endpoint{Host: h.microsoft.Host(), Port: int32(h.microsoft.Port()), Protocol: protocol}
}

// settings returns an integration that authenticates with the client secret and looks up no devices, as changed.
func (h *house) settings(id string, changes ...func(*integrationv1.Integration)) *integrationv1.Integration {
	integration := &integrationv1.Integration{
		IntegrationId: id, TenantId: tenantID, Endpoint: h.host(),
		Authentication: &integrationv1.Authentication{
			ClientId: appID, AuthorizationUrl: h.microsoft.TokenURL(tenantID), Credential: secretValue(h.secret),
		},
		DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE},
		Polling:      &integrationv1.Polling{FastInterval: durationpb.New(poll), SlowInterval: durationpb.New(poll)},
	}
	for _, change := range changes {
		change(integration)
	}
	return integration
}

// register registers an integration.
func (h *house) register(integration *integrationv1.Integration) *integrationv1.Integration {
	h.t.Helper()
	response, err := h.client.RegisterIntegration(h.t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: integration})
	if err != nil {
		h.t.Fatal(err)
	}
	return response.GetIntegration()
}

// get returns an integration as it is now.
func (h *house) get(id string) *integrationv1.Integration {
	h.t.Helper()
	response, err := h.client.GetIntegration(h.t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: id})
	if err != nil {
		h.t.Fatal(err)
	}
	return response.GetIntegration()
}

// waitCollected waits until an integration has read alerts.
func (h *house) waitCollected(id string) {
	h.t.Helper()
	eventually(h.t, "alerts are collected for "+id+", which is "+h.get(id).GetStatus().String(), func() bool {
		return slices.ContainsFunc(h.get(id).GetStatus().GetPairs(), func(p *integrationv1.Pair) bool { return p.GetElements() > 0 })
	})
}

// waitFailing waits until an integration's reads fail, and returns why.
func (h *house) waitFailing(id string) *integrationv1.Problem {
	h.t.Helper()
	var problem *integrationv1.Problem
	eventually(h.t, id+" tells that it fails", func() bool {
		problem = h.get(id).GetStatus().GetProblem()
		return problem != nil
	})
	return problem
}

// waitPolls waits until Microsoft has been asked for alerts so many times more, successfully.
func (h *house) waitPolls(more int) {
	h.t.Helper()
	good := func(c defendertest.Call) bool {
		return c.Status == http.StatusOK &&
			slices.Contains([]string{defendertest.RouteAlerts, defendertest.RouteEndpointAlerts, defendertest.RouteSIEM}, c.Route)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	if _, err := h.microsoft.WaitCalls(ctx, len(h.microsoft.Calls(good))+more, good); err != nil {
		h.t.Fatalf("waited for %d more reads: %v", more, err)
	}
}

// test tests the links of an integration.
func (h *house) test(id string) *integrationv1.ConnectivityTest {
	h.t.Helper()
	response, err := h.client.TestConnectivity(h.t.Context(), &integrationv1.TestConnectivityRequest{
		Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: id},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return response.GetTest()
}

// secretValue and secretFile are credentials.
func secretValue(value string) *integrationv1.Authentication_ClientSecret {
	return &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: value}}
}

func secretFile(name string) *integrationv1.Authentication_ClientSecret {
	return &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{File: name}}
}

// write writes a file that its owner alone may read.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
