package outbound

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"

	socks "golang.org/x/net/proxy"
)

// askSOCKS asks a SOCKS 5 proxy, over a connection to it, for a connection to host:port. Its errors are without route and target.
func askSOCKS(ctx context.Context, connection net.Conn, p *proxy, target string) (net.Conn, error) {
	var auth *socks.Auth
	if p.username != "" {
		auth = &socks.Auth{User: p.username, Password: p.password}
	}
	dialer, err := socks.SOCKS5("tcp", p.address, auth, connected{connection})
	if err != nil {
		return nil, &ProxyError{Fault: FaultProtocol, Err: err}
	}
	through, err := dialer.(socks.ContextDialer).DialContext(ctx, "tcp", target) //nolint:forcetypeassert // Each dialer of SOCKS5 is one.
	switch {
	case err == nil:
		return through, nil
	case ctx.Err() != nil:
		return nil, &ProxyError{Fault: FaultProtocol, Err: context.Cause(ctx)}
	case errors.Is(err, os.ErrDeadlineExceeded):
		// The library stops reading when ctx is to end, which may be a moment before it does.
		return nil, &ProxyError{Fault: FaultProtocol, Err: context.DeadlineExceeded}
	default:
		return nil, refusedBySOCKS(err)
	}
}

// refusedBySOCKS tells the faults apart by the library's words, since it has neither types nor values for them.
func refusedBySOCKS(err error) *ProxyError {
	if outer, ok := errors.AsType[*net.OpError](err); ok && strings.HasPrefix(outer.Op, "socks") {
		err = outer.Err
	}
	failure := &ProxyError{Fault: FaultProtocol, Err: err}
	words := err.Error()
	reply, replied := strings.CutPrefix(words, "unknown error ")
	switch {
	case words == "username/password authentication failed", words == "no acceptable authentication methods":
		failure.Fault, failure.Answer = FaultAuthentication, words
	case replied && reply == "connection not allowed by ruleset":
		failure.Fault, failure.Answer = FaultForbidden, reply
	case replied && (reply == "general SOCKS server failure" || reply == "network unreachable" || reply == "host unreachable" ||
		reply == "connection refused" || reply == "TTL expired"):
		failure.Fault, failure.Answer = FaultTarget, reply
	case replied:
		failure.Answer = reply
	}
	return failure
}

// connected is a dialer that is connected to the proxy already.
type connected struct{ connection net.Conn }

// Dial is [connected.DialContext].
func (c connected) Dial(string, string) (net.Conn, error) { return c.connection, nil }

// DialContext returns the connection.
func (c connected) DialContext(context.Context, string, string) (net.Conn, error) {
	return c.connection, nil
}
