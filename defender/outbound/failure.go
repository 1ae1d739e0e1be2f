package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Fault is what a proxy failed at.
type Fault string

// The faults.
const (
	// FaultUnreachable is a proxy whose name does not resolve or that takes no connection.
	FaultUnreachable Fault = "unreachable"
	// FaultUntrusted is an https:// proxy with which TLS did not come about: its certificate, or its protocol.
	FaultUntrusted Fault = "untrusted"
	// FaultAuthentication is a proxy that wants a name and password, or others.
	FaultAuthentication Fault = "authentication"
	// FaultForbidden is a proxy that does not let us through to this target.
	FaultForbidden Fault = "forbidden"
	// FaultTarget is a proxy that could not reach the target itself.
	FaultTarget Fault = "target"
	// FaultProtocol is what answers as no such proxy does, breaks off, or does not answer in time.
	FaultProtocol Fault = "protocol"
)

// ProxyError is why a proxy did not open the way to a target. Its text holds no password.
type ProxyError struct {
	// Fault is what it failed at.
	Fault Fault
	// Route is the way with the proxy.
	Route Route
	// Target is the host:port that was to be reached; empty where only the proxy was.
	Target string
	// Status is the HTTP status that a proxy answered CONNECT with; zero where it did not.
	Status int
	// Answer is its status line, or the reply of a SOCKS proxy in words, shortened.
	Answer string
	// Schemes are those that it lets itself be authenticated to by, such as Basic and Negotiate, where it named them.
	Schemes []string
	// Err is the cause; it may be nil.
	Err error
}

// Error tells what happened.
func (e *ProxyError) Error() string {
	text := e.what()
	if e.Err != nil && e.Answer == "" {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *ProxyError) Unwrap() error { return e.Err }

// withTarget completes an error of DialProxy.
func withTarget(err error, target string) error {
	if failure, ok := errors.AsType[*ProxyError](err); ok {
		failure.Target = target
	}
	return err
}

// withRoute completes an error of askConnect or askSOCKS.
func withRoute(err error, route Route, target string) error {
	if failure, ok := errors.AsType[*ProxyError](err); ok {
		failure.Route, failure.Target = route, target
	}
	return err
}

// Problem tells why a call got no answer, in words for an operator: first what the guard and the proxies say, then what
// [rest.Unreachable] does. name is what was called, host where; err is what the HTTP client, [Outbound.Dial], [Outbound.DialProxy],
// [Outbound.Tunnel] or a handshake returned.
func Problem(name, host string, err error) *defender.Error {
	if refused, ok := errors.AsType[*AddressError](err); ok {
		return refused.problem(name, host)
	}
	if failure, ok := errors.AsType[*ProxyError](err); ok {
		return failure.problem(name, host)
	}
	return rest.Unreachable(name, host, err)
}

func (e *AddressError) problem(name, host string) *defender.Error {
	what := e.Error()
	remedy := "Check the host's name and this machine's DNS. "
	if e.Proxy {
		what = "the proxy " + what
		remedy = "Check the proxy's name and this machine's DNS. "
	}
	if isMetadata(e.Address) {
		remedy += "Nothing that an integration names belongs there."
	} else {
		remedy += "If that address is meant, have the service's operator start it with --allow-endpoint " + e.HostPort + "."
	}
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason:  integrationv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_ALLOWED,
			Message: fmt.Sprintf("%s could not be reached at %s: %s.", name, host, what),
			Remedy:  remedy,
		},
		Permanent: true,
		Err:       e,
	}
}

func (e *ProxyError) problem(name, host string) *defender.Error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason:     integrationv1.ErrorReason_ERROR_REASON_PROXY_FAILED,
			Message:    fmt.Sprintf("%s could not be reached at %s: %s.", name, host, e.what()),
			Remedy:     e.remedy(),
			HttpStatus: int32(e.Status),
		},
		Permanent: e.Fault == FaultAuthentication || e.Fault == FaultForbidden,
		Err:       e,
	}
}

// what tells what happened, to go on with a sentence.
func (e *ProxyError) what() string {
	proxy := e.Route.owner()
	at := proxy + " (" + e.Route.Proxy + ")"
	answer := ""
	if e.Answer != "" {
		answer = ": it answered " + e.Answer
	}
	switch e.Fault {
	case FaultUnreachable, FaultUntrusted:
		return strings.TrimSuffix(e.reaching().Problem.GetMessage(), ".")
	case FaultAuthentication:
		switch {
		case e.onlyOtherSchemes():
			return at + " wants to be authenticated to by " + strings.Join(e.Schemes, ", ") + ", and this service knows Basic alone" + answer
		case e.Route.proxy.username == "":
			return at + " wants a name and a password" + answer
		default:
			return at + " refuses the name and the password" + answer
		}
	case FaultForbidden:
		return at + " forbids the way to " + e.Target + answer
	case FaultTarget:
		return at + " could not reach " + e.Target + " itself" + answer
	default:
		timeout, ok := errors.AsType[net.Error](e.Err)
		switch {
		case e.Answer != "":
			return at + " opened no way to " + e.Target + answer
		case ok && timeout.Timeout():
			return at + " did not open a way to " + e.Target + " in time"
		default:
			return at + " broke off, or does not speak " + e.Route.Kind.words()
		}
	}
}

func (k Kind) words() string {
	if k == KindSOCKS5 {
		return "SOCKS 5"
	}
	return "HTTP"
}

// reaching tells why the proxy itself was not reached.
func (e *ProxyError) reaching() *defender.Error {
	return rest.Unreachable(e.Route.owner(), e.Route.Proxy, e.Err)
}

func (e *ProxyError) onlyOtherSchemes() bool {
	return len(e.Schemes) > 0 && !slices.ContainsFunc(e.Schemes, func(scheme string) bool { return strings.EqualFold(scheme, "Basic") })
}

// remedy tells what to do, and where that proxy is configured.
func (e *ProxyError) remedy() string {
	where := map[Origin]string{
		OriginIntegration: "It is configured in the integration's proxy.",
		OriginService:     "It is configured in this service's proxy rules, by its operator.",
		OriginEnvironment: "It is configured in this service's environment as HTTPS_PROXY, by its operator.",
	}[e.Route.Origin]
	return e.act() + " " + where
}

func (e *ProxyError) act() string {
	const url = "Check the proxy's URL: scheme, host and port."
	switch e.Fault {
	case FaultUnreachable:
		if _, ok := errors.AsType[*net.DNSError](e.Err); ok {
			return "Check the proxy's name, and this machine's DNS."
		}
		return "Check the proxy's host and port, and that this service's network lets it reach " + e.Route.Proxy + "."
	case FaultUntrusted:
		if _, ok := errors.AsType[tls.RecordHeaderError](e.Err); ok {
			return "Check the proxy's URL: with https:// the way to the proxy itself is over TLS, with http:// it is not."
		}
		if _, ok := errors.AsType[x509.UnknownAuthorityError](e.Err); ok {
			return "Give the certificate of the authority that signed the proxy's as the integration's trust, or have the service's operator trust it."
		}
		return "Check the proxy's host and port, its certificate, and this machine's clock."
	case FaultAuthentication:
		switch {
		case e.onlyOtherSchemes():
			return "Have the proxy's administrators allow Basic for this service, or let its address through without authentication."
		case e.Route.proxy.username != "":
			return "Check the name and the password."
		case e.Route.Origin == OriginIntegration:
			return "Give the name in proxy.username and the password in proxy.password, proxy.password_file or proxy.password_env_variable."
		default:
			return "Put name and password before its host, as in http://NAME:PASSWORD@HOST:PORT, with special characters percent-encoded."
		}
	case FaultForbidden:
		return "Have the proxy's administrators let this service through to " + e.Target + "."
	case FaultTarget:
		return "Check the name and port of " + e.Target + ", and have the proxy's administrators check that it resolves and reaches them."
	default:
		if e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented {
			return "What answers takes no CONNECT: it may be no forward proxy. " + url
		}
		return url + " If they are right, ask the proxy's administrators."
	}
}
