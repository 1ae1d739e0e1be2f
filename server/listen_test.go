package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// authority is a certificate authority of a test, with its certificate in a file.
type authority struct {
	dir, file   string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.certificate, a.key, a.file, _ = a.sign(t, name, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue issues a certificate, and returns the files that it and its key are in.
func (a *authority) issue(t *testing.T, name string, template *x509.Certificate) (certFile, keyFile string) {
	t.Helper()
	_, _, certFile, keyFile = a.sign(t, name, template)
	return certFile, keyFile
}

// sign signs a certificate, itself where the authority has none yet, and writes it and its key to files.
func (a *authority) sign(
	t *testing.T, name string, template *x509.Certificate,
) (certificate *x509.Certificate, key *ecdsa.PrivateKey, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: name}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	issuer, issuerKey := a.certificate, a.key
	if issuer == nil {
		issuer, issuerKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	if certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
	return certificate, key, certFile, keyFile
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// server issues a server's certificate for 127.0.0.1.
func (a *authority) server(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	return a.issue(t, "server", &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// client issues the certificate of a client that is called director.
func (a *authority) client(t *testing.T) tls.Certificate {
	t.Helper()
	return a.pair(t, "director", &x509.Certificate{DNSNames: []string{"director"}})
}

// pair issues a client's certificate.
func (a *authority) pair(t *testing.T, name string, template *x509.Certificate) tls.Certificate {
	t.Helper()
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	certFile, keyFile := a.issue(t, name, template)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// trusting returns a client's TLS settings that trust the authority.
func (a *authority) trusting(certificates ...tls.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return &tls.Config{RootCAs: pool, Certificates: certificates}
}

// start serves on real sockets, and returns the addresses and the log.
func start(t *testing.T, options server.Options) (*server.Server, *harness) {
	t.Helper()
	var started *server.Server
	h := newHarness(t, harnessOptions{change: func(o *server.Options) {
		o.Address, o.UnixSocket, o.UnixSocketMode = options.Address, options.UnixSocket, options.UnixSocketMode
		o.TLS, o.MetricsAddress, o.UnreadLimit = options.TLS, options.MetricsAddress, options.UnreadLimit
		o.TLSMinVersion, o.PolicyFile, o.Insecure, o.NoReflection = options.TLSMinVersion, options.PolicyFile, options.Insecure, options.NoReflection
		o.ReloadInterval, o.Clock, o.Limits = 5*time.Millisecond, options.Clock, options.Limits
	}, started: func(s *server.Server) { started = s }})
	return started, h
}

// ask makes a call to an address.
func ask(t *testing.T, target string, security credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(security))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err = integrationv1.NewIntegrationServiceClient(conn).ListIntegrations(ctx, &integrationv1.ListIntegrationsRequest{})
	return err
}

// tcp returns what to dial to reach a server's TCP address.
func tcp(s *server.Server) string {
	for _, address := range s.Addresses() {
		if address.Network() == "tcp" {
			return "passthrough:///" + address.String()
		}
	}
	return ""
}

func TestLoopbackInClear(t *testing.T) {
	s, h := start(t, server.Options{Address: "127.0.0.1:0"})
	if err := ask(t, tcp(s), insecure.NewCredentials()); err != nil {
		t.Error(err)
	}
	if lines := h.log.lines(`"finished call"`, `"ListIntegrations"`, "127.0.0.1"); len(lines) != 1 {
		t.Errorf("%d lines of the access log have the peer", len(lines))
	}
}

func TestTLSOnLoopbackNeedsNoClientCertificate(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	s, _ := start(t, server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: key}})
	if err := ask(t, tcp(s), credentials.NewTLS(ca.trusting())); err != nil {
		t.Error(err)
	}
	if err := ask(t, tcp(s), insecure.NewCredentials()); status.Code(err) != codes.Unavailable {
		t.Errorf("in clear: %v", err)
	}
	old := ca.trusting()
	old.MaxVersion = tls.VersionTLS12
	if err := ask(t, tcp(s), credentials.NewTLS(old)); status.Code(err) != codes.Unavailable {
		t.Errorf("over TLS 1.2: %v", err)
	}
}

func TestMutualTLS(t *testing.T) {
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	cert, key := ca.server(t)
	s, h := start(t, server.Options{
		Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file},
		// The unix socket beside it stays in clear.
		UnixSocket: filepath.Join(t.TempDir(), "s"),
	})
	if err := ask(t, tcp(s), credentials.NewTLS(ca.trusting(ca.client(t)))); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if err := ask(t, tcp(s), credentials.NewTLS(ca.trusting())); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}
	if err := ask(t, tcp(s), credentials.NewTLS(ca.trusting(stranger.client(t)))); status.Code(err) != codes.Unavailable {
		t.Errorf("with a stranger's certificate: %v", err)
	}
	for _, address := range s.Addresses() {
		if address.Network() == "unix" {
			if err := ask(t, "unix://"+address.String(), insecure.NewCredentials()); err != nil {
				t.Errorf("over the unix socket: %v", err)
			}
		}
	}
	if lines := h.log.lines(`"finished call"`, `"OK"`); len(lines) != 2 {
		t.Errorf("%d calls are in the access log, want the two that were let in", len(lines))
	}
}

func TestAuditNamesTheCertificate(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	s, h := start(t, server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file}})
	conn, err := grpc.NewClient(tcp(s), grpc.WithTransportCredentials(credentials.NewTLS(ca.trusting(ca.client(t)))))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = integrationv1.NewIntegrationServiceClient(conn).DeleteIntegration(t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "nobody"})
	wantFailure(t, err, codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND)
	if lines := h.log.lines(`"audit"`, `"caller":"dns:director"`, `"DeleteIntegration"`, `"code":"NotFound"`, `"nobody"`); len(lines) != 1 {
		t.Errorf("%d lines of audit, want one: %s", len(lines), h.log.lines(`"audit"`))
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, h := start(t, server.Options{UnixSocket: path, UnixSocketMode: 0o620})
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != fs.ModeSocket|0o620 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	if got := s.Addresses()[1].String(); got != path {
		t.Errorf("the address is %s, want %s", got, path)
	}
	if err := ask(t, "unix://"+path, insecure.NewCredentials()); err != nil {
		t.Error(err)
	}
	// A socket that is in use is left alone.
	if _, err := newServer(t, server.Options{UnixSocket: path}); err == nil || !strings.Contains(err.Error(), "another process listens on it") {
		t.Errorf("a second server: %v", err)
	}
	if err := ask(t, "unix://"+path, insecure.NewCredentials()); err != nil {
		t.Error(err)
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("the server left %v, %v", left, err)
	}
}

func TestUnixSocketThatIsStaleIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	start(t, server.Options{UnixSocket: path})
	if err := ask(t, "unix://"+path, insecure.NewCredentials()); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreServed(t *testing.T) {
	s, h := start(t, server.Options{MetricsAddress: "127.0.0.1:0"})
	if _, err := h.client.ListEndpoints(t.Context(), &integrationv1.ListEndpointsRequest{}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + s.MetricsAddress().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text)
	}
	code, text := get("/metrics")
	const want = `grpc_server_handled_total{grpc_code="OK",grpc_method="ListEndpoints",grpc_service="defender.integration.v1.IntegrationService",grpc_type="unary"} 1`
	if code != http.StatusOK || !strings.Contains(text, want) {
		t.Errorf("%d, and the text has no %s", code, want)
	}
	if code, _ := get("/"); code != http.StatusNotFound {
		t.Errorf("another path: %d", code)
	}
}

// newServer makes a server that is not served, and closes it.
func newServer(t *testing.T, options server.Options) (*server.Server, error) {
	t.Helper()
	options.Service = integrationv1.UnimplementedIntegrationServiceServer{}
	options.Ready = func(context.Context) error { return nil }
	options.Logger = slog.New(slog.DiscardHandler)
	options.Registry = prometheus.NewRegistry()
	s, err := server.New(options)
	if err == nil {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	return s, err
}

func TestNewRefuses(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	_, otherKey := newAuthority(t, "other").server(t)
	old, oldKey := ca.issue(t, "old", &x509.Certificate{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(-time.Minute)})
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no socket and no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		options server.Options
		words   []string
	}{
		"nothing to listen on": {server.Options{}, []string{"--listen", "--unix-socket"}},
		"every address in clear": {server.Options{Address: ":0"},
			[]string{"refused", "anyone could call", "without --tls-cert and --tls-key, --tls-client-ca, --policy-file", "--unix-socket", "--insecure"}},
		"0.0.0.0 in clear": {server.Options{Address: "0.0.0.0:0"}, []string{"refused", `"0.0.0.0:0"`}},
		"[::] in clear":    {server.Options{Address: "[::]:0"}, []string{"refused"}},
		"every address without a client CA": {server.Options{Address: ":0", TLS: server.TLSFiles{Certificate: cert, Key: key}},
			[]string{"refused", "without --tls-client-ca, --policy-file:"}},
		"every address without a policy": {server.Options{Address: ":0", TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file}},
			[]string{"refused", "without --policy-file:"}},
		"a policy that is none": {server.Options{Address: "127.0.0.1:0", PolicyFile: file}, []string{"the policy file " + file, "cannot unmarshal"}},
		"a policy that is not there": {server.Options{Address: "127.0.0.1:0", PolicyFile: file + "x"},
			[]string{"read the files for policy", "no such file"}},
		"an address that is none": {server.Options{Address: "127.0.0.1"}, []string{`"127.0.0.1"`, "port"}},
		"a certificate alone":     {server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert}}, []string{"--tls-cert and --tls-key"}},
		"a client CA alone":       {server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{ClientCA: ca.file}}, []string{"--tls-cert and --tls-key"}},
		"a key of another": {server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: otherKey}},
			[]string{"load the TLS certificate", "does not match"}},
		"a certificate that is not there": {server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: file + "x", Key: key}},
			[]string{"read the files for tls", "no such file"}},
		"a certificate that has expired": {server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: old, Key: oldKey}},
			[]string{"the TLS certificate " + old, "it expired at 20"}},
		"a client CA that is none": {server.Options{Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: file}},
			[]string{file, "no PEM certificate"}},
		"a socket where a file is":       {server.Options{UnixSocket: file}, []string{file, "left alone"}},
		"a socket in no folder":          {server.Options{UnixSocket: filepath.Join(dir, "no", "s")}, []string{"no such file or directory"}},
		"metrics on a port that is none": {server.Options{Address: "127.0.0.1:0", MetricsAddress: "127.0.0.1:99999"}, []string{"listen for metrics"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := newServer(t, test.options)
			if err == nil {
				t.Fatal("it started")
			}
			for _, words := range test.words {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q does not say %q", err, words)
				}
			}
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "no socket and no PEM" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

func TestEveryAddressWithAllThatIsNeededIsServed(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	options := server.Options{
		Address: ":0", TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file}, PolicyFile: writePolicy(t, policy),
	}
	if _, err := newServer(t, options); err != nil {
		t.Error(err)
	}
}

// A server that is told to end before its listeners' turn came has ended as it was asked to.
func TestServingThatEndsAtOnce(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		s, err := server.New(server.Options{
			Service: integrationv1.UnimplementedIntegrationServiceServer{}, Ready: func(context.Context) error { return nil },
			Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Address: "127.0.0.1:0", MetricsAddress: "127.0.0.1:0",
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Serve(ended); err != nil {
			t.Fatal(err)
		}
	}
}
