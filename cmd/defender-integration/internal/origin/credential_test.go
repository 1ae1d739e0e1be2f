package origin_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// credentialKind is a way in which an application proves itself.
type credentialKind struct {
	name string
	// prepare makes the credential, at Microsoft and in the folder, and sets it.
	prepare func(*house, *integrationv1.Authentication)
	// clear says that Microsoft is spoken to in clear, as the endpoints of managed identities are.
	clear bool
	// client is the client id that tokens are asked for with.
	client string
}

const userAssignedID = "77777777-7777-4888-9999-000000000000"

func credentialKinds() []credentialKind {
	return []credentialKind{
		{name: "secret at the v2.0 endpoint", client: appID, prepare: func(*house, *integrationv1.Authentication) {}},
		{name: "secret at the v1 endpoint", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			a.AuthorizationUrl = h.microsoft.TokenURLV1(tenantID)
		}},
		{name: "secret in a file", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			write(h.t, filepath.Join(h.folder, "secret"), h.secret+"\n")
			a.Credential = secretFile("secret")
		}},
		{name: "secret in a variable", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			h.t.Setenv(secretVariable, h.secret)
			a.Credential = secretInVariable(secretVariable)
		}},
		{name: "certificate in a variable", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			h.t.Setenv(secretVariable, h.certificate())
			a.Credential = certificateInVariable(secretVariable)
		}},
		{name: "certificate", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			a.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{Pem: h.certificate()}}
		}},
		{name: "certificate in a file", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			write(h.t, filepath.Join(h.folder, "certificate.pem"), h.certificate())
			a.Credential = certificateFile("certificate.pem")
		}},
		{name: "workload identity", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			write(h.t, filepath.Join(h.folder, "federated"), h.federatedToken())
			a.Credential = workload("federated")
		}},
		{name: "workload identity of the environment", client: appID, prepare: func(h *house, a *integrationv1.Authentication) {
			file := filepath.Join(h.t.TempDir(), "token")
			write(h.t, file, h.federatedToken())
			h.t.Setenv("AZURE_FEDERATED_TOKEN_FILE", file)
			a.Credential = workload("")
		}},
		{name: "system-assigned managed identity", clear: true, prepare: func(h *house, a *integrationv1.Authentication) {
			h.app.SetManagedIdentity()
			h.managed(a, "")
		}},
		{name: "user-assigned managed identity", clear: true, client: userAssignedID, prepare: func(h *house, a *integrationv1.Authentication) {
			h.tenant.AddApplication(userAssignedID, rand.Text(), roles()...).AssignToMachine()
			h.managed(a, userAssignedID)
		}},
	}
}

// managed sets a managed identity, and the environment that leads to its endpoint.
func (h *house) managed(a *integrationv1.Authentication, clientID string) {
	h.t.Setenv("IDENTITY_ENDPOINT", h.microsoft.IdentityEndpoint())
	h.t.Setenv("IDENTITY_HEADER", defendertest.IdentityHeader)
	h.planted.add("the header of the identity endpoint", defendertest.IdentityHeader)
	a.Credential = &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}
	a.ClientId, a.AuthorizationUrl = clientID, ""
}

func certificateFile(name string) *integrationv1.Authentication_ClientCertificate {
	return &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{File: name}}
}

// secretVariable is the environment variable that the operator lists for secrets.
const secretVariable = "ORIGIN_TEST_SECRET"

func secretInVariable(name string) *integrationv1.Authentication_ClientSecret {
	return &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{EnvVariable: name}}
}

func certificateInVariable(name string) *integrationv1.Authentication_ClientCertificate {
	return &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{EnvVariable: name}}
}

func workload(file string) *integrationv1.Authentication_WorkloadIdentity {
	return &integrationv1.Authentication_WorkloadIdentity{WorkloadIdentity: &integrationv1.WorkloadIdentity{TokenFile: file}}
}

// Keys are made once: they take time.
var (
	clientKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	cluster   = sync.OnceValues(func() (*defendertest.IdentityProvider, error) {
		return defendertest.NewIdentityProvider("https://cluster.test")
	})
)

// certificate makes a certificate of the application, and returns it with its key in PEM.
func (h *house) certificate() string {
	h.t.Helper()
	key, err := clientKey()
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "contoso-defender"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 6, 0),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		h.t.Fatal(err)
	}
	h.app.AddCertificate(certificate)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	h.planted.add("a line of the private key", strings.Split(text, "\n")[10])
	h.planted.add("a part of the private key", string(key.Primes[0].Bytes()[:32]))
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})) + text
}

// federatedToken returns a token of another identity provider that proves the application.
func (h *house) federatedToken() string {
	h.t.Helper()
	const subject = "system:serviceaccount:defender:integration"
	provider, err := cluster()
	if err != nil {
		h.t.Fatal(err)
	}
	h.app.AddFederatedCredential(provider, subject)
	token, err := provider.Sign(defendertest.FederatedToken{Subject: subject, Issued: time.Now().Add(-time.Minute), Expires: time.Now().Add(time.Hour)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.planted.addToken("a federated token", token)
	return token
}

// inClear has Microsoft spoken to in clear.
func inClear(h *house) { h.simulated.TLS = false }

// Each kind of credential opens each API and each device source, and one token for each target serves all integrations of the
// application. A test of the links asks for tokens of its own, since it is to say whether Entra gives any now; the integrations go
// on with those.
//
//nolint:paralleltest // What is in the environment is for all.
func TestOneTokenForEachApplicationAndTarget(t *testing.T) {
	for _, kind := range credentialKinds() {
		t.Run(kind.name, func(t *testing.T) {
			var settings []setting
			if kind.clear {
				settings = append(settings, inClear)
			}
			h := newHouse(t, settings...)
			authentication := h.settings("").GetAuthentication()
			kind.prepare(h, authentication)
			var streams []*stream
			for _, use := range []struct {
				id      string
				api     integrationv1.Api
				devices integrationv1.DeviceSource_Kind
			}{
				{"graph", integrationv1.Api_API_GRAPH_SECURITY, integrationv1.DeviceSource_KIND_MACHINES},
				{"graph-again", integrationv1.Api_API_GRAPH_SECURITY, integrationv1.DeviceSource_KIND_MACHINES},
				{"graph-hunting", integrationv1.Api_API_GRAPH_SECURITY, integrationv1.DeviceSource_KIND_HUNTING},
				{"endpoint", integrationv1.Api_API_DEFENDER_FOR_ENDPOINT, integrationv1.DeviceSource_KIND_MACHINES},
				{"siem", integrationv1.Api_API_SIEM, integrationv1.DeviceSource_KIND_MACHINES},
			} {
				h.register(h.settings(use.id, func(i *integrationv1.Integration) {
					i.Api, i.Authentication = use.api, authentication
					i.DeviceSource = &integrationv1.DeviceSource{Kind: use.devices, Endpoint: h.host()}
				}))
				streams = append(streams, h.open(h.following(use.id)))
			}
			for _, s := range streams {
				s.wantAlert("first")
				s.waitDevice()
			}
			once := map[defendertest.Resource]int{defendertest.Graph: 1, defendertest.DefenderForEndpoint: 1, defendertest.SIEM: 1}
			h.wantAsked(kind.client, once)
			h.waitPolls(3 * len(streams))
			h.wantAsked(kind.client, once)

			if test := h.test("graph"); test.GetHealth() != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
				t.Errorf("the test says %v", test)
			}
			h.waitPolls(2 * len(streams))
			h.wantAsked(kind.client, map[defendertest.Resource]int{
				defendertest.Graph: 2, defendertest.DefenderForEndpoint: 2, defendertest.SIEM: 1,
			})
		})
	}
}
