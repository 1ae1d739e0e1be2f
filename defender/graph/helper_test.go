package graph

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"go.uber.org/goleak"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	"defender-integration/defender/entra"
	"defender-integration/defender/rest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenantID = "11111111-2222-4333-8444-555555555555"
	clientID = "66666666-7777-4888-9999-000000000000"
	secret   = "planted~secret"
)

// world is a simulated Microsoft with one tenant, and a source that reads from it.
type world struct {
	server *defendertest.Server
	tenant *defendertest.Tenant
	app    *defendertest.Application
	source *Source
}

func newWorld(t *testing.T, options defendertest.Options) *world {
	t.Helper()
	options.Limits.GraphAlerts = []defendertest.Rate{} // none
	server, err := defendertest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	w := &world{server: server, tenant: server.AddTenant(tenantID, "contoso.test")}
	w.app = w.tenant.AddApplication(clientID, secret, "SecurityAlert.Read.All", "Machine.Read.All")

	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := rest.NewHTTPClient(transport)
	base, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := entra.NewSource(entra.Config{
		Authentication: &integrationv1.Authentication{
			ClientId: clientID, AuthorizationUrl: server.TokenURL(tenantID),
			Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{}},
		},
		Secrets: &storev1.Secrets{ClientSecret: secret}, Scope: "https://graph.microsoft.com/.default", HTTP: client, UserAgent: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	w.source = NewSource(rest.NewClient(rest.Config{
		Name: "Microsoft Graph's list of alerts", Base: base, HTTP: client, UserAgent: "test",
		Tokens: tokens,
		Spend:  func(context.Context, defender.Limit) error { return nil }, Limit: defender.LimitGraphAlerts,
		Permissions: defender.Endpoints()[0].GetPermissions(),
	}), "v1.0")
	return w
}

// collect reads and returns each element's bytes with how often they were given.
func (w *world) collect(t *testing.T, since time.Time) (map[string]int, defender.Read, error) {
	t.Helper()
	given := map[string]int{}
	read, err := w.source.ReadAlerts(t.Context(), since, nil, func(e *defender.Element) error {
		given[string(e.Raw)]++
		return nil
	})
	return given, read, err
}

// wantAll fails unless each of the tenant's revisions that is served was given exactly once.
func (w *world) wantAll(t *testing.T, given map[string]int) {
	t.Helper()
	want := 0
	for _, r := range w.tenant.Revisions() {
		want++
		if n := given[string(r.Raw)]; n != 1 {
			t.Fatalf("alert %s was given %d times, want 1", r.Key, n)
		}
	}
	if len(given) != want {
		t.Fatalf("%d elements were given, want %d", len(given), want)
	}
}

// wantReason fails unless err is a *defender.Error of that reason, with words and a remedy, and returns its problem.
func wantReason(t *testing.T, err error, reason integrationv1.ErrorReason) *integrationv1.Problem {
	t.Helper()
	var e *defender.Error
	if !asError(err, &e) {
		t.Fatalf("error is %v, want a *defender.Error of %s", err, reason)
	}
	if e.Problem.GetReason() != reason || e.Problem.GetMessage() == "" || e.Problem.GetRemedy() == "" {
		t.Fatalf("problem is %v, want %s with message and remedy", e.Problem, reason)
	}
	return e.Problem
}
