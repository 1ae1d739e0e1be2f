package defendertest

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// assertionType is the only type of client assertions
	// (https://www.rfc-editor.org/rfc/rfc7523#section-2.2).
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// exchangeAudience is whom federated tokens are for
	// (https://learn.microsoft.com/en-us/entra/workload-id/workload-identity-federation).
	exchangeAudience = "api://AzureADTokenExchange"
	// assertionSkew is how far an assertion's times may be off.
	assertionSkew = 5 * time.Minute
)

// AddCertificate adds a certificate that the application can prove itself with. What it is good until is by the server's clock.
func (a *Application) AddCertificate(certificate *x509.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.certificates = append(a.certificates, certificate)
}

// RemoveCertificates removes all certificates.
func (a *Application) RemoveCertificates() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.certificates = nil
}

// certificateOf finds a certificate by its thumbprint, SHA-1 or SHA-256.
func (a *Application) certificateOf(thumbprint []byte) *x509.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, certificate := range a.certificates {
		short, long := sha1.Sum(certificate.Raw), sha256.Sum256(certificate.Raw)
		if slices.Equal(short[:], thumbprint) || slices.Equal(long[:], thumbprint) {
			return certificate
		}
	}
	return nil
}

// federatedCredential is whose tokens prove that one is the application.
type federatedCredential struct {
	provider *IdentityProvider
	subject  string
}

// AddFederatedCredential lets the application be proved by a token of another identity provider for a subject.
func (a *Application) AddFederatedCredential(provider *IdentityProvider, subject string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.federated = append(a.federated, federatedCredential{provider: provider, subject: subject})
}

func (a *Application) federatedCredentials() []federatedCredential {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.federated)
}

// checkAssertion refuses a client assertion that does not prove the application: one signed with the key of one of its certificates
// (https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials), or the token of an identity provider of one of its
// federated credentials. The words are those of public reports.
func (s *Server) checkAssertion(x *exchange, app *Application, form url.Values) *Answer {
	if form.Get("client_assertion_type") != assertionType {
		return s.missing("client_assertion_type")
	}
	assertion := form.Get("client_assertion")
	claims := jwt.MapClaims{}
	token, _, err := jwt.NewParser().ParseUnverified(assertion, claims)
	if err != nil {
		return s.EntraError(401, "invalid_client", 50027, "JWT token is invalid or malformed.")
	}
	if thumbprint, signed := thumbprintOf(token.Header); signed {
		return s.checkCertificate(x, app, assertion, claims, thumbprint)
	}
	return s.checkFederated(app, assertion, claims)
}

// thumbprintOf reads which certificate signed an assertion. Libraries encode it for URLs as the standard wants it, or not.
func thumbprintOf(header map[string]any) (thumbprint []byte, signed bool) {
	for _, name := range []string{"x5t#S256", "x5t"} {
		text, has := header[name].(string)
		if !has {
			continue
		}
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		thumbprint, _ = base64.RawStdEncoding.DecodeString(plain) // what cannot be read fits no certificate
		return thumbprint, true
	}
	return nil, false
}

func (s *Server) checkCertificate(x *exchange, app *Application, assertion string, claims jwt.MapClaims, thumbprint []byte) *Answer {
	refuse := func(reason string) *Answer {
		return s.EntraError(401, "invalid_client", 700027, fmt.Sprintf("The certificate with identifier used to sign the client assertion is not registered on application. [Reason - %s, Thumbprint of key used by client: '%s', Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see configured keys for app Id '%s'.]",
			reason, strings.ToUpper(hex.EncodeToString(thumbprint)), app.id))
	}
	certificate := app.certificateOf(thumbprint)
	if certificate == nil {
		return refuse("The key was not found.")
	}
	if !verified(assertion, certificate.PublicKey) {
		return refuse("The provided signature value did not match the expected signature value.")
	}
	if s.clock.Now().After(certificate.NotAfter) {
		return refuse("The key used is expired.")
	}
	issuer, _ := claims.GetIssuer() // of another type than text it is not the application's
	subject, _ := claims.GetSubject()
	if !strings.EqualFold(issuer, app.id) || !strings.EqualFold(subject, app.id) {
		return s.EntraError(401, "invalid_client", 700021, "Client assertion application identifier doesn't match 'client_id' parameter. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .")
	}
	audience, _ := claims.GetAudience()
	if !slices.ContainsFunc(audience, func(a string) bool { return s.isOwn(x, app.tenant, a) }) {
		return s.EntraError(401, "invalid_client", 700023, "Client assertion audience claim does not match Realm issuer. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .")
	}
	return s.checkTimes(claims)
}

// isOwn says whether an assertion's audience is this server's tenant.
func (s *Server) isOwn(x *exchange, tenant *Tenant, audience string) bool {
	for _, name := range append([]string{tenant.id}, tenant.domains...) {
		base := s.originOf(x.request) + "/" + name
		for _, own := range []string{base + v2TokenPath, base + v1TokenPath, base + "/v2.0"} {
			if strings.EqualFold(audience, own) {
				return true
			}
		}
	}
	return false
}

func (s *Server) checkFederated(app *Application, assertion string, claims jwt.MapClaims) *Answer {
	refuse := func(code int, what, value, more string) *Answer {
		return s.EntraError(401, "invalid_client", code, fmt.Sprintf("No matching federated identity record found for presented assertion %s '%s'.%s Check your federated identity credential Subject, Audience and Issuer against the presented assertion. https://learn.microsoft.com/entra/workload-id/workload-identity-federation", what, value, more))
	}
	issuer, _ := claims.GetIssuer() // of another type than text it fits none
	subject, _ := claims.GetSubject()
	audience, _ := claims.GetAudience()
	trusted := slices.DeleteFunc(app.federatedCredentials(), func(c federatedCredential) bool { return c.provider.issuer != issuer })
	if len(trusted) == 0 {
		return refuse(700211, "issuer", issuer, "")
	}
	if !slices.Contains(audience, exchangeAudience) {
		return refuse(700212, "audience", strings.Join(audience, ","), "")
	}
	exact := slices.IndexFunc(trusted, func(c federatedCredential) bool { return c.subject == subject })
	switch {
	case exact >= 0:
	case slices.ContainsFunc(trusted, func(c federatedCredential) bool { return strings.EqualFold(c.subject, subject) }):
		return refuse(7002138, "subject", subject, " The subject matches with case-insensitive comparison, but not with case-sensitive comparison.")
	default:
		return refuse(700213, "subject", subject, "")
	}
	if !verified(assertion, trusted[exact].provider.key.Public()) {
		return s.EntraError(401, "invalid_client", 50013, "Assertion failed signature validation. [Reason - The provided signature value did not match the expected signature value.]")
	}
	return s.checkTimes(claims)
}

// checkTimes refuses an assertion that is not good now, by the server's clock.
func (s *Server) checkTimes(claims jwt.MapClaims) *Answer {
	now := s.clock.Now()
	from, until := time.Unix(0, 0), time.Unix(0, 0)
	if at, _ := claims.GetNotBefore(); at != nil { // of another type than a number it is not set
		from = at.Time
	}
	if at, _ := claims.GetExpirationTime(); at != nil {
		until = at.Time
	}
	if now.Add(assertionSkew).Before(from) || now.Add(-assertionSkew).After(until) {
		const form = "2006-01-02T15:04:05.0000000Z"
		return s.EntraError(401, "invalid_client", 700024, fmt.Sprintf("Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, expiry time of assertion %s. Review the documentation at https://learn.microsoft.com/entra/identity-platform/certificate-credentials .",
			now.Format(form), from.UTC().Format(form), until.UTC().Format(form)))
	}
	return nil
}

// verified checks an assertion's signature, of RSA with SHA-256 in either padding, the ones that Entra takes.
func verified(assertion string, key any) bool {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"PS256", "RS256"}), jwt.WithoutClaimsValidation())
	_, err := parser.Parse(assertion, func(*jwt.Token) (any, error) { return key, nil })
	return err == nil
}
