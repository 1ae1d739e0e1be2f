package entra

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestRequest(t *testing.T) {
	source := newTestSource(t, func(r *http.Request) (*http.Response, error) {
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
		return reply(200, `{"token_type":"Bearer","expires_in":"3599","access_token":"t"}`), nil
	})
	if token, err := source.Token(t.Context()); err != nil || token != "t" {
		t.Fatalf("token %q, error %v", token, err)
	}
}

func TestCacheAndRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, fails := 0, false
		source := newTestSource(t, func(*http.Request) (*http.Response, error) {
			asked++
			if fails {
				return reply(500, ``), nil
			}
			return reply(200, `{"token_type":"Bearer","expires_in":3600,"access_token":"t`+strings.Repeat("x", asked)+`"}`), nil
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
		source := newTestSource(t, func(*http.Request) (*http.Response, error) {
			asked++
			time.Sleep(time.Second)
			return reply(200, `{"token_type":"Bearer","expires_in":3600,"access_token":"t`+strings.Repeat("x", asked)+`"}`), nil
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
		source := newTestSource(t, func(r *http.Request) (*http.Response, error) {
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

func TestRequestOfVersion1(t *testing.T) {
	config := secretConfig(entraFunc(func(r *http.Request) (*http.Response, error) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		if r.PostForm.Get("resource") != "https://graph.windows.net" || r.PostForm.Has("scope") || r.URL.Path != "/tenant/oauth2/token" {
			t.Errorf("request is %s %v", r.URL, r.PostForm)
		}
		return reply(200, `{"token_type":"Bearer","expires_in":"3599","access_token":"t"}`), nil
	}))
	config.Authentication.AuthorizationUrl = "https://login.test/tenant/oauth2/token"
	config.Scope, config.Resource = "", "https://graph.windows.net"
	source, err := NewSource(config)
	if err != nil {
		t.Fatal(err)
	}
	if token, err := source.Token(t.Context()); err != nil || token != "t" {
		t.Fatalf("token %q, error %v", token, err)
	}
}

// TestRenewalWhereTheIssuerWantsIt goes by refresh_in, which comes with tokens that live long.
func TestRenewalWhereTheIssuerWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		source := newTestSource(t, func(*http.Request) (*http.Response, error) {
			asked++
			return reply(200, `{"expires_in":"86399","refresh_in":"43200","access_token":"t`+strconv.Itoa(asked)+`"}`), nil
		})
		for _, at := range []struct {
			after time.Duration
			asked int
		}{{0, 1}, {12*time.Hour - time.Second, 1}, {time.Second, 2}} {
			time.Sleep(at.after)
			if _, err := source.Token(t.Context()); err != nil || asked != at.asked {
				t.Fatalf("%d requests, error %v; want %d", asked, err, at.asked)
			}
		}
	})
}

func TestNewSourceRefuses(t *testing.T) {
	certificate := &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{File: "f"}}
	workload := &integrationv1.Authentication_WorkloadIdentity{WorkloadIdentity: &integrationv1.WorkloadIdentity{}}
	managed := &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}
	at := func(tokenURL string) func(*Config) {
		return func(c *Config) {
			c.Authentication.Credential, c.Authentication.AuthorizationUrl = certificate, tokenURL
		}
	}
	const form, urlUnusable = "v2.0 token endpoint over HTTPS", "authorization URL cannot be used"
	tests := []struct {
		name   string
		change func(*Config)
		words  string
	}{
		{"no target", func(c *Config) { c.Scope = "" }, "neither a scope nor a resource"},
		{"two targets", func(c *Config) { c.Resource = "r" }, "or both"},
		{"a resource with a certificate", func(c *Config) { c.Authentication.Credential, c.Scope, c.Resource = certificate, "", "r" }, "client secret alone"},
		{"a resource with a managed identity", func(c *Config) { c.Authentication.Credential, c.Scope, c.Resource = managed, "", "r" }, "client secret alone"},
		{"no client id", func(c *Config) { c.Authentication.ClientId = "" }, "id is empty"},
		{"no credential", func(c *Config) { c.Authentication.Credential = nil }, "no credential"},
		{"no secret", func(c *Config) { c.Secrets = nil }, "secret is empty"},
		{"no certificate", func(c *Config) {
			c.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{}}
		}, "certificate is empty"},
		{"no URL", func(c *Config) { c.Authentication.AuthorizationUrl = "" }, urlUnusable},
		{"no authentication", func(c *Config) { c.Authentication = nil }, "id is empty"},
		{"a URL of another scheme", func(c *Config) { c.Authentication.AuthorizationUrl = "ftp://login.test/t/oauth2/token" }, urlUnusable},
		{"a URL with a user", func(c *Config) { c.Authentication.AuthorizationUrl = "https://u:p@login.test/t/oauth2/token" }, urlUnusable},
		{"a URL that is none", func(c *Config) { c.Authentication.AuthorizationUrl = "https://login.test:x/" }, urlUnusable},
		{"certificate at v1", at("https://login.test/tenant/oauth2/token"), form},
		{"certificate over HTTP", at("http://login.test/tenant/oauth2/v2.0/token"), form},
		{"certificate without a tenant", at("https://login.test/oauth2/v2.0/token"), form},
		{"certificate with a path", at("https://login.test/a/tenant/oauth2/v2.0/token"), form},
		{"certificate with an odd tenant", at("https://login.test/ten%20ant/oauth2/v2.0/token"), form},
		{"certificate at common", at("https://login.test/common/oauth2/v2.0/token"), form},
		{"certificate at Organizations", at("https://login.test/Organizations/oauth2/v2.0/token"), form},
		{"certificate at AD FS", at("https://login.test/adfs/oauth2/v2.0/token"), form},
		{"workload identity at v1", func(c *Config) {
			c.Authentication.Credential, c.Authentication.AuthorizationUrl = workload, "https://login.test/tenant/oauth2/token"
		}, form},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			config := secretConfig(nil)
			tt.change(&config)
			source, err := NewSource(config)
			e := wantError(t, err)
			if source != nil || e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID || !e.Permanent || !strings.Contains(e.Problem.GetMessage(), tt.words) {
				t.Errorf("problem is %v, want it to say %q", e.Problem, tt.words)
			}
		})
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	reached := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer other.Close()
	server := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	_, err := newSourceAt(t, server.URL).Token(t.Context())
	if e := wantError(t, err); reached || e.Problem.GetReason() != invalidAnswer {
		t.Errorf("reached %t, error %v", reached, err)
	}
}

func TestUnreachable(t *testing.T) {
	_, err := newSourceAt(t, "http://127.0.0.1:1/t").Token(t.Context())
	if e := wantError(t, err); e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE || !strings.Contains(e.Problem.GetMessage(), "Entra") {
		t.Errorf("problem is %v", e.Problem)
	}
}

// TestWhatIsNoHTTPIsNotQuoted has a server that answers with what it was sent.
func TestWhatIsNoHTTPIsNotQuoted(t *testing.T) {
	source := newTestSource(t, func(*http.Request) (*http.Response, error) {
		return nil, errors.New("malformed HTTP response " + strconv.Quote(plantedSecret))
	})
	_, err := source.Token(t.Context())
	if e := wantError(t, err); e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE {
		t.Errorf("problem is %v", e.Problem)
	}
}

// newSourceAt is a source with a secret whose token endpoint is at an address.
func newSourceAt(t *testing.T, address string) *Source {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	config := secretConfig(transport)
	config.Authentication.AuthorizationUrl = address
	config.Secrets = &storev1.Secrets{ClientSecret: plantedSecret}
	source, err := NewSource(config)
	if err != nil {
		t.Fatal(err)
	}
	return source
}
