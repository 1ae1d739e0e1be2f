package outbound

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Planted where a name and a password are told. Each character in it that has a meaning in a URL is meant.
const (
	plantedUser     = `DOMAIN\user name@corp`
	plantedPassword = `p@ss:w/ord?#%41&=+ü"`
)

// systemAuthority is the one that this process's system trusts, and no other.
var systemAuthority *authority

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "outbound")
	if err != nil {
		panic(err)
	}
	systemAuthority = mustAuthority("Example System Root")
	file := filepath.Join(folder, "system.pem")
	if err := os.WriteFile(file, systemAuthority.pem, 0o600); err != nil {
		panic(err)
	}
	// Read once, when the first certificate is verified.
	for name, value := range map[string]string{"SSL_CERT_FILE": file, "SSL_CERT_DIR": folder} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(folder)
		os.Exit(code)
	}))
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	return mustAuthority(name)
}

func mustAuthority(name string) *authority {
	key, certificate := mustSign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Example Corp"}},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}, nil)
	return &authority{certificate: certificate, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})}
}

// mustSign completes a certificate and has it signed by an authority, or by itself.
func mustSign(template *x509.Certificate, by *authority) (*ecdsa.PrivateKey, *x509.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, parentKey := template, key
	if by != nil {
		parent, parentKey = by.certificate, by.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		panic(err)
	}
	return key, certificate
}

// serve returns how a host of these names and of loopback's addresses speaks TLS.
func (a *authority) serve(names ...string) *tls.Config {
	key, certificate := mustSign(&x509.Certificate{
		DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}}}
}

// startTarget starts a host that is spoken to over TLS, and answers with the protocol and what a proxy alone may be told.
func startTarget(t *testing.T, config *tls.Config) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s%s", r.Proto, r.Host, r.Header.Get("Proxy-Authorization"))
	}))
	server.TLS = config
	server.EnableHTTP2 = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// hostPortOf is where a server listens.
func hostPortOf(server *httptest.Server) string { return server.Listener.Addr().String() }

// httpServer starts a host that is spoken to in clear, and returns its URL.
func httpServer(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// startProxy starts a simulated proxy for one test.
func startProxy(t *testing.T, options defendertest.ProxyOptions) *defendertest.Proxy {
	t.Helper()
	proxy, err := defendertest.NewProxy(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	return proxy
}

// leads returns a proxy's names by which graph.test is somewhere else.
func leads(to string) map[string]string { return map[string]string{"graph.test:443": to} }

// answering starts what answers CONNECT with a status line and headers, and then waits for more without closing; it returns its URL.
func answering(t *testing.T, line string, headers ...string) string {
	t.Helper()
	return "http://" + listen(t, func(connection net.Conn) {
		defer connection.Close()
		reader := bufio.NewReader(connection)
		if _, err := http.ReadRequest(reader); err != nil {
			return
		}
		_, _ = io.WriteString(connection, "HTTP/1.1 "+line+"\r\n"+strings.Join(append(headers, "", ""), "\r\n"))
		_, _ = io.Copy(io.Discard, reader)
	})
}

// listen serves each connection on a port of loopback until the test is over, and returns its address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			served.Go(func() { serve(connection) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		served.Wait()
	})
	return listener.Addr().String()
}

// silent listens on a port to which nobody may connect, and returns its address.
func silent(t *testing.T) string {
	t.Helper()
	return listen(t, func(connection net.Conn) {
		t.Errorf("%s was connected to, and nobody may", connection.LocalAddr())
		_ = connection.Close()
	})
}

// closedPort returns an address at which nobody listens. A connection of another kind holds the port until the test is over, so that
// nobody begins to.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	holder, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Close() })
	return holder.LocalAddr().String()
}

// anywhere allows each address: tests run on loopback.
func anywhere(string) bool { return true }

func newOutbound(t *testing.T, config Config) *Outbound {
	t.Helper()
	o, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// through returns an integration's proxy with the planted name and password.
func through(address string) *integrationv1.Proxy {
	return &integrationv1.Proxy{Url: address, Username: plantedUser}
}

func newDefaults(t *testing.T, rules ...string) *Defaults {
	t.Helper()
	emptyEnvironment(t)
	parsed, err := ParseRules(rules)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDefaults(parsed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// emptyEnvironment takes the environment's proxies away for one test.
func emptyEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
}

// plantedBasic is the planted name and password as HTTP proxies are told them.
func plantedBasic() string {
	return base64.StdEncoding.EncodeToString([]byte(plantedUser + ":" + plantedPassword))
}

// wantNoPassword fails where the planted password stands in a text, as it is or as proxies are told it.
func wantNoPassword(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, secret := range []string{
			plantedPassword, url.QueryEscape(plantedPassword), url.PathEscape(plantedPassword),
			url.UserPassword("", plantedPassword).String()[1:],
			plantedBasic(),
		} {
			if strings.Contains(text, secret) {
				t.Errorf("the password is in %q", text)
			}
		}
	}
}

func mustURL(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
