package outbound

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// get calls an address, and returns the answer's body.
func get(t *testing.T, transport http.RoundTripper, address string) (string, error) {
	t.Helper()
	response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(address)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func TestCallsByRuleAndEnvironment(t *testing.T) {
	corporate := newAuthority(t, "Example Proxy Root")
	target := startTarget(t, corporate.serve("graph.test"))
	userinfo := url.UserPassword(plantedUser, plantedPassword).String() + "@"
	proxy := startProxy(t, defendertest.ProxyOptions{Hosts: leads(hostPortOf(target)), Username: plantedUser, Password: plantedPassword})
	named := "http://" + userinfo + proxy.Addr()

	emptyEnvironment(t)
	t.Setenv("HTTPS_PROXY", named)
	environment, err := NewDefaults(nil, corporate.pem)
	if err != nil {
		t.Fatal(err)
	}
	emptyEnvironment(t)
	rules, err := ParseRules([]string{".test=" + named, "http://" + silent(t)})
	if err != nil {
		t.Fatal(err)
	}
	ruled, err := NewDefaults(rules, corporate.pem)
	if err != nil {
		t.Fatal(err)
	}
	for _, defaults := range []*Defaults{environment, ruled} {
		transport := newOutbound(t, Config{Defaults: defaults}).Transport()
		t.Cleanup(transport.CloseIdleConnections)
		body, err := get(t, transport, "https://graph.test/")
		if err != nil || body != "HTTP/2.0 graph.test" {
			t.Errorf("the answer is %q (%v)", body, err)
		}
	}
}

func TestCredentialsStayWithTheirProxy(t *testing.T) {
	corporate := newAuthority(t, "Example Proxy Root")
	target := startTarget(t, corporate.serve("graph.test"))
	inClear := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "in clear "+r.Header.Get("Proxy-Authorization"))
	})
	emptyEnvironment(t)
	operators := func(at string) *Defaults {
		credentials := url.UserPassword("operator", plantedPassword).String()
		rules, err := ParseRules([]string{"http://" + credentials + "@" + at})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("HTTPS_PROXY", "http://"+credentials+"@"+at)
		d, err := NewDefaults(rules, corporate.pem)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	// The integration's proxy wants no credentials and must not be told the operator's; the operator's must not be asked at all.
	other := startProxy(t, defendertest.ProxyOptions{Hosts: leads(hostPortOf(target))})
	exceptOf := through("http://" + silent(t))
	exceptOf.Exceptions = []string{"127.0.0.0/8"}
	tests := []struct {
		name    string
		config  Config
		address string
		want    string
	}{
		{"the integration's own proxy", Config{Proxy: &integrationv1.Proxy{Url: other.URL()}, Defaults: operators(silent(t))}, "https://graph.test/", "HTTP/2.0 graph.test"},
		{"direct by the integration", Config{Proxy: &integrationv1.Proxy{Direct: true}, Defaults: operators(silent(t))}, target.URL, "HTTP/2.0 " + hostPortOf(target)},
		{"an exception", Config{Proxy: exceptOf, ProxyPassword: plantedPassword, Defaults: operators(silent(t))}, target.URL, "HTTP/2.0 " + hostPortOf(target)},
		{"in clear, past the operator's", Config{Defaults: operators(silent(t))}, inClear, "in clear "},
		{"in clear, past the integration's", Config{Proxy: through("http://" + silent(t)), ProxyPassword: plantedPassword}, inClear, "in clear "},
	}
	for _, test := range tests {
		test.config.Allowed = anywhere
		transport := newOutbound(t, test.config).Transport()
		t.Cleanup(transport.CloseIdleConnections)
		if body, err := get(t, transport, test.address); err != nil || body != test.want {
			t.Errorf("%s: the answer is %q (%v), want %q", test.name, body, err, test.want)
		}
	}
	asked := other.Requests()
	if len(asked) != 1 || asked[0].Username != "" || asked[0].Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the integration's proxy was asked %+v, want one tunnel and no credentials", asked)
	}
}

func TestRefusedProxyIsAskedOnce(t *testing.T) {
	var asked atomic.Int32
	elsewhere := "http://" + silent(t)
	proxy := httpServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Proxy-Authenticate", "Basic")
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	})
	transport := newOutbound(t, Config{Proxy: through(proxy), ProxyPassword: plantedPassword, Allowed: anywhere}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	if body, err := get(t, transport, "https://graph.test/"); err == nil {
		t.Errorf("a redirect in place of a tunnel was answered %q", body)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the proxy was asked %d times, want once", n)
	}
}

func TestDirectCalls(t *testing.T) {
	corporate := newAuthority(t, "Example Proxy Root")
	target := startTarget(t, corporate.serve())
	transport := newOutbound(t, Config{TrustPEM: corporate.pem, Allowed: anywhere}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	body, err := get(t, transport, target.URL)
	if want := "HTTP/2.0 " + hostPortOf(target); err != nil || body != want {
		t.Errorf("the answer is %q (%v), want %q", body, err, want)
	}
	if config := newOutbound(t, Config{}).TLSConfig("graph.test"); config.InsecureSkipVerify || config.MinVersion != tls.VersionTLS12 || config.ServerName != "graph.test" {
		t.Errorf("TLS is spoken by %+v", config)
	}
}
