package defendertest

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"
)

// newCertificate makes a certificate with its key, good until a time of the server's clock.
func newCertificate(t *testing.T, until time.Time) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "contoso"}, NotBefore: until.AddDate(-1, 0, 0), NotAfter: until}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// assertionForm is a request for a token of Graph with an assertion.
func assertionForm(assertion string) url.Values {
	form := tokenForm(Graph)
	form.Del("client_secret")
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return form
}

func TestCertificateAssertions(t *testing.T) {
	w := newWorld(t, Options{})
	now := fixedClock{}.Now()
	certificate, key := newCertificate(t, now.AddDate(0, 1, 0))
	old, oldKey := newCertificate(t, now.Add(-time.Hour))
	stranger, strangerKey := newCertificate(t, now.AddDate(0, 1, 0))
	w.app.AddCertificate(certificate)
	w.app.AddCertificate(old)

	thumbprintOf := func(c *x509.Certificate) []byte { sum := sha256.Sum256(c.Raw); return sum[:] }
	tests := []struct {
		name   string
		change func(claims jwt.MapClaims, header map[string]any)
		method jwt.SigningMethod
		key    crypto.PrivateKey
		form   func(url.Values)
		code   int // 0 gets a token
		words  string
	}{
		{name: "good"},
		{name: "RS256", method: jwt.SigningMethodRS256},
		{name: "padded thumbprint", change: func(_ jwt.MapClaims, h map[string]any) {
			h["x5t#S256"] = base64.StdEncoding.EncodeToString(thumbprintOf(certificate))
		}},
		{name: "for the issuer", change: func(c jwt.MapClaims, _ map[string]any) { c["aud"] = w.server.URL() + "/" + testTenantID + "/v2.0" }},
		{name: "for the domain", change: func(c jwt.MapClaims, _ map[string]any) { c["aud"] = w.server.TokenURL("contoso.test") }},
		{name: "certificate not known", key: strangerKey, change: func(_ jwt.MapClaims, h map[string]any) {
			h["x5t#S256"] = base64.RawURLEncoding.EncodeToString(thumbprintOf(stranger))
		}, code: 700027, words: "The key was not found."},
		{name: "thumbprint unreadable", change: func(_ jwt.MapClaims, h map[string]any) { h["x5t#S256"] = "!" }, code: 700027, words: "The key was not found."},
		{name: "other key", key: strangerKey, code: 700027, words: "did not match the expected signature"},
		{name: "other algorithm", method: jwt.SigningMethodPS512, code: 700027, words: "did not match the expected signature"},
		{name: "certificate expired", key: oldKey, change: func(_ jwt.MapClaims, h map[string]any) {
			h["x5t#S256"] = base64.RawURLEncoding.EncodeToString(thumbprintOf(old))
		}, code: 700027, words: "The key used is expired."},
		{name: "other issuer", change: func(c jwt.MapClaims, _ map[string]any) { c["iss"] = "other" }, code: 700021},
		{name: "other subject", change: func(c jwt.MapClaims, _ map[string]any) { c["sub"] = "other" }, code: 700021},
		{name: "issuer of another type", change: func(c jwt.MapClaims, _ map[string]any) { c["iss"] = 5 }, code: 700021},
		{name: "other audience", change: func(c jwt.MapClaims, _ map[string]any) {
			c["aud"] = "https://login.microsoftonline.com/" + testTenantID + "/oauth2/v2.0/token"
		}, code: 700023},
		{name: "other tenant's audience", change: func(c jwt.MapClaims, _ map[string]any) { c["aud"] = w.server.TokenURL("other") }, code: 700023},
		{name: "expired", change: func(c jwt.MapClaims, _ map[string]any) { c["exp"] = now.Add(-6 * time.Minute).Unix() }, code: 700024, words: "expiry time of assertion 2026-11-20T09:54:00.0000000Z"},
		{name: "no expiry", change: func(c jwt.MapClaims, _ map[string]any) { delete(c, "exp") }, code: 700024},
		{name: "not yet", change: func(c jwt.MapClaims, _ map[string]any) { c["nbf"] = now.Add(6 * time.Minute).Unix() }, code: 700024},
		{name: "no JWT", form: func(f url.Values) { f.Set("client_assertion", "x.y") }, code: 50027},
		{name: "no type", form: func(f url.Values) { f.Del("client_assertion_type") }, code: 900144},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := jwt.MapClaims{
				"aud": w.server.TokenURL(testTenantID), "iss": testAppID, "sub": testAppID, "jti": newGUID(),
				"nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
			}
			if tt.method == nil {
				tt.method = jwt.SigningMethodPS256
			}
			if tt.key == nil {
				tt.key = key
			}
			token := jwt.NewWithClaims(tt.method, claims)
			token.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(thumbprintOf(certificate))
			if tt.change != nil {
				tt.change(claims, token.Header)
			}
			assertion, err := token.SignedString(tt.key)
			if err != nil {
				t.Fatal(err)
			}
			form := assertionForm(assertion)
			if tt.form != nil {
				tt.form(form)
			}
			checkAssertionAnswer(t, w.postToken(testTenantID, form), tt.code, tt.words, assertion)
		})
	}

	w.app.RemoveCertificates()
	token := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.MapClaims{})
	token.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(thumbprintOf(certificate))
	assertion, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	checkAssertionAnswer(t, w.postToken(testTenantID, assertionForm(assertion)), 700027, "The key was not found.", assertion)
}

// checkAssertionAnswer checks that an answer has a token, or a code and words and not the assertion.
func checkAssertionAnswer(t *testing.T, got reply, code int, words, assertion string) {
	t.Helper()
	if code == 0 {
		if got.status != http.StatusOK {
			t.Errorf("%d %s, want a token", got.status, got.body)
		}
		return
	}
	body := decode[entraBody](t, got.body)
	if got.status == http.StatusOK || len(body.Codes) != 1 || body.Codes[0] != code || !strings.Contains(body.Description, words) {
		t.Errorf("%d %s, want %d and %q", got.status, got.body, code, words)
	}
	if strings.Contains(got.body, assertion) {
		t.Error("the answer repeats the assertion")
	}
}

func TestFederatedAssertions(t *testing.T) {
	w := newWorld(t, Options{})
	now := fixedClock{}.Now()
	newProvider := func(issuer string) *IdentityProvider {
		provider, err := NewIdentityProvider(issuer)
		if err != nil {
			t.Fatal(err)
		}
		return provider
	}
	cluster, impostor, other := newProvider("https://cluster.test"), newProvider("https://cluster.test"), newProvider("https://other.test")
	const subject = "system:serviceaccount:defender:integration"
	w.app.AddFederatedCredential(cluster, subject)

	tests := []struct {
		name     string
		provider *IdentityProvider
		token    FederatedToken
		code     int
		words    string
	}{
		{"good", cluster, FederatedToken{Subject: subject}, 0, ""},
		{"other issuer", other, FederatedToken{Subject: subject}, 700211, "issuer 'https://other.test'"},
		{"other audience", cluster, FederatedToken{Subject: subject, Audience: "kubernetes"}, 700212, "audience 'kubernetes'"},
		{"other subject", cluster, FederatedToken{Subject: "system:serviceaccount:default:default"}, 700213, "subject 'system:serviceaccount:default:default'"},
		{"other case", cluster, FederatedToken{Subject: strings.ToUpper(subject)}, 7002138, "case-insensitive"},
		{"other key", impostor, FederatedToken{Subject: subject}, 50013, "signature"},
		{"expired", cluster, FederatedToken{Subject: subject, Issued: now.Add(-2 * time.Hour), Expires: now.Add(-time.Hour)}, 700024, "valid time range"},
		{"not yet", cluster, FederatedToken{Subject: subject, Issued: now.Add(time.Hour), Expires: now.Add(2 * time.Hour)}, 700024, "valid time range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.token.Expires.IsZero() {
				tt.token.Issued, tt.token.Expires = now, now.Add(time.Hour)
			}
			assertion, err := tt.provider.Sign(tt.token)
			if err != nil {
				t.Fatal(err)
			}
			checkAssertionAnswer(t, w.postToken(testTenantID, assertionForm(assertion)), tt.code, tt.words, assertion)
		})
	}
}

// libraryOptions are those of Microsoft's own library for a server.
func (w *world) libraryOptions() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: w.server.URL()}, Transport: w.client, Retry: policy.RetryOptions{MaxRetries: -1},
	}
}

// TestMicrosoftsLibrary holds the server to what Microsoft's own library asks and understands.
func TestMicrosoftsLibrary(t *testing.T) {
	w := newWorld(t, Options{TLS: true, Clock: systemClock{}})
	certificate, key := newCertificate(t, time.Now().AddDate(0, 1, 0))
	w.app.AddCertificate(certificate)
	provider, err := NewIdentityProvider("https://cluster.test")
	if err != nil {
		t.Fatal(err)
	}
	w.app.AddFederatedCredential(provider, "subject")
	subject := "subject"
	sign := func(context.Context) (string, error) {
		return provider.Sign(FederatedToken{Subject: subject, Issued: time.Now(), Expires: time.Now().Add(time.Hour)})
	}
	byCertificate := func(tenant string) (azcore.TokenCredential, error) {
		return azidentity.NewClientCertificateCredential(tenant, testAppID, []*x509.Certificate{certificate}, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: w.libraryOptions(), DisableInstanceDiscovery: true})
	}
	byAssertion := func(tenant string) (azcore.TokenCredential, error) {
		return azidentity.NewClientAssertionCredential(tenant, testAppID, sign,
			&azidentity.ClientAssertionCredentialOptions{ClientOptions: w.libraryOptions(), DisableInstanceDiscovery: true})
	}
	bySecret := func(tenant string) (azcore.TokenCredential, error) {
		return azidentity.NewClientSecretCredential(tenant, testAppID, testSecret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: w.libraryOptions(), DisableInstanceDiscovery: true})
	}
	ask := func(by func(string) (azcore.TokenCredential, error), tenant string) (azcore.AccessToken, error) {
		t.Helper()
		credential, err := by(tenant)
		if err != nil {
			t.Fatal(err)
		}
		return credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{string(Graph) + "/.default"}})
	}
	for name, by := range map[string]func(string) (azcore.TokenCredential, error){"certificate": byCertificate, "assertion": byAssertion, "secret": bySecret} {
		for _, tenant := range []string{testTenantID, "contoso.test"} {
			token, err := ask(by, tenant)
			if err != nil {
				t.Errorf("%s in %s: %v", name, tenant, err)
				continue
			}
			checkError(t, w.get(token.Token, alertsPath), http.StatusOK, "", "")
		}
	}

	subject = "other"
	for name, by := range map[string]func(string) (azcore.TokenCredential, error){"AADSTS700213": byAssertion, "AADSTS90002": bySecret} {
		tenant := testTenantID
		if name == "AADSTS90002" {
			tenant = "99999999-0000-4000-8000-000000000000"
		}
		_, err := ask(by, tenant)
		failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
		if !ok || failed.RawResponse == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error is %v, want %s", err, name)
		}
	}
}
