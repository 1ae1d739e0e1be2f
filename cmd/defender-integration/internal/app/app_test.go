package app_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"defender-integration/cmd/defender-integration/internal/app"
	"defender-integration/collector"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is an App that runs on a data directory and may call the simulated Microsoft.
type service struct {
	client integrationv1.IntegrationServiceClient
	stop   func()
}

func serve(t *testing.T, dir string, allow ...string) service {
	t.Helper()
	a, err := app.Start(t.Context(), app.Options{
		Server:         server.Options{Address: "127.0.0.1:0"},
		Store:          store.Options{Dir: dir},
		AllowEndpoints: allow, AllowHTTP: true,
		Collecting: collector.DefaultSettings(),
		Version:    "v0.0.0-test",
		Logger:     slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	conn, err := grpc.NewClient("passthrough:///"+a.Addresses()[0].String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return service{integrationv1.NewIntegrationServiceClient(conn), func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	}}
}

// With real parts: register, test, collect; restart; the integration is there with its secret; and once the operator no longer
// allows its host, the test says so.
func TestWhatIsRegisteredOutlivesTheProcess(t *testing.T) {
	microsoft, err := defendertest.New(defendertest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = microsoft.Close() }()
	tenant := microsoft.AddTenant(defendertest.RunTenantID, "contoso.test")
	tenant.AddApplication(defendertest.RunAppID, defendertest.RunSecret, defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead)
	endpoint := &integrationv1.Endpoint{
		Host: microsoft.Host(), Port: int32(microsoft.Port()), Protocol: integrationv1.Protocol_PROTOCOL_HTTP,
	}
	host := strings.TrimPrefix(microsoft.URL(), "http://")
	dir := filepath.Join(t.TempDir(), "data")

	s := serve(t, dir, host)
	registered, err := s.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: &integrationv1.Integration{
		IntegrationId: "contoso", TenantId: defendertest.RunTenantID, Endpoint: endpoint,
		Authentication: &integrationv1.Authentication{
			ClientId:         defendertest.RunAppID,
			Credential:       &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: defendertest.RunSecret}},
			AuthorizationUrl: microsoft.TokenURL(defendertest.RunTenantID),
		},
		DeviceSource: &integrationv1.DeviceSource{Endpoint: endpoint},
	}})
	if err != nil {
		t.Fatal(err)
	}
	wantHealth(t, s, integrationv1.ConnectivityTest_HEALTH_HEALTHY)
	wantCollected(t, s)
	s.stop()

	for _, test := range []struct {
		allow  []string
		health integrationv1.ConnectivityTest_Health
	}{
		{[]string{host}, integrationv1.ConnectivityTest_HEALTH_HEALTHY},
		{nil, integrationv1.ConnectivityTest_HEALTH_UNHEALTHY},
	} {
		s := serve(t, dir, test.allow...)
		found, err := s.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
		if err != nil || found.GetIntegration().GetEtag() != registered.GetIntegration().GetEtag() {
			t.Errorf("after a restart: %v, %v", found, err)
		}
		stages := wantHealth(t, s, test.health)
		if test.allow == nil {
			if len(stages) != 1 || stages[0].GetReason() != integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED ||
				!strings.Contains(stages[0].GetRemedy(), "--allow-endpoint "+host) {
				t.Errorf("a host that is no longer allowed: %v", stages)
			}
		}
		s.stop()
	}

	// With another key nothing that is registered can be used, and without it neither: a new one would hide that.
	other := filepath.Join(t.TempDir(), "other.key")
	if _, err := store.OpenSealer(other, true); err != nil {
		t.Fatal(err)
	}
	_, err = app.Start(t.Context(), app.Options{
		Server: server.Options{Address: "127.0.0.1:0"}, Store: store.Options{Dir: dir}, Collecting: collector.DefaultSettings(),
		SealingKeyFile: other, Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.Contains(err.Error(), "other.key: the sealing key is another than the one the secrets were sealed with: bring the key file back") {
		t.Errorf("with another sealing key: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "sealing.key")); err != nil {
		t.Fatal(err)
	}
	_, err = app.Start(t.Context(), app.Options{
		Server: server.Options{Address: "127.0.0.1:0"}, Store: store.Options{Dir: dir}, Collecting: collector.DefaultSettings(),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil || !strings.Contains(err.Error(), "bring the key file back") {
		t.Errorf("without the sealing key: %v", err)
	}
}

// wantHealth tests the connectivity and returns the stages.
func wantHealth(t *testing.T, s service, want integrationv1.ConnectivityTest_Health) []*integrationv1.ConnectivityStage {
	t.Helper()
	response, err := s.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
		Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: "contoso"},
	})
	if err != nil || response.GetTest().GetHealth() != want || response.GetServiceVersion() != "v0.0.0-test" {
		t.Errorf("%v, %v, want %s", response, err, want)
	}
	return response.GetTest().GetStages()
}

// wantCollected waits until the integration has been read once. A process that ends while its engine is still making the journal
// leaves goroutines of the engine behind, too.
func wantCollected(t *testing.T, s service) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		response, err := s.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
		switch {
		case err != nil:
			t.Fatal(err)
		case response.GetIntegration().GetStatus().GetLastGoodReadTime() != nil:
			return
		case time.Now().After(deadline):
			t.Fatalf("nothing was read within a minute: %v", response.GetIntegration().GetStatus())
		}
		time.Sleep(time.Millisecond)
	}
}
