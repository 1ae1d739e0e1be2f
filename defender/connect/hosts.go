package connect

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// expirySoon is when a certificate's end is worth telling.
const expirySoon = 7 * 24 * time.Hour

// host tries the links to one host: name, connection, certificate. It returns the first that failed, nil where all hold.
func (t *test) host(target integrationv1.ConnectivityStage_Target) *stage {
	u := t.connection.address(target)
	host, port := u.Hostname(), u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	dns := t.run(integrationv1.ConnectivityStage_LINK_DNS, target, nil, func(ctx context.Context, s *stage) { resolve(ctx, s, host) })
	tcp := t.run(integrationv1.ConnectivityStage_LINK_TCP, target, firstFailed(dns), func(ctx context.Context, s *stage) {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		if err != nil {
			fail(s, rest.Unreachable("The host", u.Host, err))
			return
		}
		s.Seen = "Connected to " + connection.RemoteAddr().String() + "."
		_ = connection.Close() // it was opened to see that it opens
	})
	if u.Scheme == "http" {
		s := t.run(integrationv1.ConnectivityStage_LINK_TLS, target, nil, func(context.Context, *stage) {})
		s.Result, s.Seen = skipped, "The endpoint is spoken to in clear, over HTTP, as this service's operator allows."
		return firstFailed(dns, tcp)
	}
	handshake := t.run(integrationv1.ConnectivityStage_LINK_TLS, target, firstFailed(dns, tcp), func(ctx context.Context, s *stage) {
		t.connection.handshake(ctx, s, host, port)
	})
	return firstFailed(dns, tcp, handshake)
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

func resolve(ctx context.Context, s *stage, host string) {
	if _, err := netip.ParseAddr(host); err == nil {
		s.Seen = host + " is an address: there is nothing to look up."
		return
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		fail(s, rest.Unreachable("The host", host, err))
		return
	}
	const shown = 4
	more := ""
	if len(addresses) > shown {
		more = fmt.Sprintf(" and %d more", len(addresses)-shown)
		addresses = addresses[:shown]
	}
	s.Seen = fmt.Sprintf("%s is %s%s.", host, strings.Join(addresses, ", "), more)
}

func (c *Connection) handshake(ctx context.Context, s *stage, host, port string) {
	config := c.transport.TLSClientConfig.Clone()
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	connection, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		fail(s, rest.Unreachable("The host", host, err))
		return
	}
	defer func() { _ = connection.Close() }() // it was opened to see that it opens
	secured, ok := connection.(*tls.Conn)
	if !ok || len(secured.ConnectionState().PeerCertificates) == 0 {
		s.Seen = "The certificate verifies."
		return
	}
	state := secured.ConnectionState()
	certificate := state.PeerCertificates[0]
	s.Seen = fmt.Sprintf("%s; the certificate for %s, issued by %s, verifies and is good until %s.", tls.VersionName(state.Version),
		host, rest.Excerpt(certificate.Issuer.String()), certificate.NotAfter.UTC().Format(time.DateOnly))
	if time.Until(certificate.NotAfter) < expirySoon {
		s.Result = warned
		s.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED
		s.Remedy = "The host's certificate is about to expire. If it is not Microsoft's own, renew it."
	}
}
