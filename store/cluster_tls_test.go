package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func TestAccessOverTLS(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	certificate := a.issue(t, "server")
	pair, err := tls.LoadX509KeyPair(certificate.Certificate, certificate.Key)
	must(t, err)
	clients := x509.NewCertPool()
	clients.AddCert(a.certificate)
	start := func(config *tls.Config) string {
		s := startOptions(t, &server.Options{
			Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), TLSConfig: config,
		})
		return s.ClientURL()
	}
	simple := start(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	mutual := start(&tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
	})
	plain := startServer(t)
	client, foreign := a.issue(t, "client"), other.issue(t, "client")

	tests := map[string]struct {
		url    string
		access Access
		words  string // why it is refused; empty: it is not
	}{
		"trusted":                    {simple, Access{CA: a.file}, ""},
		"of another authority":       {simple, Access{CA: other.file}, "name the authority's file with --nats-ca"},
		"with a certificate":         {mutual, Access{CA: a.file, Certificate: client.Certificate, Key: client.Key}, ""},
		"without a certificate":      {mutual, Access{CA: a.file}, "refuses the TLS handshake"},
		"with another's certificate": {mutual, Access{CA: a.file, Certificate: foreign.Certificate, Key: foreign.Key}, "refuses the TLS handshake"},
		"in clear":                   {plain, Access{CA: a.file}, "its server speaks in clear"},
		"a file that is missing":     {simple, Access{CA: "nowhere.pem"}, "--nats-ca: open nowhere.pem"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			options := Options{URL: test.url, Access: test.access, Logger: logger(t)}
			if test.words != "" {
				wantRefused(t, options, ErrSetup, test.words)
				return
			}
			closeStore(t, openCluster(t, options))
		})
	}
}

func TestOnlyThisMachineIsSpokenToInClear(t *testing.T) {
	for urls, want := range map[string]bool{
		"nats://127.0.0.1:4222": false, "localhost": false, "nats://[::1]:4222,127.0.0.2": false,
		"nats://nats:4222": true, "nats://10.0.0.1": true, "127.0.0.1,nats.example.com:4222": true, "nats://localhost.example.com": true,
	} {
		if got, err := needsTLS(urls); err != nil || got != want {
			t.Errorf("%s: %v, %v", urls, got, err)
		}
	}
}

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{certificate: certificate, key: key, file: writePEM(t, "ca.pem", "CERTIFICATE", der)}
}

// issue returns the files of a certificate for this machine.
func (a *authority) issue(t *testing.T, name string) Access {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	return Access{
		Certificate: writePEM(t, name+".pem", "CERTIFICATE", der), Key: writePEM(t, name+".key", "EC PRIVATE KEY", private),
	}
}

// writePEM writes a block of PEM to a file of its own.
func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}
