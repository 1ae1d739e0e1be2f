package main

import (
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

func TestHealthcheckTarget(t *testing.T) {
	tests := map[healthcheckFlags]string{
		{listen: "127.0.0.1:7443"}:                            "passthrough:///127.0.0.1:7443",
		{listen: ":7443"}:                                     "passthrough:///127.0.0.1:7443",
		{listen: "0.0.0.0:7443"}:                              "passthrough:///127.0.0.1:7443",
		{listen: "[::]:7443"}:                                 "passthrough:///[::1]:7443",
		{listen: "director.test:7443"}:                        "passthrough:///director.test:7443",
		{listen: "127.0.0.1:7443", unixSocket: "/run/d.sock"}: "unix:///run/d.sock",
	}
	for flags, want := range tests {
		if got, err := flags.target(); got != want || err != nil {
			t.Errorf("%+v: %q, %v, want %q", flags, got, err, want)
		}
	}
}

func TestHealthcheckOverTLS(t *testing.T) {
	certificate, authority := testCertificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})))
	services := health.NewServer()
	healthv1.RegisterHealthServer(s, services)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	defer func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	address := listener.Addr().String()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	tests := map[string]struct {
		args  []string
		code  int
		words string
	}{
		"trusted":                 {[]string{"--tls-ca", authority}, exitOK, "is serving"},
		"by its name":             {[]string{"--tls-ca", authority, "--tls-server-name", "example.com"}, exitOK, "is serving"},
		"by another's name":       {[]string{"--tls-ca", authority, "--tls-server-name", "other.test"}, exitFailed, "other.test"},
		"in clear":                {nil, exitFailed, "does not answer"},
		"an authority of nobody":  {[]string{"--tls-ca", empty}, exitFailed, "holds no PEM certificate"},
		"an authority nowhere":    {[]string{"--tls-ca", empty + "x"}, exitFailed, "no such file"},
		"a certificate of nobody": {[]string{"--tls-ca", authority, "--client-cert", empty, "--client-key", empty}, exitFailed, "failed to find any PEM data"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := invoke(t.Context(), nil, append([]string{"healthcheck", "--listen", address}, test.args...)...)
			if got.code != test.code || !strings.Contains(got.out+got.err, test.words) {
				t.Errorf("%+v, want the code %d and the words %q", got, test.code, test.words)
			}
		})
	}

	services.Shutdown()
	got := invoke(t.Context(), nil, "healthcheck", "--listen", address, "--tls-ca", authority)
	if got.code != exitFailed || !strings.Contains(got.err, "answers NOT_SERVING") {
		t.Errorf("while it drains: %+v", got)
	}
}

// testCertificate returns the certificate that httptest has for 127.0.0.1 and example.com, and a file with what trusts it.
func testCertificate(t *testing.T) (certificate tls.Certificate, authority string) {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	authority = filepath.Join(t.TempDir(), "ca.crt")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(authority, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return web.TLS.Certificates[0], authority
}
