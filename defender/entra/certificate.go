package entra

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // It is what Entra's portal names certificates by; no security rests on it.
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"defender-integration/defender/rest"
)

// minKey is the shortest RSA key that is signed with, in bits.
const minKey = 2048

// certificate is a certificate of the application with its private key, given, in a file or in an environment variable
// (https://learn.microsoft.com/en-us/entra/identity-platform/certificate-credentials). It never leaves this machine: what is sent is an
// assertion that is signed with the key.
type certificate struct {
	authority       authority
	clientID, scope string
	// kept is the certificate with its key, in PEM.
	kept kept
	// ends is when the one ends that was last asked with, in nanoseconds since 1970.
	ends atomic.Int64
}

func (c *certificate) until() time.Time { return timeOf(c.ends.Load()) }

func (c *certificate) ask(ctx context.Context, client *http.Client) error {
	certificates, key, err := c.read()
	if err != nil {
		return err
	}
	// A new one each time: it has a cache, and what it was made of may have changed.
	asker, err := azidentity.NewClientCertificateCredential(c.authority.tenant, c.clientID, certificates, key,
		&azidentity.ClientCertificateCredentialOptions{
			ClientOptions: c.authority.options(client), DisableInstanceDiscovery: true,
		})
	if err != nil {
		return c.unusable("it cannot be signed with", keyRemedy)
	}
	if private, ok := key.(*rsa.PrivateKey); ok {
		c.ends.Store(signing(certificates, private).NotAfter.UnixNano())
	}
	_, err = asker.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{c.scope}})
	return err
}

// options are how the library calls: by our client, at our authority, once.
func (a authority) options(client *http.Client) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: a.host},
		Transport: client,
		// Less than none is none. Whoever wants a token tries again, and knows when.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}
}

const keyRemedy = "Give the certificate and its RSA private key, not encrypted, in PEM: -----BEGIN CERTIFICATE----- and -----BEGIN PRIVATE KEY-----."

// read returns the certificates as they are now, and the key of one of them, which is checked to be one that can be used.
func (c *certificate) read() ([]*x509.Certificate, crypto.PrivateKey, error) {
	content, err := c.kept.read()
	if err != nil {
		return nil, nil, err
	}
	if wrong := wrongBlocks(content); wrong != "" {
		return nil, nil, c.unusable(wrong, keyRemedy)
	}
	certificates, key, err := azidentity.ParseCertificates(content, nil)
	if err != nil {
		return nil, nil, c.unusable("the certificate or the private key is damaged, or of a kind that is not known", keyRemedy)
	}
	private, isRSA := key.(*rsa.PrivateKey)
	if !isRSA {
		return nil, nil, c.unusable("the private key is not an RSA key, the only kind that Entra takes", keyRemedy)
	}
	if private.N.BitLen() < minKey {
		return nil, nil, c.unusable(fmt.Sprintf("the private key has %d bits, and at least %d are needed", private.N.BitLen(), minKey), keyRemedy)
	}
	own := signing(certificates, private)
	if own == nil {
		return nil, nil, c.unusable("the private key is that of another certificate", "Give the private key that belongs to the certificate.")
	}
	if time.Now().After(own.NotAfter) {
		return nil, nil, expired(fmt.Sprintf("The client certificate (thumbprint %s)", thumbprint(own)), own.NotAfter,
			"In Entra, under App registrations > Certificates & secrets, upload a new certificate, then give it here with its private key.")
	}
	return certificates, key, nil
}

// wrongBlocks says what is missing among the PEM blocks, in words that complete "..., since ..."; empty where nothing is. It stands
// before the library, which would take anything else for PKCS #12 and tell what it does not know as missing.
func wrongBlocks(content []byte) string {
	var certificates, keys, encrypted, elliptic int
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
			certificates++
		case block.Type == "ENCRYPTED PRIVATE KEY", block.Headers["DEK-Info"] != "":
			encrypted++
		case block.Type == "EC PRIVATE KEY":
			elliptic++
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			keys++
		}
	}
	switch {
	case certificates == 0 && keys+encrypted+elliptic == 0:
		return "it holds neither a certificate nor a private key in PEM"
	case certificates == 0:
		return "it holds a private key without a certificate"
	case encrypted > 0:
		return "the private key is encrypted"
	case elliptic > 0:
		return "the private key is not an RSA key, the only kind that Entra takes"
	case keys == 0:
		return "it holds a certificate without its private key"
	case keys > 1:
		return "it holds more than one private key"
	}
	return ""
}

// signing returns the certificate that a key belongs to; nil where there is none.
func signing(certificates []*x509.Certificate, key *rsa.PrivateKey) *x509.Certificate {
	for _, certificate := range certificates {
		if key.PublicKey.Equal(certificate.PublicKey) {
			return certificate
		}
	}
	return nil
}

// unusable tells what is wrong with the certificate; why completes "..., since ...".
func (c *certificate) unusable(why, remedy string) error {
	return unusable("The client certificate"+c.kept.where()+" cannot be used: "+why+".", remedy)
}

func (c *certificate) inspect() (Inspection, error) {
	found := c.kept.inspected("a client certificate")
	certificates, key, err := c.read()
	if err != nil {
		return found, err
	}
	if private, ok := key.(*rsa.PrivateKey); ok {
		own := signing(certificates, private)
		found.Subject, found.Thumbprint, found.Expires = rest.Excerpt(own.Subject.String()), thumbprint(own), own.NotAfter
	}
	return found, nil
}

// thumbprint names a certificate as Entra's portal does.
func thumbprint(certificate *x509.Certificate) string {
	return fmt.Sprintf("%X", sha1.Sum(certificate.Raw)) //nolint:gosec // See the import.
}
