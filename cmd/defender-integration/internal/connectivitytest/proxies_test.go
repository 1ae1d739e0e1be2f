package connectivitytest_test

import (
	"net"
	"net/url"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// proxy starts a proxy that knows where the simulated Microsoft is by the names of Microsoft's hosts, has the settings name no host,
// and returns it.
func (w *world) proxy(options defendertest.ProxyOptions) *defendertest.Proxy {
	options.Hosts = map[string]string{}
	for _, host := range []string{loginHost, graphHost, endpointHost} {
		options.Hosts[net.JoinHostPort(host, "443")] = w.address()
	}
	proxy, err := defendertest.NewProxy(options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = proxy.Close() })
	w.byName()
	return proxy
}

// throughProxy has the integration go through such a proxy, which the operator allows since it is on this machine.
func (w *world) throughProxy(options defendertest.ProxyOptions) *defendertest.Proxy {
	proxy := w.proxy(options)
	w.allowed = append(w.allowed, proxy.Addr())
	w.settings.Proxy = &integrationv1.Proxy{Url: proxy.URL()}
	return proxy
}

// withPassword wants a name and a password.
func withPassword(kind defendertest.ProxyKind) defendertest.ProxyOptions {
	return defendertest.ProxyOptions{Kind: kind, Username: "contoso", Password: plantedPassword}
}

// proxyRule has the operator name a proxy for the simulated Microsoft's own address.
func (w *world) proxyRule(proxy *url.URL) {
	w.rules = append(w.rules, w.address()+"="+proxy.String())
}

// ownProxy starts a proxy for the simulated Microsoft's own address.
func (w *world) ownProxy(options defendertest.ProxyOptions) *url.URL {
	proxy, err := defendertest.NewProxy(options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = proxy.Close() })
	u, err := url.Parse(proxy.URL())
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// brokenProxies are set-ups in which the way leads through a proxy that does not do its part. It is the same proxy for all hosts: what
// is wrong with it is told once, at the first.
func brokenProxies() []setUp {
	through := func(change func(*world, *integrationv1.Proxy), options defendertest.ProxyOptions) func(*world) {
		return func(w *world) {
			w.throughProxy(options)
			change(w, w.settings.GetProxy())
		}
	}
	asItIs := func(*world, *integrationv1.Proxy) {}
	return []setUp{
		{
			name: "proxy-closed", is: "Nobody listens at the proxy's port.",
			change: func(w *world) {
				port := closedPort(w.t)
				w.allowed = append(w.allowed, port)
				w.byName()
				w.settings.Proxy = &integrationv1.Proxy{Url: "http://" + port}
			},
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "the integration's proxy could not be reached", remedy: "Check the proxy's host and port", reason: proxyFailed,
			},
		},
		{
			name: "proxy-unknown", is: "The proxy's name does not resolve.",
			change: func(w *world) {
				w.byName()
				w.settings.Proxy = &integrationv1.Proxy{Url: "http://proxy.contoso.invalid:8080"}
			},
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "the name proxy.contoso.invalid does not resolve", remedy: "Check the proxy's name, and this machine's DNS.",
				reason: proxyFailed,
			},
		},
		{
			name: "proxy-not-allowed", is: "The integration's proxy is on this machine, and the service's operator did not allow that.",
			change: func(w *world) {
				proxy := w.proxy(defendertest.ProxyOptions{})
				w.settings.Proxy = &integrationv1.Proxy{Url: proxy.URL()}
			},
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "127.0.0.1", remedy: "--allow-endpoint 127.0.0.1:", reason: forbiddenAddr,
			},
		},
		{
			name: "proxy-wants-password", is: "The proxy wants a name and a password, and the integration gives none.",
			change: through(asItIs, withPassword(defendertest.ProxyHTTP)),
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "wants a name and a password: it answered 407 Proxy Authentication Required",
				remedy: "Give the name in proxy.username and the password in proxy.password, proxy.password_file or proxy.password_env_variable.", reason: proxyFailed,
			},
		},
		{
			name: "proxy-wrong-password", is: "The proxy's password is wrong.",
			change: through(func(_ *world, p *integrationv1.Proxy) {
				p.Username, p.Password = "contoso", "another~"+plantedPassword
			}, withPassword(defendertest.ProxyHTTP)),
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "refuses the name and the password", remedy: "Check the name and the password.", reason: proxyFailed,
			},
		},
		{
			name: "proxy-password-file-missing", is: "The file with the proxy's password does not exist.",
			change: through(func(_ *world, p *integrationv1.Proxy) {
				p.Username, p.PasswordFile = "contoso", "nowhere/proxy-password"
			}, withPassword(defendertest.ProxyHTTP)),
			want: want{
				fails: "CONFIGURATION", seen: `The file "nowhere/proxy-password" in the folder for secrets cannot be read: it does not exist.`,
				remedy: "Put it there, or correct its name.", reason: unusable,
			},
		},
		{
			name: "proxy-password-variable-missing", is: "The environment variable with the proxy's password is not set.",
			change: through(func(w *world, p *integrationv1.Proxy) {
				p.Username, p.PasswordEnvVariable = "contoso", "PROXY_PASSWORD_VARIABLE_MISSING"
				w.listed = append(w.listed, "PROXY_PASSWORD_VARIABLE_MISSING")
			}, withPassword(defendertest.ProxyHTTP)),
			want: want{
				fails: "CONFIGURATION", seen: `The environment variable "PROXY_PASSWORD_VARIABLE_MISSING" cannot be used: it is not set.`,
				remedy: "Have the service's operator set it", reason: unusable,
			},
		},
		{
			name: "proxy-other-schemes", is: "The proxy lets itself be authenticated to by Windows' schemes alone.",
			change: through(asItIs, defendertest.ProxyOptions{Schemes: []string{"Negotiate", "NTLM"}}),
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "wants to be authenticated to by Negotiate, NTLM, and this service knows Basic alone",
				remedy: "Have the proxy's administrators allow Basic for this service", reason: proxyFailed,
			},
		},
		{
			name: "proxy-refuses", is: "The proxy refuses the way to every host.",
			change: through(asItIs, defendertest.ProxyOptions{Refuse: 403}),
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "forbids the way to login.microsoftonline.com:443: it answered 403 Forbidden",
				remedy: "Have the proxy's administrators let this service through to login.microsoftonline.com:443.", reason: proxyFailed,
				// Proxies forbid by host: each is to be asked for.
				alsoFails: []string{"PROXY API", "PROXY DEVICE_SOURCE"},
			},
		},
		{
			name: "proxy-socks-refuses", is: "A SOCKS proxy refuses the way by its rules.",
			change: through(asItIs, defendertest.ProxyOptions{Kind: defendertest.ProxySOCKS5, Refuse: 2}),
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "forbids the way to login.microsoftonline.com:443",
				remedy: "Have the proxy's administrators let this service through to login.microsoftonline.com:443.", reason: proxyFailed,
				alsoFails: []string{"PROXY API", "PROXY DEVICE_SOURCE"},
			},
		},
		{
			name: "proxy-does-not-reach", is: "The proxy does not get through to one of the hosts, where nobody listens.",
			change: func(w *world) {
				w.throughProxy(defendertest.ProxyOptions{})
				w.apiAt(closedPort(w.t))
			},
			want: want{
				fails: "TCP API", seen: "could not reach 127.0.0.1:", remedy: "have the proxy's administrators check that it resolves and reaches them",
				reason: proxyFailed,
			},
		},
		{
			name: "proxy-no-proxy", is: "What is named as the proxy is a web server.",
			change: func(w *world) {
				w.byName()
				proxy := w.ownProxy(defendertest.ProxyOptions{Refuse: 405})
				w.allowed = append(w.allowed, proxy.Host)
				w.settings.Proxy = &integrationv1.Proxy{Url: proxy.String()}
			},
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "405 Method Not Allowed", remedy: "it may be no forward proxy", reason: proxyFailed,
			},
		},
		{
			name: "proxy-untrusted", is: "An https:// proxy shows a certificate of an authority that nobody trusts.",
			change: through(asItIs, defendertest.ProxyOptions{Kind: defendertest.ProxyHTTPS}),
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "Simulated proxy (test authority), an authority that is not trusted",
				remedy: "Give the certificate of the authority that signed the proxy's as the integration's trust", reason: proxyFailed,
			},
		},
		{
			name: "proxy-wrong-scheme", is: "The proxy's URL says https://, and the proxy speaks no TLS.",
			change: func(w *world) {
				w.byName()
				inClear := w.inClear()
				w.allowed = append(w.allowed, inClear)
				w.settings.Proxy = &integrationv1.Proxy{Url: "https://" + inClear}
			},
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "what answers does not speak TLS", remedy: "with https:// the way to the proxy itself is over TLS",
				reason: proxyFailed,
			},
		},
		{
			name: "proxy-inspects", is: "The proxy inspects TLS, and its authority is not trusted.",
			change: through(asItIs, defendertest.ProxyOptions{Inspect: true}),
			want: want{
				fails: "TLS AUTHORIZATION", seen: "Simulated proxy (test authority), an authority that is not trusted",
				remedy: "If a proxy that inspects TLS stands between, give its authority's certificate as the integration's trust", reason: untrusted,
			},
		},
		{
			name: "proxy-of-the-operator-wants-password", is: "The proxy of the service's own rules wants a name and a password.",
			change: func(w *world) { w.proxyRule(w.ownProxy(withPassword(defendertest.ProxyHTTP))) },
			want: want{
				fails: "PROXY AUTHORIZATION", seen: "the proxy of this service's proxy rules", remedy: "It is configured in this service's proxy rules, by its operator.",
				reason: proxyFailed,
			},
		},
	}
}
