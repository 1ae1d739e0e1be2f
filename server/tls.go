package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles name the PEM files that TLS is served with. All empty: no TLS.
type TLSFiles struct {
	// Certificate is the server's certificate with its chain, Key its private key.
	Certificate, Key string
	// ClientCA are the certificates that a client's certificate must be signed with. Empty: clients need none, and the server
	// serves only this machine.
	ClientCA string
}

// enabled says whether TLS is wanted.
func (f TLSFiles) enabled() bool { return f != TLSFiles{} }

// load reads the files. It returns nil where TLS is not wanted, and an error where anything about them is not right: a server
// that was told to use TLS never goes on without.
func (f TLSFiles) load() (*tls.Config, error) {
	if !f.enabled() {
		return nil, nil
	}
	if f.Certificate == "" || f.Key == "" {
		return nil, errors.New("TLS needs both a certificate and a key (--tls-cert and --tls-key)")
	}
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return nil, fmt.Errorf("load the TLS certificate %s and key %s: %w", f.Certificate, f.Key, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}
	if f.ClientCA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("read the client CA: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the client CA %s holds no PEM certificate", f.ClientCA)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}
