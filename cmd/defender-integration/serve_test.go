package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
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
	if got.code != exitFailed || !strings.Contains(got.err, "refused to listen") || !strings.Contains(got.err, "--tls-client-ca") {
		t.Errorf("%+v", got)
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
