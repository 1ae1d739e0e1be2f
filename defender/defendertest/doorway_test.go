package defendertest

import (
	"context"
	"errors"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// ask makes a request that needs a new connection, in the background.
func (w *world) ask(ctx context.Context) <-chan reply {
	answered := make(chan reply, 1)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.server.URL()+"/none", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	go func() { answered <- w.do(r) }()
	return answered
}

func (w *world) setDoor(door Door) {
	w.t.Helper()
	if err := w.server.SetDoor(door); err != nil {
		w.t.Fatal(err)
	}
	// A request over a connection that has just been closed may fail before that is noticed.
	w.client.CloseIdleConnections()
}

func TestDoorKeepsRequestsOut(t *testing.T) {
	for _, tls := range []bool{false, true} {
		for name, door := range map[string]Door{"silent": DoorSilent, "full": DoorFull} {
			w := newWorld(t, Options{TLS: tls})
			if got := <-w.ask(t.Context()); got.status != http.StatusNotFound {
				t.Fatalf("%+v", got)
			}
			w.setDoor(door)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			if got := <-w.ask(ctx); !errors.Is(got.err, context.DeadlineExceeded) {
				t.Errorf("%s, TLS %v: %+v", name, tls, got)
			}
			cancel()
			waiting := w.ask(t.Context())
			if n := len(w.server.Calls(nil)); n != 1 {
				t.Errorf("%s, TLS %v: %d calls came through", name, tls, n)
			}
			w.setDoor(DoorOpen)
			if got := <-waiting; got.status != http.StatusNotFound {
				t.Errorf("%s, TLS %v: when it is open again, %+v", name, tls, got)
			}
		}
	}
}

func TestDoorResets(t *testing.T) {
	w := newWorld(t, Options{})
	w.setDoor(DoorReset)
	if got := <-w.ask(t.Context()); !errors.Is(got.err, syscall.ECONNRESET) && !errors.Is(got.err, syscall.EPIPE) {
		t.Errorf("%+v", got)
	}
	w.setDoor(DoorOpen)
	if got := <-w.ask(t.Context()); got.status != http.StatusNotFound {
		t.Errorf("%+v", got)
	}
}

// A server whose door is shut can be closed, and the door be moved after that.
func TestShutDoorEndsWithTheServer(t *testing.T) {
	for _, door := range []Door{DoorSilent, DoorFull, DoorReset} {
		s, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetDoor(door); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
