package rest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// untrusted tells why TLS did not come about with a host, to go on with a sentence, and what to do about it. Both are empty where
// err is of something else. What certificates say of themselves is shortened: whoever answers made them.
func untrusted(err error) (message, remedy string) {
	const atHost = "Check the host's name and port, and whether a proxy that inspects TLS stands between."
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		wrongName    x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
		operation    *net.OpError
	)
	var leaf *x509.Certificate
	if errors.As(err, &verification) && len(verification.UnverifiedCertificates) > 0 {
		leaf = verification.UnverifiedCertificates[0]
	}
	switch {
	case errors.As(err, &wrongName):
		return fmt.Sprintf("%s is for %s, not for %s", theCertificate(wrongName.Certificate), namesOf(wrongName.Certificate), Excerpt(wrongName.Host)), atHost
	case errors.As(err, &authority):
		return unknownAuthority(authority.Cert, leaf), "If a proxy that inspects TLS stands between, give its authority's certificate as the " +
			"integration's trust, or have the service's operator trust it. If not, check the host's name and port."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return outOfDate(invalid.Cert, leaf, time.Now()), "Check this machine's clock. If it is right, the certificate must be renewed where that " +
			"host, or a proxy that inspects TLS, has it."
	case verification != nil, errors.As(err, &invalid):
		cause := err
		if verification != nil {
			cause = verification.Err
		}
		return theCertificate(leaf) + " does not verify: " + Excerpt(strings.TrimPrefix(cause.Error(), "x509: ")), atHost
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "what answers does not speak TLS", "Check the protocol, the host's name and its port."
	case errors.As(err, &operation) && operation.Op == "remote error":
		// It is how crypto/tls tells an alert of the other side.
		return "the host refuses the TLS handshake: " + Excerpt(strings.TrimPrefix(operation.Err.Error(), "tls: ")),
			"It may speak no TLS 1.2, or want a certificate of its clients. " + atHost
	case strings.HasPrefix(err.Error(), "tls: "):
		// The library has no types for what it does not like itself, such as an older version.
		return "the TLS handshake failed: " + Excerpt(strings.TrimPrefix(err.Error(), "tls: ")), "It may speak no TLS 1.2. " + atHost
	}
	return "", ""
}

// theCertificate begins a sentence of a host's certificate, which may be nil, with who issued it.
func theCertificate(certificate *x509.Certificate) string {
	if certificate == nil {
		return "the host's certificate"
	}
	return "the host's certificate, issued by " + CertificateName(certificate.Issuer) + ","
}

// unknownAuthority tells of a chain that ends in last, which nobody who is trusted signed.
func unknownAuthority(last, leaf *x509.Certificate) string {
	switch {
	case last == nil:
		return "the host's certificate is signed by an authority that is not trusted"
	case last == leaf && bytes.Equal(last.RawSubject, last.RawIssuer):
		return "the host's certificate is self-signed, by " + CertificateName(last.Subject) + ", and is not trusted"
	default:
		return "the host's certificate is signed by " + CertificateName(last.Issuer) + ", an authority that is not trusted"
	}
}

// outOfDate tells of a certificate that is not valid at a time: the host's, leaf, or that of an authority.
func outOfDate(certificate, leaf *x509.Certificate, now time.Time) string {
	const minutes = "2006-01-02 15:04"
	whose := theCertificate(certificate)
	if leaf != nil && certificate != leaf {
		whose = "the certificate of " + CertificateName(certificate.Subject) + ", by which the host's is signed,"
	}
	what, at := "expired on", certificate.NotAfter
	if now.Before(certificate.NotBefore) {
		what, at = "is not valid before", certificate.NotBefore
	}
	return fmt.Sprintf("%s %s %s UTC (this machine's clock says %s)", whose, what, at.UTC().Format(minutes), now.UTC().Format(minutes))
}

// namesOf lists whom a certificate is for.
func namesOf(certificate *x509.Certificate) string {
	const shown = 4
	names := append([]string(nil), certificate.DNSNames...)
	for _, address := range certificate.IPAddresses {
		names = append(names, address.String())
	}
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(" and %d more", len(names)-shown)
		names = names[:shown]
	}
	if len(names) == 0 {
		return "no host by name"
	}
	return Excerpt(strings.Join(names, ", ")) + more
}

// CertificateName names who a certificate is of, or who issued it. It is what the certificate's maker wrote, on one line and
// shortened.
func CertificateName(name pkix.Name) string {
	text := name.String()
	if name.CommonName != "" {
		text = name.CommonName
		if len(name.Organization) > 0 {
			text += " (" + name.Organization[0] + ")"
		}
	}
	if text = Excerpt(text); text == "" {
		return "nobody by name"
	}
	return text
}
