package defendertest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// entraBody is Entra's error.
type entraBody struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
	URI           string `json:"error_uri"`
}

func TestTokenRefusals(t *testing.T) {
	w := newWorld(t, Options{})
	w.app.AddSecret("old", fixedClock{}.Now().Add(-time.Hour))
	disabled := w.tenant.AddApplication("disabled", testSecret)
	disabled.SetDisabled(true)
	w.server.AddTenant("bare").AddApplication(testAppID, testSecret)
	w.server.tenant("bare").RemoveResource(DefenderForEndpoint)

	tests := []struct {
		name   string
		tenant string
		change func(url.Values)
		status int
		error  string
		code   int
	}{
		{"tenant malformed", "con toso!", nil, 400, "invalid_request", 900023},
		{"tenant unknown", "99999999-0000-4000-8000-000000000000", nil, 400, "invalid_request", 90002},
		{"no grant type", "", func(f url.Values) { f.Del("grant_type") }, 400, "invalid_request", 900144},
		{"other grant type", "", func(f url.Values) { f.Set("grant_type", "password") }, 400, "unsupported_grant_type", 70003},
		{"no client id", "", func(f url.Values) { f.Del("client_id") }, 400, "invalid_request", 900144},
		{"unknown application", "", func(f url.Values) { f.Set("client_id", "nobody") }, 400, "unauthorized_client", 700016},
		{"disabled application", "", func(f url.Values) { f.Set("client_id", "disabled") }, 400, "unauthorized_client", 7000112},
		{"resource parameter", "", func(f url.Values) { f.Set("resource", string(Graph)) }, 400, "invalid_request", 901002},
		{"no scope", "", func(f url.Values) { f.Del("scope") }, 400, "invalid_request", 900144},
		{"two scopes", "", func(f url.Values) { f.Set("scope", "a/.default b/.default") }, 400, "invalid_scope", 70011},
		{"scope without default", "", func(f url.Values) { f.Set("scope", string(Graph)) }, 400, "invalid_scope", 1002012},
		{"scope encoded twice", "", func(f url.Values) { f.Set("scope", url.QueryEscape(f.Get("scope"))) }, 400, "invalid_scope", 1002012},
		{"unknown resource", "", func(f url.Values) { f.Set("scope", "https://other.test/.default") }, 400, "invalid_resource", 500011},
		{"resource not in tenant", "bare", func(f url.Values) { f.Set("scope", string(DefenderForEndpoint)+"/.default") }, 400, "invalid_resource", 500011},
		{"no secret", "", func(f url.Values) { f.Del("client_secret") }, 401, "invalid_client", 7000218},
		{"empty secret", "", func(f url.Values) { f.Set("client_secret", "") }, 401, "invalid_client", 7000216},
		{"wrong secret", "", func(f url.Values) { f.Set("client_secret", "x") }, 401, "invalid_client", 7000215},
		{"expired secret", "", func(f url.Values) { f.Set("client_secret", "old") }, 401, "invalid_client", 7000222},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			form := tokenForm(Graph)
			if test.change != nil {
				test.change(form)
			}
			tenant := test.tenant
			if tenant == "" {
				tenant = testTenantID
			}
			got := w.postToken(url.PathEscape(tenant), form)
			if got.status != test.status {
				t.Fatalf("status %d, want %d: %s", got.status, test.status, got.body)
			}
			body := decode[entraBody](t, got.body)
			if body.Error != test.error || !slices.Equal(body.Codes, []int{test.code}) {
				t.Errorf("error %q %v, want %q %d", body.Error, body.Codes, test.error, test.code)
			}
			if !strings.HasPrefix(body.Description, fmt.Sprintf("AADSTS%d: ", test.code)) ||
				!strings.Contains(body.Description, "\r\nTrace ID: "+body.TraceID+"\r\nCorrelation ID: "+body.CorrelationID+"\r\nTimestamp: 2026-11-20 10:00:00Z") {
				t.Errorf("description: %q", body.Description)
			}
			if body.URI != fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", test.code) || body.Timestamp != "2026-11-20 10:00:00Z" {
				t.Errorf("uri %q, timestamp %q", body.URI, body.Timestamp)
			}
			if strings.Contains(got.body, testSecret) {
				t.Error("the error tells the secret")
			}
		})
	}
}

func TestTokenEndpointOnlyTakesPosts(t *testing.T) {
	w := newWorld(t, Options{})
	got := w.get("", "/"+testTenantID+"/oauth2/v2.0/token")
	if got.status != 400 || decode[entraBody](t, got.body).Codes[0] != 900561 {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestTokenClaims(t *testing.T) {
	w := newWorld(t, Options{TokenLifetime: 10 * time.Minute})
	type claims struct {
		Aud   string   `json:"aud"`
		AppID string   `json:"appid"`
		Tid   string   `json:"tid"`
		Exp   int64    `json:"exp"`
		Roles []string `json:"roles"`
	}
	read := func(token string) (claims, string) {
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			t.Fatalf("a token of %d parts", len(parts))
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		return decode[claims](t, string(payload)), string(payload)
	}

	got, _ := read(w.token(DefenderForEndpoint))
	want := claims{string(DefenderForEndpoint), testAppID, testTenantID, fixedClock{}.Now().Add(10 * time.Minute).Unix(), []string{RoleMachineRead}}
	if got.Aud != want.Aud || got.AppID != want.AppID || got.Tid != want.Tid || got.Exp != want.Exp || !slices.Equal(got.Roles, want.Roles) {
		t.Errorf("claims %+v, want %+v", got, want)
	}
	w.app.SetRoles(RoleMachineRead)
	if _, payload := read(w.token(Graph)); strings.Contains(payload, "roles") {
		t.Errorf("without consent there must be no roles claim: %s", payload)
	}
}

func TestTokenByDomainAndBasicAuthentication(t *testing.T) {
	w := newWorld(t, Options{})
	form := tokenForm(Graph)
	form.Del("client_id")
	form.Del("client_secret")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.TokenURL("CONTOSO.test"), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(testAppID), url.QueryEscape(testSecret))
	if got := w.do(r); got.status != http.StatusOK {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestDataAPIsCheckTheToken(t *testing.T) {
	w := newWorld(t, Options{Machines: MachinesOptions{EmptyList: true}})
	graph, endpoint := w.token(Graph), w.token(DefenderForEndpoint)
	w.app.SetRoles("Vulnerability.Read.All", "SecurityEvents.Read.All")
	noGraphRole, noEndpointRole := w.token(Graph), w.token(DefenderForEndpoint)

	tests := []struct {
		name, token, path string
		status            int
		code, message     string
	}{
		{"alerts", graph, alertsPath, 200, "", ""},
		{"machines", endpoint, "/api/machines", 200, "", ""},
		{"machines v1.0", endpoint, "/api/v1.0/machines", 200, "", ""},
		{"alerts without token", "", alertsPath, 401, "InvalidAuthenticationToken", "Access token is empty."},
		{"alerts with any token", "a.b.c", alertsPath, 401, "InvalidAuthenticationToken", "Access token validation failure. Invalid signature."},
		{"alerts with the other audience", endpoint, alertsPath, 401, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience."},
		{"alerts without role", noGraphRole, alertsPath, 403, "Forbidden", "Missing application roles. API required roles: SecurityAlert.Read.All,SecurityAlert.ReadWrite.All,SecurityIncident.Read.All,SecurityIncident.ReadWrite.All, application roles: SecurityEvents.Read.All."},
		{"machines without token", "", "/api/machines", 401, "Unauthorized", "Missing authorization header."},
		{"machines with the other audience", graph, "/api/machines", 401, "Unauthorized", "Invalid or expired authorization header."},
		{"machines without role", noEndpointRole, "/api/machines", 403, "Forbidden", "Missing application roles. API required roles: Machine.Read.All,Machine.ReadWrite.All, application roles: Vulnerability.Read.All."},
		{"unknown to Graph", graph, "/v1.0/security/nothing", 400, "BadRequest", "Resource not found for the segment 'nothing'."},
		{"unknown to Defender", endpoint, "/api/machine", 404, "ResourceNotFound", "No HTTP resource was found that matches the request URI."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := w.get(test.token, test.path)
			checkError(t, got, test.status, test.code, test.message)
		})
	}
}

// checkError checks the error envelope of a data API; a status of 200 has none.
func checkError(t *testing.T, got reply, status int, code, message string) {
	t.Helper()
	if got.err != nil || got.status != status {
		t.Fatalf("status %d, want %d: %s %v", got.status, status, got.body, got.err)
	}
	if status == http.StatusOK {
		return
	}
	body := decode[struct {
		Error struct {
			Code, Message, Target string
			InnerError            map[string]string
		}
	}](t, got.body).Error
	if body.Code != code || body.Message != message {
		t.Errorf("%q %q, want %q %q", body.Code, body.Message, code, message)
	}
	if id := got.header.Get("Request-Id"); id == "" || body.Target != id && body.InnerError["request-id"] != id {
		t.Errorf("the request id %q is not in the body: %s", id, got.body)
	}
}

func TestTokensExpireAndAreRevoked(t *testing.T) {
	w := newWorld(t, Options{})
	first := w.token(Graph)
	w.server.AdvanceClock(time.Hour)
	checkError(t, w.get(first, alertsPath), 401, "InvalidAuthenticationToken", "Lifetime validation failed, the token is expired.")
	second := w.token(Graph)
	checkError(t, w.get(second, alertsPath), 200, "", "")
	w.app.RevokeTokens()
	if got := w.get(second, alertsPath); got.status != 401 {
		t.Errorf("a revoked token: %d", got.status)
	}
	checkError(t, w.get(w.token(Graph), alertsPath), 200, "", "")
}

func TestSecretsAreReplaced(t *testing.T) {
	w := newWorld(t, Options{})
	w.app.AddSecret("new", w.server.Now().Add(time.Hour))
	w.app.RemoveSecret(testSecret)
	form := tokenForm(Graph)
	if got := w.postToken(w.tenant.ID(), form); got.status != 401 {
		t.Errorf("the removed secret: %d", got.status)
	}
	form.Set("client_secret", "new")
	if got := w.postToken(w.tenant.ID(), form); got.status != 200 {
		t.Errorf("the new secret: %d %s", got.status, got.body)
	}
	w.server.AdvanceClock(time.Hour)
	if got := w.postToken(w.tenant.ID(), form); decode[entraBody](t, got.body).Codes[0] != 7000222 {
		t.Errorf("the new secret, expired: %s", got.body)
	}
}

func TestVersion1Endpoint(t *testing.T) {
	w := newWorld(t, Options{})
	post := func(form url.Values) reply {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.server.URL()+"/"+testTenantID+"/oauth2/token", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return w.do(r)
	}
	form := tokenForm(Graph)
	form.Del("scope")
	form.Set("resource", string(Graph))
	got := post(form)
	// Numbers are strings there.
	body := decode[map[string]string](t, got.body)
	token := body["access_token"]
	delete(body, "access_token")
	want := map[string]string{
		"token_type": "Bearer", "expires_in": "3599", "ext_expires_in": "3599", "expires_on": "1795172399", "not_before": "1795168800",
		"resource": string(Graph),
	}
	if got.status != http.StatusOK || !maps.Equal(body, want) {
		t.Errorf("%d %v, want %v", got.status, body, want)
	}
	checkError(t, w.get(token, alertsPath), http.StatusOK, "", "")

	for name, tt := range map[string]struct {
		change func(url.Values)
		code   int
	}{
		"a scope alone":           {func(f url.Values) { f.Del("resource"); f.Set("scope", string(Graph)+"/.default") }, 900144},
		"a scope for a resource":  {func(f url.Values) { f.Set("resource", string(Graph)+"/.default") }, 500011},
		"an unknown resource":     {func(f url.Values) { f.Set("resource", "https://other.test") }, 500011},
		"a wrong secret":          {func(f url.Values) { f.Set("client_secret", "x") }, 7000215},
		"an unknown application":  {func(f url.Values) { f.Set("client_id", "nobody") }, 700016},
		"an assertion, malformed": {func(f url.Values) { f.Set("client_assertion", "x"); f.Set("client_assertion_type", assertionType) }, 50027},
	} {
		form := tokenForm(Graph)
		form.Del("scope")
		form.Set("resource", string(Graph))
		tt.change(form)
		if got := post(form); got.status == http.StatusOK || decode[entraBody](t, got.body).Codes[0] != tt.code {
			t.Errorf("%s: %d %s, want %d", name, got.status, got.body, tt.code)
		}
	}
	if got := len(w.server.Calls(OnRoute(RouteToken))); got != 7 {
		t.Errorf("%d calls at the token endpoints, want 7", got)
	}
}

func TestOpenIDConfiguration(t *testing.T) {
	w := newWorld(t, Options{})
	const path = "/v2.0/.well-known/openid-configuration"
	for _, name := range []string{testTenantID, "contoso.test"} {
		body := decode[map[string]any](t, w.get("", "/"+name+path).body)
		if body["token_endpoint"] != w.server.TokenURL(testTenantID) || body["issuer"] != w.server.URL()+"/"+testTenantID+"/v2.0" || body["authorization_endpoint"] == "" {
			t.Errorf("%s: %v", name, body)
		}
	}
	if got := w.get("", "/nobody"+path); got.status != 400 || decode[entraBody](t, got.body).Codes[0] != 90002 {
		t.Errorf("an unknown tenant: %d %s", got.status, got.body)
	}
}
