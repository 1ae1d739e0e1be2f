package outbound

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"defender-integration/defender/rest"
)

// fingerprint is the SHA-256 of a certificate.
type fingerprint [sha256.Size]byte

// parseCertificates reads all certificates of a text in PEM; an empty text has none. Words between them do not count.
func parseCertificates(text []byte) ([]*x509.Certificate, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	var certificates []*x509.Certificate
	for left := text; ; {
		var block *pem.Block
		if block, left = pem.Decode(left); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("there is a %s among the certificates", rest.Excerpt(block.Type))
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(certificates)+1, err)
		}
		certificates = append(certificates, certificate)
	}
	// The decoder passes over what is damaged.
	switch begun := bytes.Count(text, []byte("-----BEGIN")); {
	case begun == 0:
		return nil, errors.New("there is no certificate in PEM")
	case begun != len(certificates):
		return nil, fmt.Errorf("of %d certificates only %d can be read", begun, len(certificates))
	}
	return certificates, nil
}

// setTrust adds the operator's authorities and the integration's to those of the system.
func (o *Outbound) setTrust(own []*x509.Certificate) error {
	if len(own) == 0 && len(o.defaults.trust) == 0 {
		return nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return invalid("The authorities that this machine trusts cannot be read, so that none can be added.",
			"Check this machine's store of certificates.", err)
	}
	o.roots, o.added = roots, make(map[fingerprint]Origin)
	add := func(certificates []*x509.Certificate, origin Origin) {
		for _, certificate := range certificates {
			roots.AddCert(certificate)
			o.added[sha256.Sum256(certificate.Raw)] = origin
		}
	}
	add(own, OriginIntegration)
	add(o.defaults.trust, OriginService)
	return nil
}

// Signer says who vouches for a host's certificate, as far as it was verified.
type Signer struct {
	// Issuer is who signed the certificate, and Authority is the trusted one at the end of the chain: the same where nothing stands
	// between. Both are as the certificates name them, shortened.
	Issuer, Authority string
	// Added says who added that authority to those of the system, which vouch for it in no other way; OriginNone where they do.
	Added Origin
}

// String tells it in a sentence. An authority that was added is what a proxy needs that inspects TLS; it proves none.
func (s Signer) String() string {
	switch s.Added {
	case OriginIntegration:
		return "It is signed by an authority that the integration's trust adds, " + s.Authority + ": a proxy that inspects TLS may stand between."
	case OriginService:
		return "It is signed by an authority that this service's operator added, " + s.Authority + ": a proxy that inspects TLS may stand between."
	default:
		return "It is signed by " + s.Issuer + ", and this machine trusts " + s.Authority + "."
	}
}

// Signed says who vouches for the certificate of a connection that a configuration of [Outbound.TLSConfig] verified. Where the
// connection was not verified, it says nothing.
func (o *Outbound) Signed(state tls.ConnectionState) Signer {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return Signer{}
	}
	chain := state.VerifiedChains[0]
	signer := Signer{Issuer: rest.CertificateName(chain[0].Issuer), Authority: rest.CertificateName(chain[len(chain)-1].Subject)}
	if origin, added := o.added[sha256.Sum256(chain[len(chain)-1].Raw)]; added && !trustedBySystem(state) {
		signer.Added = origin
	}
	return signer
}

// trustedBySystem says whether the host's certificate verifies without what was added: an operator may add what the system has.
func trustedBySystem(state tls.ConnectionState) bool {
	between := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		between.AddCert(certificate)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Intermediates: between})
	return err == nil
}
