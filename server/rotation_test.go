package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// rotatedHouse is a server over mutual TLS whose files change while it is called.
type rotatedHouse struct {
	*harness
	target string
	// ahead is how far the server's clock is ahead.
	ahead atomic.Int64
	// servers signs the server's certificates, dir has the files in force.
	servers                  *authority
	dir                      string
	cert, key, clients, rule string
}

// newRotatedHouse starts a server that believes these authorities and has this policy.
func newRotatedHouse(t *testing.T, policy string, believed ...*authority) *rotatedHouse {
	t.Helper()
	h := &rotatedHouse{servers: newAuthority(t, "servers"), dir: t.TempDir()}
	h.cert, h.key = filepath.Join(h.dir, "tls.crt"), filepath.Join(h.dir, "tls.key")
	h.clients, h.rule = filepath.Join(h.dir, "clients.pem"), filepath.Join(h.dir, "policy.yaml")
	cert, key := h.servers.server(t)
	put(t, h.cert, cert)
	put(t, h.key, key)
	put(t, h.clients, files(believed)...)
	replace(t, h.rule, policy)
	s, started := start(t, server.Options{
		Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: h.cert, Key: h.key, ClientCA: h.clients}, PolicyFile: h.rule,
		Clock: func() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) },
	})
	h.harness, h.target = started, tcp(s)
	h.streams.run = func(ctx context.Context, _ *integrationv1.StreamAlertsRequest, send send) error {
		for i := 1; ; i++ {
			if err := send(&integrationv1.StreamAlertsResponse{ResumeToken: strconv.Itoa(i)}); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return h
}

// files returns the files of authorities' certificates.
func files(authorities []*authority) []string {
	var list []string
	for _, a := range authorities {
		list = append(list, a.file)
	}
	return list
}

// put makes a file of others' contents, at once.
func put(t *testing.T, path string, from ...string) {
	t.Helper()
	var all []byte
	for _, file := range from {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if err := errors.Join(os.WriteFile(path+".new", all, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// taken changes files and waits until the server says that they are in force.
func (h *rotatedHouse) taken(t *testing.T, source string, change func()) {
	t.Helper()
	h.told(t, source, "the changed files are in force", change)
}

// told changes files and waits until the server says something of them.
func (h *rotatedHouse) told(t *testing.T, source, words string, change func()) {
	t.Helper()
	said := func() int { return len(h.log.lines(words, `"files":"`+source+`"`)) }
	before := said()
	change()
	eventually(t, source+": "+words, func() bool { return said() > before })
}

// dial makes a connection with a client's certificate.
func (h *rotatedHouse) connect(t *testing.T, certificate tls.Certificate) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(h.target, grpc.WithTransportCredentials(h.servers.presenting(certificate)))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// What a load expects of its calls.
const (
	// either while a change is on its way.
	either int32 = iota
	accepted
	refused
)

// expectation is what is expected of calls from when it is said on. The same that is said again is another one: what came of a call that began
// before says nothing of it.
type expectation struct{ of int32 }

// load is one identity that calls all the time and has streams open.
type load struct {
	house       *rotatedHouse
	certificate tls.Certificate
	conn        *grpc.ClientConn
	expects     atomic.Pointer[expectation]
	// calling is held for reading by who calls, and for writing by whoever wants that nobody does.
	calling sync.RWMutex
	calls   atomic.Int64
	streams []*openedStream
	stop    context.CancelFunc
	running sync.WaitGroup
}

// openedStream is a stream of a load.
type openedStream struct {
	events atomic.Int64
	// ended has how it ended.
	ended chan error
}

// begin begins a load, whose calls are accepted from the first one on.
func (h *rotatedHouse) begin(t *testing.T, certificate tls.Certificate, streams int) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{house: h, certificate: certificate, conn: h.connect(t, certificate), stop: cancel}
	l.expect(accepted)
	for range streams {
		l.open(ctx, t)
	}
	for _, fresh := range []bool{false, true} {
		l.running.Go(func() { l.call(ctx, t, fresh) })
	}
	t.Cleanup(l.end)
	return l
}

// expect says what is expected of calls from now on.
func (l *load) expect(what int32) { l.expects.Store(&expectation{what}) }

// pause lets no call be made until resume is called. Those that were under way have ended.
func (l *load) pause() (resume func()) {
	l.calling.Lock()
	return sync.OnceFunc(l.calling.Unlock)
}

// end ends a load.
func (l *load) end() {
	l.stop()
	l.running.Wait()
	_ = l.conn.Close()
}

// open opens a stream, and follows it.
func (l *load) open(ctx context.Context, t *testing.T) {
	t.Helper()
	stream, err := integrationv1.NewIntegrationServiceClient(l.conn).StreamAlerts(ctx, &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	if err != nil {
		t.Fatal(err)
	}
	opened := &openedStream{ended: make(chan error, 1)}
	l.streams = append(l.streams, opened)
	l.running.Go(func() {
		for {
			if _, err := stream.Recv(); err != nil {
				opened.ended <- err
				return
			}
			opened.events.Add(1)
		}
	})
}

// call calls again and again, over the load's connection or over a fresh one each time.
func (l *load) call(ctx context.Context, t *testing.T, fresh bool) {
	t.Helper()
	for ctx.Err() == nil {
		l.callOnce(ctx, t, fresh)
		l.calls.Add(1)
	}
}

func (l *load) callOnce(ctx context.Context, t *testing.T, fresh bool) {
	t.Helper()
	l.calling.RLock()
	defer l.calling.RUnlock()
	expected := l.expects.Load()
	conn := l.conn
	if fresh {
		conn = l.house.connect(t, l.certificate)
	}
	_, err := integrationv1.NewIntegrationServiceClient(conn).ListEndpoints(ctx, &integrationv1.ListEndpointsRequest{})
	if fresh {
		_ = conn.Close()
	}
	switch {
	case ctx.Err() != nil || l.expects.Load() != expected:
	case expected.of == refused && err == nil:
		t.Errorf("a call was accepted after the change (over a fresh connection: %t)", fresh)
	case expected.of == accepted && err != nil:
		t.Errorf("a call failed that is allowed (over a fresh connection: %t): %v", fresh, err)
	}
}

// wantGoingOn waits until the load has called and its streams have brought something since now.
func (l *load) wantGoingOn(t *testing.T) {
	t.Helper()
	calls := l.calls.Load()
	// Each of the two that call is through with two calls.
	eventually(t, "calls are made", func() bool { return l.calls.Load() >= calls+8 })
	for i, stream := range l.streams {
		events := stream.events.Load()
		eventually(t, fmt.Sprintf("stream %d goes on", i), func() bool { return stream.events.Load() > events || len(stream.ended) > 0 })
		if len(stream.ended) > 0 {
			t.Fatalf("stream %d ended: %v", i, <-stream.ended)
		}
	}
}

// wantEnded waits until all streams of the load have ended as wanted.
func (l *load) wantEnded(t *testing.T, code codes.Code, reason integrationv1.ErrorReason, words string) {
	t.Helper()
	for _, stream := range l.streams {
		select {
		case err := <-stream.ended:
			wantFailure(t, err, code, reason, words)
		case <-time.After(20 * time.Second):
			t.Fatal("a stream has not ended within 20 seconds")
		}
	}
	l.streams = nil
}

// wantClosed waits until the load's connection was closed and is not made again.
func (l *load) wantClosed(t *testing.T) {
	t.Helper()
	eventually(t, "the connection is closed", func() bool { return l.conn.GetState() == connectivity.TransientFailure })
}

// rotations returns how many rounds the rotation takes, and how many streams each identity has.
func rotations(t *testing.T) (rounds, streams int) {
	t.Helper()
	rounds, streams = 1, 10
	for name, value := range map[string]*int{"ROTATIONS": &rounds, "ROTATION_STREAMS": &streams} {
		if text := os.Getenv(name); text != "" {
			var err error
			if *value, err = strconv.Atoi(text); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	return rounds, streams
}

// Certificates, client CAs and the policy are changed while calls are made and streams are open: nothing fails of who is allowed, nothing is
// accepted of who is not from the moment on at which the server says so, and streams of the ones stay while those of the others end.
func TestRotationUnderLoad(t *testing.T) {
	rounds, streams := rotations(t)
	lasting := newAuthority(t, "lasting")
	before := newAuthority(t, "generation0")
	allowing := func(identities ...string) string {
		return "rules: [{identities: [dns:steady, dns:reserve, " + strings.Join(identities, ", ") + "], roles: [reader], integrations: [contoso]}]"
	}
	h := newRotatedHouse(t, allowing("dns:g0"), lasting, before)
	steady := h.begin(t, lasting.pair(t, "steady", dns("steady")), streams)
	old := h.begin(t, before.pair(t, "g0", dns("g0")), streams)
	for round := range rounds {
		name := fmt.Sprintf("g%d", round+1)
		after := newAuthority(t, "generation"+strconv.Itoa(round+1))
		old.wantGoingOn(t)

		// Both generations for a while: the new authority, then the policy that names the new identity.
		h.taken(t, "tls", func() { put(t, h.clients, lasting.file, before.file, after.file) })
		h.taken(t, "policy", func() { replace(t, h.rule, allowing(fmt.Sprintf("dns:g%d", round), "dns:"+name)) })
		next := h.begin(t, after.pair(t, name, dns(name)), streams)
		next.wantGoingOn(t)
		old.wantGoingOn(t)

		// The server's own certificate, which is half written for a moment.
		cert, key := h.servers.server(t)
		h.told(t, "tls", "cannot be used", func() { put(t, h.cert, cert) })
		h.taken(t, "tls", func() { put(t, h.key, key) })
		h.wantServerCertificate(t, steady.certificate, cert)

		// The old authority goes.
		old.expect(either)
		h.taken(t, "tls", func() { put(t, h.clients, lasting.file, after.file) })
		old.expect(refused)
		old.wantEnded(t, codes.Unauthenticated, integrationv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED, "is not signed by the client CA")
		old.wantGoingOn(t)
		old.wantClosed(t)
		old.end()
		next.wantGoingOn(t)

		// The policy drops the new identity, and takes it up again.
		next.expect(either)
		h.taken(t, "policy", func() { replace(t, h.rule, allowing()) })
		next.expect(refused)
		next.wantEnded(t, codes.PermissionDenied, integrationv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED, "dns:"+name+" may not call StreamAlerts")
		next.wantGoingOn(t)
		next.expect(either)
		h.taken(t, "policy", func() { replace(t, h.rule, allowing("dns:"+name)) })
		next.expect(accepted)
		for range streams {
			next.open(t.Context(), t)
		}
		next.wantGoingOn(t)
		steady.wantGoingOn(t)
		old, before = next, after
	}
	if n := h.counter(t, "defender_integration_connections_expelled_total", nil); n < float64(rounds) {
		t.Errorf("%v connections are counted as closed, want at least %d", n, rounds)
	}
	for source, want := range map[string]float64{"tls": 3, "policy": 3} {
		labels := map[string]string{"files": source, "result": "taken"}
		if n := h.counter(t, "defender_integration_reloads_total", labels); n != want*float64(rounds) {
			t.Errorf("%v changes of %s are counted, want %v", n, source, want*float64(rounds))
		}
	}
	if lines := h.log.lines(`"the certificate of a connection does not verify any more`, `"caller":"dns:steady"`); len(lines) > 0 {
		t.Errorf("of who stays it is said %s", lines)
	}
}

// wantServerCertificate fails unless a new connection is shown the certificate in a file.
func (h *rotatedHouse) wantServerCertificate(t *testing.T, client tls.Certificate, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	config := h.servers.trusting(client)
	config.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(h.target, "passthrough:///"), config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if shown := conn.ConnectionState().PeerCertificates[0].Raw; !bytes.Contains(data, pemOf(shown)) {
		t.Error("a new connection is shown another certificate than the one in force")
	}
}

// pemOf returns a certificate in PEM.
func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// What cannot be used changes nothing, is told once, and is forgotten when it is mended.
func TestFilesThatCannotBeUsedChangeNothing(t *testing.T) {
	const good = "rules: [{identities: [dns:steady], roles: [reader], integrations: [contoso]}]"
	ca := newAuthority(t, "ca")
	h := newRotatedHouse(t, good, ca)
	steady := h.begin(t, ca.pair(t, "steady", dns("steady")), 2)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, otherKey := newAuthority(t, "other").server(t)
	old, oldKey := h.servers.issue(t, "old", lasting(&x509.Certificate{}, -time.Hour, -time.Minute))
	originals := map[string]string{}
	for _, path := range []string{h.cert, h.key, h.clients} {
		originals[path] = filepath.Join(t.TempDir(), "original")
		put(t, originals[path], path)
	}
	restore := func() {
		for path, original := range originals {
			put(t, path, original)
		}
		replace(t, h.rule, good)
	}
	tests := []struct {
		name, source, words string
		change              func()
	}{
		{"a policy that is none", "policy", "cannot unmarshal", func() { replace(t, h.rule, "anyone") }},
		{"a policy that is empty", "policy", "has no rules", func() { replace(t, h.rule, "") }},
		{"a policy that is gone", "policy", "no such file", func() { _ = os.Remove(h.rule) }},
		{"a client CA that is none", "tls", "holds no PEM certificate", func() { put(t, h.clients, garbage) }},
		{"a client CA that is cut off", "tls", "or one that is cut off", func() { cutOff(t, h.clients, ca.file) }},
		{"a key of another", "tls", "private key does not match", func() { put(t, h.key, otherKey) }},
		{"a certificate that has expired", "tls", "it expired at", func() { put(t, h.cert, old); put(t, h.key, oldKey) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			labels := map[string]string{"files": test.source, "result": "refused"}
			counted := h.counter(t, "defender_integration_reloads_total", labels)
			h.told(t, test.source, test.words, test.change)
			steady.wantGoingOn(t)
			if h.gauge(t, "defender_integration_reload_failing", map[string]string{"files": test.source}) != 1 {
				t.Error("the metric does not say so")
			}
			failed := h.counter(t, "defender_integration_reloads_total", labels)
			// Two files that change one after the other can be seen as two failures.
			if n := failed - counted; n < 1 || n > 2 {
				t.Errorf("it is counted %v times", n)
			}
			h.told(t, test.source, "the files are again what is in force", restore)
			if h.gauge(t, "defender_integration_reload_failing", map[string]string{"files": test.source}) != 0 {
				t.Error("the metric still says so")
			}
			// So can two that are put back.
			if n := h.counter(t, "defender_integration_reloads_total", labels) - failed; n > 2 {
				t.Errorf("putting it back is counted as %v failures", n)
			}
		})
	}
	steady.wantGoingOn(t)
}

// cutOff makes a file of another and the beginning of that again.
func cutOff(t *testing.T, path, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.WriteFile(path+".new", append(data, data[:len(data)/2]...), 0o600), os.Rename(path+".new", path))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A certificate that expires while its connection is open ends the streams over it, and the connection; others stay.
func TestACertificateThatExpires(t *testing.T) {
	ca := newAuthority(t, "ca")
	h := newRotatedHouse(t, "rules: [{identities: [dns:steady, dns:brief], roles: [reader], integrations: [contoso]}]", ca)
	steady := h.begin(t, ca.pair(t, "steady", dns("steady")), 2)
	brief := h.begin(t, ca.pair(t, "brief", lasting(dns("brief"), -time.Hour, time.Hour)), 3)
	brief.wantGoingOn(t)
	brief.expect(either)
	// Calls that are refused again and again take the lines of the log that its streams are to have.
	resume := brief.pause()
	defer resume()
	h.ahead.Store(int64(2 * time.Hour))
	brief.wantEnded(t, codes.Unauthenticated, integrationv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED, "expired at 20")
	brief.expect(refused)
	resume()
	brief.wantGoingOn(t)
	brief.wantClosed(t)
	steady.wantGoingOn(t)
	if lines := h.log.lines(`"msg":"audit"`, `"caller":"dns:brief"`, `"StreamAlerts"`, "CALLER_UNAUTHENTICATED"); len(lines) != 3 {
		t.Errorf("%d lines of audit, want one for each stream", len(lines))
	}
	for file, want := range map[string]time.Time{"client_ca": ca.certificate.NotAfter, "certificate": leafOf(t, h.cert).NotAfter} {
		if got := h.gauge(t, "defender_integration_tls_certificate_expiry_timestamp_seconds", map[string]string{"file": file}); int64(got) != want.Unix() {
			t.Errorf("%s expires at %v, want %v", file, got, want.Unix())
		}
	}
}

// leafOf reads the first certificate of a file.
func leafOf(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".crt")+".key")
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf
}

// A call that is under way when its connection is to be closed is finished first.
func TestAConnectionIsDrainedBeforeItIsClosed(t *testing.T) {
	ca, other := newAuthority(t, "ca"), newAuthority(t, "other")
	h := newRotatedHouse(t, "rules: [{identities: [dns:director], roles: [operator], integrations: [\"*\"]}]", ca)
	conn := h.connect(t, ca.client(t))
	defer func() { _ = conn.Close() }()
	begun, finish := make(chan struct{}), make(chan struct{})
	h.tests.wait = func() { close(begun); <-finish }
	done := make(chan error, 1)
	go func() { done <- tryUnsaved("contoso").make(t.Context(), conn) }()
	<-begun
	h.taken(t, "tls", func() { put(t, h.clients, other.file) })
	wantFailure(t, endpoints().make(t.Context(), conn), codes.Unauthenticated, integrationv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED)
	close(finish)
	if err := <-done; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	eventually(t, "the connection is closed", func() bool { return conn.GetState() != connectivity.Ready })
}

// Over TLS 1.2 only who was told to is spoken to.
func TestTheOldestVersionOfTLS(t *testing.T) {
	ca := newAuthority(t, "ca")
	cert, key := ca.server(t)
	for version, want := range map[uint16]codes.Code{0: codes.Unavailable, tls.VersionTLS13: codes.Unavailable, tls.VersionTLS12: codes.OK} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			s, _ := start(t, server.Options{
				Address: "127.0.0.1:0", TLS: server.TLSFiles{Certificate: cert, Key: key, ClientCA: ca.file}, TLSMinVersion: version,
			})
			for newest, want := range map[uint16]codes.Code{tls.VersionTLS11: codes.Unavailable, tls.VersionTLS12: want, tls.VersionTLS13: codes.OK} {
				config := ca.trusting(ca.client(t))
				config.MinVersion, config.MaxVersion = tls.VersionTLS10, newest
				if err := ask(t, tcp(s), credentials.NewTLS(config)); status.Code(err) != want {
					t.Errorf("over %s: %v, want %s", tls.VersionName(newest), err, want)
				}
			}
		})
	}
}

// A server that is told to be insecure says so, and lets others in.
func TestInsecure(t *testing.T) {
	for name, test := range map[string]struct {
		options server.Options
		missing string
	}{
		"nothing is there": {server.Options{}, `["--tls-cert and --tls-key","--tls-client-ca","--policy-file"]`},
		"a policy that is there": {server.Options{PolicyFile: writePolicy(t, "rules: [{identities: [anonymous, local:tcp], roles: [reader], integrations: ['*']}]")},
			`["--tls-cert and --tls-key","--tls-client-ca"]`},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Address, test.options.Insecure = "0.0.0.0:0", true
			s, h := start(t, test.options)
			_, port, err := net.SplitHostPort(strings.TrimPrefix(tcp(s), "passthrough:///"))
			if err != nil {
				t.Fatal(err)
			}
			for _, address := range ownAddresses(t) {
				if err := ask(t, "passthrough:///"+net.JoinHostPort(address, port), insecure.NewCredentials()); err != nil {
					t.Errorf("over %s: %v", address, err)
				}
			}
			// Whom nobody asked who they are learn what there is only where they may call something.
			if err := describe(codes.OK).make(t.Context(), dialed(t, tcp(s), insecure.NewCredentials())); err != nil {
				t.Error(err)
			}
			eventually(t, "it warns", func() bool { return len(h.log.lines(`"level":"WARN"`, "INSECURE", test.missing)) == 1 })
		})
	}
}

// ownAddresses returns the addresses of this machine in IPv4: the loopback interface's, and those that others would use, if there are any.
func ownAddresses(t *testing.T) []string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			list = append(list, network.IP.String())
		}
	}
	return list
}
