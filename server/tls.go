package server

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TLSFiles name the PEM files that TLS is served with. All empty: no TLS.
type TLSFiles struct {
	// Certificate is the server's certificate with its chain, Key its private key.
	Certificate, Key string
	// ClientCA are the certificates that a client's certificate must be signed with. Empty: clients need none, and the server
	// serves only this machine, unless it is told to be insecure.
	ClientCA string
}

// enabled says whether TLS is wanted.
func (f TLSFiles) enabled() bool { return f != TLSFiles{} }

// paths returns the files in the order in which certificates.take wants their contents.
func (f TLSFiles) paths() []string {
	if f.ClientCA == "" {
		return []string{f.Certificate, f.Key}
	}
	return []string{f.Certificate, f.Key, f.ClientCA}
}

// tlsState is what the server shows and whom it believes, as the files have it at one time. It never changes.
type tlsState struct {
	config *tls.Config
	// clientCAs are nil where clients need no certificate.
	clientCAs *x509.CertPool
}

// certificates are what TLS is served with: the contents of the files that were taken last. It is safe for concurrent use.
type certificates struct {
	files      TLSFiles
	minVersion uint16
	current    atomic.Pointer[tlsState]
	// clock tells the time that certificates are held against.
	clock  func() time.Time
	expiry *prometheus.GaugeVec
}

// newCertificates returns what TLS is served with, of which nothing is taken yet.
func newCertificates(files TLSFiles, minVersion uint16, clock func() time.Time, expiry *prometheus.GaugeVec) (*certificates, error) {
	if files.Certificate == "" || files.Key == "" {
		return nil, errors.New("TLS needs both a certificate and a key (--tls-cert and --tls-key)")
	}
	if minVersion == 0 {
		minVersion = tls.VersionTLS13
	}
	return &certificates{files: files, minVersion: minVersion, clock: clock, expiry: expiry}, nil
}

// config returns the settings of a listener, which change with what is taken: those of each handshake are those of the time.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion:         c.minVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load().config, nil },
	}
}

// take takes the contents of the files, in the order of TLSFiles.paths. Where anything about them is not right it returns an error, and
// what was taken before stays.
func (c *certificates) take(contents [][]byte) error {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return fmt.Errorf("load the TLS certificate %s and key %s: %w", c.files.Certificate, c.files.Key, err)
	}
	if err := checkTime(pair.Leaf, c.clock()); err != nil {
		return fmt.Errorf("the TLS certificate %s: %w", c.files.Certificate, err)
	}
	chain, err := parseChain(contents[0])
	if err != nil {
		return fmt.Errorf("the TLS certificate %s: %w", c.files.Certificate, err)
	}
	next := &tlsState{config: &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: c.minVersion, Time: c.clock,
		// A session that is resumed is not verified anew, and connections are too few for it to save anything.
		SessionTicketsDisabled: true,
	}}
	var authorities []*x509.Certificate
	if c.files.ClientCA != "" {
		if authorities, err = parseChain(contents[2]); err != nil {
			return fmt.Errorf("the client CA %s: %w", c.files.ClientCA, err)
		}
		next.clientCAs = x509.NewCertPool()
		for _, authority := range authorities {
			next.clientCAs.AddCert(authority)
		}
		next.config.ClientCAs, next.config.ClientAuth = next.clientCAs, tls.RequireAndVerifyClientCert
	}
	c.current.Store(next)
	c.tell("certificate", chain)
	c.tell("client_ca", authorities)
	return nil
}

// tell exports when the first certificate of a file expires, where it has any.
func (c *certificates) tell(file string, list []*x509.Certificate) {
	if len(list) == 0 {
		return
	}
	first := list[0].NotAfter
	for _, certificate := range list[1:] {
		if certificate.NotAfter.Before(first) {
			first = certificate.NotAfter
		}
	}
	c.expiry.WithLabelValues(file).Set(float64(first.Unix()))
}

// checkTime returns an error where a certificate does not hold at a time.
func checkTime(certificate *x509.Certificate, at time.Time) error {
	switch {
	case at.After(certificate.NotAfter):
		return fmt.Errorf("it expired at %s", certificate.NotAfter.UTC().Format(time.RFC3339))
	case at.Before(certificate.NotBefore):
		return fmt.Errorf("it holds only from %s on", certificate.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// parseChain reads all certificates of a PEM file. It returns an error where one cannot be read, or where there is none.
func parseChain(data []byte) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, certificate)
	}
	if len(list) == 0 || bytes.Count(data, []byte("-----BEGIN CERTIFICATE-----")) != len(list) {
		return nil, errors.New("it holds no PEM certificate, or one that is cut off")
	}
	return list, nil
}
