package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Origin says who decided something.
type Origin string

// The origins.
const (
	// OriginNone is nobody: nothing is configured.
	OriginNone Origin = ""
	// OriginIntegration is the integration's own proxy with its exceptions, or its own trust.
	OriginIntegration Origin = "integration"
	// OriginService is the operator: a rule, or trust for all integrations.
	OriginService Origin = "service"
	// OriginEnvironment is the service's environment: HTTPS_PROXY and NO_PROXY.
	OriginEnvironment Origin = "environment"
	// OriginInClear is the target's protocol: what is spoken to in clear is reached directly, or a proxy could read a token.
	OriginInClear Origin = "in clear"
)

// Route is the way to a host: directly, or through a proxy. It holds the proxy's name and password out of sight, and prints
// without them.
type Route struct {
	// Proxy is the proxy's host:port, in lower case; empty where the way is direct.
	Proxy string
	// Kind is how the proxy is spoken to; empty where the way is direct.
	Kind Kind
	// Origin is who says so.
	Origin Origin

	proxy *proxy
}

func newRoute(p *proxy, origin Origin) Route {
	if p == nil {
		return Route{Origin: origin}
	}
	return Route{Proxy: p.address, Kind: p.kind, Origin: origin, proxy: p}
}

// Direct says whether the way is direct.
func (r Route) Direct() bool { return r.proxy == nil }

// String tells the way, to go on with a sentence such as "The host is reached …".
func (r Route) String() string {
	if !r.Direct() {
		return "through " + r.owner() + ", " + string(r.Kind) + "://" + r.Proxy
	}
	switch r.Origin {
	case OriginIntegration:
		return "directly, as the integration says"
	case OriginService:
		return "directly, as a proxy rule of this service says"
	case OriginEnvironment:
		return "directly, as NO_PROXY in this service's environment says"
	case OriginInClear:
		return "directly, since it is spoken to in clear"
	default:
		return "directly, since no proxy is configured"
	}
}

// owner names the proxy by who configured it.
func (r Route) owner() string {
	switch r.Origin {
	case OriginIntegration:
		return "the integration's proxy"
	case OriginEnvironment:
		return "the proxy that this service's environment names in HTTPS_PROXY"
	default:
		return "the proxy of this service's proxy rules"
	}
}

// Route says how a target, an http:// or https:// address, is reached. What the integration says goes first: its proxy, or directly
// where that is set or an exception fits. Then the operator's first rule that fits, then the environment, then directly. A target
// that is spoken to in clear, which is only ever a simulated Microsoft, is always reached directly.
func (o *Outbound) Route(address *url.URL) (Route, error) {
	t, err := targetOf(address)
	if err != nil {
		return Route{}, err
	}
	if address.Scheme == "http" {
		return newRoute(nil, OriginInClear), nil
	}
	if !o.own {
		return o.defaults.route(t), nil
	}
	for _, exception := range o.exceptions {
		if exception.fits(t) {
			return newRoute(nil, OriginIntegration), nil
		}
	}
	return newRoute(o.proxy, OriginIntegration), nil
}

// target is a host and port as patterns see them.
type target struct {
	// host is in lower case and without a last dot.
	host, port string
	// address is the host's, where it is given by one.
	address netip.Addr
}

func targetOf(u *url.URL) (target, error) {
	t := target{host: strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), port: u.Port()}
	switch {
	case t.host == "":
		return target{}, errors.New("the address has no host")
	case u.Scheme != "https" && u.Scheme != "http":
		return target{}, fmt.Errorf("the scheme of %s is neither https nor http", u.Host)
	case t.port == "" && u.Scheme == "https":
		t.port = "443"
	case t.port == "":
		t.port = "80"
	}
	if address, err := netip.ParseAddr(t.host); err == nil {
		t.address = address.Unmap()
	}
	return t, nil
}

// url returns the target as the environment's matcher takes it.
func (t target) url() *url.URL {
	return &url.URL{Scheme: "https", Host: net.JoinHostPort(t.host, t.port)}
}
