package entra

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const plantedSecret = "planted~s&cret/+ value"

// entraFunc plays Entra without a network.
type entraFunc func(*http.Request) (*http.Response, error)

func (f entraFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body))}
}

func newTestSource(play entraFunc) *Source {
	return NewSource(Config{
		TokenURL: "https://login.test/tenant/oauth2/v2.0/token", ClientID: "client", ClientSecret: plantedSecret,
		Scope: "https://graph.test/.default", HTTP: rest.NewHTTPClient(play), UserAgent: "defender-integration/test",
	})
}

func TestRequest(t *testing.T) {
	source := newTestSource(func(r *http.Request) (*http.Response, error) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		want := map[string]string{
			"grant_type": "client_credentials", "client_id": "client", "client_secret": plantedSecret, "scope": "https://graph.test/.default",
		}
		for name, value := range want {
			if r.PostForm.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, r.PostForm.Get(name), value)
			}
		}
		if _, _, basic := r.BasicAuth(); basic || r.Header.Get("User-Agent") != "defender-integration/test" || r.Method != http.MethodPost {
			t.Errorf("request is %s %v", r.Method, r.Header)
		}
		return answer(200, `{"token_type":"Bearer","expires_in":"3599","access_token":"t"}`), nil
	})
	if token, err := source.Token(t.Context()); err != nil || token != "t" {
		t.Fatalf("token %q, error %v", token, err)
	}
}

func TestCacheAndRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, fails := 0, false
		source := newTestSource(func(*http.Request) (*http.Response, error) {
			asked++
			if fails {
				return answer(500, ``), nil
			}
			return answer(200, `{"token_type":"Bearer","expires_in":3600,"access_token":"t`+strings.Repeat("x", asked)+`"}`), nil
		})
		want := func(requests int) string {
			t.Helper()
			token, err := source.Token(t.Context())
			if err != nil || asked != requests {
				t.Fatalf("%d requests after %s, error %v; want %d", asked, time.Now(), err, requests)
			}
			return token
		}
		first := want(1)
		time.Sleep(54*time.Minute + 59*time.Second)
		want(1)
		time.Sleep(time.Second) // five minutes before the end
		if want(2) == first {
			t.Error("the token was not renewed")
		}

		// An early renewal that fails leaves the token that still holds, and is not repeated at once.
		time.Sleep(56 * time.Minute)
		fails = true
		want(3)
		want(3)
		time.Sleep(renewPause)
		want(4)
		time.Sleep(4 * time.Minute)
		if token, err := source.Token(t.Context()); err == nil {
			t.Fatalf("an expired token was given: %q", token)
		}
		fails = false
		if _, err := source.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestOneRenewalForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		source := newTestSource(func(*http.Request) (*http.Response, error) {
			asked++
			time.Sleep(time.Second)
			return answer(200, `{"token_type":"Bearer","expires_in":3600,"access_token":"t`+strings.Repeat("x", asked)+`"}`), nil
		})
		refused, err := source.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if token, err := source.Renew(t.Context(), refused); err != nil || token == refused {
					t.Errorf("renewed %q, error %v", token, err)
				}
			})
		}
		all.Wait()
		if asked != 2 {
			t.Errorf("%d requests, want one and one renewal", asked)
		}
		if _, err := source.Fresh(t.Context()); err != nil || asked != 3 {
			t.Errorf("%d requests, error %v; want a fresh one", asked, err)
		}
	})
}

func TestWaitingEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newTestSource(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		for range 2 {
			go func() {
				if _, err := source.Token(ctx); !errors.Is(err, why) {
					t.Errorf("error is %v, want the cause", err)
				}
			}()
		}
		synctest.Wait()
		cancel(why)
		synctest.Wait()

		// Without an end of its own, the request is ended.
		if _, err := source.Token(t.Context()); err == nil {
			t.Error("a request that hangs gave a token")
		}
	})
}

func TestRefusals(t *testing.T) {
	refusal := func(standard, code, text string) string {
		return `{"error":"` + standard + `","error_description":"AADSTS` + code + `: ` + text + `\r\nTrace ID: tr\r\nCorrelation ID: co\r\nTimestamp: 2026-01-02 03:04:05Z","error_codes":[` + code + `],"trace_id":"tr","correlation_id":"co"}`
	}
	tests := []struct {
		name      string
		status    int
		body      string
		reason    integrationv1.ErrorReason
		permanent bool
		code      string
		message   string
		remedy    string
	}{
		{"wrong secret", 401, refusal("invalid_client", "7000215", "Invalid client secret provided."), auth, true, "AADSTS7000215", "client secret is wrong", "Value, not its Secret ID"},
		{"expired secret", 401, refusal("invalid_client", "7000222", "x"), auth, true, "AADSTS7000222", "has expired", "new secret"},
		{"unknown application", 400, refusal("unauthorized_client", "700016", "x"), auth, true, "AADSTS700016", "does not know the application", "client) id"},
		{"unknown tenant", 400, refusal("invalid_request", "90002", "x"), auth, true, "AADSTS90002", "no such tenant", "cloud"},
		{"another cloud", 400, refusal("invalid_request", "900432", "x"), auth, true, "AADSTS900432", "another national cloud", "tenant's cloud"},
		{"unknown resource", 400, refusal("invalid_resource", "500011", "x"), auth, true, "AADSTS500011", "not known in the tenant", "Defender"},
		{"conditional access", 400, refusal("invalid_grant", "53003", "x"), auth, true, "AADSTS53003", "Conditional Access", "policies"},
		{"scope", 400, refusal("invalid_scope", "1002012", "x"), auth, true, "AADSTS1002012", "scope", "/.default"},
		{"unknown code", 400, refusal("invalid_client", "123456", "Something new."), auth, true, "AADSTS123456", "Something new.", "tenant"},
		{"no code", 400, `{"error":"unauthorized_client"}`, auth, true, "unauthorized_client", "does not accept the application", "tenant"},
		{"code in the text alone", 400, `{"error":"invalid_client","error_description":"AADSTS7000215: x Trace ID: y"}`, auth, true, "AADSTS7000215", "client secret is wrong", "Value"},
		{"transient code", 400, refusal("invalid_request", "90033", "x"), integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "AADSTS90033", "failed", "tried again"},
		{"temporarily unavailable", 400, `{"error":"temporarily_unavailable"}`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "temporarily_unavailable", "failed", "tried again"},
		{"500", 500, `oops`, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, "", "HTTP status 500", "tried again"},
		{"429", 429, `{}`, integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "", "less often", "by itself"},
		{"loop", 400, refusal("invalid_grant", "50196", "x"), integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "AADSTS50196", "less often", "by itself"},
		{"redirect", 302, ``, invalidAnswer, false, "", "redirect", "authorization URL"},
		{"404 in HTML", 404, `<html>`, invalidAnswer, false, "", "without saying why", "authorization URL"},
		{"HTML", 200, `<html>sign in</html>`, invalidAnswer, false, "", "something else than the JSON", "proxy"},
		{"empty", 200, ``, invalidAnswer, false, "", "something else than the JSON", "proxy"},
		{"no token", 200, `{"token_type":"Bearer","expires_in":3600}`, invalidAnswer, false, "", "no token", "proxy"},
		{"empty token", 200, `{"token_type":"Bearer","expires_in":3600,"access_token":""}`, invalidAnswer, false, "", "no token", "proxy"},
		{"no life", 200, `{"token_type":"Bearer","access_token":"t"}`, invalidAnswer, false, "", "expires_in", "proxy"},
		{"expired", 200, `{"token_type":"Bearer","access_token":"t","expires_in":-5}`, invalidAnswer, false, "", "", "proxy"},
		{"no header's value", 200, "{\"token_type\":\"Bearer\",\"access_token\":\"t\\r\\nX: y\",\"expires_in\":3600}", invalidAnswer, false, "", "no token", "proxy"},
		{"the secret echoed", 400, refusal("invalid_client", "123456", `not planted~s&cret/+ value nor planted~s%26cret%2F%2B+value`), auth, true, "AADSTS123456", "not [secret] nor [secret]", "tenant"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source := newTestSource(func(*http.Request) (*http.Response, error) { return answer(tt.status, tt.body), nil })
			_, err := source.Token(t.Context())
			e := wantError(t, err)
			p := e.Problem
			if p.GetReason() != tt.reason || e.Permanent != tt.permanent || p.GetUpstreamCode() != tt.code {
				t.Errorf("problem is %v (permanent %t), want %s (permanent %t) with code %q", p, e.Permanent, tt.reason, tt.permanent, tt.code)
			}
			if !strings.Contains(p.GetMessage(), tt.message) || !strings.Contains(p.GetRemedy(), tt.remedy) {
				t.Errorf("problem is %v, want it to say %q and %q", p, tt.message, tt.remedy)
			}
			if strings.Contains(tt.body, `"trace_id"`) && p.GetUpstreamRequestId() != "trace tr, correlation co" {
				t.Errorf("request id is %q", p.GetUpstreamRequestId())
			}
		})
	}
}

const (
	auth          = integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED
	invalidAnswer = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
)

func wantError(t *testing.T, err error) *defender.Error {
	t.Helper()
	var e *defender.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want a *defender.Error", err)
	}
	if e.Problem.GetMessage() == "" || e.Problem.GetRemedy() == "" {
		t.Errorf("%v has no words or no remedy", e.Problem)
	}
	for _, secret := range []string{plantedSecret, "planted~s%26cret%2F%2B+value"} {
		if strings.Contains(e.Error()+e.Problem.String(), secret) {
			t.Errorf("the secret is in the error: %v", e)
		}
	}
	return e
}

func TestRedirectIsNotFollowed(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	transport := rest.NewTransport()
	defer transport.CloseIdleConnections()
	source := NewSource(Config{TokenURL: server.URL, ClientID: "c", ClientSecret: plantedSecret, Scope: "s", HTTP: rest.NewHTTPClient(transport), UserAgent: "x"})
	_, err := source.Token(t.Context())
	if e := wantError(t, err); reached || e.Problem.GetReason() != invalidAnswer {
		t.Errorf("reached %t, error %v", reached, err)
	}
}

func TestUnreachable(t *testing.T) {
	transport := rest.NewTransport()
	defer transport.CloseIdleConnections()
	source := NewSource(Config{TokenURL: "http://127.0.0.1:1/t", ClientID: "c", ClientSecret: plantedSecret, Scope: "s", HTTP: rest.NewHTTPClient(transport), UserAgent: "x"})
	_, err := source.Token(t.Context())
	if e := wantError(t, err); e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE || !strings.Contains(e.Problem.GetMessage(), "Entra") {
		t.Errorf("problem is %v", e.Problem)
	}
}

func TestReadClaims(t *testing.T) {
	// {"aud":"https://graph.test","roles":["A","B"],"tid":"t"}
	claims, err := ReadClaims("h.eyJhdWQiOiJodHRwczovL2dyYXBoLnRlc3QiLCJyb2xlcyI6WyJBIiwiQiJdLCJ0aWQiOiJ0In0.s")
	if err != nil || claims.Audience != "https://graph.test" || strings.Join(claims.Roles, ",") != "A,B" || claims.Tenant != "t" {
		t.Errorf("claims are %+v, error %v", claims, err)
	}
	for _, token := range []string{"", "opaque", "a.b", "a.!.c", "a.W10.c", "a." + strings.Repeat("a", maxClaims+1) + ".c"} {
		if _, err := ReadClaims(token); err == nil || token != "" && strings.Contains(err.Error(), token) {
			t.Errorf("%.20q: error %v, want one that does not repeat it", token, err)
		}
	}
}

func TestCausesAreWhole(t *testing.T) {
	seen := map[int]bool{}
	for _, group := range causes() {
		if !group.transient && (group.meaning == "" || group.remedy == "") {
			t.Errorf("%v has no words", group.codes)
		}
		for _, code := range group.codes {
			if seen[code] {
				t.Errorf("%d is there twice", code)
			}
			seen[code] = true
		}
	}
}
