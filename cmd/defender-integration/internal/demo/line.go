package demo

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// line is a gRPC connection to the service over TCP that can be cut.
type line struct {
	*grpc.ClientConn

	mu       sync.Mutex
	sockets  []net.Conn
	restored time.Time
}

// dial makes a line. It connects when it is first used.
func dial(address string) (*line, error) {
	l := &line{}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(l.connect))
	if err != nil {
		return nil, err
	}
	l.ClientConn = conn
	return l, nil
}

// connect opens a socket, once the line is not cut any more.
func (l *line) connect(ctx context.Context, address string) (net.Conn, error) {
	l.mu.Lock()
	restored := l.restored
	l.mu.Unlock()
	if err := sleepUntil(ctx, restored); err != nil {
		return nil, err
	}
	socket, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sockets = append(l.sockets, socket)
	return socket, nil
}

// cut closes the line's sockets under the calls that use them, and lets none be opened for a time.
func (l *line) cut(length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.restored = time.Now().Add(length)
	for _, socket := range l.sockets {
		_ = socket.Close() // To break it is the purpose.
	}
	l.sockets = nil
}

// sleepUntil waits until a time, or until ctx ends.
func sleepUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
