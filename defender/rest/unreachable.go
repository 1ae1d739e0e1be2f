package rest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Unreachable tells why a host gave no answer. name is what was called, for an operator; err is what the HTTP client or the
// dialler returned, and is kept without the address, in which a redirect could have put anything.
func Unreachable(name, host string, err error) *defender.Error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	e := &defender.Error{
		Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE,
			Remedy: "Check that this service's network lets it reach " + host + ".",
		},
		Err: err,
	}
	var message string
	var (
		dns          *net.DNSError
		timeout      interface{ Timeout() bool }
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		wrongName    x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
		alert        tls.AlertError
	)
	switch {
	case errors.As(err, &dns):
		message = fmt.Sprintf("the name %s does not resolve", dns.Name)
		if dns.IsTimeout {
			message = fmt.Sprintf("looking up the name %s took too long", dns.Name)
		}
		e.Problem.Remedy = "Check the host's name, and this machine's DNS."
	case errors.As(err, &wrongName):
		message = "the host's certificate is for another name"
	case errors.As(err, &authority):
		message = "the host's certificate is signed by an authority that this machine does not trust"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		message = "the host's certificate has expired, or is not valid yet"
	case errors.As(err, &verification), errors.As(err, &invalid):
		message = "the host's certificate does not verify"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		message = "what answers does not speak TLS"
	case errors.As(err, &alert):
		message = "the TLS handshake was refused"
	case errors.Is(err, syscall.ECONNREFUSED):
		message = "the host refuses the connection"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		message = "the host did not answer in time"
	default:
		message = "the connection failed"
	}
	if errors.As(err, &wrongName) || errors.As(err, &authority) || errors.As(err, &invalid) || errors.As(err, &verification) ||
		errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, &alert) {
		e.Problem.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED
		e.Problem.Remedy = "Check the host's name and port, this machine's clock, and whether a proxy that inspects TLS stands between; " +
			"its authority's certificate would have to be among those that this machine trusts."
	}
	e.Problem.Message = fmt.Sprintf("%s could not be reached at %s: %s.", name, host, message)
	return e
}
