package defendertest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Door is what becomes of new connections.
type Door int

const (
	// DoorOpen takes them.
	DoorOpen Door = iota
	// DoorSilent lets them be made and says nothing over them: a TLS handshake hangs, and so does a request in clear.
	DoorSilent
	// DoorFull lets none be made: what asks for one gets no answer, as where packets are lost. Those that asked are heard when the door
	// is opened and they ask again.
	DoorFull
	// DoorReset resets each as soon as it is made.
	DoorReset
)

// SetDoor says what becomes of new connections from now on. Those that exist are closed unless the door is opened, so that the next
// request needs a new one. Those that a silent door let in are served once it is open.
func (s *Server) SetDoor(door Door) error {
	if err := s.listener.set(door); err != nil {
		return fmt.Errorf("simulated Microsoft: %w", err)
	}
	return nil
}

// backlog is how many connections may wait to be taken while the door is open, and how many wait at a full one at the least.
const (
	openBacklog = 128
	fullBacklog = 0
)

// doorway is a listener with a door.
type doorway struct {
	net.Listener

	mu      sync.Mutex
	inside  map[*visitor]struct{}
	door    Door
	opened  chan struct{} // closed when the door is not shut, or the listener is closed
	closed  bool
	fillers []net.Conn // they wait at a full door, so that nobody else can
}

func newDoorway(listener net.Listener) *doorway {
	opened := make(chan struct{})
	close(opened)
	return &doorway{Listener: listener, opened: opened, inside: map[*visitor]struct{}{}}
}

// visitor is a connection that was let in.
type visitor struct {
	*net.TCPConn

	door *doorway
}

// Close ends the connection.
func (v *visitor) Close() error {
	v.door.mu.Lock()
	delete(v.door.inside, v)
	v.door.mu.Unlock()
	return v.TCPConn.Close()
}

// Accept takes the next connection, once the door lets it.
func (d *doorway) Accept() (net.Conn, error) {
	for {
		connection, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		v := &visitor{connection.(*net.TCPConn), d} // New listens on TCP
		if door, opened := d.letIn(v); door == DoorReset {
			reset(v)
		} else {
			<-opened
			return v, nil
		}
	}
}

// letIn takes a connection down, and returns what is to become of it.
func (d *doorway) letIn(v *visitor) (Door, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside[v] = struct{}{}
	return d.door, d.opened
}

// Close stops listening, and lets go of what waits at the door.
func (d *doorway) Close() error {
	d.mu.Lock()
	d.closed = true
	d.open()
	d.mu.Unlock()
	return d.Listener.Close()
}

// open lets in what waits. The caller holds mu.
func (d *doorway) open() {
	select {
	case <-d.opened:
	default:
		close(d.opened)
	}
	for _, filler := range d.fillers {
		_ = filler.Close()
	}
	d.fillers = nil
}

// set moves the door.
func (d *doorway) set(door Door) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.door == DoorFull {
		if err := d.listen(openBacklog); err != nil {
			return err
		}
	}
	d.open()
	d.door = door
	if d.closed || door == DoorOpen {
		return nil
	}
	for v := range d.inside {
		_ = v.TCPConn.Close()
	}
	if door == DoorReset {
		return nil
	}
	d.opened = make(chan struct{})
	if door == DoorSilent {
		return nil
	}
	if err := d.listen(fullBacklog); err != nil {
		return err
	}
	return d.fill()
}

// listen sets how many connections may wait to be taken.
func (d *doorway) listen(backlog int) error {
	raw, err := d.Listener.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = unix.Listen(int(fd), backlog) }); err != nil {
		return err
	}
	return failed
}

// fill takes the places at the door, until a connection is not made any more.
func (d *doorway) fill() error {
	const (
		places  = 1024
		patient = 200 * time.Millisecond
	)
	for range places {
		filler, err := net.DialTimeout("tcp", d.Addr().String(), patient)
		if err != nil {
			return nil //nolint:nilerr // That is what is wanted.
		}
		d.fillers = append(d.fillers, filler)
	}
	return fmt.Errorf("the door does not fill up with %d connections", places)
}

// connectionKey is what a request's context has its connection under.
type connectionKey struct{}

// withConnection puts a connection into the context of its requests.
func withConnection(ctx context.Context, connection net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, connection)
}

// resetConnection resets the connection of a request.
func resetConnection(ctx context.Context) {
	connection, _ := ctx.Value(connectionKey{}).(net.Conn)
	if secure, ok := connection.(*tls.Conn); ok {
		connection = secure.NetConn()
	}
	reset(connection)
}

// reset ends a connection by a reset (RST): what was not sent yet is dropped.
func reset(connection net.Conn) {
	if v, ok := connection.(*visitor); ok {
		_ = v.SetLinger(0)
	}
	_ = connection.Close()
}
