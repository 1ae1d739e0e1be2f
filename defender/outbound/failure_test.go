package outbound

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

const socks5 = defendertest.ProxySOCKS5

func TestProxyFailures(t *testing.T) {
	const (
		configured  = " It is configured in the integration's proxy."
		checkURL    = "Check the proxy's URL: scheme, host and port. If they are right, ask the proxy's administrators."
		checkTarget = "Check the name and port of graph.test:443, and have the proxy's administrators check that it resolves and reaches them."
	)
	namesake := newAuthority(t, "Example System Root")
	httpProxy := func(line string, headers ...string) string { return answering(t, line, headers...) }
	socksProxy := func(reply int) string {
		return startProxy(t, defendertest.ProxyOptions{Kind: socks5, Refuse: reply}).URL()
	}
	withPassword := func(kind defendertest.ProxyKind, password string) string {
		return startProxy(t, defendertest.ProxyOptions{Kind: kind, Username: plantedUser, Password: password}).URL()
	}
	says := func(words string) string {
		return listen(t, func(connection net.Conn) {
			defer connection.Close()
			_, _ = io.WriteString(connection, words)
			_, _ = io.Copy(io.Discard, connection)
		})
	}
	hangsUp := func() string {
		return listen(t, func(connection net.Conn) {
			_, _ = bufio.NewReader(connection).Peek(1)
			_ = connection.Close()
		})
	}
	closed := closedPort(t)
	echo := listen(t, func(connection net.Conn) {
		defer connection.Close()
		_, _ = io.Copy(connection, connection)
	})
	tests := []struct {
		name   string
		url    string
		user   string
		fault  Fault
		status int
		// message stands behind "The list could not be reached at graph.test: "; PROXY in it is the proxy's host and port.
		message, remedy string
	}{
		{
			"nobody listens", "http://" + closed, "", FaultUnreachable, 0,
			"the integration's proxy could not be reached at PROXY: the host refuses the connection.",
			"Check the proxy's host and port, and that this service's network lets it reach PROXY.",
		},
		{
			"nobody listens, SOCKS", "socks5://" + closed, "", FaultUnreachable, 0,
			"the integration's proxy could not be reached at PROXY: the host refuses the connection.",
			"Check the proxy's host and port, and that this service's network lets it reach PROXY.",
		},
		{
			"the proxy's name does not resolve", "http://proxy.invalid:3128", "", FaultUnreachable, 0,
			"the integration's proxy could not be reached at PROXY: the name proxy.invalid does not resolve.",
			"Check the proxy's name, and this machine's DNS.",
		},
		{
			"a certificate of a stranger", startProxy(t, defendertest.ProxyOptions{Kind: defendertest.ProxyHTTPS}).URL(), "", FaultUntrusted, 0,
			"the integration's proxy could not be reached at PROXY: the host's certificate is signed by Simulated proxy (test authority), an authority that is not trusted.",
			"Give the certificate of the authority that signed the proxy's as the integration's trust, or have the service's operator trust it.",
		},
		{
			"a certificate that only claims the system's authority", startTarget(t, namesake.serve()).URL, "", FaultUntrusted, 0,
			"the integration's proxy could not be reached at PROXY: the host's certificate is signed by Example System Root (Example Corp), an authority that is not trusted.",
			"Give the certificate of the authority that signed the proxy's as the integration's trust, or have the service's operator trust it.",
		},
		{
			"no TLS where it is configured", strings.Replace(httpServer(t, http.NotFound), "http:", "https:", 1), "", FaultUntrusted, 0,
			"the integration's proxy could not be reached at PROXY: what answers does not speak TLS.",
			"Check the proxy's URL: with https:// the way to the proxy itself is over TLS, with http:// it is not.",
		},
		{
			"TLS where it is not configured", strings.Replace(startTarget(t, systemAuthority.serve()).URL, "https:", "http:", 1), "", FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak HTTP.", checkURL,
		},
		{
			"a password is wanted", httpProxy("407 Proxy Authentication Required", `Proxy-Authenticate: Basic realm="corp"`), "", FaultAuthentication, 407,
			"the integration's proxy (PROXY) wants a name and a password: it answered 407 Proxy Authentication Required.",
			"Give the name in proxy.username and the password in proxy.password, proxy.password_file or proxy.password_env_variable.",
		},
		{
			"another password is wanted", withPassword(defendertest.ProxyHTTP, "another"), plantedUser, FaultAuthentication, 407,
			"the integration's proxy (PROXY) refuses the name and the password: it answered 407 Proxy Authentication Required.",
			"Check the name and the password.",
		},
		{
			"no way to authenticate", httpProxy("407 No", `Proxy-Authenticate: Negotiate`, `Proxy-Authenticate: NTLM TlRM=, Digest realm="a, Basic", nonce="x"`), plantedUser, FaultAuthentication, 407,
			"the integration's proxy (PROXY) wants to be authenticated to by Negotiate, NTLM, Digest, and this service knows Basic alone: it answered 407 No.",
			"Have the proxy's administrators allow Basic for this service, or let its address through without authentication.",
		},
		{
			"forbidden", httpProxy("403 Blocked by policy"), "", FaultForbidden, 403,
			"the integration's proxy (PROXY) forbids the way to graph.test:443: it answered 403 Blocked by policy.",
			"Have the proxy's administrators let this service through to graph.test:443.",
		},
		{
			"the target cannot be reached", httpProxy("502 Bad Gateway"), "", FaultTarget, 502,
			"the integration's proxy (PROXY) could not reach graph.test:443 itself: it answered 502 Bad Gateway.", checkTarget,
		},
		{
			"the target does not answer", httpProxy("504 Gateway Timeout"), "", FaultTarget, 504,
			"the integration's proxy (PROXY) could not reach graph.test:443 itself: it answered 504 Gateway Timeout.", checkTarget,
		},
		{
			"a web server", httpProxy("405 Method Not Allowed"), "", FaultProtocol, 405,
			"the integration's proxy (PROXY) opened no way to graph.test:443: it answered 405 Method Not Allowed.",
			"What answers takes no CONNECT: it may be no forward proxy. Check the proxy's URL: scheme, host and port.",
		},
		{
			"a sign-in page", httpProxy("302 Found", "Location: http://portal.example/"), "", FaultProtocol, 302,
			"the integration's proxy (PROXY) opened no way to graph.test:443: it answered 302 Found.", checkURL,
		},
		{
			"a page in place of a tunnel", httpProxy("200 OK", "Content-Type: text/html", "", "<html>"), "", FaultProtocol, 200,
			"the integration's proxy (PROXY) opened no way to graph.test:443: it answered 200 OK.", checkURL,
		},
		{
			"the password is repeated", httpProxy("403 no, " + plantedPassword + "!"), plantedUser, FaultForbidden, 403,
			"the integration's proxy (PROXY) forbids the way to graph.test:443: it answered 403 no, [password]!.",
			"Have the proxy's administrators let this service through to graph.test:443.",
		},
		{
			"a page that never comes", httpProxy("407 Proxy Authentication Required", "Content-Length: 5000"), "", FaultAuthentication, 407,
			"the integration's proxy (PROXY) wants a name and a password: it answered 407 Proxy Authentication Required.",
			"Give the name in proxy.username and the password in proxy.password, proxy.password_file or proxy.password_env_variable.",
		},
		{
			"what repeats everything", "http://" + echo, plantedUser, FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak HTTP.", checkURL,
		},
		{
			"headers that repeat the password", httpProxy("200 OK", "Proxy-Authorization Basic "+plantedBasic()), plantedUser, FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak HTTP.", checkURL,
		},
		{
			"no HTTP", "http://" + says("SSH-2.0-OpenSSH\r\n"), "", FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak HTTP.", checkURL,
		},
		{
			"hangs up", "http://" + hangsUp(), "", FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak HTTP.", checkURL,
		},
		{
			"an endless answer", "http://" + says("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", maxHeader+1)), "", FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak HTTP.", checkURL,
		},
		{
			"SOCKS wants a password", withPassword(socks5, plantedPassword), "", FaultAuthentication, 0,
			"the integration's proxy (PROXY) wants a name and a password: it answered no acceptable authentication methods.",
			"Give the name in proxy.username and the password in proxy.password, proxy.password_file or proxy.password_env_variable.",
		},
		{
			"SOCKS wants another password", withPassword(socks5, "another"), plantedUser, FaultAuthentication, 0,
			"the integration's proxy (PROXY) refuses the name and the password: it answered username/password authentication failed.",
			"Check the name and the password.",
		},
		{
			"SOCKS forbids", socksProxy(2), "", FaultForbidden, 0,
			"the integration's proxy (PROXY) forbids the way to graph.test:443: it answered connection not allowed by ruleset.",
			"Have the proxy's administrators let this service through to graph.test:443.",
		},
		{
			"SOCKS fails", socksProxy(1), "", FaultTarget, 0,
			"the integration's proxy (PROXY) could not reach graph.test:443 itself: it answered general SOCKS server failure.", checkTarget,
		},
		{
			"SOCKS finds no network", socksProxy(3), "", FaultTarget, 0,
			"the integration's proxy (PROXY) could not reach graph.test:443 itself: it answered network unreachable.", checkTarget,
		},
		{
			"SOCKS finds no host", socksProxy(4), "", FaultTarget, 0,
			"the integration's proxy (PROXY) could not reach graph.test:443 itself: it answered host unreachable.", checkTarget,
		},
		{
			"SOCKS is refused", socksProxy(5), "", FaultTarget, 0,
			"the integration's proxy (PROXY) could not reach graph.test:443 itself: it answered connection refused.", checkTarget,
		},
		{
			"SOCKS takes too long", socksProxy(6), "", FaultTarget, 0,
			"the integration's proxy (PROXY) could not reach graph.test:443 itself: it answered TTL expired.", checkTarget,
		},
		{
			"SOCKS knows no CONNECT", socksProxy(7), "", FaultProtocol, 0,
			"the integration's proxy (PROXY) opened no way to graph.test:443: it answered command not supported.", checkURL,
		},
		{
			"no SOCKS", "socks5://" + says("HTTP/1.1 400 Bad Request\r\n\r\n"), "", FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak SOCKS 5.", checkURL,
		},
		{
			"hangs up, SOCKS", "socks5://" + hangsUp(), plantedUser, FaultProtocol, 0,
			"the integration's proxy (PROXY) broke off, or does not speak SOCKS 5.", checkURL,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			config := Config{Proxy: &integrationv1.Proxy{Url: test.url, Username: test.user}, Allowed: anywhere}
			if test.user != "" {
				config.ProxyPassword = plantedPassword
			}
			o := newOutbound(t, config)
			transport := o.Transport()
			t.Cleanup(transport.CloseIdleConnections)
			began := time.Now()
			route := routeTo(t, o, "https://graph.test")
			_, called := get(t, transport, "https://graph.test/?with=query")
			_, tunnelled := o.Tunnel(t.Context(), route, "graph.test:443")
			if took := time.Since(began); took > tunnelTimeout/2 {
				t.Errorf("it was told only after %s", took)
			}
			for _, err := range []error{called, tunnelled} {
				var failure *ProxyError
				if !errors.As(err, &failure) {
					t.Errorf("error is %v, want a *ProxyError", err)
					continue
				}
				if failure.Fault != test.fault || failure.Status != test.status || failure.Route != route || failure.Target != "graph.test:443" {
					t.Errorf("failed by %+v, want %s with status %d", failure, test.fault, test.status)
				}
				e := Problem("The list", "graph.test", err)
				fill := strings.NewReplacer("PROXY", route.Proxy)
				if want := fill.Replace("The list could not be reached at graph.test: " + test.message); e.Problem.GetMessage() != want {
					t.Errorf("message is\n %s\nwant\n %s", e.Problem.GetMessage(), want)
				}
				if want := fill.Replace(test.remedy + configured); e.Problem.GetRemedy() != want {
					t.Errorf("remedy is\n %s\nwant\n %s", e.Problem.GetRemedy(), want)
				}
				if e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_PROXY_FAILED || int(e.Problem.GetHttpStatus()) != test.status ||
					e.Permanent != (test.fault == FaultAuthentication || test.fault == FaultForbidden) {
					t.Errorf("told as %v, permanent: %t", e.Problem, e.Permanent)
				}
				wantNoPassword(t, err.Error(), failure.Error(), e.Error(), e.Problem.String(), fmt.Sprintf("%+v %#v", failure, failure))
			}
		})
	}
}

func TestSchemes(t *testing.T) {
	p := &proxy{username: "name", password: "secret"}
	tests := map[string][]string{
		"":                                  nil,
		"Basic":                             {"Basic"},
		`Basic realm="a, Digest b", x=y`:    {"Basic"},
		`NTLM TlRM=, Digest realm="x"`:      {"NTLM", "Digest"},
		"secret, Basic " + p.basic():        {"[password]", "Basic"},
		strings.Repeat("Basic, ", 20):       slices.Repeat([]string{"Basic"}, 8),
		strings.TrimRight(p.basic(), "="):   {"[credentials]"},
		strings.Repeat("long", 200) + ", x": {strings.Repeat("long", 100) + "...", "x"},
	}
	for value, want := range tests {
		if got := p.schemesOf(http.Header{"Proxy-Authenticate": {value}}); !slices.Equal(got, want) {
			t.Errorf("%q names %q, want %q", value, got, want)
		}
	}
}

func TestProxyThatDoesNotAnswer(t *testing.T) {
	for _, scheme := range []string{"http", "https", "socks5"} {
		// tunnel asks a proxy that does not answer, and tells asked of it.
		tunnel := func(ctx context.Context, asked func()) error {
			address := listen(t, func(connection net.Conn) {
				defer connection.Close()
				_, _ = io.ReadFull(connection, make([]byte, 1))
				asked()
				_, _ = io.Copy(io.Discard, connection)
			})
			o := newOutbound(t, Config{Proxy: &integrationv1.Proxy{Url: scheme + "://" + address}, Allowed: anywhere})
			_, err := o.Tunnel(ctx, routeTo(t, o, "https://graph.test"), "graph.test:443")
			return err
		}

		// On a busy machine the time may be over before the proxy is asked, which is told alike.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := tunnel(ctx, func() {})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want that the time is over", scheme, err)
		}
		if message := Problem("The list", "graph.test", err).Problem.GetMessage(); !strings.Contains(message, "in time") {
			t.Errorf("%s: told as %s", scheme, message)
		}

		ctx, cancel = context.WithCancel(t.Context())
		if err := tunnel(ctx, cancel); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want that it was called off", scheme, err)
		}
	}
}

// What the operator configured is for the operator to mend, and who reads the remedy must know whom to ask.
func TestRemedyNamesWhoConfigured(t *testing.T) {
	proxy := startProxy(t, defendertest.ProxyOptions{Username: "a", Password: "b"})
	emptyEnvironment(t)
	t.Setenv("HTTPS_PROXY", proxy.URL())
	environment, err := NewDefaults(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		defaults        *Defaults
		message, remedy string
	}{
		{
			newDefaults(t, proxy.URL()), "the proxy of this service's proxy rules (AT) wants a name and a password",
			"as in http://NAME:PASSWORD@HOST:PORT, with special characters percent-encoded. It is configured in this service's proxy rules, by its operator.",
		},
		{
			environment, "the proxy that this service's environment names in HTTPS_PROXY (AT) wants a name and a password",
			"as in http://NAME:PASSWORD@HOST:PORT, with special characters percent-encoded. It is configured in this service's environment as HTTPS_PROXY, by its operator.",
		},
	}
	for _, test := range tests {
		o := newOutbound(t, Config{Defaults: test.defaults})
		_, err := o.Tunnel(t.Context(), routeTo(t, o, "https://graph.test"), "graph.test:443")
		p := Problem("The list", "graph.test", err).Problem
		message := strings.ReplaceAll(test.message, "AT", proxy.Addr())
		if !strings.Contains(p.GetMessage(), message) || !strings.HasSuffix(p.GetRemedy(), test.remedy) {
			t.Errorf("told as %v, want %s and %s", p, message, test.remedy)
		}
	}
}

func TestFailuresOfTheTarget(t *testing.T) {
	stranger := newAuthority(t, "Example Stranger")
	target := startTarget(t, stranger.serve("graph.test"))
	proxy := startProxy(t, defendertest.ProxyOptions{Hosts: leads(hostPortOf(target))})
	transport := newOutbound(t, Config{Proxy: &integrationv1.Proxy{Url: proxy.URL()}, Allowed: anywhere}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	_, err := get(t, transport, "https://graph.test/")
	p := Problem("The list", "graph.test", err).Problem
	if p.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED || strings.Contains(p.GetMessage(), "proxy") {
		t.Errorf("behind a proxy, the target's certificate is told as %v", p)
	}

	closed := closedPort(t)
	_, err = newOutbound(t, Config{Allowed: anywhere}).Dial(t.Context(), closed)
	p = Problem("The list", closed, err).Problem
	if p.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE {
		t.Errorf("a closed port is told as %v", p)
	}
}

func TestDialProxy(t *testing.T) {
	proxy := startProxy(t, defendertest.ProxyOptions{Kind: defendertest.ProxyHTTPS})
	o := newOutbound(t, Config{Proxy: &integrationv1.Proxy{Url: proxy.URL()}, TrustPEM: proxy.CAPEM(), Allowed: anywhere})
	connection, err := o.DialProxy(t.Context(), routeTo(t, o, "https://graph.test"))
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
	if asked := proxy.Requests(); len(asked) != 0 {
		t.Errorf("it was asked %+v, where it was only to be reached", asked)
	}
	if _, err := o.DialProxy(t.Context(), routeTo(t, o, "http://graph.test")); err == nil {
		t.Error("a proxy was found on a direct way")
	}
	closed := closedPort(t)
	o = newOutbound(t, Config{Proxy: &integrationv1.Proxy{Url: "http://" + closed}, Allowed: anywhere})
	_, err = o.DialProxy(t.Context(), routeTo(t, o, "https://graph.test"))
	if failure, ok := errors.AsType[*ProxyError](err); !ok || failure.Fault != FaultUnreachable {
		t.Errorf("error is %v, want a *ProxyError", err)
	}
}
