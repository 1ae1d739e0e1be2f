package defendertest

import (
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tenant is one organisation at the simulated Microsoft, with its applications, devices and alerts. It is safe for concurrent use.
type Tenant struct {
	server  *Server
	id      string
	domains []string

	// mu guards everything below.
	mu       sync.Mutex
	apps     []*Application
	disabled []Resource
	devices  []device
	alerts   alertTable
	events   []Event
	noTables []string
}

// AddTenant adds a tenant by its id (a GUID) and the domains that name it as well.
func (s *Server) AddTenant(id string, domains ...string) *Tenant {
	t := &Tenant{server: s, id: id, domains: domains}
	t.alerts = newAlertTable()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenants = append(s.tenants, t)
	return t
}

// tenant finds a tenant by id or domain.
func (s *Server) tenant(name string) *Tenant {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tenants {
		if strings.EqualFold(t.id, name) || slices.ContainsFunc(t.domains, func(d string) bool { return strings.EqualFold(d, name) }) {
			return t
		}
	}
	return nil
}

// ID is the tenant's id.
func (t *Tenant) ID() string { return t.id }

// RemoveResource takes an API's service principal out of the tenant, as where Defender was never provisioned: Entra gives no
// token for it (AADSTS500011).
func (t *Tenant) RemoveResource(resource Resource) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.disabled = append(t.disabled, resource)
}

func (t *Tenant) hasResource(resource Resource) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !slices.Contains(t.disabled, resource)
}

// Application is an application registered in a tenant, with its credentials and the roles that an administrator consented to. A
// managed identity is one, too.
type Application struct {
	tenant *Tenant
	id     string

	mu           sync.Mutex
	secrets      []secret
	certificates []*x509.Certificate
	federated    []federatedCredential
	identity     identityKind
	roles        []string
	disabled     bool
}

type secret struct {
	value   string
	expires time.Time // zero: never
}

// AddApplication adds an application with a secret and the roles that it was given, of all resources.
func (t *Tenant) AddApplication(id, secretValue string, roles ...string) *Application {
	a := &Application{tenant: t, id: id, roles: roles, secrets: []secret{{value: secretValue}}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.apps = append(t.apps, a)
	return a
}

func (t *Tenant) application(id string) *Application {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.apps {
		if strings.EqualFold(a.id, id) {
			return a
		}
	}
	return nil
}

// ID is the application's (client's) id.
func (a *Application) ID() string { return a.id }

// SetRoles replaces the roles. Tokens that were given out keep theirs, as Entra's do.
func (a *Application) SetRoles(roles ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roles = roles
}

// AddSecret adds a secret that expires at a time of the server's clock; never where that is zero.
func (a *Application) AddSecret(value string, expires time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets = append(a.secrets, secret{value: value, expires: expires})
}

// RemoveSecret removes a secret.
func (a *Application) RemoveSecret(value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets = slices.DeleteFunc(a.secrets, func(s secret) bool { return s.value == value })
}

// SetDisabled disables the application, or enables it again. A disabled one gets no token.
func (a *Application) SetDisabled(disabled bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.disabled = disabled
}

// RevokeTokens makes every token that was given to the application invalid at once, before it expires.
func (a *Application) RevokeTokens() {
	s := a.tenant.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants.revoke(a)
}

// rolesOf returns the roles of one resource.
func (a *Application) rolesOf(resource Resource) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var roles []string
	for _, role := range a.roles {
		if roleResource(role) == resource {
			roles = append(roles, role)
		}
	}
	return roles
}

// secretState is what Entra makes of a secret.
type secretState int

const (
	secretWrong secretState = iota
	secretExpired
	secretGood
)

func (a *Application) checkSecret(value string, now time.Time) secretState {
	a.mu.Lock()
	defer a.mu.Unlock()
	state := secretWrong
	for _, s := range a.secrets {
		if s.value != value {
			continue
		}
		if s.expires.IsZero() || now.Before(s.expires) {
			return secretGood
		}
		state = secretExpired
	}
	return state
}

func (a *Application) isDisabled() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.disabled
}
