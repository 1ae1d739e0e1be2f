package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// signed is a certificate with its key.
type signed struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// sign completes a certificate of a name, and has it signed by another, or by itself where that is nil.
func sign(t *testing.T, name string, template x509.Certificate, by *signed) *signed {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(1)
	template.Subject = pkix.Name{CommonName: name, Organization: []string{"Example Corp"}}
	template.BasicConstraintsValid = true
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent := &signed{&template, key}
	if by != nil {
		parent = by
	}
	raw, err := x509.CreateCertificate(rand.Reader, &template, parent.certificate, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &signed{certificate, key}
}

// shows speaks TLS with certificates, the host's own first.
func shows(chain ...*signed) func(net.Conn) {
	shown := tls.Certificate{PrivateKey: chain[0].key}
	for _, s := range chain {
		shown.Certificate = append(shown.Certificate, s.certificate.Raw)
	}
	return speaks(&tls.Config{Certificates: []tls.Certificate{shown}})
}

func speaks(config *tls.Config) func(net.Conn) {
	return func(connection net.Conn) { _ = tls.Server(connection, config).Handshake() }
}

// says answers in its own words.
func says(words string) func(net.Conn) {
	return func(connection net.Conn) {
		_, _ = connection.Read(make([]byte, 4<<10))
		_, _ = io.WriteString(connection, words)
	}
}

func TestUntrusted(t *testing.T) {
	past, future := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2120, 1, 2, 3, 4, 5, 0, time.UTC)
	authority := x509.Certificate{IsCA: true, KeyUsage: x509.KeyUsageCertSign}
	oldAuthority := authority
	oldAuthority.NotAfter = past
	graph := x509.Certificate{DNSNames: []string{"graph.test"}}
	root, stranger := sign(t, "Example Root", authority, nil), sign(t, "Example Stranger", authority, nil)
	between, oldBetween := sign(t, "Example Between", authority, stranger), sign(t, "Example Old", oldAuthority, root)
	roots := x509.NewCertPool()
	roots.AddCert(root.certificate)

	// A ServerHello of TLS 1.0, as an old server answers that knows nothing of newer ones.
	hello := "\x03\x01" + strings.Repeat("r", 32) + "\x00\xc0\x13\x00"
	hello = "\x16\x03\x01\x00" + string(rune(len(hello)+4)) + "\x02\x00\x00" + string(rune(len(hello))) + hello

	const clock = ` \(this machine's clock says \d{4}-\d\d-\d\d \d\d:\d\d\)`
	tests := []struct {
		name   string
		server func(net.Conn)
		// message is a pattern of what stands behind "The list could not be reached at graph.test: ".
		message, remedy string
	}{
		{
			"self-signed", shows(sign(t, "Example Host", graph, nil)),
			`the host's certificate is self-signed, by Example Host \(Example Corp\), and is not trusted`, "give its authority's certificate as the integration's trust",
		},
		{
			"a stranger's", shows(sign(t, "Example Host", graph, stranger)),
			`the host's certificate is signed by Example Stranger \(Example Corp\), an authority that is not trusted`, "give its authority's certificate",
		},
		{
			"a stranger's, with what is between", shows(sign(t, "Example Host", graph, between), between),
			`the host's certificate is signed by Example Stranger \(Example Corp\), an authority that is not trusted`, "give its authority's certificate",
		},
		{
			"a stranger's, with the stranger", shows(sign(t, "Example Host", graph, stranger), stranger),
			`the host's certificate is signed by Example Stranger \(Example Corp\), an authority that is not trusted`, "give its authority's certificate",
		},
		{
			"words of several lines", shows(sign(t, "Example Host", graph, sign(t, "Example\r\nStranger\x1b[2J"+strings.Repeat("x", 2*maxExcerpt), authority, nil))),
			`the host's certificate is signed by Example Stranger \[2Jx{300,400}\.\.\., an authority that is not trusted`, "give its authority's certificate",
		},
		{
			"of another name", shows(sign(t, "Example Host", x509.Certificate{DNSNames: []string{"a.test", "*.b.test"}, IPAddresses: []net.IP{net.IPv4(10, 1, 2, 3)}}, stranger)),
			`the host's certificate, issued by Example Stranger \(Example Corp\), is for a\.test, \*\.b\.test, 10\.1\.2\.3, not for graph\.test`, "Check the host's name and port",
		},
		{
			"of many other names", shows(sign(t, "Example Host", x509.Certificate{DNSNames: []string{"1.test", "2.test", "3.test", "4.test", "5.test", "6.test"}}, root)),
			`the host's certificate, issued by Example Root \(Example Corp\), is for 1\.test, 2\.test, 3\.test, 4\.test and 2 more, not for graph\.test`, "Check the host's name and port",
		},
		{
			"of no name", shows(sign(t, "graph.test", x509.Certificate{}, root)),
			`the host's certificate, issued by Example Root \(Example Corp\), is for no host by name, not for graph\.test`, "Check the host's name and port",
		},
		{
			"expired", shows(sign(t, "Example Host", x509.Certificate{DNSNames: graph.DNSNames, NotBefore: past.AddDate(-1, 0, 0), NotAfter: past}, root)),
			`the host's certificate, issued by Example Root \(Example Corp\), expired on 2020-01-02 03:04 UTC` + clock, "Check this machine's clock",
		},
		{
			"not yet valid", shows(sign(t, "Example Host", x509.Certificate{DNSNames: graph.DNSNames, NotBefore: future, NotAfter: future.AddDate(1, 0, 0)}, root)),
			`the host's certificate, issued by Example Root \(Example Corp\), is not valid before 2120-01-02 03:04 UTC` + clock, "Check this machine's clock",
		},
		{
			"of an authority that expired", shows(sign(t, "Example Host", graph, oldBetween), oldBetween),
			`the certificate of Example Old \(Example Corp\), by which the host's is signed, expired on 2020-01-02 03:04 UTC` + clock, "Check this machine's clock",
		},
		{
			"for something else", shows(sign(t, "Example Host", x509.Certificate{DNSNames: graph.DNSNames, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}, root)),
			`the host's certificate, issued by Example Root \(Example Corp\), does not verify: certificate specifies an incompatible key usage`, "Check the host's name and port",
		},
		{
			"TLS 1.1, which says so", speaks(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}),
			`the host refuses the TLS handshake: protocol version not supported`, "It may speak no TLS 1.2",
		},
		{
			"TLS 1.0, which goes on", says(hello),
			`the TLS handshake failed: server selected unsupported protocol version 301`, "It may speak no TLS 1.2",
		},
		{"no TLS", says("HTTP/1.1 400 Bad Request\r\n\r\n"), `what answers does not speak TLS`, "Check the protocol"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			go func() {
				defer close(served)
				if connection, err := listener.Accept(); err == nil {
					defer connection.Close()
					_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
					test.server(connection)
				}
			}()
			connection, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				_ = listener.Close()
				t.Fatal(err)
			}
			_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
			err = tls.Client(connection, &tls.Config{ServerName: "graph.test", RootCAs: roots, MinVersion: tls.VersionTLS12}).HandshakeContext(t.Context())
			_ = connection.Close()
			<-served
			_ = listener.Close() // Earlier, it would reset a connection that was not accepted yet.
			if err == nil {
				t.Fatal("the host is trusted")
			}
			e := Unreachable("The list", "graph.test", err)
			pattern := `^The list could not be reached at graph\.test: ` + test.message + `\.$`
			if !regexp.MustCompile(pattern).MatchString(e.Problem.GetMessage()) || !strings.Contains(e.Problem.GetRemedy(), test.remedy) ||
				e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED {
				t.Errorf("%v is told as\n %v\nwant\n %s\n %s", err, e.Problem, test.message, test.remedy)
			}
			if !errors.Is(e, err) {
				t.Error("the cause is not kept")
			}
		})
	}
}

// Not every library that verifies says which certificate it looked at.
func TestUntrustedWithoutACertificate(t *testing.T) {
	for want, err := range map[string]error{
		"the host's certificate is signed by an authority that is not trusted": x509.UnknownAuthorityError{},
		"the host's certificate does not verify: no roots":                     &tls.CertificateVerificationError{Err: errors.New("x509: no roots")},
	} {
		if message, remedy := untrusted(err); message != want || remedy == "" {
			t.Errorf("%v is told as %q (%q), want %q", err, message, remedy, want)
		}
	}
	if name := CertificateName(pkix.Name{}); name != "nobody by name" {
		t.Errorf("nobody is called %q", name)
	}
	if name := CertificateName(pkix.Name{Organization: []string{"Example Corp"}, Country: []string{"CH"}}); name != "O=Example Corp,C=CH" {
		t.Errorf("a name without a common one is %q", name)
	}
}
