package defendertest

import (
	"net/http"
	"slices"
	"strings"
)

// The paths of the managed identity endpoints: App Service's, whose address the environment names, and that of the Instance Metadata
// Service of virtual machines, which is at 169.254.169.254 for real.
const (
	appServicePath = "/msi/token"
	metadataPath   = "/metadata/identity/oauth2/token"
)

// IdentityHeader is what App Service's endpoint wants in the header X-IDENTITY-HEADER, and gives programs as IDENTITY_HEADER.
const IdentityHeader = "simulated~identity~header"

// IdentityEndpoint is the address of App Service's endpoint, which programs are given as IDENTITY_ENDPOINT.
func (s *Server) IdentityEndpoint() string { return s.URL() + appServicePath }

// identityKind is whether and how an application is a managed identity of the machine that asks.
type identityKind int

const (
	noIdentity identityKind = iota
	userAssigned
	systemAssigned
)

// SetManagedIdentity makes the application the machine's system-assigned managed identity, in place of the one before.
func (a *Application) SetManagedIdentity() {
	for _, other := range a.tenant.server.applications() {
		other.assign(func(kind identityKind) identityKind {
			if kind == systemAssigned {
				return noIdentity
			}
			return kind
		})
	}
	a.assign(func(identityKind) identityKind { return systemAssigned })
}

// AssignToMachine makes the application a user-assigned managed identity that the machine may ask for by its client id.
func (a *Application) AssignToMachine() {
	a.assign(func(identityKind) identityKind { return userAssigned })
}

func (a *Application) assign(change func(identityKind) identityKind) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.identity = change(a.identity)
}

func (a *Application) identityIs(kinds ...identityKind) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(kinds, a.identity)
}

// applications are those of all tenants.
func (s *Server) applications() []*Application {
	s.mu.Lock()
	tenants := s.tenants
	s.mu.Unlock()
	var all []*Application
	for _, t := range tenants {
		t.mu.Lock()
		all = append(all, t.apps...)
		t.mu.Unlock()
	}
	return all
}

// identityOf finds the managed identity that is asked for; nil where the machine has none such.
func (s *Server) identityOf(clientID string) *Application {
	for _, app := range s.applications() {
		if clientID == "" && app.identityIs(systemAssigned) ||
			clientID != "" && strings.EqualFold(app.id, clientID) && app.identityIs(systemAssigned, userAssigned) {
			return app
		}
	}
	return nil
}

// managedIdentity plays a machine's managed identity endpoints: the Instance Metadata Service
// (https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token) and App Service
// (https://learn.microsoft.com/en-us/azure/app-service/overview-managed-identity#rest-endpoint-reference). Unlike the real ones, they
// have no cache: each request gets a token of its own.
func (s *Server) managedIdentity(x *exchange) *Answer {
	if x.request.URL.Path == appServicePath {
		return s.appService(x)
	}
	refuse := func(code, text string) *Answer {
		return jsonAnswer(http.StatusBadRequest, struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}{code, text})
	}
	query := x.call.Query
	if x.request.Header.Get("Metadata") != "true" {
		return refuse("invalid_request", "Required metadata header not specified")
	}
	if query.Get("api-version") != "2018-02-01" {
		return refuse("invalid_request", "Required query variable 'api-version' is missing or not supported")
	}
	app := s.identityOf(query.Get("client_id"))
	if app == nil {
		return refuse("invalid_request", "Identity not found")
	}
	x.call.Tenant, x.call.App = app.tenant.id, app.id
	resource, refusal := s.checkResource(query, app.tenant)
	if refusal != nil {
		return refusal
	}
	token, err := s.issue(app, resource, provedByAssertion)
	if err != nil {
		return &Answer{Status: http.StatusInternalServerError, Header: http.Header{}}
	}
	now, seconds := s.clock.Now().Unix(), int64(s.options.TokenLifetime.Seconds())
	return jsonAnswer(http.StatusOK, struct {
		AccessToken  string `json:"access_token"`
		ClientID     string `json:"client_id"`
		ExpiresIn    int64  `json:"expires_in,string"`
		ExpiresOn    int64  `json:"expires_on,string"`
		ExtExpiresIn int64  `json:"ext_expires_in,string"`
		NotBefore    int64  `json:"not_before,string"`
		Resource     string `json:"resource"`
		TokenType    string `json:"token_type"`
	}{token, app.id, seconds, now + seconds, seconds, now, query.Get("resource"), "Bearer"})
}

// appService answers without `expires_in`, as it does for real.
func (s *Server) appService(x *exchange) *Answer {
	refuse := func(status int, text string) *Answer {
		return jsonAnswer(status, struct {
			StatusCode int    `json:"statusCode"`
			Message    string `json:"message"`
		}{status, text})
	}
	query := x.call.Query
	switch {
	case x.request.Header.Get("X-Identity-Header") != IdentityHeader:
		return refuse(http.StatusUnauthorized, "The identity header is missing or wrong.")
	case query.Get("api-version") != "2019-08-01":
		return refuse(http.StatusBadRequest, "The api-version is missing or not supported.")
	}
	app := s.identityOf(query.Get("client_id"))
	if app == nil {
		return refuse(http.StatusBadRequest, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
	}
	x.call.Tenant, x.call.App = app.tenant.id, app.id
	resource, refusal := s.checkResource(query, app.tenant)
	if refusal != nil {
		return refuse(http.StatusBadRequest, "The resource was not found in the tenant.")
	}
	token, err := s.issue(app, resource, provedByAssertion)
	if err != nil {
		return refuse(http.StatusInternalServerError, "An internal error occurred.")
	}
	return jsonAnswer(http.StatusOK, struct {
		AccessToken string `json:"access_token"`
		ClientID    string `json:"client_id"`
		ExpiresOn   int64  `json:"expires_on,string"`
		Resource    string `json:"resource"`
		TokenType   string `json:"token_type"`
	}{token, app.id, s.clock.Now().Add(s.options.TokenLifetime).Unix(), query.Get("resource"), "Bearer"})
}
