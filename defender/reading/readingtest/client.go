package readingtest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// tokens gives a token that nobody checks.
type tokens struct{}

func (tokens) Token(context.Context) (string, error)         { return "first", nil }
func (tokens) Renew(context.Context, string) (string, error) { return "second", nil }

// NewClient returns a client of that name whose calls handler answers, over HTTP and with JSON unless it says otherwise. The API's end
// is announced for no day. It ends with the test.
func NewClient(tb testing.TB, name string, handler http.HandlerFunc) *rest.Client {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		handler(w, r)
	}))
	tb.Cleanup(server.Close)
	transport := &http.Transport{}
	tb.Cleanup(transport.CloseIdleConnections)
	base, err := url.Parse(server.URL)
	if err != nil {
		tb.Fatal(err)
	}
	return rest.NewClient(rest.Config{
		Name: name, Base: base, HTTP: rest.NewHTTPClient(transport), Tokens: tokens{}, UserAgent: "test",
		Spend:     func(context.Context, defender.Limit) error { return nil },
		Lifecycle: &integrationv1.Lifecycle{Stage: integrationv1.Lifecycle_STAGE_RETIRING, Note: "Its end is announced."},
	})
}
