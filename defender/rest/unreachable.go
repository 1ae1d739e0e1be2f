package rest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Unreachable tells why a host gave no answer: where the way to it ended, or what certificate it showed. name is what was called,
// for an operator; err is what the HTTP client, the dialler or the handshake returned, and is kept without the address, in which a
// redirect could have put anything, and without what answered where that was no HTTP, which may have been anything too.
func Unreachable(name, host string, err error) *defender.Error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	// net/http quotes it, in errors that have no type.
	if text := err.Error(); strings.Contains(text, "malformed HTTP ") || strings.Contains(text, "malformed MIME header") {
		err = errNoHTTP
	}
	reason := integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED
	message, remedy := untrusted(err)
	if message == "" {
		reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE
		message, remedy = unreached(host, err)
	}
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason:  reason,
			Message: fmt.Sprintf("%s could not be reached at %s: %s.", name, host, message),
			Remedy:  remedy,
		},
		Err: err,
	}
}

var errNoHTTP = errors.New("what answered was no HTTP")

// unreached tells where the way to a host ended, to go on with a sentence, and what to do about it.
func unreached(host string, err error) (message, remedy string) {
	remedy = "Check that this service's network lets it reach " + host + "."
	var (
		dns     *net.DNSError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &dns):
		remedy = "Check the host's name, and this machine's DNS."
		if dns.IsTimeout {
			return fmt.Sprintf("looking up the name %s took too long", dns.Name), remedy
		}
		return fmt.Sprintf("the name %s does not resolve", dns.Name), remedy
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the host refuses the connection", remedy
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "the host did not answer in time", remedy
	default:
		return "the connection failed", remedy
	}
}
