package entra

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	"defender-integration/defender/rest"
	"defender-integration/defender/secretsdir"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const plantedSecret = "planted~s&cret/+ value"

const (
	auth          = integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED
	invalidAnswer = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER
	notUsable     = integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE
)

// wantError checks that an error is one for an operator, and holds no secret.
func wantError(t *testing.T, err error, secrets ...string) *defender.Error {
	t.Helper()
	e, ok := errors.AsType[*defender.Error](err)
	if !ok {
		t.Fatalf("error is %v, want a *defender.Error", err)
	}
	if e.Problem.GetMessage() == "" || e.Problem.GetRemedy() == "" {
		t.Errorf("%v has no words or no remedy", e.Problem)
	}
	wantNone(t, e, append(secrets, plantedSecret, "planted~s%26cret%2F%2B+value", "planted~s&amp;cret")...)
	return e
}

// wantNone checks that an error holds none of the secrets, whole or in large part.
func wantNone(t *testing.T, e *defender.Error, secrets ...string) {
	t.Helper()
	text := e.Error() + e.Problem.String() + e.Problem.GetMessage() + e.Problem.GetRemedy() + e.Problem.GetUpstreamCode() + e.Problem.GetUpstreamRequestId()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is in the error: %s", text)
		}
		for part := range strings.SplitSeq(secret, ".") {
			if len(part) > 20 && strings.Contains(text, part[:min(len(part), 64)]) {
				t.Errorf("a part of a token is in the error: %s", text)
			}
		}
	}
}

// entraFunc plays Entra without a network.
type entraFunc func(*http.Request) (*http.Response, error)

func (f entraFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func reply(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(body)),
	}
}

// secretConfig is an integration with a client secret.
func secretConfig(transport http.RoundTripper) Config {
	return Config{
		Authentication: &integrationv1.Authentication{
			ClientId: "client", AuthorizationUrl: "https://login.test/tenant/oauth2/v2.0/token",
			Credential: &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{}},
		},
		Secrets: &storev1.Secrets{ClientSecret: plantedSecret}, Scope: "https://graph.test/.default",
		HTTP: rest.NewHTTPClient(transport), UserAgent: "defender-integration/test",
	}
}

func newTestSource(t *testing.T, play entraFunc) *Source {
	t.Helper()
	source, err := NewSource(secretConfig(play))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

const (
	tenantID       = "11111111-2222-4333-8444-555555555555"
	clientID       = "66666666-7777-4888-9999-000000000000"
	userAssignedID = "77777777-7777-4888-9999-000000000000"
	graphScope     = string(defendertest.Graph) + "/.default"
	subject        = "system:serviceaccount:defender:integration"
)

// world is a simulated Entra with an application that can prove itself in every way, and a folder of files.
type world struct {
	t        *testing.T
	server   *defendertest.Server
	app      *defendertest.Application
	provider *defendertest.IdentityProvider
	folder   string
	config   Config
}

func newWorld(t *testing.T, options defendertest.Options) *world {
	t.Helper()
	server, err := defendertest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, server: server, folder: t.TempDir()}
	t.Cleanup(func() { _ = server.Close() })
	tenant := server.AddTenant(tenantID)
	w.app = tenant.AddApplication(clientID, plantedSecret, defendertest.RoleSecurityAlertRead)
	w.provider = cluster()
	w.app.AddFederatedCredential(w.provider, subject)
	w.app.SetManagedIdentity()
	tenant.AddApplication(userAssignedID, plantedSecret).AssignToMachine()

	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if options.TLS {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(server.CAPEM())
	}
	t.Cleanup(transport.CloseIdleConnections)
	files, err := secretsdir.Open(w.folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = files.Close() })
	w.config = Config{
		Authentication: &integrationv1.Authentication{ClientId: clientID, AuthorizationUrl: server.TokenURL(tenantID)},
		Files:          files, Scope: graphScope, HTTP: rest.NewHTTPClient(transport), UserAgent: "defender-integration/test",
	}
	return w
}

// write writes a file of the folder.
func (w *world) write(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.folder, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// source makes a source of the world's configuration.
func (w *world) source() *Source {
	w.t.Helper()
	source, err := NewSource(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	return source
}

// asked is how many tokens were asked for.
func (w *world) asked() int {
	return len(w.server.Calls(func(c defendertest.Call) bool {
		return c.Route == defendertest.RouteToken || c.Route == defendertest.RouteIdentity
	}))
}

// withSecret, withCertificate, withWorkload and withManaged set the credential.
func (w *world) withSecret(file string) {
	w.config.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{File: file}}
}

func (w *world) withCertificate(file string) {
	w.config.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{File: file}}
}

func (w *world) withWorkload(file string) {
	w.config.Authentication.Credential = &integrationv1.Authentication_WorkloadIdentity{WorkloadIdentity: &integrationv1.WorkloadIdentity{TokenFile: file}}
}

func (w *world) withManaged(clientID string) {
	w.config.Authentication.Credential = &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}
	w.config.Authentication.ClientId = clientID
	w.config.Authentication.AuthorizationUrl = ""
	w.t.Setenv("IDENTITY_ENDPOINT", w.server.IdentityEndpoint())
	w.t.Setenv("IDENTITY_HEADER", defendertest.IdentityHeader)
}

// federatedToken signs a token of the identity provider that the application trusts.
func (w *world) federatedToken(change func(*defendertest.FederatedToken)) string {
	w.t.Helper()
	said := defendertest.FederatedToken{Subject: subject, Issued: time.Now().Add(-time.Minute), Expires: time.Now().Add(time.Hour)}
	if change != nil {
		change(&said)
	}
	token, err := w.provider.Sign(said)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// Keys are made once: they take time.
var (
	cluster = sync.OnceValue(func() *defendertest.IdentityProvider {
		provider, err := defendertest.NewIdentityProvider("https://cluster.test")
		if err != nil {
			panic(err)
		}
		return provider
	})
	firstKey  = sync.OnceValue(func() *rsa.PrivateKey { return newKey(minKey) })
	secondKey = sync.OnceValue(func() *rsa.PrivateKey { return newKey(minKey) })
	shortKey  = sync.OnceValue(func() *rsa.PrivateKey { return newKey(minKey / 2) })
	curveKey  = sync.OnceValue(func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		return key
	})
)

func newKey(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

// signer is a private key with its public one.
type signer interface{ Public() any }

type rsaSigner struct{ *rsa.PrivateKey }

func (s rsaSigner) Public() any { return &s.PublicKey }

type curveSigner struct{ *ecdsa.PrivateKey }

func (s curveSigner) Public() any { return &s.PublicKey }

// newCertificate makes a certificate of a key, good until a time.
func newCertificate(t *testing.T, key signer, until time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "contoso-defender"}, NotBefore: until.AddDate(-1, 0, 0), NotAfter: until,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), secondKey())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// certificatePEM and keyPEM write in PEM, a key as PKCS #8.
func certificatePEM(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}

func keyPEM(t *testing.T, key any) string {
	t.Helper()
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// newPEM makes a certificate with its key, good for a month, and lets the application be proved by it.
func (w *world) newPEM(key *rsa.PrivateKey) string {
	w.t.Helper()
	certificate := newCertificate(w.t, rsaSigner{key}, time.Now().AddDate(0, 1, 0))
	w.app.AddCertificate(certificate)
	return certificatePEM(certificate) + keyPEM(w.t, key)
}
