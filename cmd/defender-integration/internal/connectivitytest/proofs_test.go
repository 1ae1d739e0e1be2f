package connectivitytest_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// issuer is the identity provider whose tokens the applications trust, serviceAccount one of its subjects.
const (
	issuer         = "https://oidc.contoso.test/cluster-1"
	serviceAccount = "system:serviceaccount:defender:integration"
)

// assignedID is the client id of a user-assigned managed identity.
const assignedID = "77777777-8888-4999-aaaa-bbbbbbbbbbbb"

// keys are made once: it takes long.
var keys = struct {
	application, other func() (*rsa.PrivateKey, error)
	cluster            func() (*defendertest.IdentityProvider, error)
}{
	application: sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
	other:       sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }),
	cluster:     sync.OnceValues(func() (*defendertest.IdentityProvider, error) { return defendertest.NewIdentityProvider(issuer) }),
}

// must returns what is made once, or ends the test.
func must[T any](t *testing.T, of func() (T, error)) T {
	t.Helper()
	made, err := of()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// cluster is the identity provider.
func cluster(t *testing.T) *defendertest.IdentityProvider {
	t.Helper()
	return must(t, keys.cluster)
}

// certificateOptions are what a client certificate is made with.
type certificateOptions struct {
	// until is when it expires. Default: in a year.
	until time.Time
	// unregistered leaves it out of the application.
	unregistered bool
	// withoutKey leaves the private key out, withOtherKey has that of another certificate, encrypted has one that only a password opens.
	withoutKey, withOtherKey, encrypted bool
}

// certificate makes a client certificate of the application, and returns it with its private key in PEM.
func (w *world) certificate(options certificateOptions) string {
	key := must(w.t, keys.application)
	if options.until.IsZero() {
		options.until = time.Now().AddDate(1, 0, 0)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Defender integration of Contoso"},
		NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: options.until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	if !options.unregistered {
		w.app.AddCertificate(certificate)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if options.withOtherKey {
		key = must(w.t, keys.other)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	switch {
	case err != nil:
		w.t.Fatal(err)
	case options.withoutKey:
		return text
	case options.encrypted:
		return text + string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("not to be read without its password")}))
	}
	return text + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// setCertificate has the settings bring a certificate, setCertificateFile name its file.
func (w *world) setCertificate(pem string) {
	w.settings.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{
		ClientCertificate: &integrationv1.ClientCertificate{Pem: pem},
	}
}

func (w *world) setCertificateFile(name string) {
	w.settings.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{
		ClientCertificate: &integrationv1.ClientCertificate{File: name},
	}
}

// setTokenFile has the settings name the file of a federated token.
func (w *world) setTokenFile(name string) {
	w.settings.Authentication.Credential = &integrationv1.Authentication_WorkloadIdentity{
		WorkloadIdentity: &integrationv1.WorkloadIdentity{TokenFile: name},
	}
}

// federatedToken makes a token of the cluster for a subject, which is good for a while yet, or has not been for a while.
func (w *world) federatedToken(subject string, good time.Duration) string {
	now := time.Now()
	token, err := cluster(w.t).Sign(defendertest.FederatedToken{Subject: subject, Issued: now.Add(-2 * time.Hour), Expires: now.Add(good)})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// onMachine moves the world to the one simulated Microsoft of the machine's managed identities.
func (w *world) onMachine() { w.useServer(w.machine, w.tenant.ID()) }

// assigned adds an application with a managed identity's client id, and has the settings use it.
func (w *world) assigned(id string) *defendertest.Application {
	w.settings.Authentication = &integrationv1.Authentication{ClientId: id, Credential: &integrationv1.Authentication_ManagedIdentity{
		ManagedIdentity: &integrationv1.ManagedIdentity{},
	}}
	return w.tenant.AddApplication(id, plantedSecret, defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead, defendertest.RoleThreatHuntingRead)
}
