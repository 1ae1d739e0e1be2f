package outbound

import (
	"fmt"
	"net/url"
	"testing"
)

func TestEnvironment(t *testing.T) {
	const proxied, other, loopback = "https://graph.example", "https://other.example", "https://127.0.0.1"
	tests := []struct {
		name        string
		environment map[string]string
		target      string
		want        string
	}{
		{"nothing", nil, proxied, "directly, since no proxy is configured"},
		{"HTTPS_PROXY", map[string]string{"HTTPS_PROXY": "http://proxy.example:3128"}, proxied, "through the proxy that this service's environment names in HTTPS_PROXY, http://proxy.example:3128"},
		{"https_proxy", map[string]string{"https_proxy": "https://proxy.example"}, proxied, "through the proxy that this service's environment names in HTTPS_PROXY, https://proxy.example:443"},
		{"both", map[string]string{"HTTPS_PROXY": "http://upper.example", "https_proxy": "http://lower.example"}, proxied, "through the proxy that this service's environment names in HTTPS_PROXY, http://lower.example:80"},
		{"without a scheme", map[string]string{"HTTPS_PROXY": "proxy.example:3128"}, proxied, "through the proxy that this service's environment names in HTTPS_PROXY, http://proxy.example:3128"},
		{"socks5h", map[string]string{"HTTPS_PROXY": "socks5h://proxy.example"}, proxied, "through the proxy that this service's environment names in HTTPS_PROXY, socks5://proxy.example:1080"},
		{"NO_PROXY", map[string]string{"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "a.example,.example"}, proxied, "directly, as NO_PROXY in this service's environment says"},
		{"no_proxy of others", map[string]string{"HTTPS_PROXY": "proxy.example:3128", "no_proxy": "graph.example"}, other, "through the proxy that this service's environment names in HTTPS_PROXY, http://proxy.example:3128"},
		{"no_proxy of all", map[string]string{"HTTPS_PROXY": "proxy.example:3128", "no_proxy": "*"}, other, "directly, as NO_PROXY in this service's environment says"},
		{"loopback", map[string]string{"HTTPS_PROXY": "proxy.example:3128"}, loopback, "directly, as NO_PROXY in this service's environment says"},
		{"HTTP_PROXY", map[string]string{"HTTP_PROXY": "http://proxy.example:3128", "http_proxy": "http://proxy.example:3128"}, proxied, "directly, since no proxy is configured"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			emptyEnvironment(t)
			for name, value := range test.environment {
				t.Setenv(name, value)
			}
			d, err := NewDefaults(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			// It is read once.
			emptyEnvironment(t)
			route, err := newOutbound(t, Config{Defaults: d}).Route(mustURL(t, test.target))
			if err != nil || route.String() != test.want {
				t.Errorf("%s is reached %s (%v), want %s", test.target, route, err, test.want)
			}
		})
	}
}

func TestEnvironmentCredentials(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("HTTPS_PROXY", "http://"+url.UserPassword(plantedUser, plantedPassword).String()+"@proxy.example")
	d, err := NewDefaults(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.environment.username != plantedUser || d.environment.password != plantedPassword {
		t.Errorf("the name is %q and the password %q", d.environment.username, d.environment.password)
	}
	wantNoPassword(t, fmt.Sprintf("%v %+v %#v", d, d, d))
}

func TestEnvironmentRefused(t *testing.T) {
	for _, value := range []string{
		"ftp://proxy.example", "http://", "http://proxy.example:0", "http://proxy.example/path",
		"http://user:" + plantedPassword + "@proxy.example", "http://user:%zz" + plantedPassword + "@proxy.example", "%",
	} {
		emptyEnvironment(t)
		t.Setenv("HTTPS_PROXY", value)
		// An exception for all would hide what cannot be read from the library that reads it.
		t.Setenv("NO_PROXY", "*")
		d, err := NewDefaults(nil, nil)
		if err == nil {
			t.Errorf("%q was taken as %+v", value, d.environment)
			continue
		}
		wantNoPassword(t, err.Error())
	}
}

func TestRulesInOrder(t *testing.T) {
	d := newDefaults(t, "http://all.example", "login.example.com=direct", ".example.com=http://domain.example:3128",
		"graph.example.com=http://never.example", "10.0.0.0/8=socks5://block.example")
	t.Setenv("HTTPS_PROXY", "http://environment.example")
	tests := map[string]string{
		"https://login.example.com":     "directly, as a proxy rule of this service says",
		"https://graph.example.com":     "through the proxy of this service's proxy rules, http://domain.example:3128",
		"https://10.1.1.1:8443":         "through the proxy of this service's proxy rules, socks5://block.example:1080",
		"https://other.example":         "through the proxy of this service's proxy rules, http://all.example:80",
		"http://graph.example.com":      "directly, since it is spoken to in clear",
		"http://graph.example.com:8080": "directly, since it is spoken to in clear",
	}
	for address, want := range tests {
		route, err := newOutbound(t, Config{Defaults: d}).Route(mustURL(t, address))
		if err != nil || route.String() != want {
			t.Errorf("%s is reached %s (%v), want %s", address, route, err, want)
		}
	}
}

func TestRulesGoBeforeTheEnvironment(t *testing.T) {
	emptyEnvironment(t)
	t.Setenv("HTTPS_PROXY", "http://environment.example")
	rules, err := ParseRules([]string{"a.example=http://rule.example", "b.example=direct"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDefaults(rules, nil)
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]Origin{
		"https://a.example": OriginService, "https://b.example": OriginService, "https://c.example": OriginEnvironment,
	} {
		route, err := newOutbound(t, Config{Defaults: d}).Route(mustURL(t, address))
		if err != nil || route.Origin != want {
			t.Errorf("the way to %s is of %q (%v), want %q", address, route.Origin, err, want)
		}
	}
}
