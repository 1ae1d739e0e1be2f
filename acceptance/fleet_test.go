package acceptance_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"defender-integration/acceptance/process"
	"defender-integration/client"
	"defender-integration/internal/announce"
)

// fleetServers is how many servers of the service share a cluster: what ACCEPTANCE_SERVERS says, else three.
const fleetServers = 3

// lease is how long a server of a fleet may be away before another does its work.
const lease = 3 * time.Second

// fleet is servers of the service on one NATS cluster, beside one simulated Microsoft.
type fleet struct {
	t       *testing.T
	house   *house
	nodes   *nodes
	flags   []string
	members []*member
}

// member is a server of a fleet.
type member struct {
	fleet  *fleet
	number int
	house  house // the fleet's, with a socket of its own
	life   *life
	served []*life // all lives
	// stopAt says that it is to be stopped when it next comes to append; stopped is told when it was.
	stopAt  atomic.Bool
	stopped chan struct{}
}

// numberFrom returns what a variable says, or a default.
func numberFrom(t *testing.T, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	number, err := strconv.Atoi(text)
	if err != nil || number < 1 {
		t.Fatalf("%s is %q and must be a number", variable, text)
	}
	return number
}

// newFleet starts a cluster, and servers on it.
func newFleet(t *testing.T, flags ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, house: newHouse(t, announcing(t)), nodes: startNodes(t)}
	count := numberFrom(t, "ACCEPTANCE_SERVERS", fleetServers)
	f.flags = append(append(f.nodes.flags(), "--sealing-key-file", filepath.Join(f.house.dir, "sealing.key")), flags...)
	if count > 1 {
		f.flags = append(f.flags, "--lease", lease.String())
	}
	for i := range count {
		m := &member{fleet: f, number: i, house: *f.house, stopped: make(chan struct{}, 1)}
		m.house.socket = filepath.Join(f.house.dir, fmt.Sprint("s", i))
		f.members = append(f.members, m)
		m.start()
		if i == 0 {
			m.awaitReady() // It makes the sealing key.
		}
	}
	for _, m := range f.members {
		m.awaitReady()
	}
	return f
}

// start starts the server, and lets it pass every point, unless it is to be stopped there.
func (m *member) start() {
	m.fleet.t.Helper()
	life := m.house.start(m.fleet.t, append(slices.Clone(m.fleet.flags), "--metrics-address", "127.0.0.1:0")...)
	m.life, m.served = life, append(m.served, life)
	go func() {
		for {
			select {
			case point := <-life.points:
				if point == announce.Append && m.stopAt.CompareAndSwap(true, false) {
					life.Interrupt(syscall.SIGSTOP)
					m.stopped <- struct{}{}
					continue // It stops in a moment, and would append in that: resumeAppend lets it pass.
				}
				life.passed()
			case <-life.Done():
				return
			}
		}
	}()
}

// awaitReady waits until the server takes calls.
func (m *member) awaitReady() {
	m.fleet.t.Helper()
	m.life.WaitFor(m.fleet.t, "the server to be ready", func(output string) bool { return strings.Contains(output, `"msg":"ready"`) })
}

// pause stops the server where it is; resume lets it go on.
func (m *member) pause()  { m.life.Interrupt(syscall.SIGSTOP) }
func (m *member) resume() { m.life.Interrupt(syscall.SIGCONT) }

// resumeAppend lets a server go on that was stopped before it appended: it appends then.
func (m *member) resumeAppend() {
	m.life.passed()
	m.resume()
}

// over says whether the server has ended.
func (m *member) over() bool {
	select {
	case <-m.life.Done():
		return true
	default:
		return false
	}
}

// output returns all that the server wrote in all its lives.
func (m *member) output() string {
	var all strings.Builder
	for _, life := range m.served {
		all.WriteString(life.Output())
	}
	return all.String()
}

// connect returns a client that spreads its calls over all servers, as a Director does by round_robin, and finds out about one that
// stands still by keepalive.
func (f *fleet) connect(t *testing.T) *client.Client {
	t.Helper()
	var sockets []resolver.Address
	for _, m := range f.members {
		sockets = append(sockets, resolver.Address{Addr: m.house.socket, ServerName: "localhost"})
	}
	servers := manual.NewBuilderWithScheme("fleet")
	servers.InitialState(resolver.State{Addresses: sockets})
	conn, err := grpc.NewClient("fleet:///", grpc.WithResolvers(servers), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithContextDialer(func(ctx context.Context, socket string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 2 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client.New(conn, client.WithWaits(10*time.Millisecond, 500*time.Millisecond))
}

// copyStore runs the command copy between a data directory and the cluster.
func (n *nodes) copyStore(t *testing.T, program, from, to string, refused bool) string {
	t.Helper()
	p := process.Start(t, process.Command{Path: program, Args: []string{"copy", "--from", from, "--to", to, "--nats-replicas", "3"}})
	select {
	case <-p.Done():
	case <-time.After(5 * patience):
		t.Fatalf("the copy does not end:\n%s", p.Output())
	}
	if (p.Err() != nil) != refused {
		t.Fatalf("the copy ended with %v:\n%s", p.Err(), p.Output())
	}
	return p.Output()
}
