package acceptance_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"defender-integration/acceptance/natsnode"
	"defender-integration/acceptance/process"
)

// nodes are three NATS servers that make a cluster, each a process of its own with files of its own, which writes everything at once. Each
// can be killed, stopped and started again.
type nodes struct {
	t       *testing.T
	program string
	dir     string
	ports   []int
	files   [natsnode.Count]string // their configurations
	running []*process.Process
}

// startNodes starts three servers and waits until they have a leader.
func startNodes(t *testing.T) *nodes {
	t.Helper()
	n := &nodes{t: t, program: built(t, natsnode.Package), dir: t.TempDir(), ports: freePorts(t, natsnode.Ports), running: make([]*process.Process, natsnode.Count)}
	for i := range n.running {
		n.configure(i)
		n.start(i)
	}
	n.awaitLeader()
	return n
}

// givenPorts are the ports that freePorts has returned, so that no two tests get the same.
var givenPorts struct {
	mu    sync.Mutex
	taken map[int]bool
}

// freePorts returns ports of this machine that were free a moment ago, and that the system gives nobody who asks for any: it gives ports from
// 32768 on (Linux), or from higher up. So they are free still when a server listens on them, also one that was away for a while.
func freePorts(t *testing.T, count int) []int {
	t.Helper()
	const lowest, end, tries = 10_000, 32_768, 1000
	givenPorts.mu.Lock()
	defer givenPorts.mu.Unlock()
	if givenPorts.taken == nil {
		givenPorts.taken = map[int]bool{}
	}
	var ports []int
	for range tries {
		if len(ports) == count {
			return ports
		}
		port := lowest + rand.IntN(end-lowest)
		if givenPorts.taken[port] {
			continue
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // Somebody has it.
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		givenPorts.taken[port] = true
		ports = append(ports, port)
	}
	t.Fatalf("of %d ports only %d are free", tries, len(ports))
	return nil
}

// configure writes the configuration of a server.
func (n *nodes) configure(i int) {
	n.t.Helper()
	file, err := natsnode.Configure(n.dir, n.ports, i)
	if err != nil {
		n.t.Fatal(err)
	}
	n.files[i] = file
}

// start starts a server.
func (n *nodes) start(i int) {
	n.t.Helper()
	n.running[i] = process.Start(n.t, process.Command{Path: n.program, Args: []string{"--config", n.files[i]}})
}

// kill kills a server.
func (n *nodes) kill(i int) { n.running[i].Kill() }

// pause stops a server where it is; resume lets it go on.
func (n *nodes) pause(i int)  { n.running[i].Interrupt(syscall.SIGSTOP) }
func (n *nodes) resume(i int) { n.running[i].Interrupt(syscall.SIGCONT) }

// url returns the URLs of the servers.
func (n *nodes) url() string { return natsnode.URL(n.ports) }

// flags are those by which the service finds the cluster.
func (n *nodes) flags() []string { return []string{"--nats-url", n.url(), "--nats-replicas", "3"} }

// awaitLeader waits until a stream of three replicas can be made, or is there, so that all three servers take part.
func (n *nodes) awaitLeader() {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for ; ; time.Sleep(50 * time.Millisecond) {
		err := n.ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("the NATS cluster does not get ready: %v", err)
		}
	}
}

// ask makes a stream of three replicas where there is none, and looks at it.
func (n *nodes) ask() error {
	conn, err := nats.Connect(n.url(), nats.Timeout(time.Second))
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		return err
	}
	stream, err := js.CreateOrUpdateStream(n.t.Context(), jetstream.StreamConfig{Name: "acceptance", Subjects: []string{"acceptance"}, Replicas: 3})
	if err != nil {
		return err
	}
	for _, replica := range stream.CachedInfo().Cluster.Replicas {
		if replica.Offline {
			return fmt.Errorf("%s is offline", replica.Name)
		}
	}
	return nil
}

// awaitUnused waits until the servers have dropped what a server of the service that ended left there.
func (n *nodes) awaitUnused(t *testing.T) {
	t.Helper()
	conn, err := nats.Connect(n.url())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		used := 0
		streams := js.ListStreams(t.Context())
		for stream := range streams.Info() {
			used += stream.State.Consumers
		}
		if used == 0 && streams.Err() == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d watches are left, %v", used, streams.Err())
		}
	}
}
