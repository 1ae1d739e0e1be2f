package origin_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// witness is a listener that nobody may connect to. It takes what is said in clear and over TLS, with a certificate that the service
// is made to trust: a token that is sent to it arrives.
type witness struct {
	listener net.Listener
	config   *tls.Config
	// ca is its certificate in PEM, for the service to trust.
	ca     []byte
	served sync.WaitGroup

	mu    sync.Mutex
	heard []string
	// controls is how many of those that were heard are the test's own.
	controls int
}

// maxHeard bounds what is kept of one connection, in bytes: the head of a request, and a form.
const maxHeard = 16 << 10

func newWitness(t *testing.T) *witness {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Witness"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{
		listener: listener,
		config:   &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		ca:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}),
	}
	w.served.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.served.Wait()
	})
	return w
}

func (w *witness) addr() string { return w.listener.Addr().String() }

func (w *witness) port() int32 { return int32(w.listener.Addr().(*net.TCPAddr).Port) }

// accept puts each connection down, and what it says first.
func (w *witness) accept() {
	for {
		connection, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		at := len(w.heard)
		w.heard = append(w.heard, "")
		w.mu.Unlock()
		w.served.Go(func() {
			defer connection.Close()
			said := w.listen(connection)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.heard[at] = said
		})
	}
}

// listen returns what is said over a connection, decrypted where it is TLS.
func (w *witness) listen(connection net.Conn) string {
	_ = connection.SetDeadline(time.Now().Add(patience)) // The tests' own connections end by themselves.
	reader := bufio.NewReader(connection)
	const handshakeRecord = 0x16 // https://www.rfc-editor.org/rfc/rfc8446#section-5.1
	if first, err := reader.Peek(1); err != nil || first[0] != handshakeRecord {
		said, _ := io.ReadAll(io.LimitReader(reader, maxHeard))
		return string(said)
	}
	secured := tls.Server(&peeked{Conn: connection, reader: reader}, w.config)
	said, err := io.ReadAll(io.LimitReader(secured, maxHeard))
	if len(said) == 0 && err != nil {
		return "TLS: " + err.Error()
	}
	return string(said)
}

// peeked is a connection of which the beginning was looked at.
type peeked struct {
	net.Conn
	reader io.Reader
}

// Read reads what was looked at, then what follows.
func (p *peeked) Read(b []byte) (int, error) { return p.reader.Read(b) }

// control speaks to the witness in clear and over TLS, and waits until it has heard both: whatever connected before was heard, too.
func (w *witness) control(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	w.controls += 2
	marker := "control " + strconv.Itoa(w.controls)
	w.mu.Unlock()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(w.ca) {
		t.Fatal("the witness has no certificate")
	}
	for _, dial := range []func() (net.Conn, error){
		func() (net.Conn, error) { return net.Dial("tcp", w.addr()) },
		func() (net.Conn, error) { return tls.Dial("tcp", w.addr(), &tls.Config{RootCAs: roots}) },
	} {
		connection, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(connection, marker); err != nil {
			t.Fatal(err)
		}
		if err := connection.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the witness hears the control", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(slices.DeleteFunc(slices.Clone(w.heard), func(said string) bool { return said != marker })) == 2
	})
}

// wantSilence checks that nobody but the tests spoke to the witness.
func (w *witness) wantSilence(t *testing.T) {
	t.Helper()
	w.control(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.heard) == w.controls {
		return
	}
	for _, said := range w.heard {
		if !strings.HasPrefix(said, "control ") {
			t.Errorf("the service connected to where it must not, and said %q", said)
		}
	}
}
