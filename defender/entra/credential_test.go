package entra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"defender-integration/defender/defendertest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// kind is a way to prove oneself, as a test sets it up.
type kind struct {
	name string
	// clear says that it is tried in clear: managed identity endpoints are.
	clear bool
	set   func(*world)
	// secrets are what it must not tell, of what it was set up with.
	secrets func(*world) []string
	// discovers says that the library reads where tokens are given before it asks for one.
	discovers bool
}

func kinds() []kind {
	pem := func(w *world) []string { return []string{w.newPEM(firstKey())} }
	return []kind{
		{name: "secret", set: func(w *world) {
			w.withSecret("")
			w.config.Secrets = &storev1.Secrets{ClientSecret: plantedSecret}
		}},
		{name: "secret at v1", set: func(w *world) {
			w.withSecret("")
			w.config.Secrets = &storev1.Secrets{ClientSecret: plantedSecret}
			w.config.Authentication.AuthorizationUrl = w.server.URL() + "/" + tenantID + "/oauth2/token"
			w.config.Scope, w.config.Resource = "", string(defendertest.Graph)
		}},
		{name: "secret in a file", set: func(w *world) {
			w.withSecret("client-secret")
			w.write("client-secret", "\n "+plantedSecret+"\r\n")
		}},
		{name: "certificate", discovers: true, secrets: pem, set: func(w *world) {
			w.withCertificate("")
			w.config.Secrets = &storev1.Secrets{ClientCertificate: w.newPEM(firstKey())}
		}},
		{name: "certificate in a file", discovers: true, secrets: pem, set: func(w *world) {
			w.withCertificate("client.pem")
			w.write("client.pem", w.newPEM(firstKey()))
		}},
		{name: "workload identity", discovers: true, set: func(w *world) {
			w.withWorkload("token")
			w.write("token", w.federatedToken(nil)+"\n")
		}},
		{name: "workload identity of the environment", discovers: true, set: func(w *world) {
			w.withWorkload("")
			w.write("token", w.federatedToken(nil))
			w.t.Setenv(tokenFileVariable, w.folder+"/token")
		}},
		{name: "system-assigned managed identity", clear: true, set: func(w *world) { w.withManaged("") }},
		{name: "user-assigned managed identity", clear: true, set: func(w *world) { w.withManaged(userAssignedID) }},
	}
}

// TestKinds gets tokens in every way, and counts the requests: no library's cache stands between.
func TestKinds(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{TLS: !kind.clear})
			kind.set(w)
			source := w.source()
			want := func(token string, err error, asked int) string {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				claims, err := ReadClaims(token)
				if err != nil || claims.Audience != string(defendertest.Graph) || claims.Tenant != tenantID {
					t.Errorf("claims are %+v, error %v", claims, err)
				}
				if w.asked() != asked {
					t.Errorf("%d tokens were asked for, want %d", w.asked(), asked)
				}
				return token
			}
			first, err := source.Token(t.Context())
			want(first, err, 1)
			token, err := source.Token(t.Context())
			want(token, err, 1)
			fresh, err := source.Fresh(t.Context())
			if want(fresh, err, 2) == first {
				t.Error("Fresh gave the cached token")
			}
			renewed, err := source.Renew(t.Context(), fresh)
			if want(renewed, err, 3) == fresh {
				t.Error("Renew gave the refused token")
			}
			token, err = source.Renew(t.Context(), fresh)
			if want(token, err, 3) != renewed {
				t.Error("a token that was renewed already was renewed again")
			}
			discovered := len(w.server.Calls(defendertest.OnRoute(defendertest.RouteOpenID)))
			if kind.discovers != (discovered == 3) {
				t.Errorf("the tenant's endpoints were read %d times", discovered)
			}
			for _, call := range w.server.Calls(nil) {
				if call.App != "" && call.App != w.config.Authentication.GetClientId() && w.config.Authentication.GetClientId() != "" {
					t.Errorf("a token of %s was asked for", call.App)
				}
			}
		})
	}
}

// echo answers with everything that a request had, in every place that an answer has.
func echo(status int, sent *[]string) defendertest.Responder {
	return func(_ context.Context, r *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
		_ = r.ParseForm() // what cannot be read is not sent back
		for _, name := range []string{"client_secret", "client_assertion"} {
			*sent = append(*sent, r.PostForm[name]...)
		}
		*sent = append(*sent, r.Header.Values("X-Identity-Header")...)
		all := strings.Join(*sent, " ")
		answer := defendertest.NewAnswer(status, fmt.Sprintf(
			`{"error":%q,"error_description":%q,"trace_id":%q,"correlation_id":%q,"message":%q,"token_type":%q,"access_token":%q}`,
			all, "AADSTS123: "+all+" "+r.PostForm.Encode(), all, all, all, all, "t"))
		answer.Header.Set("X-Ms-Request-Id", strings.Map(func(r rune) rune { return max(r, ' ') }, all))
		return answer
	}
}

// TestNoSecretIsTold has each kind's requests answered with what they sent.
func TestNoSecretIsTold(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{TLS: !kind.clear})
			kind.set(w)
			source := w.source()
			route := defendertest.RouteToken
			if kind.clear {
				route = defendertest.RouteIdentity
			}
			for _, status := range []int{200, 302, 400, 401, 403, 404, 429, 500} {
				var sent []string
				remove := w.server.Inject(defendertest.Fault{Route: route, Times: -1, Respond: echo(status, &sent)})
				_, err := source.Fresh(t.Context())
				remove()
				if kind.secrets != nil {
					sent = append(sent, kind.secrets(w)...)
				}
				e := wantError(t, err, sent...)
				if len(sent) == 0 {
					t.Fatalf("nothing was sent: %v", e)
				}
				if int(e.Problem.GetHttpStatus()) != status {
					t.Errorf("problem is %v, want the status %d", e.Problem, status)
				}
			}
		})
	}
}

// TestNoAnswer cuts connections, and ends a context while an answer is waited for.
func TestNoAnswer(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{TLS: !kind.clear})
			kind.set(w)
			source := w.source()
			remove := w.server.Inject(defendertest.Fault{Times: -1, Respond: defendertest.Cut()})
			_, err := source.Token(t.Context())
			if e := wantError(t, err); e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE || e.Permanent {
				t.Errorf("problem is %v", e.Problem)
			}
			remove()

			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			w.server.Inject(defendertest.Fault{Respond: func(ctx context.Context, _ *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
				cancel(why)
				<-ctx.Done()
				return nil
			}})
			if _, err := source.Token(ctx); !errors.Is(err, why) {
				t.Errorf("error is %v, want the cause of the context's end", err)
			}
			if _, err := source.Inspect(ctx); !errors.Is(err, why) {
				t.Errorf("Inspect says %v, want the cause of the context's end", err)
			}
		})
	}
}

// TestNothingLeavesTheOrigin has the description of a tenant's endpoints name another host.
func TestNothingLeavesTheOrigin(t *testing.T) {
	other := newWorld(t, defendertest.Options{TLS: true})
	for _, kind := range kinds() {
		if !kind.discovers {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{TLS: true})
			kind.set(w)
			tests := []struct {
				name, body string
				status     int
				words      string
			}{
				{"another host", fmt.Sprintf(`{"token_endpoint":%q,"authorization_endpoint":"https://a.test","issuer":%q}`, other.server.TokenURL(tenantID), w.server.URL()), 200, "to another host"},
				{"in clear", fmt.Sprintf(`{"token_endpoint":%q,"authorization_endpoint":"https://a.test","issuer":%q}`, strings.Replace(w.server.TokenURL(tenantID), "https", "http", 1), w.server.URL()), 200, "to another host"},
				{"another issuer", fmt.Sprintf(`{"token_endpoint":%q,"authorization_endpoint":"https://a.test","issuer":"https://other.test"}`, w.server.TokenURL(tenantID)), 200, "something else than the description"},
				{"no token endpoint", `{}`, 200, "something else than the description"},
				{"HTML", `<html>sign in</html>`, 200, "something else than the description"},
				{"a token", `{"access_token":"t","expires_in":3600}`, 200, "something else than the description"},
				{"a redirect", ``, 302, "redirect"},
				{"nothing", ``, 404, "without saying why"},
				{"a failure", ``, 503, "it failed"},
				{"a long answer", strings.Repeat(" ", maxAnswer+1), 200, "more than the JSON"},
			}
			for _, tt := range tests {
				header := http.Header{}
				if tt.status == 302 {
					header.Set("Location", other.server.URL()+"/"+tenantID+"/v2.0/.well-known/openid-configuration")
				}
				w.server.Inject(defendertest.Fault{Route: defendertest.RouteOpenID, Respond: defendertest.Respond(tt.status, header, tt.body)})
				_, err := w.source().Token(t.Context())
				if e := wantError(t, err); !strings.Contains(e.Problem.GetMessage(), tt.words) {
					t.Errorf("%s: problem is %v, want it to say %q", tt.name, e.Problem, tt.words)
				}
			}
			if w.asked() != 0 {
				t.Errorf("%d tokens were asked for", w.asked())
			}
		})
	}
	if calls := other.server.Calls(nil); len(calls) != 0 {
		t.Errorf("the other host was called: %v", calls)
	}
}

// TestUnknownTenant is refused before the credential is sent, where the library reads the tenant's endpoints.
func TestUnknownTenant(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.withWorkload("token")
	w.write("token", w.federatedToken(nil))
	w.config.Authentication.AuthorizationUrl = w.server.TokenURL("99999999-0000-4000-8000-000000000000")
	_, err := w.source().Token(t.Context())
	if e := wantError(t, err); e.Problem.GetUpstreamCode() != "AADSTS90002" || w.asked() != 0 {
		t.Errorf("problem is %v, %d tokens were asked for", e.Problem, w.asked())
	}
}

// TestRegionOfTheEnvironment has the environment lead Microsoft's library to a region's host. It is not called.
func TestRegionOfTheEnvironment(t *testing.T) {
	w := newWorld(t, defendertest.Options{TLS: true})
	w.withWorkload("token")
	w.write("token", w.federatedToken(nil))
	t.Setenv("AZURE_REGIONAL_AUTHORITY_NAME", "westeurope")
	_, err := w.source().Token(t.Context())
	if e := wantError(t, err); !strings.Contains(e.Problem.GetMessage(), "another host, westeurope.") || !strings.Contains(e.Problem.GetRemedy(), "AZURE_REGIONAL_AUTHORITY_NAME") {
		t.Errorf("problem is %v", e.Problem)
	}
}
