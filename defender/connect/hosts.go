package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/outbound"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// expirySoon is when a host's certificate's end is worth telling.
const expirySoon = 7 * 24 * time.Hour

// authorizationHost tries the links to the authorization host, and returns the first that failed.
func (t *test) authorizationHost() *stage {
	if t.connection.integration.GetAuthentication().GetManagedIdentity() == nil {
		return t.host(authTarget)
	}
	t.leaveOut(integrationv1.ConnectivityStage_LINK_TCP, authTarget,
		"A managed identity's tokens come from this machine's own endpoint, which is tried when a token is asked for.")
	return nil
}

// host tries the links to one host, by the way that calls take: its name, the proxy, the connection, the certificate. It returns the
// first that failed, nil where all hold.
func (t *test) host(target integrationv1.ConnectivityStage_Target) *stage {
	u := t.connection.address(target)
	hostPort := hostPortOf(u)
	route, err := t.connection.way.Route(u)
	if err != nil {
		return t.run(integrationv1.ConnectivityStage_LINK_DNS, target, nil, func(_ context.Context, s *stage) { fail(s, err) })
	}
	h := &hostTest{test: t, target: target, host: u.Hostname(), hostPort: hostPort, route: route}
	defer h.close()
	before := h.nameAndProxy()
	tcp := t.run(integrationv1.ConnectivityStage_LINK_TCP, target, before, h.connect)
	if u.Scheme == "http" {
		t.leaveOut(integrationv1.ConnectivityStage_LINK_TLS, target, "The endpoint is spoken to in clear, over HTTP, as this service's operator allows.")
		return firstFailed(before, tcp)
	}
	return firstFailed(before, tcp, t.run(integrationv1.ConnectivityStage_LINK_TLS, target, firstFailed(before, tcp), h.handshake))
}

// hostTest is the test of the way to one host.
type hostTest struct {
	test           *test
	target         integrationv1.ConnectivityStage_Target
	host, hostPort string
	route          outbound.Route

	// connection leads to the host; err is why there is none, where that was found out already.
	connection net.Conn
	err        error
}

func (h *hostTest) close() {
	if h.connection != nil {
		_ = h.connection.Close() // it was opened to see that it opens
	}
}

// nameAndProxy looks the host's name up, or leaves it to the proxy and opens the way through that. It returns the stage that failed.
func (h *hostTest) nameAndProxy() *stage {
	if h.route.Direct() {
		dns := h.test.run(integrationv1.ConnectivityStage_LINK_DNS, h.target, nil, h.resolve)
		h.test.leaveOut(integrationv1.ConnectivityStage_LINK_PROXY, h.target, "The host is reached "+h.route.String()+".")
		return firstFailed(dns)
	}
	h.test.leaveOut(integrationv1.ConnectivityStage_LINK_DNS, h.target, "The name is left to the proxy to look up.")
	return firstFailed(h.test.run(integrationv1.ConnectivityStage_LINK_PROXY, h.target, nil, func(ctx context.Context, s *stage) {
		h.connection, h.err = h.test.connection.way.Tunnel(ctx, h.route, h.hostPort)
		// That the proxy does not get through to the host is the host's matter.
		if failure, ok := errors.AsType[*outbound.ProxyError](h.err); h.err != nil && (!ok || failure.Fault != outbound.FaultTarget) {
			h.fail(s, h.err)
			return
		}
		s.Seen = "The host is reached " + h.route.String() + ", which answers."
	}))
}

// connect connects to the host, where the proxy did not already.
func (h *hostTest) connect(ctx context.Context, s *stage) {
	if h.route.Direct() {
		h.connection, h.err = h.test.connection.way.Dial(ctx, h.hostPort)
	}
	switch {
	case h.err != nil:
		h.fail(s, h.err)
	case h.route.Direct():
		s.Seen = "Connected to " + h.connection.RemoteAddr().String() + "."
	default:
		s.Seen = "The proxy connected to " + h.hostPort + "."
	}
}

// handshake speaks TLS over the connection.
func (h *hostTest) handshake(ctx context.Context, s *stage) {
	secured := tls.Client(h.connection, h.test.connection.way.TLSConfig(h.host))
	if err := secured.HandshakeContext(ctx); err != nil {
		h.fail(s, err)
		return
	}
	state := secured.ConnectionState()
	certificate := state.PeerCertificates[0]
	s.Seen = fmt.Sprintf("%s; the certificate for %s verifies and is good until %s. %s", tls.VersionName(state.Version),
		rest.Excerpt(strings.Join(namesOf(certificate.DNSNames, certificate.IPAddresses), ", ")),
		certificate.NotAfter.UTC().Format(time.DateOnly), h.test.connection.way.Signed(state))
	if time.Until(certificate.NotAfter) < expirySoon {
		s.Result = warned
		s.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED
		s.Remedy = "The host's certificate is about to expire. If it is not Microsoft's own, renew it."
	}
}

// namesOf returns the names of a certificate, few of them.
func namesOf(names []string, addresses []net.IP) []string {
	for _, address := range addresses {
		names = append(names, address.String())
	}
	const shown = 4
	if more := len(names) - shown; more > 0 {
		return append(names[:shown:shown], fmt.Sprintf("%d more", more))
	}
	return names
}

// address is where a target is.
func (c *Connection) address(target integrationv1.ConnectivityStage_Target) *url.URL {
	switch target {
	case authTarget:
		// It was parsed when the connection was made.
		u, err := url.Parse(c.integration.GetAuthentication().GetAuthorizationUrl())
		if err != nil {
			return &url.URL{}
		}
		return u
	case deviceTarget:
		return defender.BaseURL(c.integration.GetDeviceSource().GetEndpoint())
	default:
		return defender.BaseURL(c.integration.GetEndpoint())
	}
}

// hostPortOf returns an address's host and port, the scheme's own where it has none.
func hostPortOf(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// resolve looks up the host's name.
func (h *hostTest) resolve(ctx context.Context, s *stage) {
	if _, err := netip.ParseAddr(h.host); err == nil {
		s.Seen = h.host + " is an address: there is nothing to look up."
		return
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, h.host)
	if err != nil {
		h.fail(s, err)
		return
	}
	const shown = 4
	more := ""
	if len(addresses) > shown {
		more = fmt.Sprintf(" and %d more", len(addresses)-shown)
		addresses = addresses[:shown]
	}
	s.Seen = fmt.Sprintf("%s is %s%s.", h.host, strings.Join(addresses, ", "), more)
}
