package entra

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// withMetadataService leads what goes to the Instance Metadata Service to another address.
func (w *world) withMetadataService(source *Source, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	w.t.Helper()
	transport, ok := source.wire.http.Transport.(*http.Transport)
	if !ok {
		w.t.Fatalf("the transport is %T", source.wire.http.Transport)
	}
	transport.DialContext = dial
}

func TestMetadataService(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.withManaged("")
	t.Setenv("IDENTITY_ENDPOINT", "")
	t.Setenv("IDENTITY_HEADER", "")
	source := w.source()
	w.withMetadataService(source, func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "169.254.169.254:80" {
			t.Errorf("it calls %s", address)
		}
		return (&net.Dialer{}).DialContext(ctx, network, w.server.URL()[len("http://"):])
	})
	for asked := range 3 {
		token, err := source.Fresh(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if claims, err := ReadClaims(token); err != nil || claims.Audience != string(defendertest.Graph) || w.asked() != asked+1 {
			t.Errorf("claims are %+v, error %v, %d tokens were asked for", claims, err, w.asked())
		}
	}
	for _, call := range w.server.Calls(nil) {
		if call.Path != "/metadata/identity/oauth2/token" {
			t.Errorf("it called %v", call)
		}
	}
	if until := time.Until(source.token.expires); until < 59*time.Minute || until > time.Hour {
		t.Errorf("the token is good for %s", until)
	}
}

func TestManagedIdentityRefusals(t *testing.T) {
	const failed = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED
	tests := []struct {
		name      string
		status    int
		body      string
		reason    integrationv1.ErrorReason
		permanent bool
		message   string
		remedy    string
	}{
		{"not assigned", 400, `{"error":"invalid_request","error_description":"Identity not found"}`, auth, true, "not assigned", "Identity"},
		{"not assigned, App Service", 400, `{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found"}`, auth, true, "No User Assigned", "Identity"},
		{"Entra's code passed on", 400, `{"error":"invalid_resource","error_description":"AADSTS500011: x"}`, auth, true, "AADSTS500011", "scope"},
		{"wrong header", 401, ``, auth, true, "does not let this service", "himds"},
		{"a proxy", 403, `unreachable`, invalidAnswer, false, "HTTP status 403", "no proxy"},
		{"updating", 404, ``, failed, false, "HTTP status 404", "tried again"},
		{"gone for now", 410, ``, failed, false, "HTTP status 410", "tried again"},
		{"failing", 500, `{"error":"unknown","error_description":"x"}`, failed, false, "HTTP status 500", "tried again"},
		{"throttled", 429, ``, integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, "less often", "by itself"},
		{"HTML", 200, `<html>`, invalidAnswer, false, "something else than the JSON", "managed identity endpoint"},
		{"no token", 200, `{}`, invalidAnswer, false, "no token", "managed identity endpoint"},
		{"redirect", 302, ``, invalidAnswer, false, "HTTP status 302", "no proxy"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, defendertest.Options{})
			w.withManaged(userAssignedID)
			w.server.Inject(defendertest.Fault{Route: defendertest.RouteIdentity, Times: -1, Respond: defendertest.Respond(tt.status, http.Header{"Location": {w.server.URL() + "/x"}}, tt.body)})
			_, err := w.source().Token(t.Context())
			e := wantError(t, err, defendertest.IdentityHeader)
			p := e.Problem
			if p.GetReason() != tt.reason || e.Permanent != tt.permanent || !strings.Contains(p.GetMessage(), tt.message) || !strings.Contains(p.GetRemedy(), tt.remedy) {
				t.Errorf("problem is %v (permanent %t), want %s that says %q and %q", p, e.Permanent, tt.reason, tt.message, tt.remedy)
			}
			if calls := w.server.Calls(nil); len(calls) != 1 {
				t.Errorf("it called %v, want one call", calls)
			}
		})
	}
}

func TestManagedIdentityThatIsNotAssigned(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.withManaged("99999999-0000-4000-8000-000000000000")
	_, err := w.source().Token(t.Context())
	if e := wantError(t, err); !strings.Contains(e.Problem.GetMessage(), "99999999-0000-4000-8000-000000000000 is not assigned") {
		t.Errorf("problem is %v, want it to name the identity", e.Problem)
	}
}

// TestNoManagedIdentity is a machine without an endpoint.
func TestNoManagedIdentity(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.withManaged("")
	t.Setenv("IDENTITY_ENDPOINT", "")
	t.Setenv("IDENTITY_HEADER", "")
	source := w.source()
	for words, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"answers on this machine.": func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:1")
		},
		"answers on this machine in time.": func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrDeadlineExceeded },
	} {
		w.withMetadataService(source, dial)
		_, err := source.Token(t.Context())
		e := wantError(t, err)
		if e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE || !strings.Contains(e.Problem.GetMessage(), words) ||
			!strings.Contains(e.Problem.GetRemedy(), "169.254.169.254") {
			t.Errorf("problem is %v, want it to say %q", e.Problem, words)
		}
	}
}

// TestManagedIdentityOfServiceFabric is not supported, and says so before anything is sent.
func TestManagedIdentityOfServiceFabric(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.withManaged("")
	t.Setenv("IDENTITY_SERVER_THUMBPRINT", "00")
	_, err := w.source().Token(t.Context())
	if e := wantError(t, err); e.Problem.GetReason() != notUsable || !strings.Contains(e.Problem.GetMessage(), "not supported") || w.asked() != 0 {
		t.Errorf("problem is %v, %d tokens were asked for", e.Problem, w.asked())
	}
}

// TestManagedIdentityTakesNoProxy has the environment and the integration's client lead elsewhere.
func TestManagedIdentityTakesNoProxy(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	w.withManaged("")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	w.config.HTTP.Transport = entraFunc(func(r *http.Request) (*http.Response, error) {
		t.Errorf("the integration's client called %s", r.URL)
		return reply(500, ""), nil
	})
	source := w.source()
	if transport, ok := source.wire.http.Transport.(*http.Transport); !ok || transport.Proxy != nil {
		t.Errorf("the transport is %+v, want one without a proxy", source.wire.http.Transport)
	}
	if _, err := source.Token(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestInspectManagedIdentity(t *testing.T) {
	w := newWorld(t, defendertest.Options{})
	for id, want := range map[string]string{"": "the system-assigned managed identity", userAssignedID: "the user-assigned managed identity " + userAssignedID} {
		w.withManaged(id)
		if found, err := w.source().Inspect(t.Context()); err != nil || found != (Inspection{Kind: want}) {
			t.Errorf("found %+v, error %v; want %q", found, err, want)
		}
	}
	if w.asked() != 0 {
		t.Errorf("%d tokens were asked for", w.asked())
	}
}
