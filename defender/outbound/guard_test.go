package outbound

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestForbidden(t *testing.T) {
	const (
		loopback    = "a loopback address"
		unspecified = "an unspecified address"
		linkLocal   = "a link-local address"
		multicast   = "a multicast address"
		metadata    = "the address of a cloud's metadata service"
	)
	tests := map[string]string{
		"127.0.0.1": loopback, "127.255.1.2": loopback, "::1": loopback,
		"0.0.0.0": unspecified, "0.1.2.3": unspecified, "::": unspecified,
		"169.254.0.1": linkLocal, "169.254.170.2": linkLocal, "fe80::1": linkLocal, "fe80::1%eth0": linkLocal, "febf::1": linkLocal,
		"224.0.0.1": multicast, "239.1.1.1": multicast, "ff02::1": multicast, "ff0e::1": multicast,
		"169.254.169.254": metadata, "fd00:ec2::254": metadata, "fd00:ec2::23": metadata, "fd20:ce::254": metadata, "168.63.129.16": metadata,
		"100.100.100.200": metadata, "192.0.0.192": metadata,
		// The same, carried by an IPv6 address.
		"::ffff:127.0.0.1": loopback, "::ffff:0.0.0.0": unspecified, "::ffff:169.254.1.1": linkLocal, "::ffff:224.0.0.1": multicast,
		"::ffff:169.254.169.254": metadata, "::ffff:168.63.129.16%eth0": metadata,
		"::127.0.0.1": loopback, "::169.254.169.254": metadata,
		"::ffff:0:127.0.0.1": loopback, "::ffff:0:100.100.100.200": metadata,
		"64:ff9b::127.0.0.1": loopback, "64:ff9b::a9fe:a9fe": metadata, "64:ff9b::192.0.0.192": metadata, "64:ff9b::0.0.0.0": unspecified,
		"64:ff9b:1::169.254.169.254": metadata, "64:ff9b:1:7::169.254.3.3": linkLocal,
		"2002:7f00:1::": loopback, "2002:7f00:1::1": loopback, "2002:a9fe:a9fe::1": metadata, "2002:a83f:8110::": metadata, "2002:e000:1::": multicast,
		// What is called: public and private addresses, and their neighbours.
		"20.190.159.0": "", "2603:1026::1": "", "10.0.0.4": "", "172.16.0.1": "", "192.168.1.1": "", "100.64.0.1": "", "fd12:3456::1": "",
		"126.255.255.255": "", "128.0.0.1": "", "1.0.0.0": "", "169.253.255.255": "", "169.255.0.0": "", "223.255.255.255": "", "fec0::1": "",
		"168.63.129.17": "", "100.100.100.201": "", "192.0.0.193": "", "fd00:ec3::254": "", "fd20:ce::255": "",
		"::ffff:10.0.0.4": "", "64:ff9b::20.190.159.0": "", "64:ff9b:1::10.0.0.4": "", "2002:14be:9f00::1": "",
	}
	for text, want := range tests {
		if got := forbidden(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

func TestGuardAtDialTime(t *testing.T) {
	_, port, err := net.SplitHostPort(silent(t))
	if err != nil {
		t.Fatal(err)
	}
	o := newOutbound(t, Config{Allowed: func(hostPort string) bool { return hostPort == "other.example:"+port }})
	for _, host := range []string{"127.0.0.1", "LocalHost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "127.1.2.3", "169.254.169.254"} {
		_, err := o.Dial(t.Context(), host+":"+port)
		var refused *AddressError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v, want an *AddressError", host, err)
			continue
		}
		hostPort := strings.ToLower(host) + ":" + port
		if refused.HostPort != hostPort || refused.Proxy {
			t.Errorf("%s: %+v", host, refused)
		}
		way := "--allow-endpoint " + hostPort
		if host == "169.254.169.254" {
			way = "Nothing that an integration names belongs there" // nobody is told to open it
		}
		p := Problem("The list", host, err).Problem
		if p.GetReason() != integrationv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_ALLOWED ||
			!strings.Contains(p.GetMessage(), hostPort+" is at "+refused.Address.String()) || !strings.Contains(p.GetRemedy(), way) {
			t.Errorf("%s: %v", host, p)
		}
	}
}

func TestGuardInTheTransport(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		transport := newOutbound(t, Config{}).Transport()
		t.Cleanup(transport.CloseIdleConnections)
		_, err := get(t, transport, scheme+"://"+silent(t))
		if refused, ok := errors.AsType[*AddressError](err); !ok || refused.Proxy {
			t.Errorf("%s: %v, want an *AddressError", scheme, err)
		}
	}
}

func TestGuardAllows(t *testing.T) {
	connected := make(chan struct{}, 4)
	address := listen(t, func(connection net.Conn) {
		connected <- struct{}{}
		_ = connection.Close()
	})
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	allowed := "localhost:" + port
	o := newOutbound(t, Config{Allowed: func(hostPort string) bool { return hostPort == allowed }})
	connection, err := o.Dial(t.Context(), "LOCALHOST:"+port)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
	<-connected
	// Allowed is the name, not its address.
	if _, err := o.Dial(t.Context(), address); err == nil {
		t.Errorf("%s was connected to, where %s is allowed", address, allowed)
	}
}

func TestGuardOfProxies(t *testing.T) {
	proxy := startProxy(t, defendertest.ProxyOptions{})
	at := proxy.Addr()
	own := newOutbound(t, Config{Proxy: &integrationv1.Proxy{Url: proxy.URL()}})
	_, err := own.Tunnel(t.Context(), routeTo(t, own, "https://graph.example.com"), "graph.example.com:443")
	refused, ok := errors.AsType[*AddressError](err)
	if !ok || !refused.Proxy || refused.HostPort != at {
		t.Errorf("the integration's proxy on loopback: %v, want an *AddressError", err)
	}
	p := Problem("The list", "graph.example.com", err)
	want := "The list could not be reached at graph.example.com: the proxy " + at + " is at 127.0.0.1, a loopback address, which this service does not call."
	if p.Problem.GetMessage() != want || !p.Permanent {
		t.Errorf("told as %v, want %s", p.Problem, want)
	}

	emptyEnvironment(t)
	t.Setenv("HTTPS_PROXY", proxy.URL())
	environment, err := NewDefaults(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]Config{
		"rule":                 {Defaults: newDefaults(t, "a.example=direct", proxy.URL())},
		"environment":          {Defaults: environment},
		"integration's as one": {Defaults: environment, Proxy: &integrationv1.Proxy{Url: proxy.URL()}},
		"allowed":              {Proxy: &integrationv1.Proxy{Url: proxy.URL()}, Allowed: func(hostPort string) bool { return hostPort == at }},
	} {
		o := newOutbound(t, config)
		connection, err := o.DialProxy(t.Context(), routeTo(t, o, "https://graph.example.com"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = connection.Close()
		if name == "allowed" {
			continue
		}
		// It is the operator's as a proxy, not as a target.
		if _, err := o.Dial(context.WithoutCancel(t.Context()), at); err == nil {
			t.Errorf("%s: %s was connected to as a target", name, at)
		}
	}
}

func routeTo(t *testing.T, o *Outbound, address string) Route {
	t.Helper()
	route, err := o.Route(mustURL(t, address))
	if err != nil {
		t.Fatal(err)
	}
	return route
}
