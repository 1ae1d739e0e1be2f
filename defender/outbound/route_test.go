package outbound

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestTheIntegrationGoesFirst(t *testing.T) {
	d := newDefaults(t, "http://rule.example")
	proxied := &integrationv1.Proxy{
		Url: "https://Own.example:8443/", Username: plantedUser,
		Exceptions: []string{"login.example.com", ".internal.example", "10.0.0.0/8", "half.example:8443"},
	}
	tests := []struct {
		proxy   *integrationv1.Proxy
		address string
		want    string
	}{
		{proxied, "https://graph.example.com", "through the integration's proxy, https://own.example:8443"},
		{proxied, "https://127.0.0.1:9443", "through the integration's proxy, https://own.example:8443"},
		{proxied, "https://login.example.com", "directly, as the integration says"},
		{proxied, "https://a.internal.example", "directly, as the integration says"},
		{proxied, "https://10.1.2.3", "directly, as the integration says"},
		{proxied, "https://half.example:8443", "directly, as the integration says"},
		{proxied, "https://half.example", "through the integration's proxy, https://own.example:8443"},
		{proxied, "http://graph.example.com", "directly, since it is spoken to in clear"},
		{&integrationv1.Proxy{Direct: true}, "https://graph.example.com", "directly, as the integration says"},
		{nil, "https://graph.example.com", "through the proxy of this service's proxy rules, http://rule.example:80"},
	}
	for _, test := range tests {
		config := Config{Proxy: test.proxy, Defaults: d}
		if test.proxy.GetUsername() != "" {
			config.ProxyPassword = plantedPassword
		}
		route, err := newOutbound(t, config).Route(mustURL(t, test.address))
		if err != nil || route.String() != test.want {
			t.Errorf("%s is reached %s (%v), want %s", test.address, route, err, test.want)
		}
		marshalled, err := json.Marshal(route)
		if err != nil {
			t.Fatal(err)
		}
		wantNoPassword(t, fmt.Sprintf("%v %+v %#v", route, route, route), string(marshalled))
	}
	route, err := newOutbound(t, Config{}).Route(mustURL(t, "https://graph.example.com"))
	if err != nil || !route.Direct() || route.Origin != OriginNone {
		t.Errorf("without any settings the way is %s (%v)", route, err)
	}
}

func TestRouteOfNoTarget(t *testing.T) {
	for _, address := range []string{"https://", "https:///path", "ftp://graph.example.com", "graph.example.com"} {
		if route, err := newOutbound(t, Config{}).Route(mustURL(t, address)); err == nil {
			t.Errorf("%q is reached %s", address, route)
		}
	}
}

func TestProxySettingsRefused(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := []struct {
		name     string
		proxy    *integrationv1.Proxy
		password string
		words    string
	}{
		{"neither", &integrationv1.Proxy{}, "", "neither a URL"},
		{"both", &integrationv1.Proxy{Url: "http://proxy.example", Direct: true}, "", "or both"},
		{"another scheme", &integrationv1.Proxy{Url: "socks4://proxy.example"}, "", "none of http, https and socks5"},
		{"a password in the URL", &integrationv1.Proxy{Url: "http://user:secret@proxy.example"}, "", "do not belong in its URL"},
		{"no URL", &integrationv1.Proxy{Url: "http://a b"}, "", "not a URL"},
		{"a path", &integrationv1.Proxy{Url: "http://proxy.example/proxy.pac"}, "", "not a scheme with a host and a port"},
		{"a query", &integrationv1.Proxy{Url: "http://proxy.example?x"}, "", "not a scheme with a host and a port"},
		{"port 0", &integrationv1.Proxy{Url: "http://proxy.example:0"}, "", "from 1 to 65535"},
		{"a password alone", &integrationv1.Proxy{Url: "http://proxy.example"}, plantedPassword, "a password without a username"},
		{"a colon", &integrationv1.Proxy{Url: "http://proxy.example", Username: "a:b"}, plantedPassword, "colon"},
		{"too long", &integrationv1.Proxy{Url: "socks5://proxy.example", Username: "a"}, long, "255 bytes"},
		{"an exception", &integrationv1.Proxy{Url: "http://proxy.example", Exceptions: []string{"a.example", "*"}}, "", "proxy.exceptions[1] cannot be used"},
	}
	for _, test := range tests {
		_, err := New(Config{Proxy: test.proxy, ProxyPassword: test.password})
		wantInvalid(t, test.name, err, test.words)
	}
}

// wantInvalid fails where an error is not that of a configuration, in these words.
func wantInvalid(t *testing.T, name string, err error, words string) {
	t.Helper()
	var e *defender.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: error is %v, want a *defender.Error", name, err)
		return
	}
	if e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID || e.Problem.GetRemedy() == "" ||
		!strings.Contains(e.Problem.GetMessage(), words) {
		t.Errorf("%s: %v, want %q in it", name, e.Problem, words)
	}
	wantNoPassword(t, e.Error(), e.Problem.String())
}
