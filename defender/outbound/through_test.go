package outbound

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// plantedSecret is what only the simulated Microsoft may get to see; its tokens are no less.
const plantedSecret = "planted-client-secret"

// microsoft is a simulated Microsoft over TLS, whose names only a proxy resolves.
type microsoft struct {
	server *defendertest.Server
	hosts  map[string]string
}

func startMicrosoft(t *testing.T) microsoft {
	t.Helper()
	server, err := defendertest.New(defendertest.Options{TLS: true, Hosts: []string{"graph.sim.test", "login.sim.test", "2001:db8::7"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	server.AddTenant("tenant").AddApplication("app", plantedSecret, defendertest.RoleSecurityAlertRead)
	at := strings.TrimPrefix(server.URL(), "https://")
	return microsoft{server, map[string]string{"graph.sim.test:443": at, "login.sim.test:443": at, "[2001:db8::7]:443": at}}
}

// read asks for a token at one host, and with it for the alerts at another, as the service does; it returns the token.
func (m microsoft) read(t *testing.T, transport http.RoundTripper, host string) (string, error) {
	t.Helper()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	response, err := client.PostForm("https://login.sim.test/tenant/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"app"}, "client_secret": {plantedSecret},
		"scope": {string(defendertest.Graph) + "/.default"},
	})
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(response.Body).Decode(&granted); err != nil || granted.AccessToken == "" {
		t.Fatalf("there is no token: %v", err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/v1.0/security/alerts_v2", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+granted.AccessToken)
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"value"`)) {
		t.Errorf("the alerts are answered %d %s (%v)", answer.StatusCode, body, err)
	}
	if answer.ProtoMajor != 2 {
		t.Errorf("the alerts are answered in %s", answer.Proto)
	}
	return granted.AccessToken, nil
}

func TestCallsThroughEachProxy(t *testing.T) {
	m := startMicrosoft(t)
	for _, kind := range []defendertest.ProxyKind{defendertest.ProxyHTTP, defendertest.ProxyHTTPS, defendertest.ProxySOCKS5} {
		for _, host := range []string{"graph.sim.test", "Graph.sim.test", "[2001:db8::7]"} {
			options := defendertest.ProxyOptions{Kind: kind, Hosts: m.hosts}
			config := Config{Allowed: anywhere}
			if host == "graph.sim.test" {
				options.Username, options.Password = plantedUser, plantedPassword
				config.ProxyPassword = plantedPassword
			}
			proxy := startProxy(t, options)
			config.Proxy = &integrationv1.Proxy{Url: proxy.URL(), Username: options.Username}
			config.TrustPEM = slices.Concat(m.server.CAPEM(), proxy.CAPEM())
			transport := newOutbound(t, config).Transport()
			t.Cleanup(transport.CloseIdleConnections)
			secrets := []string{plantedSecret, "client_secret", "Bearer"}
			for range 2 {
				token, err := m.read(t, transport, host)
				if err != nil {
					t.Fatalf("through %s: %v", proxy.URL(), err)
				}
				secrets = append(secrets, token)
			}
			asked := proxy.Requests()
			if len(asked) != 2 || asked[0].Target != "login.sim.test:443" || !strings.EqualFold(asked[1].Target, host+":443") {
				t.Fatalf("%s was asked %+v, want a tunnel for each host", proxy.URL(), asked)
			}
			for _, request := range asked {
				if request.Username != options.Username || request.Password != options.Password || !request.Opened {
					t.Errorf("%s was asked %+v", proxy.URL(), request)
				}
				for _, secret := range secrets {
					if bytes.Contains(request.Said, []byte(secret)) {
						t.Errorf("%s saw %q", proxy.URL(), secret)
					}
				}
			}
		}
	}
}

func TestInspectingProxy(t *testing.T) {
	m := startMicrosoft(t)
	for _, kind := range []defendertest.ProxyKind{defendertest.ProxyHTTP, defendertest.ProxySOCKS5} {
		proxy := startProxy(t, defendertest.ProxyOptions{Kind: kind, Inspect: true, Hosts: m.hosts})
		settings := &integrationv1.Proxy{Url: proxy.URL()}

		trusting := newOutbound(t, Config{Proxy: settings, TrustPEM: proxy.CAPEM(), Allowed: anywhere})
		transport := trusting.Transport()
		t.Cleanup(transport.CloseIdleConnections)
		if _, err := m.read(t, transport, "graph.sim.test"); err != nil {
			t.Errorf("through %s: %v", proxy.URL(), err)
		}
		connection, err := trusting.Tunnel(t.Context(), routeTo(t, trusting, "https://graph.sim.test"), "graph.sim.test:443")
		if err != nil {
			t.Fatal(err)
		}
		secured, err := handshake(t.Context(), connection, trusting.TLSConfig("graph.sim.test"))
		if err != nil {
			t.Fatal(err)
		}
		if signer := trusting.Signed(secured.ConnectionState()); signer.Added != OriginIntegration || !strings.Contains(signer.String(), "Simulated proxy (test authority)") {
			t.Errorf("it is told as %+v: %s", signer, signer)
		}
		_ = secured.Close()

		// Who trusts Microsoft's authority alone sends nothing.
		before := len(m.server.Calls(nil))
		transport = newOutbound(t, Config{Proxy: settings, TrustPEM: m.server.CAPEM(), Allowed: anywhere}).Transport()
		t.Cleanup(transport.CloseIdleConnections)
		_, err = m.read(t, transport, "graph.sim.test")
		p := Problem("Entra", "login.sim.test", err).Problem
		if p.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED ||
			!strings.Contains(p.GetMessage(), "signed by Simulated proxy (test authority), an authority that is not trusted") ||
			!strings.Contains(p.GetRemedy(), "proxy that inspects TLS") {
			t.Errorf("it is told as %v", p)
		}
		if calls := len(m.server.Calls(nil)); calls != before {
			t.Errorf("%d calls went through a proxy that is not trusted", calls-before)
		}
	}
}

// A status says that the tunnel is open; what the headers say of a body does not count.
func TestTunnelHasNoBody(t *testing.T) {
	for _, header := range []string{"Content-Length: 5000", "Transfer-Encoding: chunked"} {
		address := answering(t, "200 OK", header)
		o := newOutbound(t, Config{Proxy: &integrationv1.Proxy{Url: address}, Allowed: anywhere})
		ctx, cancel := context.WithTimeout(t.Context(), tunnelTimeout/2)
		connection, err := o.Tunnel(ctx, routeTo(t, o, "https://graph.test"), "graph.test:443")
		cancel()
		if err != nil {
			t.Errorf("%s: %v", header, err)
			continue
		}
		_ = connection.Close()
	}
}

// What fails on its way leaves no connection behind.
func TestFailuresLeaveNoConnection(t *testing.T) {
	m := startMicrosoft(t)
	for name, options := range map[string]defendertest.ProxyOptions{
		"forbidden":           {Refuse: 403},
		"another password":    {Username: "a", Password: "b"},
		"another scheme":      {Schemes: []string{"Negotiate"}},
		"forbidden, SOCKS":    {Kind: defendertest.ProxySOCKS5, Refuse: 2},
		"an untrusted proxy":  {Kind: defendertest.ProxyHTTPS},
		"an untrusted target": {Hosts: m.hosts},
	} {
		inner := startProxy(t, options)
		// It counts the connections that are open to the proxy.
		var open atomic.Int32
		outer := listen(t, func(near net.Conn) {
			defer near.Close()
			open.Add(1)
			defer open.Add(-1)
			far, err := net.Dial("tcp", inner.Addr())
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(near, far) }()
			_, _ = io.Copy(far, near) // until our side closes, whatever the proxy does
			_ = far.Close()
		})
		settings := &integrationv1.Proxy{Url: string(cmp.Or(options.Kind, defendertest.ProxyHTTP)) + "://" + outer}
		transport := newOutbound(t, Config{Proxy: settings, Allowed: anywhere}).Transport()
		t.Cleanup(transport.CloseIdleConnections)
		if _, err := get(t, transport, "https://graph.sim.test/"); err == nil {
			t.Errorf("%s: the call went through", name)
		}
		for deadline := time.Now().Add(time.Minute); open.Load() > 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if n := open.Load(); n > 0 {
			t.Errorf("%s: %d connections are left", name, n)
		}
	}
}

// forgotten is a connection over which nothing comes any more once it is silenced: what the other side says is dropped.
type forgotten struct {
	net.Conn
	silenced atomic.Bool
}

// Read reads what comes while it is not silenced.
func (f *forgotten) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	for err == nil && f.silenced.Load() {
		n, err = f.Conn.Read(b)
	}
	return n, err
}

// pipes is a listener for connections within the process, which take no time.
type pipes struct {
	opened chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	closed := make(chan struct{})
	return &pipes{opened: make(chan net.Conn), closed: closed, close: sync.OnceFunc(func() { close(closed) })}
}

// dial opens a connection.
func (p *pipes) dial() *forgotten {
	near, far := net.Pipe()
	p.opened <- far
	return &forgotten{Conn: near}
}

// Accept returns the next connection.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case connection := <-p.opened:
		return connection, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (p *pipes) Close() error {
	p.close()
	return nil
}

// Addr is of no use to anyone.
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A connection over which nothing comes any more, as where a firewall forgot it, is given up, and the next call opens another. Time is
// a bubble's: a sign of life that a busy machine is late with would end a good connection as well.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		corporate := newAuthority(t, "Example Proxy Root")
		listener := newPipes()
		server := &http.Server{
			Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }),
			TLSConfig: corporate.serve("graph.test"), ReadHeaderTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		}
		go func() { _ = server.ServeTLS(listener, "", "") }()
		defer func() { _ = server.Close() }()

		o := newOutbound(t, Config{TrustPEM: corporate.pem})
		transport := o.Transport()
		defer transport.CloseIdleConnections()
		var connections []*forgotten
		transport.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			connections = append(connections, listener.dial())
			return handshake(ctx, connections[len(connections)-1], o.TLSConfig("graph.test"))
		}
		call := func() (string, error) {
			response, err := (&http.Client{Transport: transport}).Get("https://graph.test/")
			if err != nil {
				return "", err
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			return string(body), err
		}
		if body, err := call(); err != nil || body != "HTTP/2.0" {
			t.Fatalf("the answer is %q (%v)", body, err)
		}
		connections[0].silenced.Store(true)
		began := time.Now()
		// Whether the call that waits there fails or is made again is the library's to say.
		_, _ = call()
		if took := time.Since(began); took != pingAfter+pingTimeout {
			t.Errorf("it took %s to give up, want %s and %s", took, pingAfter, pingTimeout)
		}
		if body, err := call(); err != nil || body != "HTTP/2.0" || len(connections) != 2 {
			t.Errorf("over %d connections the answer is %q (%v)", len(connections), body, err)
		}
	})
}

func TestHeaderTimeout(t *testing.T) {
	hang := make(chan struct{})
	address := httpServer(t, func(http.ResponseWriter, *http.Request) { <-hang })
	t.Cleanup(func() { close(hang) })
	transport := newOutbound(t, Config{Allowed: anywhere, HeaderTimeout: 50 * time.Millisecond}).Transport()
	t.Cleanup(transport.CloseIdleConnections)
	_, err := get(t, transport, address)
	if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
		t.Errorf("error is %v, want that the time is over", err)
	}
	if message := Problem("The list", "graph.test", err).Problem.GetMessage(); !strings.Contains(message, "did not answer in time") {
		t.Errorf("it is told as %s", message)
	}
	if longest := newOutbound(t, Config{}).Transport().ResponseHeaderTimeout; longest != 60*time.Second {
		t.Errorf("headers may take %s", longest)
	}
}

// HTTP/2 is for what is behind a proxy, never for the proxy.
func TestProxyIsOfferedNoProtocol(t *testing.T) {
	offered := make(chan []string, 1)
	config := systemAuthority.serve()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		offered <- hello.SupportedProtos
		return nil, nil
	}
	server := startTarget(t, config)
	o := newOutbound(t, Config{Proxy: &integrationv1.Proxy{Url: server.URL}, Allowed: anywhere})
	connection, err := o.DialProxy(t.Context(), routeTo(t, o, "https://graph.test"))
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
	if protocols := <-offered; len(protocols) != 0 {
		t.Errorf("the proxy is offered %q", protocols)
	}
}
