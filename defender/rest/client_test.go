package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const plantedToken = "planted.token.value"

// tokens gives planted tokens, numbered.
type tokens struct{ renewals int }

func (k *tokens) Token(context.Context) (string, error) {
	return fmt.Sprintf("%s-%d", plantedToken, k.renewals), nil
}

func (k *tokens) Renew(ctx context.Context, _ string) (string, error) {
	k.renewals++
	return k.Token(ctx)
}

func newTestClient(t *testing.T, address string) (*Client, *tokens) {
	t.Helper()
	base, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	k := &tokens{}
	return NewClient(Config{
		Name: "The list", Base: base, HTTP: NewHTTPClient(transport), Tokens: k, UserAgent: "defender-integration/test",
		Spend: func(context.Context, defender.Limit) error { return nil }, Permissions: defender.Endpoints()[0].GetPermissions(),
	}), k
}

func get(t *testing.T, c *Client) (*Answer, int, error) {
	t.Helper()
	return c.Get(t.Context(), c.Base().JoinPath("list"))
}

func wantError(t *testing.T, err error) *defender.Error {
	t.Helper()
	var e *defender.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want a *defender.Error", err)
	}
	if e.Problem.GetMessage() == "" || e.Problem.GetRemedy() == "" {
		t.Errorf("%v has no words or no remedy", e.Problem)
	}
	if strings.Contains(e.Error()+e.Problem.String(), plantedToken) {
		t.Errorf("the token is in the error: %v", e)
	}
	return e
}

func TestRefusals(t *testing.T) {
	const (
		graphBody = `{"error":{"code":"Forbidden","message":"Missing application roles.\r\nAPI required roles: X","innererror":{"request-id":"graph-id"}}}`
		mdeBody   = `{"error":{"code":"Forbidden","message":"no","target":"mde-id"}}`
	)
	tests := []struct {
		name      string
		status    int
		header    map[string]string
		body      string
		reason    integrationv1.ErrorReason
		permanent bool
		code, id  string
		words     string
		retry     bool
	}{
		{"Graph's 403", 403, nil, graphBody, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, true, "Forbidden", "graph-id", "SecurityAlert.Read.All", false},
		{"MDE's 403", 403, nil, mdeBody, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, true, "Forbidden", "mde-id", "Microsoft says: no", false},
		{"the header's id first", 403, map[string]string{"request-id": "header-id"}, graphBody, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, true, "Forbidden", "header-id", "", false},
		{"401 again", 401, nil, `{"error":{"code":"InvalidAuthenticationToken"}}`, integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED, true, "InvalidAuthenticationToken", "", "refused the token, and a new one", false},
		{"not provisioned", 401, nil, `{"error":{"message":"Unauthorized request - Account is not provisioned."}}`, integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED, true, "", "", "no active Defender", false},
		{"429", 429, map[string]string{"Retry-After": "2.128"}, `{"error":{"code":"TooManyRequests"}}`, integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "TooManyRequests", "", "less often", true},
		{"429 without a time", 429, nil, ``, integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "", "", "429", false},
		{"503 with a time", 503, map[string]string{"Retry-After": "7"}, ``, integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "", "", "503", true},
		{"504 with a time", 504, map[string]string{"Retry-After": "7"}, ``, integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "", "", "504", true},
		{"503 without a time", 503, nil, ``, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "", "", "503", false},
		{"500", 500, nil, `<html>`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "", "", "500", false},
		{"408", 408, nil, ``, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "", "", "408", false},
		{"400 with an empty code", 400, nil, `{"error":{"code":"","message":"$skip=600 cannot exceed 500"}}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, true, "", "", "cannot exceed", false},
		{"404", 404, nil, ``, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, true, "", "", "not found", false},
		{"410", 410, nil, ``, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, true, "", "", "did not say why", false},
		{"302", 302, map[string]string{"Location": "https://evil.test/"}, ``, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, false, "", "", "redirect", false},
		{"206", 206, nil, `{"value":[]}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, false, "", "", "only a part", false},
		{"204", 204, nil, ``, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, false, "", "", "204", false},
		{"the token echoed", 400, nil, `{"error":{"code":"` + plantedToken + `-0","message":"bad token ` + plantedToken + `-0","target":"` + plantedToken + `-0"}}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED, true, "[token]", "[token]", "bad token [token]", false},
		{"HTML", 200, map[string]string{"Content-Type": "text/html; charset=utf-8"}, `<html>`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, false, "", "", "text/html", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range tt.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer server.Close()
			client, _ := newTestClient(t, server.URL)
			_, _, err := get(t, client)
			e := wantError(t, err)
			p := e.Problem
			if p.GetReason() != tt.reason || e.Permanent != tt.permanent || p.GetUpstreamCode() != tt.code || p.GetUpstreamRequestId() != tt.id {
				t.Errorf("error is %+v (permanent %t), want %s (permanent %t), code %q, id %q", p, e.Permanent, tt.reason, tt.permanent, tt.code, tt.id)
			}
			if !strings.Contains(p.GetMessage(), tt.words) {
				t.Errorf("message is %q, want it to say %q", p.GetMessage(), tt.words)
			}
			if tt.status != 200 && int(p.GetHttpStatus()) != tt.status {
				t.Errorf("status is %d, want %d", p.GetHttpStatus(), tt.status)
			}
			if tt.retry == e.RetryAt.IsZero() {
				t.Errorf("RetryAt is %s", e.RetryAt)
			}
		})
	}
}

func TestOneRenewalAfter401(t *testing.T) {
	var seen []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		if strings.HasSuffix(r.Header.Get("Authorization"), "-0") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{}`)
	}))
	defer server.Close()
	client, k := newTestClient(t, server.URL)
	answer, calls, err := get(t, client)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	if calls != 2 || k.renewals != 1 || len(seen) != 2 || seen[0] == seen[1] {
		t.Errorf("%d calls, %d renewals, tokens %q; want the same call with one new token", calls, k.renewals, seen)
	}
}

func TestRequest(t *testing.T) {
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{}`)
	}))
	defer server.Close()
	client, _ := newTestClient(t, server.URL)
	answer, _, err := get(t, client)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Close()
	want := map[string]string{
		"Authorization": "Bearer " + plantedToken + "-0", "Prefer": "include-unknown-enum-members",
		"User-Agent": "defender-integration/test", "Accept": "application/json", "Accept-Encoding": "gzip",
	}
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, got.Get(name), value)
		}
	}
	if len(got.Get("Client-Request-Id")) != 36 {
		t.Errorf("client-request-id is %q", got.Get("Client-Request-Id"))
	}
	if answer.Date.IsZero() || answer.Received.IsZero() || answer.RoundTrip <= 0 {
		t.Errorf("answer is %+v, want its times", answer)
	}
}

func TestTokenStaysAtItsOrigin(t *testing.T) {
	client, _ := newTestClient(t, "https://graph.microsoft.com")
	for _, address := range []string{
		"https://evil.test/x", "http://graph.microsoft.com/x", "https://graph.microsoft.com:8443/x",
		"https://user@graph.microsoft.com/x", "https://graph.microsoft.com.evil.test/x", "/x", "file:///x",
	} {
		target, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		_, calls, err := client.Get(t.Context(), target)
		if e := wantError(t, err); e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER || calls != 0 {
			t.Errorf("%s: %v after %d calls", address, e, calls)
		}
	}
	if !SameOrigin(client.Base(), &url.URL{Scheme: "HTTPS", Host: "Graph.Microsoft.com:443"}) {
		t.Error("the same origin in another spelling is taken for another")
	}
}

func TestSpendIsAsked(t *testing.T) {
	client, _ := newTestClient(t, "http://127.0.0.1:1")
	spent := &defender.Error{Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT}}
	client.config.Spend = func(context.Context, defender.Limit) error { return spent }
	if _, _, err := get(t, client); !errors.Is(err, spent) {
		t.Errorf("error is %v, want the budget's", err)
	}
}

// What answers and is no HTTP may say anything, and is not quoted.
func TestWhatIsNoHTTPIsNotQuoted(t *testing.T) {
	for _, before := range []string{"", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\n"} {
		t.Run(before, func(t *testing.T) { testNotQuoted(t, before+plantedToken+"\r\n\r\n") })
	}
}

func testNotQuoted(t *testing.T, answer string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, answer)
		_ = conn.Close()
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	_, err = transport.RoundTrip(request) //nolint:bodyclose // There is no answer.
	if err == nil || !strings.Contains(err.Error(), plantedToken) {
		t.Fatalf("net/http says %v, and quotes it no more", err)
	}
	e := Unreachable("Graph", "graph.test", err)
	if text := e.Error() + e.Problem.String() + e.Err.Error(); strings.Contains(text, plantedToken) || !strings.Contains(text, "no HTTP") {
		t.Errorf("it says %s", text)
	}
	if e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE {
		t.Errorf("it is %s", e.Problem.GetReason())
	}
}

func TestUnreachable(t *testing.T) {
	// Nobody listens where a connection of another kind begins, and nobody begins to while it is there.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	holder, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Close() }()
	closed := "http://" + holder.LocalAddr().String()
	secured := httptest.NewUnstartedServer(http.NotFoundHandler())
	secured.Config.ErrorLog = discard()
	secured.StartTLS()
	defer secured.Close()
	inClear := httptest.NewServer(http.NotFoundHandler())
	defer inClear.Close()
	cutting := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cutting.Close()
	tests := []struct {
		name, address string
		reason        integrationv1.ErrorReason
		words         string
	}{
		{"refused", closed, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE, "refuses the connection"},
		{"no such name", "http://nothing.invalid", integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE, "name nothing.invalid"},
		{"unknown authority", secured.URL, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED, "is not trusted"},
		{"no TLS", "https" + strings.TrimPrefix(inClear.URL, "http"), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED, "does not speak TLS"},
		{"cut", cutting.URL, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE, "connection failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, _ := newTestClient(t, tt.address)
			_, _, err := get(t, client)
			e := wantError(t, err)
			if e.Problem.GetReason() != tt.reason || !strings.Contains(e.Problem.GetMessage(), tt.words) {
				t.Errorf("problem is %v, want %s that says %q", e.Problem, tt.reason, tt.words)
			}
		})
	}
}

func TestRetryAt(t *testing.T) {
	date := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		text string
		want time.Duration
		none bool
	}{
		{"", 0, true}, {"soon", 0, true}, {"-3", 0, true}, {"NaN", 0, true},
		{"0", 0, false}, {"7", 7 * time.Second, false}, {" 2.128 ", 2128 * time.Millisecond, false},
		{"99999999999", time.Hour, false}, {"1e300", time.Hour, false}, {"Inf", time.Hour, false},
		{date.Add(90 * time.Second).Format(http.TimeFormat), 90 * time.Second, false},
		{date.Add(-time.Hour).Format(http.TimeFormat), 0, false},
		{date.Add(48 * time.Hour).Format(http.TimeFormat), time.Hour, false},
	}
	for _, tt := range tests {
		header := http.Header{"Retry-After": {tt.text}, "Date": {date.Format(http.TimeFormat)}}
		before := time.Now()
		got := RetryAt(header)
		after := time.Now()
		if tt.none != got.IsZero() {
			t.Errorf("%q: %s, want none: %t", tt.text, got, tt.none)
		} else if !tt.none && (got.Before(before.Add(tt.want)) || got.After(after.Add(tt.want))) {
			t.Errorf("%q: in %s, want in %s", tt.text, got.Sub(before), tt.want)
		}
	}
}

// A 404 can stand for an empty list, and what is empty is so at a time.
func TestRefusalsTellWhen(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", "Sun, 22 Nov 2026 10:00:00 GMT")
		http.Error(w, `{"error":{"code":"NotFound"}}`, http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	client, _ := newTestClient(t, server.URL)
	answer, _, err := get(t, client)
	_ = wantError(t, err)
	if want := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC); answer == nil || !answer.Date.Equal(want) || answer.Received.IsZero() || answer.RoundTrip <= 0 {
		t.Fatalf("answer is %+v, want one of %s", answer, want)
	}
	answer.Close()
}
