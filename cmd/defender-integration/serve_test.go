package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"defender-integration/collector"
)

// short returns a folder whose path is short enough for a unix socket.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "di")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// lines is a writer that several goroutines may use.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestServeAndHealthcheck runs both commands with one environment, as a container does.
func TestServeAndHealthcheck(t *testing.T) {
	dir := short(t)
	env := map[string]string{
		"DEFENDER_INTEGRATION_LISTEN":          "none",
		"DEFENDER_INTEGRATION_UNIX_SOCKET":     filepath.Join(dir, "s"),
		"DEFENDER_INTEGRATION_DATA_DIR":        filepath.Join(dir, "data"),
		"DEFENDER_INTEGRATION_METRICS_ADDRESS": "none",
	}
	if got := invoke(t.Context(), env, "healthcheck"); got.code != exitFailed || !strings.Contains(got.err, "does not answer") {
		t.Errorf("before it serves: %+v", got)
	}

	var log lines
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan int, 1)
	go func() {
		served <- run(ctx, []string{"serve"}, streams{out: &log, err: &log, env: func(name string) (string, bool) {
			value, ok := env[name]
			return value, ok
		}})
	}()
	deadline := time.Now().Add(time.Minute)
	got := invoke(t.Context(), env, "healthcheck")
	for got.code != exitOK && time.Now().Before(deadline) {
		got = invoke(t.Context(), env, "healthcheck")
	}
	if got.code != exitOK || got.out != "unix://"+env["DEFENDER_INTEGRATION_UNIX_SOCKET"]+" is serving\n" {
		t.Errorf("while it serves: %+v\n%s", got, log.String())
	}
	if got := invoke(t.Context(), env, "healthcheck", "--service", "nobody"); got.code != exitFailed || !strings.Contains(got.err, "unknown service") {
		t.Errorf("of a service that there is not: %+v", got)
	}

	// A second process on the data directory is refused, and told who holds it.
	second := invoke(t.Context(), env, "serve", "--unix-socket", filepath.Join(dir, "s2"))
	if second.code != exitFailed || !strings.Contains(second.err, "in use by process") {
		t.Errorf("a second process: %+v", second)
	}

	cancel()
	if code := <-served; code != exitOK {
		t.Errorf("serve ended with %d:\n%s", code, log.String())
	}
	if text := log.String(); !strings.Contains(text, `"msg":"stopped"`) || strings.Contains(text, `"level":"ERROR"`) {
		t.Errorf("the log says:\n%s", text)
	}
}

func TestServeRefusesToStartInsecurely(t *testing.T) {
	dir := short(t)
	got := invoke(t.Context(), nil, "serve", "--listen", "0.0.0.0:0", "--metrics-address", "none", "--data-dir", filepath.Join(dir, "data"))
	for _, words := range []string{"refused to listen", "--tls-cert and --tls-key, --tls-client-ca, --policy-file", "--insecure"} {
		if got.code != exitFailed || !strings.Contains(got.err, words) {
			t.Errorf("%+v does not say %q", got, words)
		}
	}
}

func TestServeRefusesAPolicyThatIsNone(t *testing.T) {
	dir := short(t)
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("rules: [{identities: [root], roles: [reader], integrations: ['*']}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := invoke(t.Context(), nil, "serve", "--listen", "127.0.0.1:0", "--metrics-address", "none", "--data-dir", filepath.Join(dir, "data"),
		"--policy-file", policy)
	if got.code != exitFailed || !strings.Contains(got.err, policy+`: rule 1: the identity "root"`) {
		t.Errorf("%+v", got)
	}
}

// What the flags say of security reaches the server.
func TestSecurityFlags(t *testing.T) {
	f := &serveFlags{collecting: collector.DefaultSettings()}
	flags := newFlagSet("serve")
	f.listening(flags)
	f.keeping(flags)
	env := map[string]string{"DEFENDER_INTEGRATION_REFLECTION": "false", "DEFENDER_INTEGRATION_POLICY_FILE": "policy.yaml"}
	err := flags.parse([]string{"--tls-min-version", "1.2", "--insecure"}, func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	options, err := f.options()
	if o := options.Server; err != nil || o.TLSMinVersion != tls.VersionTLS12 || !o.Insecure || !o.NoReflection || o.PolicyFile != "policy.yaml" {
		t.Errorf("%+v, %v", options.Server, err)
	}
	plain := &serveFlags{collecting: collector.DefaultSettings()}
	flags = newFlagSet("serve")
	plain.listening(flags)
	plain.keeping(flags)
	options, err = plain.options()
	if o := options.Server; err != nil || o.TLSMinVersion != tls.VersionTLS13 || o.Insecure || o.NoReflection || o.PolicyFile != "" {
		t.Errorf("by default: %+v, %v", options.Server, err)
	}
}

func TestServeNeedsAKeyBesideACluster(t *testing.T) {
	got := invoke(t.Context(), nil, "serve", "--nats-url", "nats://127.0.0.1:1")
	if got.code != exitFailed || !strings.Contains(got.err, "--sealing-key-file is needed with --nats-url") {
		t.Errorf("%+v", got)
	}
}

func TestServeRefusesAnAllowedEndpointWithoutAPort(t *testing.T) {
	got := invoke(t.Context(), nil, "serve", "--allow-endpoint", "graph.test")
	if got.code != exitFailed || !strings.Contains(got.err, `"graph.test" is not HOST:PORT`) {
		t.Errorf("%+v", got)
	}
}
