package hunting

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// date is the Date that the service answers with.
const date = "Fri, 20 Nov 2026 10:00:00 GMT"

type tokens struct{}

func (tokens) Token(context.Context) (string, error)         { return "first-token", nil }
func (tokens) Renew(context.Context, string) (string, error) { return "second-token", nil }

// service answers queries by hand and keeps them.
type service struct {
	*Source
	answer func(query string) (status int, body string)

	mu      sync.Mutex
	queries []string
}

func newService(t *testing.T, answer func(query string) (status int, body string)) *service {
	t.Helper()
	s := &service{answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(t, w, r) }))
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	hunting := defender.DeviceSourceOf(defender.Endpoints()[0], integrationv1.DeviceSource_KIND_HUNTING)
	s.Source = NewSource(rest.NewClient(rest.Config{
		Name: "Advanced hunting", Base: base, HTTP: rest.NewHTTPClient(transport), Tokens: tokens{}, UserAgent: "test",
		Spend: func(context.Context, defender.Limit) error { return nil }, Limit: defender.LimitHunting,
		Permissions: hunting.GetPermissions(),
	}), "v1.0")
	return s
}

func (s *service) serve(t *testing.T, w http.ResponseWriter, r *http.Request) {
	t.Helper()
	raw, err := io.ReadAll(r.Body)
	var body map[string]string
	if err != nil || json.Unmarshal(raw, &body) != nil || len(body) != 1 || body["Query"] == "" {
		t.Errorf("the body is %q, error %v; want a Query and nothing else", raw, err)
	}
	if r.Method != http.MethodPost || r.URL.Path != "/v1.0/security/runHuntingQuery" || r.URL.RawQuery != "" ||
		r.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("called %s %s with %v", r.Method, r.URL, r.Header)
	}
	s.mu.Lock()
	s.queries = append(s.queries, body["Query"])
	s.mu.Unlock()
	status, answer := s.answer(body["Query"])
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", date)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

// asked returns the queries so far.
func (s *service) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries
}

// read reads what is wanted, and returns the ids of the devices that were given, joined, with the rest.
func (s *service) read(t *testing.T, wanted defender.Wanted) (string, defender.Read, error) {
	t.Helper()
	var ids []string
	read, err := s.ReadDevices(t.Context(), wanted, func(d *integrationv1.Device) error {
		ids = append(ids, d.GetMdeDeviceId())
		return nil
	})
	return strings.Join(ids, " "), read, err
}

// table is an answer with rows.
func table(rows ...string) string {
	return `{"schema":[],"results":[` + strings.Join(rows, ",") + `]}`
}

// row is a row with an id and what the device was merged into.
func row(id, into string) string {
	return fmt.Sprintf(`{"DeviceId":%q,"MergedToDeviceId":%q}`, id, into)
}

// refused is the body of a refusal.
func refused(message string) string {
	return fmt.Sprintf(`{"error":{"code":"BadRequest","message":%q,"innerError":{"request-id":"r-1"}}}`, message)
}

// wantReason fails unless err is a *defender.Error of that reason, with these words and a remedy, and returns it.
func wantReason(t *testing.T, err error, reason integrationv1.ErrorReason, words string) defender.Error {
	t.Helper()
	var e *defender.Error
	if !errors.As(err, &e) || e.Problem.GetReason() != reason || !strings.Contains(e.Problem.GetMessage(), words) || e.Problem.GetRemedy() == "" {
		t.Fatalf("error is %v, want %s that says %q, with a remedy", err, reason, words)
	}
	return *e
}

// texts returns n different names.
func texts(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("ws-%05d.contoso.test", i)
	}
	return names
}
