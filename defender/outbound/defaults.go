package outbound

import (
	"crypto/x509"
	"fmt"
	"net/url"

	"golang.org/x/net/http/httpproxy"
)

// Defaults are what the service's operator says of all integrations. They never change, and are safe for concurrent use.
type Defaults struct {
	rules []Rule
	trust []*x509.Certificate
	// environment is the proxy that the environment names, nil for none; asked tells whether it leads to a host.
	environment *proxy
	asked       func(*url.URL) (*url.URL, error)
}

// NewDefaults returns the operator's defaults: rules, and certificates of further authorities in PEM. Where no rule fits a host, the
// environment counts, which is read here and never again: HTTPS_PROXY and NO_PROXY, or their names in lower case, which go first.
// HTTP_PROXY has no effect, since what is spoken to in clear is reached directly. An error holds no password.
func NewDefaults(rules []Rule, trustPEM []byte) (*Defaults, error) {
	d := &Defaults{rules: rules}
	var err error
	if d.trust, err = parseCertificates(trustPEM); err != nil {
		return nil, fmt.Errorf("the trusted authorities cannot be used: %w", err)
	}
	config := httpproxy.FromEnvironment()
	if config.HTTPSProxy == "" {
		return d, nil
	}
	// The library allows a proxy without a scheme, and passes over one that it cannot read. A call would then go out directly that
	// should not.
	bare := httpproxy.Config{HTTPSProxy: config.HTTPSProxy}
	named, err := bare.ProxyFunc()(&url.URL{Scheme: "https", Host: "any.invalid"})
	if err != nil || named == nil {
		return nil, fmt.Errorf("the environment variable HTTPS_PROXY (or https_proxy) is not a proxy's URL")
	}
	if d.environment, err = newProxyWithUser(named.String()); err != nil {
		return nil, fmt.Errorf("the proxy of the environment variable HTTPS_PROXY (or https_proxy) cannot be used: %w", err)
	}
	d.asked = config.ProxyFunc()
	return d, nil
}

// route says how a target is reached that no integration says anything of.
func (d *Defaults) route(t target) Route {
	var forAll *Rule
	for i := range d.rules {
		rule := &d.rules[i]
		if rule.fits == nil {
			forAll = rule
		} else if rule.fits.fits(t) {
			return newRoute(rule.proxy, OriginService)
		}
	}
	if forAll != nil {
		return newRoute(forAll.proxy, OriginService)
	}
	if d.environment == nil {
		return newRoute(nil, OriginNone)
	}
	if led, err := d.asked(t.url()); err != nil || led == nil {
		return newRoute(nil, OriginEnvironment)
	}
	return newRoute(d.environment, OriginEnvironment)
}

// names says whether a host and port are a proxy that the operator named.
func (d *Defaults) names(hostPort string) bool {
	if d.environment != nil && d.environment.address == hostPort {
		return true
	}
	for _, rule := range d.rules {
		if rule.proxy != nil && rule.proxy.address == hostPort {
			return true
		}
	}
	return false
}
