package outbound

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTrust(t *testing.T) {
	corporate, operators := newAuthority(t, "Example Inspection Root"), newAuthority(t, "Example Operator Root")
	defaults := func(pem []byte) *Defaults {
		emptyEnvironment(t)
		d, err := NewDefaults(nil, pem)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	expired := corporate.serve("graph.test")
	key, certificate := mustSign(&x509.Certificate{DNSNames: []string{"graph.test"}, NotAfter: time.Now().Add(-time.Minute)}, corporate)
	expired.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}
	old := corporate.serve("graph.test")
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	const (
		integrations = "It is signed by an authority that the integration's trust adds, Example Inspection Root (Example Corp): a proxy that inspects TLS may stand between."
		service      = "It is signed by an authority that this service's operator added, Example Operator Root (Example Corp): a proxy that inspects TLS may stand between."
		systems      = "It is signed by Example System Root (Example Corp), and this machine trusts Example System Root (Example Corp)."
	)
	tests := []struct {
		name   string
		config Config
		serve  *tls.Config
		host   string
		// signed is empty where the handshake must fail.
		signed string
		added  Origin
	}{
		{"the system's", Config{}, systemAuthority.serve("graph.test"), "graph.test", systems, OriginNone},
		{"nobody's", Config{}, corporate.serve("graph.test"), "graph.test", "", ""},
		{"the integration's", Config{TrustPEM: corporate.pem}, corporate.serve("graph.test"), "graph.test", integrations, OriginIntegration},
		{"one of the integration's", Config{TrustPEM: slices.Concat([]byte("# Roots\n"), operators.pem, corporate.pem)}, corporate.serve("graph.test"), "graph.test", integrations, OriginIntegration},
		{"the operator's", Config{Defaults: defaults(operators.pem), TrustPEM: corporate.pem}, operators.serve("graph.test"), "graph.test", service, OriginService},
		{"the system's still", Config{TrustPEM: corporate.pem}, systemAuthority.serve("graph.test"), "graph.test", systems, OriginNone},
		{"the system's, added again", Config{TrustPEM: systemAuthority.pem}, systemAuthority.serve("graph.test"), "graph.test", systems, OriginNone},
		{"another name", Config{TrustPEM: corporate.pem}, corporate.serve("other.test"), "graph.test", "", ""},
		{"another authority", Config{TrustPEM: corporate.pem}, operators.serve("graph.test"), "graph.test", "", ""},
		{"expired", Config{TrustPEM: corporate.pem}, expired, "graph.test", "", ""},
		{"TLS 1.1", Config{TrustPEM: corporate.pem}, old, "graph.test", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.config.Allowed = anywhere
			o := newOutbound(t, test.config)
			target := startTarget(t, test.serve)
			connection, err := o.Dial(t.Context(), hostPortOf(target))
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			secured := tls.Client(connection, o.TLSConfig(test.host))
			err = secured.HandshakeContext(t.Context())
			if test.signed == "" {
				if err == nil {
					t.Error("the host is trusted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			signer := o.Signed(secured.ConnectionState())
			if signer.String() != test.signed || signer.Added != test.added {
				t.Errorf("%+v: %s\nwant\n%s", signer, signer, test.signed)
			}
		})
	}
	if signer := newOutbound(t, Config{}).Signed(tls.ConnectionState{}); signer != (Signer{}) {
		t.Errorf("a connection that was not verified is signed by %+v", signer)
	}
}

func TestTrustRefused(t *testing.T) {
	corporate := newAuthority(t, "Example Inspection Root")
	key, certificate := mustSign(&x509.Certificate{Subject: pkix.Name{CommonName: "a"}}, corporate)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, bytes []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
	}
	tests := map[string]struct {
		pem   []byte
		words string
	}{
		"no PEM":            {[]byte("MIIB"), "no certificate in PEM"},
		"binary":            {certificate.Raw, "no certificate in PEM"},
		"a key":             {slices.Concat(corporate.pem, block("PRIVATE KEY", raw)), "a PRIVATE KEY among the certificates"},
		"not a certificate": {slices.Concat(corporate.pem, block("CERTIFICATE", []byte("no"))), "certificate 2 cannot be read"},
		"damaged":           {slices.Concat(corporate.pem, bytes.Replace(corporate.pem, []byte("END"), []byte("EMD"), 1)), "of 2 certificates only 1 can be read"},
	}
	for name, test := range tests {
		_, err := New(Config{TrustPEM: test.pem})
		wantInvalid(t, name, err, test.words)
		emptyEnvironment(t)
		if _, err := NewDefaults(nil, test.pem); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the operator's is told as %v, want %q", name, err, test.words)
		}
	}
	for _, none := range []string{"", " \n"} {
		if o := newOutbound(t, Config{TrustPEM: []byte(none)}); o.roots != nil {
			t.Errorf("%q adds trust", none)
		}
	}
}
