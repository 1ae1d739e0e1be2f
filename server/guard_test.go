package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/access"
)

// certified makes a guard that believes an authority, and a connection with a certificate that the authority signed and that expires at a
// time.
func certified(t testing.TB, expires time.Time) (*guard, *connection) {
	t.Helper()
	sign := func(template, issuer *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			issuer, signer = template, key
		}
		template.SerialNumber, template.NotBefore = big.NewInt(1), expires.Add(-time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	ca, key := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: expires.Add(time.Hour),
	}, nil, nil)
	leaf, _ := sign(&x509.Certificate{
		DNSNames: []string{"director"}, NotAfter: expires, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, key)
	metrics, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	policy, err := access.Parse([]byte("rules: [{identities: [dns:director], roles: [reader], integrations: [contoso]}]"))
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{
		certificates: &certificates{}, connections: newConnections(), streams: newOpenStreams(), closeLimit: time.Second,
		logger: slog.New(slog.DiscardHandler), metrics: metrics,
	}
	g.policy.Store(policy)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	g.certificates.current.Store(&tlsState{clientCAs: pool})
	own, other := net.Pipe()
	t.Cleanup(func() { _ = other.Close() })
	return g, &connection{
		Conn: own, raw: own, home: g.connections, certificates: []*x509.Certificate{leaf}, identities: access.OfCertificate(leaf),
	}
}

// A certificate holds to the moment at which it expires, whatever was found out before.
func TestACertificateIsHeldToItsExpiry(t *testing.T) {
	expires := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	g, conn := certified(t, expires)
	for _, before := range []time.Duration{time.Minute, time.Second, 1} {
		if failed := g.verify(conn, expires.Add(-before)); failed != nil {
			t.Errorf("%s before it expires: %v", before, failed)
		}
	}
	if last := conn.verified.Load(); !last.until.Equal(expires) {
		t.Errorf("the answer is kept until %s", last.until)
	}
	failed := g.verify(conn, expires.Add(time.Second))
	if failed == nil || failed.Reason != integrationv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED {
		t.Fatalf("when it has expired: %v", failed)
	}
	if conn.expel(time.Second) {
		t.Error("the connection was not being closed")
	}
	// It stays refused, as the connection is on its way out.
	if again := g.verify(conn, expires.Add(-time.Minute)); again != failed {
		t.Errorf("asked again: %v", again)
	}
	// Also where the files change meanwhile: a call that was let in would break off when the connection is closed.
	same := *g.certificates.current.Load()
	g.certificates.current.Store(&same)
	if again := g.verify(conn, expires.Add(-time.Minute)); again != failed {
		t.Errorf("asked again after a change: %v", again)
	}
}

// BenchmarkAdmit is what it costs a call to be held against certificates and policy, whose answers the connection keeps.
func BenchmarkAdmit(b *testing.B) {
	g, conn := certified(b, time.Now().Add(time.Hour))
	need := need{policy: policies()[integrationv1.IntegrationService_StreamAlerts_FullMethodName], integration: "contoso"}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if g.verify(conn, now) != nil || g.allow(conn, need) != nil {
			b.Fatal("it is refused")
		}
	}
}
