package acceptance_test

import (
	"context"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// soakLine is a connection that many streams share and that can be cut. It looks at what the client's own resuming hides: how often a
// stream was begun, and whether the service ended one for a reason of its own.
type soakLine struct {
	client *client.Client
	calls  atomic.Int64

	mu      sync.Mutex
	wire    net.Conn // the newest
	refused map[integrationv1.ErrorReason]int
}

// newSoakLine makes a connection to a socket, which is closed at the end of the test.
func newSoakLine(t *testing.T, socket string) *soakLine {
	t.Helper()
	l := &soakLine{refused: map[integrationv1.ErrorReason]int{}}
	conn, err := grpc.NewClient("passthrough:///"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(l.dial), grpc.WithStreamInterceptor(l.watch),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.2, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	l.client = client.New(conn, client.WithWaits(10*time.Millisecond, 100*time.Millisecond))
	return l
}

func (l *soakLine) dial(ctx context.Context, socket string) (net.Conn, error) {
	var dialer net.Dialer
	wire, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wire = wire
	return wire, nil
}

// cut breaks the connection under all its streams. It comes back by itself.
func (l *soakLine) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wire != nil {
		_ = l.wire.Close()
	}
}

// refusals returns for which reasons the service ended streams, and how often. A broken connection has none.
func (l *soakLine) refusals() map[integrationv1.ErrorReason]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.refused)
}

// watch is a stream interceptor.
func (l *soakLine) watch(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	l.calls.Add(1)
	stream, err := streamer(ctx, desc, conn, method, options...)
	if err != nil {
		return nil, err
	}
	return watchedStream{stream, l}, nil
}

// watchedStream is a call of which the error is taken down.
type watchedStream struct {
	grpc.ClientStream

	line *soakLine
}

// RecvMsg receives a message.
func (s watchedStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err == nil {
		return nil
	}
	if reason := client.Reason(err); reason != integrationv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
		s.line.mu.Lock()
		defer s.line.mu.Unlock()
		s.line.refused[reason]++
	}
	return err
}
