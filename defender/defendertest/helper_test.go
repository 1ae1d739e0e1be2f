package defendertest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	testTenantID = "11111111-aaaa-4bbb-8ccc-000000000001"
	testAppID    = "22222222-aaaa-4bbb-8ccc-000000000002"
	testSecret   = "a-secret~with/odd+characters&="
)

// fixedClock stands still; only the server's offset moves it.
type fixedClock struct{}

func (fixedClock) Now() time.Time { return time.Date(2026, 11, 20, 10, 0, 0, 123456700, time.UTC) }

// world is a server with one tenant and one application that may read alerts and machines.
type world struct {
	t      *testing.T
	server *Server
	tenant *Tenant
	app    *Application
	client *http.Client
}

func newWorld(t *testing.T, options Options) *world {
	t.Helper()
	if options.Clock == nil {
		options.Clock = fixedClock{}
	}
	s, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, server: s, client: s.Client()}
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.tenant = s.AddTenant(testTenantID, "contoso.test")
	w.app = w.tenant.AddApplication(testAppID, testSecret, RoleSecurityAlertRead, RoleMachineRead)
	return w
}

// tokenForm is a good request for a token.
func tokenForm(resource Resource) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {testAppID}, "client_secret": {testSecret},
		"scope": {string(resource) + "/.default"},
	}
}

// reply is an answer, read to its end.
type reply struct {
	status int
	header http.Header
	body   string
	err    error // of reading
}

func (w *world) do(r *http.Request) reply {
	w.t.Helper()
	response, err := w.client.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(body), err}
}

func (w *world) postToken(tenant string, form url.Values) reply {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.server.TokenURL(tenant), strings.NewReader(form.Encode()))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return w.do(r)
}

// token gets a token of a resource.
func (w *world) token(resource Resource) string {
	w.t.Helper()
	got := w.postToken(testTenantID, tokenForm(resource))
	if got.status != http.StatusOK {
		w.t.Fatalf("token: %d %s %v", got.status, got.body, got.err)
	}
	return decode[struct {
		AccessToken string `json:"access_token"`
	}](w.t, got.body).AccessToken
}

// get reads a path with options, with a token where one is given, preferring all enum members.
func (w *world) get(token, path string, options ...string) reply {
	w.t.Helper()
	target := path
	if !strings.HasPrefix(path, "http") {
		target = w.server.URL() + path
	}
	if len(options) > 0 {
		query := url.Values{}
		for i := 0; i < len(options); i += 2 {
			query.Set(options[i], options[i+1])
		}
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, target, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Header.Set("Prefer", preferUnknownMembers)
	return w.do(r)
}

// list is the answer of a list.
type list struct {
	Count    *int              `json:"@odata.count"`
	NextLink string            `json:"@odata.nextLink"`
	Value    []json.RawMessage `json:"value"`
}

// ids are the ids of a list's elements.
func (l list) ids(t *testing.T) []string {
	t.Helper()
	ids := make([]string, len(l.Value))
	for i, element := range l.Value {
		ids[i] = decode[struct{ ID string }](t, string(element)).ID
	}
	return ids
}

func (w *world) list(token, path string, options ...string) list {
	w.t.Helper()
	got := w.get(token, path, options...)
	if got.status != http.StatusOK {
		w.t.Fatalf("%s %v: %d %s %v", path, options, got.status, got.body, got.err)
	}
	return decode[list](w.t, got.body)
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("decode %q: %v", body, err)
	}
	return v
}

const alertsPath = "/v1.0/security/alerts_v2"
