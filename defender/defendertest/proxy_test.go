package defendertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	proxyUser     = "DOMAIN\\user name"
	proxyPassword = "p@ss:w/ord?"
	simulatedHost = "graph.sim.test:443"
)

func newTestProxy(t *testing.T, options ProxyOptions) *Proxy {
	t.Helper()
	p, err := NewProxy(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() }) // a test may have closed it
	return p
}

// throughProxy is Go's own client, which takes the way through a proxy with name and password, and trusts these authorities.
func throughProxy(t *testing.T, p *Proxy, user *url.Userinfo, trust ...[]byte) *http.Client {
	t.Helper()
	address, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	address.User = user
	roots := x509.NewCertPool()
	for _, authority := range trust {
		roots.AppendCertsFromPEM(authority)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(address), TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// status calls an address, and returns the answer's status and the certificate that was shown.
func statusOf(t *testing.T, client *http.Client, address string) (int, *x509.Certificate, error) {
	t.Helper()
	response, err := client.Get(address)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	if response.TLS == nil {
		return response.StatusCode, nil, nil
	}
	return response.StatusCode, response.TLS.PeerCertificates[0], nil
}

func onlyRequest(t *testing.T, p *Proxy) ProxyRequest {
	t.Helper()
	requests := p.Requests()
	if len(requests) != 1 {
		t.Fatalf("the proxy was asked %+v, want one request", requests)
	}
	return requests[0]
}

// httpsServer is a simulated Microsoft over HTTPS, which a name leads to that a proxy alone resolves.
func httpsServer(t *testing.T) (server *Server, hosts map[string]string) {
	t.Helper()
	w := newWorld(t, Options{TLS: true, Hosts: []string{"graph.sim.test"}})
	return w.server, map[string]string{simulatedHost: strings.TrimPrefix(w.server.URL(), "https://")}
}

func TestProxyLeadsThrough(t *testing.T) {
	server, hosts := httpsServer(t)
	for _, kind := range []ProxyKind{ProxyHTTP, ProxyHTTPS, ProxySOCKS5} {
		for _, withPassword := range []bool{false, true} {
			for _, inspect := range []bool{false, true} {
				options := ProxyOptions{Kind: kind, Inspect: inspect, Hosts: hosts}
				var user *url.Userinfo
				if withPassword {
					options.Username, options.Password = proxyUser, proxyPassword
					user = url.UserPassword(proxyUser, proxyPassword)
				}
				p := newTestProxy(t, options)
				client := throughProxy(t, p, user, server.CAPEM(), p.CAPEM())
				status, certificate, err := statusOf(t, client, "https://graph.sim.test/nothing")
				if err != nil || status != http.StatusNotFound {
					t.Errorf("%s: the answer is %d (%v)", p.URL(), status, err)
					continue
				}
				if issuer := certificate.Issuer.CommonName; strings.HasPrefix(issuer, "Simulated proxy") != inspect {
					t.Errorf("%s: the certificate is signed by %s; inspected: %t", p.URL(), issuer, inspect)
				}
				request := onlyRequest(t, p)
				if request.Method != http.MethodConnect || request.Target != simulatedHost || !request.Opened ||
					request.Username != options.Username || request.Password != options.Password {
					t.Errorf("%s: asked %+v", p.URL(), request)
				}
				if (request.Header == nil) != (kind == ProxySOCKS5) || (request.Status == http.StatusOK) == (kind == ProxySOCKS5) {
					t.Errorf("%s: asked with %v and answered %d", p.URL(), request.Header, request.Status)
				}
				if request.Received <= 100 || request.Sent <= 500 || int64(len(request.Said)) != min(request.Received, maxSaid) {
					t.Errorf("%s: %d bytes came, of which %d are kept, and %d went", p.URL(), request.Received, len(request.Said), request.Sent)
				}
				if bytes.Contains(request.Said, []byte("/nothing")) {
					t.Errorf("%s: the path can be read in the tunnel", p.URL())
				}
			}
		}
	}
}

func TestProxyRefuses(t *testing.T) {
	_, hosts := httpsServer(t)
	right, wrong := url.UserPassword(proxyUser, proxyPassword), url.UserPassword(proxyUser, "another")
	// Nobody listens where a connection of another kind begins, and nobody begins to while it is there.
	nobody := map[string]string{simulatedHost: connect(t, newTestProxy(t, ProxyOptions{}).Addr()).LocalAddr().String()}
	tests := []struct {
		name    string
		options ProxyOptions
		user    *url.Userinfo
		status  int
		target  string
		words   string
	}{
		{"no password", ProxyOptions{Username: proxyUser, Password: proxyPassword}, nil, 407, simulatedHost, "Proxy Authentication Required"},
		{"another password", ProxyOptions{Username: proxyUser, Password: proxyPassword}, wrong, 407, simulatedHost, "Proxy Authentication Required"},
		{"another scheme", ProxyOptions{Username: proxyUser, Password: proxyPassword, Schemes: []string{"Negotiate", "NTLM"}}, right, 407, simulatedHost, "Proxy Authentication Required"},
		{"forbidden", ProxyOptions{Refuse: 403}, nil, 403, simulatedHost, "Forbidden"},
		{"nobody there", ProxyOptions{Hosts: nobody}, nil, 502, simulatedHost, "Bad Gateway"},
		{"SOCKS, no password", ProxyOptions{Kind: ProxySOCKS5, Username: proxyUser, Password: proxyPassword}, nil, 0xff, "", "no acceptable authentication methods"},
		{"SOCKS, another password", ProxyOptions{Kind: ProxySOCKS5, Username: proxyUser, Password: proxyPassword}, wrong, 0xff, "", "authentication failed"},
		{"SOCKS, forbidden", ProxyOptions{Kind: ProxySOCKS5, Refuse: 2}, nil, 2, simulatedHost, "not allowed by ruleset"},
		{"SOCKS, nobody there", ProxyOptions{Kind: ProxySOCKS5, Hosts: nobody}, nil, 5, simulatedHost, "connection refused"},
	}
	for _, test := range tests {
		if test.options.Hosts == nil {
			test.options.Hosts = hosts
		}
		p := newTestProxy(t, test.options)
		_, _, err := statusOf(t, throughProxy(t, p, test.user), "https://graph.sim.test/")
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: error is %v, want %s", test.name, err, test.words)
		}
		request := onlyRequest(t, p)
		if request.Status != test.status || request.Target != test.target || request.Opened {
			t.Errorf("%s: asked %+v, want %d and %q", test.name, request, test.status, test.target)
		}
	}
}

func TestProxyNamesItsSchemes(t *testing.T) {
	for _, schemes := range [][]string{nil, {"Negotiate", "NTLM"}} {
		p := newTestProxy(t, ProxyOptions{Username: proxyUser, Password: proxyPassword, Schemes: schemes})
		response, err := throughProxy(t, p, nil).Get("http://graph.sim.test/path")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		got := response.Header.Values("Proxy-Authenticate")
		if schemes == nil {
			schemes = []string{`Basic realm="simulated, of a test"`}
		}
		if response.StatusCode != http.StatusProxyAuthRequired || !slices.Equal(got, schemes) {
			t.Errorf("%d asks for %q, want %q", response.StatusCode, got, schemes)
		}
	}
}

// Nothing in clear goes through: who sends a token like that is told so, and it is in the record.
func TestProxyTakesNothingInClear(t *testing.T) {
	p := newTestProxy(t, ProxyOptions{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://graph.sim.test/path?query", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer token")
	response, err := throughProxy(t, p, nil).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed || response.Header.Get("Allow") != http.MethodConnect {
		t.Errorf("answered %d, and allows %q", response.StatusCode, response.Header.Get("Allow"))
	}
	got := onlyRequest(t, p)
	if got.Method != http.MethodGet || got.Target != "http://graph.sim.test/path?query" || got.Header.Get("Authorization") != "Bearer token" ||
		!bytes.Contains(got.Said, []byte("Bearer token")) || got.Opened {
		t.Errorf("asked %+v", got)
	}
}

// Who asks an inspecting proxy in no protocol, or shows it no TLS, finds the tunnel closed.
func TestInspectingProxyNeedsTLS(t *testing.T) {
	_, hosts := httpsServer(t)
	p := newTestProxy(t, ProxyOptions{Inspect: true, Hosts: hosts})
	connection := connect(t, p.Addr())
	if _, err := io.WriteString(connection, "CONNECT "+simulatedHost+" HTTP/1.1\r\nHost: "+simulatedHost+"\r\n\r\nGET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(connection)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") || strings.Count(string(answer), "HTTP/1.") > 1 {
		t.Errorf("answered %q (%v), want an open and a closed tunnel", answer, err)
	}
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	return connection
}

// What asks for nothing that can be read is hung up on, and is no request.
func TestProxyHangsUpOnNonsense(t *testing.T) {
	server, hosts := httpsServer(t)
	socksTo := "\x03\x0egraph.sim.test\x01\xbb"
	tests := []struct {
		name    string
		options ProxyOptions
		say     string
		want    string
		// status is of the request in the record; 0 where there is none.
		status int
	}{
		{"no HTTP", ProxyOptions{}, "SSH-2.0-client\r\n\r\n", "", 0},
		{"endless headers", ProxyOptions{}, "CONNECT a:1 HTTP/1.1\r\nX: " + strings.Repeat("x", maxProxyHeader), "", 0},
		{"no TLS", ProxyOptions{Kind: ProxyHTTPS}, "CONNECT a:1 HTTP/1.1\r\n\r\n", "", 0},
		{"SOCKS 4", ProxyOptions{Kind: ProxySOCKS5}, "\x04\x01\x00", "\x05\xff", 0xff},
		{"SOCKS, to bind", ProxyOptions{Kind: ProxySOCKS5}, "\x05\x01\x00\x05\x02\x00" + socksTo, "\x05\x00\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00", 7},
		{"SOCKS, no such address", ProxyOptions{Kind: ProxySOCKS5}, "\x05\x01\x00\x05\x01\x00\x09", "\x05\x00\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00", 8},
		{"SOCKS, an address", ProxyOptions{Kind: ProxySOCKS5, Refuse: 2}, "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x01", "\x05\x00\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", 2},
	}
	for _, test := range tests {
		test.options.Hosts = hosts
		p := newTestProxy(t, test.options)
		connection := connect(t, p.Addr())
		_, _ = io.WriteString(connection, test.say)
		if half, ok := connection.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		// The answer alone counts: what was not read resets the connection.
		answer, _ := io.ReadAll(connection)
		if test.options.Kind != ProxyHTTPS && string(answer) != test.want {
			t.Errorf("%s: answered %q, want %q", test.name, answer, test.want)
		}
		switch requests := p.Requests(); {
		case test.status == 0 && len(requests) > 0:
			t.Errorf("%s: taken as %+v", test.name, requests)
		case test.status != 0 && (len(requests) != 1 || requests[0].Status != test.status):
			t.Errorf("%s: asked %+v, want %d", test.name, requests, test.status)
		}
	}
	if calls := server.Calls(nil); len(calls) > 0 {
		t.Errorf("the target was called %+v", calls)
	}
}

func TestProxyCloseEndsTunnels(t *testing.T) {
	_, hosts := httpsServer(t)
	p := newTestProxy(t, ProxyOptions{Hosts: hosts})
	open, asking := connect(t, p.Addr()), connect(t, p.Addr())
	if _, err := io.WriteString(open, "CONNECT "+simulatedHost+" HTTP/1.1\r\nHost: "+simulatedHost+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(open, make([]byte, len("HTTP/1.1 200 "))); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	for _, connection := range []net.Conn{open, asking} {
		_, err := io.Copy(io.Discard, connection)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			t.Error("a connection outlives the proxy")
		}
	}
	if connection, err := net.Dial("tcp", p.Addr()); err == nil {
		_ = connection.Close()
		t.Error("it still listens")
	}
	if requests := p.Requests(); len(requests) != 1 || !requests[0].Opened {
		t.Errorf("afterwards the record is %+v", requests)
	}
}

func TestProxyHasNoMoreTunnelsThanItMay(t *testing.T) {
	p := newTestProxy(t, ProxyOptions{})
	for range maxTunnels {
		connect(t, p.Addr())
	}
	// It waits for nothing: what is too much is hung up on, although it asks for nothing.
	if _, err := connect(t, p.Addr()).Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more is answered %v", err)
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Error("one more is not hung up on")
	}
}

func TestProxyRecordIsBounded(t *testing.T) {
	var record proxyRecord
	for i := range maxRequests + 3 {
		record.add(ProxyRequest{Status: i}, &heard{})
	}
	if list := record.list(); len(list) != maxRequests || list[0].Status != 3 || list[len(list)-1].Status != maxRequests+2 {
		t.Errorf("%d requests are kept, from %d on", len(list), list[0].Status)
	}
	client := &heard{Conn: &ahead{read: strings.NewReader(strings.Repeat("x", 2*maxSaid))}}
	if n, err := io.Copy(io.Discard, client); err != nil || n != 2*maxSaid || client.received.Load() != n || len(client.saidSoFar()) != maxSaid {
		t.Errorf("of %d bytes (%v) %d are counted, and %d kept", n, err, client.received.Load(), len(client.saidSoFar()))
	}
}

func TestProxyOptionsRefused(t *testing.T) {
	for name, options := range map[string]ProxyOptions{
		"another kind":       {Kind: "socks4"},
		"SOCKS with schemes": {Kind: ProxySOCKS5, Schemes: []string{"Negotiate"}},
		"no status":          {Refuse: 2},
		"no reply":           {Kind: ProxySOCKS5, Refuse: 403},
		"no address":         {Addr: "nowhere"},
	} {
		if p, err := NewProxy(options); err == nil {
			_ = p.Close()
			t.Errorf("%s: taken", name)
		}
	}
	if p := newTestProxy(t, ProxyOptions{}); p.CAPEM() != nil {
		t.Error("a proxy without an authority has one")
	}
}

// What a proxy is told is kept as it was told, also where it cannot be read.
func TestProxyReadsBasicAlone(t *testing.T) {
	for value, want := range map[string]string{
		"Basic " + base64.StdEncoding.EncodeToString([]byte("a:b:c")): "a b:c",
		"Negotiate abc": " ", "Basic !": " ", "": " ",
	} {
		username, password, _ := basicOf(http.Header{"Proxy-Authorization": {value}})
		if got := username + " " + password; got != want {
			t.Errorf("%q is read as %q, want %q", value, got, want)
		}
	}
}
