package app_test

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	"defender-integration/cmd/defender-integration/internal/app"
	"defender-integration/collector"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/store"
)

// logLines keeps what is logged.
type logLines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// await waits until there is a line with both texts.
func (l *logLines) await(t *testing.T, message, reference string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		for line := range strings.Lines(text) {
			if strings.Contains(line, message) && strings.Contains(line, reference) {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log does not say %q of %s within a minute:\n%s", message, reference, text)
		}
	}
}

// unreadHouse is the service with all its parts, over real sockets, and a tenant that it collects.
type unreadHouse struct {
	tenant  *defendertest.Tenant
	random  *rand.Rand
	address string
	log     logLines
	began   time.Time
}

func newUnreadHouse(t *testing.T) *unreadHouse {
	t.Helper()
	microsoft, err := defendertest.New(defendertest.Options{Limits: defendertest.Limits{GraphAlerts: []defendertest.Rate{}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = microsoft.Close() })
	h := &unreadHouse{random: rand.New(rand.NewPCG(1, 2)), began: time.Now()}
	h.tenant = microsoft.AddTenant(defendertest.RunTenantID, "contoso.test")
	h.tenant.AddApplication(defendertest.RunAppID, defendertest.RunSecret, defendertest.RoleSecurityAlertRead)
	settings := collector.DefaultSettings()
	settings.FastInterval = 600 * time.Millisecond // Two calls a second are what the budget has.
	a, err := app.Start(t.Context(), app.Options{
		Server:         server.Options{Address: "127.0.0.1:0", UnreadLimit: 6 * time.Second},
		Store:          store.Options{Dir: filepath.Join(t.TempDir(), "data")},
		AllowEndpoints: []string{strings.TrimPrefix(microsoft.URL(), "http://")}, AllowHTTP: true,
		Collecting: settings, Logger: slog.New(server.LogHandler(slog.NewTextHandler(&h.log, nil))),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	h.address = a.Addresses()[0].String()
	endpoint := &integrationv1.Endpoint{
		Host: microsoft.Host(), Port: int32(microsoft.Port()), Protocol: integrationv1.Protocol_PROTOCOL_HTTP,
	}
	_, err = integrationv1.NewIntegrationServiceClient(h.dial(t)).RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{
		Integration: &integrationv1.Integration{
			IntegrationId: "contoso", TenantId: defendertest.RunTenantID, Endpoint: endpoint,
			Authentication: &integrationv1.Authentication{
				ClientId:         defendertest.RunAppID,
				Credential:       &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: defendertest.RunSecret}},
				AuthorizationUrl: microsoft.TokenURL(defendertest.RunTenantID),
			},
			DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *unreadHouse) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+h.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// appear makes n alerts appear at Microsoft.
func (h *unreadHouse) appear(n int) {
	h.tenant.AddAlerts(defendertest.Generate(h.random, n, defendertest.Shape{First: time.Now()}))
}

func (h *unreadHouse) request(reference, token string) *integrationv1.StreamAlertsRequest {
	return &integrationv1.StreamAlertsRequest{
		IntegrationId: "contoso", Reference: reference, ResumeToken: token,
		Window: &integrationv1.Window{StartTime: timestamppb.New(h.began.Add(-time.Minute))},
	}
}

// received counts how often each alert came.
type received map[string]int

// add counts an event's alert, where it has one.
func (r received) add(event *integrationv1.StreamAlertsResponse) {
	if id := event.GetAlert().GetAlert().GetId(); id != "" {
		r[id]++
	}
}

// wantOnce fails unless each alert of the tenant's came once.
func (h *unreadHouse) wantOnce(t *testing.T, who string, got received) {
	t.Helper()
	revisions := h.tenant.Revisions()
	for _, revision := range revisions {
		if n := got[revision.Key]; n != 1 {
			t.Errorf("%s got alert %s %d times", who, revision.Key, n)
		}
	}
	if len(got) != len(revisions) {
		t.Errorf("%s got %d alerts of %d", who, len(got), len(revisions))
	}
}

// A Director that stops reading is ended with the reason, and one that does not even read that loses its connection. Collecting goes on
// all the time, a stream on another connection gets what appears, and who comes again with the last token has everything once.
func TestDirectorsThatStopReading(t *testing.T) {
	t.Parallel() // It waits for a limit that a machine without time for this process does not reach.
	const batch = 150
	h := newUnreadHouse(t)
	h.appear(batch)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	healthy := received{}
	next := func(want int) {
		t.Helper()
		for event, err := range client.New(h.dial(t)).Alerts(h.request("healthy", "")).Events(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if healthy.add(event.StreamAlertsResponse); len(healthy) == want {
				return
			}
		}
	}
	next(batch)

	stops := map[string]grpc.ServerStreamingClient[integrationv1.StreamAlertsResponse]{}
	for _, reference := range []string{"reads-again", "never-reads"} {
		stream, err := integrationv1.NewIntegrationServiceClient(h.dial(t)).StreamAlerts(ctx, h.request(reference, ""))
		if err != nil {
			t.Fatal(err)
		}
		stops[reference] = stream
	}
	h.log.await(t, "left unread", "reads-again")
	again, token := h.readUp(t, stops["reads-again"], codes.ResourceExhausted, integrationv1.ErrorReason_ERROR_REASON_STREAM_UNREAD)
	h.log.await(t, "its connection is closed", "never-reads")
	never, other := h.readUp(t, stops["never-reads"], codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_UNSPECIFIED)

	h.appear(batch)
	clear(healthy)
	next(2 * batch)
	h.wantOnce(t, "who reads", healthy)
	for who, rest := range map[string]struct {
		got   received
		token string
	}{"who read again": {again, token}, "who never read": {never, other}} {
		for event, err := range client.New(h.dial(t)).Alerts(h.request(strings.ReplaceAll(who, " ", "-"), rest.token)).Events(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if rest.got.add(event.StreamAlertsResponse); len(rest.got) == 2*batch {
				break
			}
		}
		h.wantOnce(t, who, rest.got)
	}
}

// readUp receives what a stream has, to its end, which must be as wanted. It returns the alerts, and the last token.
func (h *unreadHouse) readUp(
	t *testing.T, stream grpc.ServerStreamingClient[integrationv1.StreamAlertsResponse], code codes.Code, reason integrationv1.ErrorReason,
) (got received, token string) {
	t.Helper()
	got = received{}
	for {
		event, err := stream.Recv()
		if err != nil {
			if status.Code(err) != code || client.Reason(err) != reason {
				t.Errorf("it ended with %v, want %s and %s", err, code, reason)
			}
			if len(got) == 0 || token == "" {
				t.Error("nothing had been sent")
			}
			return got, token
		}
		got.add(event)
		token = event.GetResumeToken()
	}
}
