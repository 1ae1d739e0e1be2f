package acceptance_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"defender-integration/acceptance/process"
)

// block is a fenced block of a page.
type block struct {
	page     string // README.md, or another
	line     int    // where its text begins
	section  string // the heading of the second level that it stands under
	language string
	mark     string // what the comment `<!-- tour:… -->` before it says, after the colon
	text     string
}

// untested are the shell blocks of README.md that the tour's test does not run, by their text, each with the reason.
var untested = map[string]string{
	"go run ./cmd/defender-integration demo":                "the package of the demonstration runs it to its end",
	"go test ./...":                                         "it would run itself",
	"alias grpcurl='go tool -modfile=tools/go.mod grpcurl'": "the test builds the same grpcurl once, which takes less time",
	"TOKEN='the last resumeToken'":                          "the test takes the token from the stream, as the reader does",
}

// place says where a block stands.
func (b block) place() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// readBlocks returns the fenced blocks of a page in their order.
func readBlocks(t *testing.T, page string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(process.Root(t), page))
	if err != nil {
		t.Fatal(err)
	}
	var (
		blocks  []block
		section string
		mark    string // of the line before
		open    *block
	)
	for i, line := range strings.Split(string(data), "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case open != nil && fence:
			open.text = strings.TrimSuffix(open.text, "\n")
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case fence:
			open, mark = &block{page: page, line: i + 2, section: section, language: language, mark: mark}, ""
		case mark != "":
			t.Fatalf("%s:%d: a comment that begins with tour: stands before no block", page, i)
		case strings.HasPrefix(line, "<!-- tour:"):
			mark = strings.TrimSuffix(strings.TrimPrefix(line, "<!-- tour:"), " -->")
		case strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		}
	}
	if open != nil {
		t.Fatalf("%s: the block does not end", open.place())
	}
	return blocks
}

// TestSnippetsAreRun holds README.md to its tour: each shell block is one that the test of the tour runs, or has a reason not to.
func TestSnippetsAreRun(t *testing.T) {
	t.Parallel()
	left := map[string]bool{}
	for text := range untested {
		left[text] = true
	}
	for _, b := range readBlocks(t, "README.md") {
		switch {
		case b.mark != "" && b.language != "sh":
			t.Errorf("%s: the block is marked and is no shell block", b.place())
		case b.mark != "" || b.language != "sh":
		case untested[b.text] == "":
			t.Errorf("%s: no test runs this block: put <!-- tour:… --> before it, or give the reason in `untested`:\n%s", b.place(), b.text)
		default:
			delete(left, b.text)
		}
	}
	for text := range left {
		t.Errorf("README.md has no unmarked block any more that says %q", text)
	}
}

// TestTour runs the marked blocks of README.md one after the other, as a reader does who pastes them into a terminal:
//
//	<!-- tour:background -->   a server, which stays
//	<!-- tour:expect TEXT -->  a command that ends with status 0 and prints TEXT
//	<!-- tour:refused TEXT --> a command that fails and prints TEXT
//	<!-- tour:stream TEXT -->  a stream, which is watched until it prints TEXT; its last token is TOKEN for what follows
func TestTour(t *testing.T) {
	t.Parallel()
	tour := newTour(t)
	for _, b := range readBlocks(t, "README.md") {
		kind, text, _ := strings.Cut(b.mark, " ")
		switch kind {
		case "":
		case "background":
			tour.background(t, b)
		case "expect":
			if output := tour.shell.Run(t, tour.command(b))[0]; !strings.Contains(output, text) {
				t.Fatalf("%s: the output has no %s:\n%s", b.place(), text, output)
			}
		case "refused":
			if output := tour.shell.Refused(t, tour.command(b)); !strings.Contains(output, text) {
				t.Fatalf("%s: the output has no %s:\n%s", b.place(), text, output)
			}
		case "stream":
			tour.stream(t, b, text)
		default:
			t.Fatalf("%s: tour:%s is not known", b.place(), kind)
		}
	}
	if len(tour.servers) != 3 || !tour.resumed {
		t.Errorf("the tour starts %d servers, and resumes a stream: %t", len(tour.servers), tour.resumed)
	}
	for _, server := range tour.servers {
		server.Interrupt(syscall.SIGINT)
		select {
		case <-server.Done():
			if server.Err() != nil {
				t.Errorf("after Ctrl-C %s ends with %v:\n%s", server, server.Err(), server.Output())
			}
		case <-time.After(patience):
			t.Errorf("Ctrl-C does not end %s", server)
		}
	}
}

// tour is a reader's terminal.
type tour struct {
	shell   process.Shell
	replace []string // in pairs: what a block says, and what is run instead
	servers []*process.Process
	last    string          // the command of the last stream
	resumed bool            // a stream was resumed
	alerts  map[string]bool // the ids of those that streams brought
}

func newTour(t *testing.T) *tour {
	t.Helper()
	// The path of a unix socket may be 107 bytes long, which a test's own folder can pass.
	dir, err := os.MkdirTemp("", "tour")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	writeAuthority(t, dir)
	return &tour{
		shell: process.Shell{
			Dir: dir, Path: filepath.Dir(grpcurl(t)),
			// Where README.md leaves ports to their defaults, they may be taken here. Alerts that come fast save time.
			Variables: map[string]string{
				"DEFENDER_INTEGRATION_LISTEN": "127.0.0.1:0", "DEFENDER_INTEGRATION_METRICS_ADDRESS": "127.0.0.1:0",
				"DEFENDER_INTEGRATION_ALERT_EVERY": "100ms",
			},
		},
		replace: []string{
			"go run ./cmd/defender-integration", service(t),
			"/tmp/defender-tour", filepath.Join(dir, "tour"),
			"--simulate-listen 127.0.0.1:8080", "--simulate-listen 127.0.0.1:0",
			"--listen 0.0.0.0:7443", "--listen 0.0.0.0:0",
			// The stream is watched for what is wanted of it, so this bounds only a failing test.
			"-max-time 10 ", "-max-time 50 ",
		},
		alerts: map[string]bool{},
	}
}

// command returns what is run for a block: its text, with other ports and folders.
func (r *tour) command(b block) string { return strings.NewReplacer(r.replace...).Replace(b.text) }

// simulated is how the simulated Microsoft says where it listens.
var simulated = regexp.MustCompile(`http://127\.0\.0\.1:(\d+)\n`)

// background starts a server, waits until it serves, and directs to it what the blocks after it say to its port.
func (r *tour) background(t *testing.T, b block) {
	t.Helper()
	server := r.shell.Background(t, r.command(b))
	r.servers = append(r.servers, server)
	if len(r.servers) == 1 {
		output := server.WaitFor(t, "the simulated Microsoft's address", simulated.MatchString)
		port := simulated.FindStringSubmatch(output)[1]
		r.replace = append(r.replace, "127.0.0.1:8080", "127.0.0.1:"+port, `"port": 8080`, `"port": `+port)
		return
	}
	_, port, err := net.SplitHostPort(listening(t, server, "tcp"))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.servers) == 2 {
		r.replace = append(r.replace, "localhost:7443", "localhost:"+port)
		r.shell.Variables["DEFENDER_INTEGRATION_LISTEN"] = "127.0.0.1:" + port
	} else {
		r.replace = append(r.replace, "defender.example.com:7443", "localhost:"+port)
	}
}

// stream watches a stream until it prints a text. The streams of the tour are all of one machine, and where one is resumed, it is to
// bring what another stream was brought meanwhile, and nothing that came before the token.
func (r *tour) stream(t *testing.T, b block, text string) {
	t.Helper()
	wanted := []string{text}
	if strings.Contains(b.text, "resume_token") {
		meanwhile, _ := delivered(r.shell.Watch(t, r.last, text))
		wanted = append(wanted, meanwhile...)
		r.resumed = true
	}
	r.last = r.command(b)
	output := r.shell.Watch(t, r.last, wanted...)
	alerts, token := delivered(output)
	for _, id := range alerts {
		if r.alerts[id] {
			t.Errorf("%s: the alert %s comes again, though the stream was resumed after it", b.place(), id)
		}
		r.alerts[id] = true
	}
	if token == "" {
		t.Fatalf("%s: no event has a token:\n%s", b.place(), output)
	}
	r.shell.Variables["TOKEN"] = token
}

// delivered returns the ids of the alerts that a stream brought, and its last token. The last event may be cut where the stream was.
func delivered(output string) (alerts []string, token string) {
	var list []event
	for decoder := json.NewDecoder(strings.NewReader(output)); ; {
		var e event
		if decoder.Decode(&e) != nil {
			return ids(list), token
		}
		list, token = append(list, e), e.ResumeToken
	}
}

// writeAuthority makes the files that README.md names where it speaks of mTLS: an authority, and two certificates that it signed.
func writeAuthority(t *testing.T, dir string) {
	t.Helper()
	certify := func(number int64, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certificate := &x509.Certificate{
			SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: parent == nil, BasicConstraintsValid: true,
		}
		if parent == nil {
			parent, signer = certificate, key
		}
		der, err := x509.CreateCertificate(rand.Reader, certificate, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		if certificate, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		return certificate, key
	}
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	authority, signer := certify(1, "authority", nil, nil)
	write("authority.pem", "CERTIFICATE", authority.Raw)
	write("clients.pem", "CERTIFICATE", authority.Raw)
	for number, leaf := range []struct{ file, name string }{{"server", "localhost"}, {"client", "director"}} {
		certificate, key := certify(int64(number+2), leaf.name, authority, signer)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(leaf.file+".pem", "CERTIFICATE", certificate.Raw)
		write(leaf.file+".key", "PRIVATE KEY", der)
	}
}
