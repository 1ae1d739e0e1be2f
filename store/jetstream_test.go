package store

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childMode); mode != "" {
		os.Exit(runChild(mode))
	}
	// An engine that met the end of the disk leaves this behind, however it is shut down.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*msgBlock).flushLoop"))
}

// openDir opens a store on a directory, and closes it after the test.
func openDir(t testing.TB, dir string) *JetStream {
	t.Helper()
	s, err := OpenJetStream(t.Context(), Options{Dir: dir, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// peerOf opens a second store on the server of the first, as a second process has it.
func peerOf(t testing.TB, s *JetStream) *JetStream {
	t.Helper()
	peer, err := newJetStream(Options{Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	if err := errors.Join(peer.dial(t.Context(), nats.InProcessServer(s.embedded), nats.Timeout(time.Minute)), peer.prepare(t.Context())); err != nil {
		t.Fatal(err)
	}
	return peer
}

// startServer starts a server of its own on a port of its own, as an operator runs one, and returns its URL.
func startServer(t *testing.T) string {
	t.Helper()
	return startOptions(t, &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
	}).ClientURL()
}

// openURL opens a store on a server.
func openURL(t *testing.T, url string) *JetStream {
	t.Helper()
	return openCluster(t, Options{URL: url, Logger: logger(t)})
}

// logger writes to the test's log.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// However many records are asked for at once, the engine has few to answer at a time, and all are answered in the end.
func TestFewRecordsAreReadAtOnce(t *testing.T) {
	s := openDir(t, t.TempDir())
	_, err := s.CreateRecord(t.Context(), record("contoso", "uid-1"))
	must(t, err)
	for range maxReading {
		s.reading <- struct{}{}
	}
	const waiting = 1000
	results := make(chan error, waiting)
	for range waiting {
		go func() {
			_, _, err := s.Record(t.Context(), "contoso")
			results <- err
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err = s.Record(ctx, "contoso")
	wantError(t, err, context.DeadlineExceeded)
	if len(results) > 0 {
		t.Fatalf("%d records were read while as many as may be were being read", len(results))
	}
	must(t, s.Ready(t.Context())) // Nothing waits behind them.
	for range maxReading {
		<-s.reading
	}
	for range waiting {
		must(t, receive(t, results))
	}
}
