package connectivitytest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"
)

// closedPort returns a host and port where nobody listens. A connection of another kind holds the port meanwhile, so that nobody
// begins to.
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

// inClear starts a host that speaks HTTP in clear, until the world ends, and returns its host and port.
func (w *world) inClear() string {
	server := httptest.NewServer(http.NotFoundHandler())
	w.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// hostOptions are what a host is started with.
type hostOptions struct {
	// name is whom the certificate is for. Default: 127.0.0.1.
	name string
	// from and until are when the certificate is valid. Default: from an hour ago for a year.
	from, until time.Time
	// selfSigned has no authority sign it.
	selfSigned bool
	// maxVersion is the newest version of TLS that it speaks; zero is the newest that there is.
	maxVersion uint16
	// handler answers. Default: the page of a web server that has just been installed.
	handler http.Handler
}

// startHost starts a host that is not Microsoft's and speaks TLS, until t ends. It returns its host and port, and its authority's
// certificate in PEM.
func startHost(t *testing.T, options hostOptions) (hostPort string, authority []byte) {
	t.Helper()
	if options.handler == nil {
		options.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<!DOCTYPE html><title>It works!</title>") // who asked may be gone
		})
	}
	certificate, authority := hostCertificate(t, options)
	server := httptest.NewUnstartedServer(options.handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS10, MaxVersion: options.maxVersion}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), authority
}

// hostCertificate makes a host's certificate, and returns the certificate of whoever signed it in PEM.
func hostCertificate(t *testing.T, options hostOptions) (certificate tls.Certificate, authority []byte) {
	t.Helper()
	from, until := options.from, options.until
	if until.IsZero() {
		from, until = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "A host of Contoso's"}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if options.name == "" {
		leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	} else {
		leaf.DNSNames = []string{options.name}
	}
	signer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Contoso's own authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-10, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	key, signerKey := newKey(), newKey()
	if options.selfSigned {
		signer, signerKey = leaf, key
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, signer, key.Public(), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	signerDER, err := x509.CreateCertificate(rand.Reader, signer, signer, signerKey.Public(), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signerDER})
}

// before returns a handler that hands everything on to a simulated Microsoft, as a load balancer does.
func (w *world) before() http.Handler {
	origin, err := url.Parse(w.microsoft.URL())
	if err != nil {
		w.t.Fatal(err)
	}
	client := w.microsoft.Client()
	w.t.Cleanup(client.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(origin) },
		Transport: client.Transport, ErrorLog: log.New(io.Discard, "", 0),
	}
}
