// Package outbound is how an integration's calls leave this machine: directly or through which proxy, to which addresses, and whose
// certificates are trusted. What a caller configures here cannot be turned against the network that the service stands in: each
// address is looked at when it is dialled, trust can be added and never switched off, and a proxy's name and password go to that
// proxy alone.
//
// The calls and the connectivity test take the same way: [Outbound.Transport] opens its connections with the same [Outbound.Route]
// and [Outbound.Tunnel] that the test tries one by one.
package outbound

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The time limits of a call, each for one point of it.
const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	// tunnelTimeout is for the proxy's answer: it looks up the target's name and connects to it before it answers.
	tunnelTimeout = 20 * time.Second
	// defaultHeaderTimeout is generous: Graph works out the whole page before it answers.
	defaultHeaderTimeout = 60 * time.Second
	// pingAfter is how long a connection of HTTP/2 may say nothing before it is asked for a sign of life, which keeps a waiting tunnel
	// open too, and pingTimeout is how long that may take. A proxy or firewall that forgot a connection drops what is sent over it in
	// silence, and all calls would go on waiting there.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// keepAlive is between two probes of a connection that is idle.
	keepAlive = 30 * time.Second
	// maxHeader bounds an answer's headers, Microsoft's and a proxy's.
	maxHeader = 256 << 10
)

// Config is what an [Outbound] is made of. The zero Config goes directly, trusts what the system trusts, and calls no address that
// the guard refuses.
type Config struct {
	// Proxy is the integration's; nil leaves it to Defaults. Its password fields are not read.
	Proxy *integrationv1.Proxy
	// ProxyPassword is the password for the integration's proxy, given or read from its file.
	ProxyPassword string
	// TrustPEM are certificates of authorities that the integration trusts besides those of the system and of Defaults.
	TrustPEM []byte
	// Defaults are the operator's; nil has no rule, no further authority, and leaves the environment out.
	Defaults *Defaults
	// Allowed says whether a host and port, as `host:port` in lower case, may be at an address that the guard refuses otherwise;
	// see [AddressError]. Default: none may.
	Allowed func(hostPort string) bool
	// HeaderTimeout is how long an answer's headers may take, once the request was sent. Default: 60 seconds. Advanced hunting needs
	// more: it may work on one query for 200 seconds
	// (https://learn.microsoft.com/en-us/defender-endpoint/api/run-advanced-query-api).
	HeaderTimeout time.Duration
}

// Outbound is how the calls of one integration leave this machine. It never changes, holds nothing that must be closed, and is
// safe for concurrent use.
type Outbound struct {
	// own says that the integration has an answer of its own: proxy, or directly where that is nil, and where exceptions fit.
	own        bool
	proxy      *proxy
	exceptions []*pattern

	defaults      *Defaults
	allowed       func(hostPort string) bool
	headerTimeout time.Duration

	// roots are the authorities that are trusted; nil are the system's. added are those of them that were added.
	roots *x509.CertPool
	added map[fingerprint]Origin
}

// New returns how an integration's calls leave this machine, and calls nothing. Where the proxy or the certificates cannot be used
// as they are given, the error is a *defender.Error with the reason CONFIGURATION_INVALID; it holds no password.
func New(config Config) (*Outbound, error) {
	o := &Outbound{defaults: config.Defaults, allowed: config.Allowed, headerTimeout: cmp.Or(config.HeaderTimeout, defaultHeaderTimeout)}
	if o.defaults == nil {
		o.defaults = &Defaults{}
	}
	if o.allowed == nil {
		o.allowed = func(string) bool { return false }
	}
	if config.Proxy != nil {
		if err := o.setProxy(config.Proxy, config.ProxyPassword); err != nil {
			return nil, err
		}
	}
	trust, err := parseCertificates(config.TrustPEM)
	if err != nil {
		return nil, invalid("The integration's trust cannot be used: "+err.Error()+".",
			"Give the certificates of the authorities in PEM, each from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, and nothing else.", err)
	}
	if err := o.setTrust(trust); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *Outbound) setProxy(settings *integrationv1.Proxy, password string) error {
	o.own = true
	const remedy = "Give proxy.url as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT with username and password in their own fields, or set proxy.direct."
	switch {
	case settings.GetDirect() == (settings.GetUrl() != ""):
		return invalid("The integration's proxy has neither a URL nor says that there is none, or both.", remedy, nil)
	case settings.GetDirect():
		return nil
	case settings.GetUsername() == "" && password != "":
		return invalid("The integration's proxy has a password without a username.", remedy, nil)
	}
	var err error
	if o.proxy, err = newProxy(settings.GetUrl(), settings.GetUsername(), password); err != nil {
		return invalid("The integration's proxy cannot be used: "+err.Error()+".", remedy, err)
	}
	for i, text := range settings.GetExceptions() {
		p, err := parsePattern(text)
		if err != nil {
			return invalid(fmt.Sprintf("proxy.exceptions[%d] cannot be used: %s.", i, err),
				"Give a name, a domain with a dot before it, an address or a block of addresses, each with :PORT where only one port is meant.", err)
		}
		o.exceptions = append(o.exceptions, p)
	}
	return nil
}

func invalid(message, remedy string, err error) *defender.Error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID, Message: message, Remedy: remedy,
		},
		Permanent: true,
		Err:       err,
	}
}

// Transport returns a transport for calls at Microsoft that takes the integration's way, with a time limit at each point. Its idle
// connections are the caller's to close.
//
// Its Proxy and TLSClientConfig are not used: it opens connections as the connectivity test does, so that both find the same.
func (o *Outbound) Transport() *http.Transport {
	return &http.Transport{
		// In clear, and so directly: see Route.
		DialContext:            func(ctx context.Context, _, address string) (net.Conn, error) { return o.Dial(ctx, address) },
		DialTLSContext:         func(ctx context.Context, _, address string) (net.Conn, error) { return o.dialTLS(ctx, address) },
		ResponseHeaderTimeout:  o.headerTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// TLSConfig returns how a host of this name is spoken to over TLS: version 1.2 or newer, its certificate verified for the name
// against the system's authorities and those that were added, and HTTP/2 offered.
func (o *Outbound) TLSConfig(serverName string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    o.roots,
		ServerName: serverName,
		NextProtos: []string{"h2", "http/1.1"},
	}
}

// dialTLS opens a connection to host:port, directly or through a proxy, and speaks TLS over it.
func (o *Outbound) dialTLS(ctx context.Context, hostPort string) (net.Conn, error) {
	target := &url.URL{Scheme: "https", Host: hostPort}
	route, err := o.Route(target)
	if err != nil {
		return nil, err
	}
	connection, err := o.Tunnel(ctx, route, hostPort)
	if err != nil {
		return nil, err
	}
	return handshake(ctx, connection, o.TLSConfig(target.Hostname()))
}

// handshake speaks TLS over a connection, which it closes where that fails.
func handshake(ctx context.Context, connection net.Conn, config *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	secured := tls.Client(connection, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = connection.Close() // the handshake's error says more
		return nil, err
	}
	return secured, nil
}
