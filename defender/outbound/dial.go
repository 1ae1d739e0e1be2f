package outbound

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
)

// Dial connects to host:port directly. Each address that the host resolves to is looked at before it is connected to; where all
// fail and one of them is refused, the error may be an *AddressError. What the operator allows is connected to wherever it is.
func (o *Outbound) Dial(ctx context.Context, hostPort string) (net.Conn, error) {
	return o.dial(ctx, strings.ToLower(hostPort), false)
}

func (o *Outbound) dial(ctx context.Context, hostPort string, isProxy bool) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	// The operator's own proxy is often a sidecar on this machine.
	operators := isProxy && o.defaults.names(hostPort)
	if !operators && !o.allowed(hostPort) {
		dialer.ControlContext = func(_ context.Context, _, resolved string, _ syscall.RawConn) error {
			return guard(hostPort, resolved, isProxy)
		}
	}
	return dialer.DialContext(ctx, "tcp", hostPort)
}

// DialProxy connects to the proxy of a route, over TLS where it is an https:// proxy, and says nothing yet. Each error is a
// *ProxyError; in it may be an *AddressError.
func (o *Outbound) DialProxy(ctx context.Context, route Route) (net.Conn, error) {
	if route.Direct() {
		return nil, errors.New("the way is direct: there is no proxy to connect to")
	}
	connection, err := o.dial(ctx, route.Proxy, true)
	if err != nil {
		return nil, &ProxyError{Fault: FaultUnreachable, Route: route, Err: err}
	}
	if route.Kind != KindHTTPS {
		return connection, nil
	}
	config := o.TLSConfig(route.proxy.host)
	// CONNECT is asked in HTTP/1.1.
	config.NextProtos = nil
	secured, err := handshake(ctx, connection, config)
	if err != nil {
		return nil, &ProxyError{Fault: FaultUntrusted, Route: route, Err: err}
	}
	return secured, nil
}

// Tunnel opens a connection to a target, host:port, by a route: through its proxy, which looks the name up, or by [Outbound.Dial]
// where it is direct. What is then said over the connection, the proxy hands on to the target. A proxy's failure is a *ProxyError.
func (o *Outbound) Tunnel(ctx context.Context, route Route, target string) (net.Conn, error) {
	if route.Direct() {
		return o.Dial(ctx, target)
	}
	connection, err := o.DialProxy(ctx, route)
	if err != nil {
		return nil, withTarget(err, target)
	}
	ctx, cancel := context.WithTimeout(ctx, tunnelTimeout)
	defer cancel()
	through := connection
	if route.Kind == KindSOCKS5 {
		through, err = askSOCKS(ctx, connection, route.proxy, target)
	} else {
		err = askConnect(ctx, connection, route.proxy, target)
	}
	if err != nil {
		_ = connection.Close() // it leads nowhere
		return nil, withRoute(err, route, target)
	}
	return through, nil
}
