package defendertest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// tokenEndpoint plays Entra's token endpoints for client credentials, with a secret or an assertion
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow): the v2.0 one, which takes a scope, and
// the v1 one, which takes a resource. Requests are checked in the order in which Entra does: the tenant, the form, the application,
// the scope or resource, the secret or assertion.
func (s *Server) tokenEndpoint(x *exchange) *Answer {
	if x.request.Method != http.MethodPost {
		return s.EntraError(400, "invalid_request", 900561, fmt.Sprintf("The endpoint only accepts POST requests. Received a %s request.", x.request.Method))
	}
	tenant, refusal := s.namedTenant(x)
	if refusal != nil {
		return refusal
	}
	if err := x.request.ParseForm(); err != nil {
		return s.EntraError(400, "invalid_request", 900144, "The request body could not be read.")
	}
	form := x.request.PostForm
	grantType := form.Get("grant_type")
	if grantType == "" {
		return s.missing("grant_type")
	}
	if grantType != "client_credentials" {
		return s.EntraError(400, "unsupported_grant_type", 70003, fmt.Sprintf("The app requested an unsupported grant type '%s'.", grantType))
	}

	clientID, clientSecret, hasSecret := credentials(x.request, form)
	if clientID == "" {
		return s.missing("client_id")
	}
	x.call.App = clientID
	app := tenant.application(clientID)
	if app == nil {
		return s.EntraError(400, "unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the directory '%s'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.", clientID, tenant.id))
	}
	x.call.App = app.id
	if app.isDisabled() {
		return s.EntraError(400, "unauthorized_client", 7000112, fmt.Sprintf("Application '%s'(%s) is disabled.", app.id, app.id))
	}

	isV1 := strings.HasSuffix(x.request.URL.Path, v1TokenPath)
	check := s.checkScope
	if isV1 {
		check = s.checkResource
	}
	resource, refusal := check(form, tenant)
	if refusal != nil {
		return refusal
	}

	proof := provedBySecret
	if form.Has("client_assertion") {
		proof = provedByAssertion
		refusal = s.checkAssertion(x, app, form)
	} else {
		refusal = s.checkSecret(app, clientSecret, hasSecret)
	}
	if refusal != nil {
		return refusal
	}
	return s.tokenAnswer(app, resource, proof, isV1)
}

// namedTenant finds the tenant that the path names.
func (s *Server) namedTenant(x *exchange) (*Tenant, *Answer) {
	name := x.request.PathValue("tenant")
	x.call.Tenant = name
	if strings.Trim(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-") != "" {
		return nil, s.EntraError(400, "invalid_request", 900023, fmt.Sprintf("Specified tenant identifier '%s' is neither a valid DNS name, nor a valid external domain.", name))
	}
	tenant := s.tenant(name)
	if tenant == nil {
		return nil, s.EntraError(400, "invalid_request", 90002, fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.", name))
	}
	x.call.Tenant = tenant.id
	return tenant, nil
}

// checkSecret refuses a secret that is missing, wrong or expired.
func (s *Server) checkSecret(app *Application, clientSecret string, hasSecret bool) *Answer {
	if !hasSecret {
		return s.EntraError(401, "invalid_client", 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	}
	if clientSecret == "" {
		return s.EntraError(401, "invalid_client", 7000216, "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.")
	}
	switch app.checkSecret(clientSecret, s.clock.Now()) {
	case secretWrong:
		return s.EntraError(401, "invalid_client", 7000215, fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", app.id))
	case secretExpired:
		return s.EntraError(401, "invalid_client", 7000222, fmt.Sprintf("The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.", app.id))
	}
	return nil
}

// tokenAnswer gives out a token, in the words of one of the two endpoints. The v1 endpoint writes numbers as strings, as in
// Microsoft's samples (https://learn.microsoft.com/en-us/defender-endpoint/pull-alerts-using-rest-api).
func (s *Server) tokenAnswer(app *Application, resource Resource, proof proof, isV1 bool) *Answer {
	token, err := s.issue(app, resource, proof)
	if err != nil {
		return s.EntraError(500, "server_error", 90033, "A transient error has occurred. Please try again.")
	}
	seconds := int64(s.options.TokenLifetime.Seconds())
	if isV1 {
		now := s.clock.Now()
		return jsonAnswer(200, struct {
			TokenType    string   `json:"token_type"`
			ExpiresIn    int64    `json:"expires_in,string"`
			ExtExpiresIn int64    `json:"ext_expires_in,string"`
			ExpiresOn    int64    `json:"expires_on,string"`
			NotBefore    int64    `json:"not_before,string"`
			Resource     Resource `json:"resource"`
			AccessToken  string   `json:"access_token"`
		}{"Bearer", seconds, seconds, now.Unix() + seconds, now.Unix(), resource, token})
	}
	return jsonAnswer(200, struct {
		TokenType    string `json:"token_type"`
		ExpiresIn    int64  `json:"expires_in"`
		ExtExpiresIn int64  `json:"ext_expires_in"`
		AccessToken  string `json:"access_token"`
	}{"Bearer", seconds, seconds, token})
}

// openIDConfiguration plays the description of a tenant's endpoints, which Microsoft's libraries read before they ask for a token
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-protocols-oidc#fetch-the-openid-configuration-document): as much of it as
// they read.
func (s *Server) openIDConfiguration(x *exchange) *Answer {
	tenant, refusal := s.namedTenant(x)
	if refusal != nil {
		return refusal
	}
	base := s.originOf(x.request) + "/" + tenant.id
	return jsonAnswer(200, struct {
		TokenEndpoint         string   `json:"token_endpoint"`
		AuthorizationEndpoint string   `json:"authorization_endpoint"`
		Issuer                string   `json:"issuer"`
		AuthMethods           []string `json:"token_endpoint_auth_methods_supported"`
		ResponseTypes         []string `json:"response_types_supported"`
	}{
		TokenEndpoint:         base + v2TokenPath,
		AuthorizationEndpoint: base + "/oauth2/v2.0/authorize",
		Issuer:                base + "/v2.0",
		AuthMethods:           []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		ResponseTypes:         []string{"code", "id_token", "code id_token", "id_token token"},
	})
}

// originOf is the server's origin as a caller names it.
func (s *Server) originOf(r *http.Request) string {
	if s.options.TLS {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// How the paths of the token endpoints end, after the tenant.
const (
	v1TokenPath = "/oauth2/token"
	v2TokenPath = "/oauth2/v2.0/token"
)

// checkScope returns the one resource that the form's scope names.
func (s *Server) checkScope(form url.Values, tenant *Tenant) (Resource, *Answer) {
	if form.Has("resource") {
		return "", s.EntraError(400, "invalid_request", 901002, "The 'resource' request parameter is not supported.")
	}
	scope := form.Get("scope")
	if scope == "" {
		return "", s.missing("scope")
	}
	// Microsoft's libraries add these, which mean nothing without a user.
	scopes := slices.DeleteFunc(strings.Fields(scope), func(name string) bool {
		return slices.Contains([]string{"openid", "offline_access", "profile"}, name)
	})
	if len(scopes) == 1 {
		scope = scopes[0]
	}
	if len(scopes) > 1 {
		return "", s.EntraError(400, "invalid_scope", 70011, fmt.Sprintf("The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope %s is not valid.", scope))
	}
	name, isDefault := strings.CutSuffix(scope, "/.default")
	if !isDefault {
		return "", s.EntraError(400, "invalid_scope", 1002012, fmt.Sprintf("The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", scope))
	}
	return s.findResource(name, tenant)
}

// checkResource returns the resource that the form names, at the v1 endpoint. A scope is not looked at there.
func (s *Server) checkResource(form url.Values, tenant *Tenant) (Resource, *Answer) {
	name := form.Get("resource")
	if name == "" {
		return "", s.missing("resource")
	}
	return s.findResource(name, tenant)
}

func (s *Server) findResource(name string, tenant *Tenant) (Resource, *Answer) {
	resource, known := resourceNames(name)
	if !known || !tenant.hasResource(resource) {
		return "", s.EntraError(400, "invalid_resource", 500011, fmt.Sprintf("The resource principal named %s was not found in the tenant named %s. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.", name, tenant.id))
	}
	return resource, nil
}

// credentials takes the application's id and secret out of the form, or of HTTP Basic, which Entra takes as well.
func credentials(r *http.Request, form url.Values) (id, secret string, hasSecret bool) {
	if form.Has("client_id") || form.Has("client_secret") || form.Has("client_assertion") {
		return form.Get("client_id"), form.Get("client_secret"), form.Has("client_secret")
	}
	user, password, ok := r.BasicAuth()
	if !ok {
		return "", "", false
	}
	// RFC 6749, section 2.3.1: both are form-encoded before.
	id, err := url.QueryUnescape(user)
	if err != nil {
		return "", "", false
	}
	secret, err = url.QueryUnescape(password)
	if err != nil {
		return "", "", false
	}
	return id, secret, true
}

func (s *Server) missing(parameter string) *Answer {
	return s.EntraError(400, "invalid_request", 900144, fmt.Sprintf("The request body must contain the following parameter: '%s'.", parameter))
}

// EntraError makes an error of Entra's, also for a [Fault] to answer with, such as 400, "invalid_grant", 53003 for Conditional
// Access (https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes).
func (s *Server) EntraError(status int, code string, aadsts int, text string) *Answer {
	trace, correlation := newGUID(), newGUID()
	timestamp := s.clock.Now().Format("2006-01-02 15:04:05Z")
	return jsonAnswer(status, struct {
		Error         string `json:"error"`
		Description   string `json:"error_description"`
		Codes         []int  `json:"error_codes"`
		Timestamp     string `json:"timestamp"`
		TraceID       string `json:"trace_id"`
		CorrelationID string `json:"correlation_id"`
		URI           string `json:"error_uri"`
	}{
		Error:         code,
		Description:   fmt.Sprintf("AADSTS%d: %s\r\nTrace ID: %s\r\nCorrelation ID: %s\r\nTimestamp: %s", aadsts, text, trace, correlation, timestamp),
		Codes:         []int{aadsts},
		Timestamp:     timestamp,
		TraceID:       trace,
		CorrelationID: correlation,
		URI:           fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", aadsts),
	})
}
