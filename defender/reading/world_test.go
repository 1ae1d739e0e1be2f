package reading_test

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"testing"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	"defender-integration/defender/endpoint"
	"defender-integration/defender/entra"
	"defender-integration/defender/graph"
	"defender-integration/defender/reading/readingtest"
	"defender-integration/defender/rest"
	"defender-integration/defender/siem"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	tenantID = "11111111-2222-4333-8444-555555555555"
	clientID = "66666666-7777-4888-9999-000000000000"
	secret   = "planted~secret"
	// statusLate stands for an answer that does not come in time.
	statusLate = 599
)

// api is an API for alerts, as these tests need it.
type api struct {
	name     string
	resource defendertest.Resource
	route    string
	options  defendertest.Options
	source   func(*rest.Client) defender.AlertSource
	// coarse is how far from what fails alerts may be that cannot be read for it.
	coarse time.Duration
	// extra is how many calls it may take to isolate what fails, all that fail among them.
	extra int
}

func apis() []api {
	graphSource := func(c *rest.Client) defender.AlertSource { return graph.NewSource(c, "v1.0") }
	return []api{
		{name: "Graph", resource: defendertest.Graph, route: defendertest.RouteAlerts, source: graphSource, extra: 19},
		{
			name: "Graph with links", resource: defendertest.Graph, route: defendertest.RouteAlerts, source: graphSource, extra: 20,
			options: defendertest.Options{Graph: defendertest.GraphOptions{NextLinks: true}},
		},
		{
			name: "Defender for Endpoint", resource: defendertest.DefenderForEndpoint, route: defendertest.RouteEndpointAlerts, extra: 19,
			source:  func(c *rest.Client) defender.AlertSource { return endpoint.NewSource(c, "") },
			options: defendertest.Options{EndpointAlerts: defendertest.EndpointAlertsOptions{EmptyIsNotFound: true}},
		},
		{
			name: "SIEM", resource: defendertest.SIEM, route: defendertest.RouteSIEM, coarse: 3 * time.Second, extra: 20,
			source: func(c *rest.Client) defender.AlertSource { return siem.NewSource(c) },
		},
	}
}

// timingOut is a transport that tells of answers with statusLate that they did not come in time.
type timingOut struct{ http.RoundTripper }

func (t timingOut) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.RoundTripper.RoundTrip(r)
	if err != nil || response.StatusCode != statusLate {
		return response, err
	}
	_ = response.Body.Close()
	return nil, os.ErrDeadlineExceeded
}

// world is a simulated Microsoft that is read over one API.
type world struct {
	api

	server *defendertest.Server
	tenant *defendertest.Tenant
	source defender.AlertSource
	// since is where reads begin.
	since time.Time
	// known are the elements that were decoded in a read before.
	known map[[sha256.Size]byte]defender.Known
}

func newWorld(tb testing.TB, api api) *world {
	tb.Helper()
	options := api.options
	options.Limits = defendertest.Limits{GraphAlerts: []defendertest.Rate{}, Machines: []defendertest.Rate{}} // none
	server, err := defendertest.New(options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = server.Close() })
	w := &world{api: api, server: server, tenant: server.AddTenant(tenantID, "contoso.test"), known: map[[sha256.Size]byte]defender.Known{}}
	w.since = server.Now().Add(-2 * time.Hour).Truncate(time.Second)
	w.tenant.AddApplication(clientID, secret, defendertest.RoleSecurityAlertRead, defendertest.RoleAlertRead)
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	base, err := url.Parse(server.URL())
	if err != nil {
		tb.Fatal(err)
	}
	client := rest.NewHTTPClient(timingOut{transport})
	tokens, err := entra.NewSource(entra.Config{
		Authentication: &integrationv1.Authentication{
			ClientId: clientID, AuthorizationUrl: server.TokenURL(tenantID),
			Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{}},
		},
		Secrets: &storev1.Secrets{ClientSecret: secret}, Scope: string(api.resource) + "/.default", HTTP: client, UserAgent: "test",
	})
	if err != nil {
		tb.Fatal(err)
	}
	w.source = api.source(rest.NewClient(rest.Config{
		Name: api.name, Base: base, HTTP: client, UserAgent: "test", Tokens: tokens,
		Spend: func(context.Context, defender.Limit) error { return nil },
	}))
	return w
}

// fill adds n alerts; update says when each was last updated, after since. Their ids are their numbers.
func (w *world) fill(n int, update func(i int) time.Duration) {
	for i := range n {
		at := w.since.Add(update(i))
		w.tenant.AddAlert(defendertest.Alert{ID: strconv.Itoa(i), LastUpdate: at, Created: w.since.Add(time.Duration(i) * time.Millisecond)})
	}
}

// poison makes the server fail on what holds these alerts, and returns what heals it.
func (w *world) poison(numbers ...int) (heal func()) {
	return w.server.Inject(defendertest.Fault{Route: w.route, Times: -1, Respond: defendertest.Poison(keys(numbers)...)})
}

func keys(numbers []int) []string {
	keys := make([]string, len(numbers))
	for i, n := range numbers {
		keys[i] = strconv.Itoa(n)
	}
	return keys
}

// readAlerts reads, and returns how often each element was given, by its hash. It fails unless the calls that are told are those that
// the server saw.
func (w *world) readAlerts(t *testing.T) (map[[sha256.Size]byte]int, defender.Read, error) {
	t.Helper()
	before := w.calls()
	given := map[[sha256.Size]byte]int{}
	read, err := w.source.ReadAlerts(t.Context(), w.since, func(hash [sha256.Size]byte) (defender.Known, bool) {
		known, ok := w.known[hash]
		return known, ok
	}, func(e *defender.Element) error {
		given[e.RawHash]++
		w.known[e.RawHash] = defender.Known{Key: e.Key, Updated: e.Updated}
		return nil
	})
	if made := w.calls() - before; made != read.Calls {
		t.Errorf("%d calls were made and %d are told", made, read.Calls)
	}
	return given, read, err
}

func (w *world) calls() int { return len(w.server.Calls(defendertest.OnRoute(w.route))) }

// problem fails unless err tells what is missing and nothing besides, with all that an operator needs.
func problem(t *testing.T, err error) *integrationv1.Problem {
	t.Helper()
	p := readingtest.WantReason(t, err, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED)
	if p.GetHttpStatus() != http.StatusInternalServerError || p.GetUpstreamCode() != "generalException" || p.GetUpstreamRequestId() == "" {
		t.Errorf("the last failure is told as %v", p)
	}
	for i, m := range p.GetMissing() {
		if !m.GetStartTime().AsTime().Before(m.GetEndTime().AsTime()) || i > 0 && m.GetStartTime().AsTime().Before(p.GetMissing()[i-1].GetEndTime().AsTime()) {
			t.Errorf("the ranges are not in order: %v", p.GetMissing())
		}
	}
	return p
}

func isMissing(p *integrationv1.Problem, at time.Time) bool {
	for _, m := range p.GetMissing() {
		if !at.Before(m.GetStartTime().AsTime()) && at.Before(m.GetEndTime().AsTime()) {
			return true
		}
	}
	return false
}

// check compares what was given with what the server holds: all once, but what is poisoned, and, where a range may hide others, those
// that are missing.
func (w *world) check(t *testing.T, given map[[sha256.Size]byte]int, p *integrationv1.Problem, mayHide bool, poisoned ...int) {
	t.Helper()
	bad := map[string]time.Time{}
	for _, key := range keys(poisoned) {
		at := w.tenant.Revisions(key)[0].LastUpdate
		bad[key] = at
		if !isMissing(p, at) {
			t.Errorf("alert %s of %s is not among what is missing: %v", key, at, p.GetMissing())
		}
	}
	total := 0
	for _, r := range w.tenant.Revisions() {
		for _, element := range r.Elements(w.resource) {
			n := given[sha256.Sum256(element)]
			total += n
			_, isBad := bad[r.Key]
			switch {
			case isBad && n == 0, n == 1 && !isBad:
			case n == 0 && isMissing(p, r.LastUpdate) && (mayHide || w.isNear(bad, r.LastUpdate)):
			default:
				t.Fatalf("alert %s of %s was given %d times; missing is %v", r.Key, r.LastUpdate, n, p.GetMissing())
			}
		}
	}
	if total != len(given) {
		t.Fatalf("%d elements were given, of which %d are the server's", len(given), total)
	}
}

// isNear says whether a time is so near to what is poisoned that an alert of it may be missing with it.
func (w *world) isNear(bad map[string]time.Time, at time.Time) bool {
	for _, b := range bad {
		if at.Sub(b).Abs() < w.coarse {
			return true
		}
	}
	return false
}
