package connect

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"testing"

	"defender-integration/defender/outbound"
)

func TestSameCause(t *testing.T) {
	proxy := func(address string, fault outbound.Fault, status int) error {
		return fmt.Errorf("dial: %w", &outbound.ProxyError{Fault: fault, Status: status, Route: outbound.Route{Proxy: address, Kind: outbound.KindHTTP}})
	}
	name := func(host string, notFound bool) error {
		return &net.OpError{Op: "dial", Err: &net.DNSError{Name: host, IsNotFound: notFound}}
	}
	authority := func(issuer string) error {
		return x509.UnknownAuthorityError{Cert: &x509.Certificate{RawIssuer: []byte(issuer)}}
	}
	tests := []struct {
		name string
		a, b error
		same bool
	}{
		{"one proxy that wants a password", proxy("p:1", outbound.FaultAuthentication, 407), proxy("p:1", outbound.FaultAuthentication, 407), true},
		{"one proxy that is not there", proxy("p:1", outbound.FaultUnreachable, 0), proxy("p:1", outbound.FaultUnreachable, 0), true},
		{"two proxies", proxy("p:1", outbound.FaultUnreachable, 0), proxy("q:1", outbound.FaultUnreachable, 0), false},
		{"one proxy that answers otherwise", proxy("p:1", outbound.FaultProtocol, 500), proxy("p:1", outbound.FaultProtocol, 502), false},
		{"hosts that a proxy forbids", proxy("p:1", outbound.FaultForbidden, 403), proxy("p:1", outbound.FaultForbidden, 403), false},
		{"hosts that a proxy does not reach", proxy("p:1", outbound.FaultTarget, 502), proxy("p:1", outbound.FaultTarget, 502), false},
		{"name servers that do not answer", name("a", false), name("b", false), true},
		{"names that there are not", name("a", true), name("b", true), false},
		{"one name that there is not", name("a", true), name("b", false), false},
		{"one authority that nobody trusts", authority("inspector"), authority("inspector"), true},
		{"two authorities", authority("one"), authority("other"), false},
		{"of different kinds", name("a", false), authority("one"), false},
		{"of no kind", errors.New("x"), errors.New("x"), false},
	}
	for _, tt := range tests {
		if got := sameCause(tt.a, tt.b); got != tt.same {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.same)
		}
	}
}
