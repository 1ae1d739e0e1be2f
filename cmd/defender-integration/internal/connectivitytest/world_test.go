package connectivitytest_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const (
	clientID = "66666666-7777-4888-9999-000000000000"
	// What no answer may hold.
	plantedSecret   = "planted~client~secret"
	plantedPassword = "planted~proxy~password"
)

// Microsoft's own hosts, by their names.
const (
	loginHost    = "login.microsoftonline.com"
	graphHost    = "graph.microsoft.com"
	endpointHost = "api.security.microsoft.com"
)

// world is what one set-up consists of: a simulated Microsoft of its own, settings that fit it, and what the service's operator must
// allow for them. A new one is healthy.
type world struct {
	t         *testing.T
	name      string
	microsoft *defendertest.Server
	tenant    *defendertest.Tenant
	app       *defendertest.Application
	settings  *integrationv1.Integration

	// allowed and rules are what the operator says: --allow-endpoint and --proxy.
	allowed, rules []string
	// listed are the environment variables that the operator lists: --secret-env.
	listed []string
	// trusted are the authorities that the integration trusts, in PEM.
	trusted []string
	// operatorTrusts are those that the operator has all integrations trust.
	operatorTrusts []string
	// secretsDir is the service's folder for secrets.
	secretsDir string
	// machine is the simulated Microsoft whose managed identity endpoint the environment names; nil where it names none.
	machine *defendertest.Server
}

// newWorld makes the healthy set-up number n, with a tenant of its own: budgets are counted by tenant. What it runs ends with t.
func newWorld(t *testing.T, name string, n int, secretsDir string) *world {
	t.Helper()
	w := &world{t: t, name: name, secretsDir: secretsDir}
	w.use(defendertest.Options{TLS: true, Hosts: []string{loginHost, graphHost, endpointHost, namedLogin, namedAPI}}, tenantID(n))
	return w
}

// tenantID is the tenant's of set-up number n.
func tenantID(n int) string { return fmt.Sprintf("11111111-2222-4333-8444-%012d", n) }

// use makes a simulated Microsoft with a tenant, and settings that fit it.
func (w *world) use(options defendertest.Options, tenant string) {
	microsoft, err := defendertest.New(options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = microsoft.Close() })
	w.useServer(microsoft, tenant)
}

// useServer is use with a simulated Microsoft that is there already.
func (w *world) useServer(microsoft *defendertest.Server, tenant string) {
	w.microsoft, w.tenant = microsoft, microsoft.AddTenant(tenant)
	w.app = w.tenant.AddApplication(clientID, plantedSecret, defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead, defendertest.RoleThreatHuntingRead)
	w.allowed, w.trusted = []string{w.address()}, nil
	if ca := microsoft.CAPEM(); ca != nil {
		w.trusted = []string{string(ca)}
	}
	w.settings = &integrationv1.Integration{
		TenantId: tenant, Endpoint: w.place(w.address()),
		Authentication: &integrationv1.Authentication{ClientId: clientID, AuthorizationUrl: microsoft.TokenURL(tenant)},
		DeviceSource:   &integrationv1.DeviceSource{Endpoint: w.place(w.address())},
	}
	w.setSecret(plantedSecret)
}

// address is where the simulated Microsoft is, host and port.
func (w *world) address() string {
	return net.JoinHostPort(w.microsoft.Host(), fmt.Sprint(w.microsoft.Port()))
}

// place makes an endpoint of a host and port.
func (w *world) place(hostPort string) *integrationv1.Endpoint {
	host, text, err := net.SplitHostPort(hostPort)
	if err != nil {
		w.t.Fatal(err)
	}
	port, err := net.LookupPort("tcp", text)
	if err != nil {
		w.t.Fatal(err)
	}
	endpoint := &integrationv1.Endpoint{Host: host, Port: int32(port)}
	if strings.HasPrefix(w.microsoft.URL(), "http://") {
		endpoint.Protocol = integrationv1.Protocol_PROTOCOL_HTTP
	}
	return endpoint
}

// loginAt moves the authorization host, apiAt that of alerts, devicesAt that of devices, to a host and port that the operator allows.
func (w *world) loginAt(hostPort string) {
	w.allowed = append(w.allowed, hostPort)
	w.settings.Authentication.AuthorizationUrl = "https://" + hostPort + "/" + w.tenant.ID() + "/oauth2/v2.0/token"
}

func (w *world) apiAt(hostPort string) {
	w.allowed = append(w.allowed, hostPort)
	w.settings.Endpoint = w.place(hostPort)
}

func (w *world) devicesAt(hostPort string) {
	w.allowed = append(w.allowed, hostPort)
	w.settings.DeviceSource.Endpoint = w.place(hostPort)
}

// under returns the simulated Microsoft's port after another name for its host.
func (w *world) under(name string) string {
	return net.JoinHostPort(name, fmt.Sprint(w.microsoft.Port()))
}

// byName has the settings name no host: Microsoft's own are the defaults.
func (w *world) byName() {
	w.settings.Endpoint, w.settings.DeviceSource.Endpoint, w.settings.Authentication.AuthorizationUrl = nil, nil, ""
}

// trust adds an authority to those that the integration trusts.
func (w *world) trust(pem []byte) { w.trusted = append(w.trusted, string(pem)) }

// distrust has the integration trust no authority besides the system's.
func (w *world) distrust() { w.trusted = nil }

// setSecret has the settings bring a client secret, setSecretFile name its file.
func (w *world) setSecret(value string) {
	w.settings.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: value}}
}

func (w *world) setSecretFile(name string) {
	w.settings.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{File: name}}
}

// noDevices leaves the device source out.
func (w *world) noDevices() {
	w.settings.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE}
}

// variable sets an environment variable of the service, which its operator lists, and returns its name.
func (w *world) variable(name, content string) string {
	name = strings.ToUpper(strings.ReplaceAll(w.name, "-", "_")) + "_" + name
	w.listed = append(w.listed, name)
	w.t.Setenv(name, content)
	return name
}

// setSecretVariable has the settings name the client secret's environment variable.
func (w *world) setSecretVariable(name string) {
	w.settings.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{EnvVariable: name}}
}

// file writes a file into the service's folder for secrets, and returns its name relative to that.
func (w *world) file(name, content string) string {
	relative := filepath.Join(w.name, name)
	path := filepath.Join(w.secretsDir, relative)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return relative
}

// inject adds a fault that stays.
func (w *world) inject(route string, respond defendertest.Responder) {
	w.microsoft.Inject(defendertest.Fault{Route: route, Times: -1, Respond: respond})
}

// integration is the settings with the authorities that are trusted: in the request, or, where a secret is not in it, in a file.
func (w *world) integration() *integrationv1.Integration {
	if len(w.trusted) == 0 || w.settings.GetTrust() != nil {
		return w.settings
	}
	all := strings.Join(w.trusted, "")
	a := w.settings.GetAuthentication()
	w.settings.Trust = &integrationv1.Trust{CaPem: all}
	if a.GetClientSecret().GetValue() == "" && a.GetClientCertificate().GetPem() == "" || w.settings.GetProxy().GetPasswordFile() != "" ||
		w.settings.GetProxy().GetPasswordEnvVariable() != "" {
		w.settings.Trust = &integrationv1.Trust{CaFile: w.file("authorities.pem", all)}
	}
	return w.settings
}

// looksUpMachines says whether the settings look devices up in Defender for Endpoint's list of machines, which is a default.
func (w *world) looksUpMachines() bool {
	switch w.settings.GetDeviceSource().GetKind() {
	case integrationv1.DeviceSource_KIND_MACHINES:
		return true
	case integrationv1.DeviceSource_KIND_UNSPECIFIED:
		return w.settings.GetApi() != integrationv1.Api_API_SIEM
	}
	return false
}
