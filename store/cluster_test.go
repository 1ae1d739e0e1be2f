package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
)

// The same code runs on a cluster of three that keeps everything three times.
func TestJetStreamOnAClusterConforms(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three takes ten seconds")
	}
	t.Parallel() // It waits most of the time.
	url := startCluster(t)
	for i, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			open := func(t *testing.T) Store {
				// Each test has the cluster for itself, by another prefix.
				return openCluster(t, Options{URL: url, Replicas: 3, Prefix: fmt.Sprint("test-", i), Logger: logger(t)})
			}
			s := open(t)
			c.test(t, &harness{
				store: s,
				peer:  open,
				reopen: func(t *testing.T) Store {
					closeStore(t, s)
					s = open(t)
					return s
				},
			})
		})
	}
}

// nodes are three servers that make a cluster. Each can be stopped and started again.
type nodes struct {
	t       *testing.T
	options []*server.Options
	servers []*server.Server // nil while it is stopped
}

// startCluster starts three servers and returns their URLs once they have a leader.
func startCluster(t *testing.T) string {
	t.Helper()
	return startNodes(t).urls()
}

// startNodes starts three servers, and returns them once they have a leader.
func startNodes(t *testing.T) *nodes {
	t.Helper()
	for range 3 {
		n := newNodes(t, freePorts(t, 6))
		t.Cleanup(func() {
			for i := range n.servers {
				n.stop(i)
			}
		})
		if n.start(0, 1, 2) {
			n.awaitLeader()
			return n
		}
		t.Log("a server did not start: another process may have taken its port; trying others")
	}
	t.Fatal("the servers did not start")
	return nil
}

// newNodes returns three servers that are stopped. Of the ports, the first three are for clients, the others for each other.
func newNodes(t *testing.T, ports []int) *nodes {
	t.Helper()
	n := &nodes{t: t, servers: make([]*server.Server, 3)}
	var routes []string
	for _, port := range ports[3:] {
		routes = append(routes, fmt.Sprint("nats://127.0.0.1:", port))
	}
	for i := range n.servers {
		n.options = append(n.options, &server.Options{
			ServerName: fmt.Sprint("node-", i), Tags: jwt.TagList{fmt.Sprint("rack:", i)},
			Host: "127.0.0.1", Port: ports[i],
			NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[3+i]},
			// All three, its own too: their number tells a server how many make a majority.
			Routes: server.RoutesFromStr(strings.Join(routes, ",")),
		})
	}
	return n
}

// start starts servers, and says whether all of them got ready.
func (n *nodes) start(which ...int) bool {
	n.t.Helper()
	for _, i := range which {
		s, err := server.NewServer(n.options[i].Clone())
		must(n.t, err)
		s.Start()
		n.servers[i] = s
	}
	for _, i := range which {
		if !n.servers[i].ReadyForConnections(20 * time.Second) {
			return false
		}
	}
	return true
}

// stop stops a server.
func (n *nodes) stop(i int) {
	if s := n.servers[i]; s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		n.servers[i] = nil
	}
}

// urls returns the URLs of the servers.
func (n *nodes) urls() string {
	var urls []string
	for _, o := range n.options {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(urls, ",")
}

// routesOfEach is how many routes each of three servers has: to both others a pool, and one for the system account.
const routesOfEach = 2 * (server.DEFAULT_ROUTE_POOL_SIZE + 1)

// awaitLeader waits for a leader that knows all servers, and until all are connected to each other.
func (n *nodes) awaitLeader() {
	n.t.Helper()
	eventually(n.t, "a leader of the cluster", func() bool {
		// Routes that both sides made at once are taken down again, and what a server knows of the other goes with them.
		unsettled := func(s *server.Server) bool { return s.NumRoutes() != routesOfEach }
		return !slices.ContainsFunc(n.servers, unsettled) && slices.ContainsFunc(n.servers, func(s *server.Server) bool {
			return s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(n.servers)
		})
	})
}

// openCluster opens the store on a cluster, and waits while it is unavailable, as the service does: a server whose routes to the others were
// made anew takes them to be offline until they next tell of themselves, and a machine that is busy may not connect in time. It closes the
// store after the test.
func openCluster(t *testing.T, options Options) *JetStream {
	t.Helper()
	var s *JetStream
	eventually(t, "the cluster to be open", func() bool {
		var err error
		s, err = OpenJetStream(t.Context(), options)
		if !errors.Is(err, ErrUnavailable) {
			must(t, err)
		}
		return err == nil
	})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// freePorts returns ports that were free a moment ago, below those that the system gives to connections and to whoever asks for any: one of
// these may be gone when a server that was stopped is started again.
func freePorts(t *testing.T, count int) []int {
	t.Helper()
	var ports []int
	for tries := 0; len(ports) < count; tries++ {
		port := 10_000 + rand.IntN(20_000)
		listener, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil && tries < 1000 {
			continue // Somebody has it.
		}
		must(t, err)
		defer listener.Close() // Not before the others are chosen.
		ports = append(ports, port)
	}
	return ports
}

// Servers that open a new journal at the same time all get it, also those that the leader tells of another's write which it has not taken
// in yet.
func TestJournalIsMadeByMany(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three takes seconds")
	}
	t.Parallel()
	url := startCluster(t)
	stores := make([]Store, 3)
	for i := range stores {
		stores[i] = openCluster(t, Options{URL: url, Replicas: 3, Logger: logger(t)})
	}
	for n := range 20 {
		uid := fmt.Sprint("uid", n)
		journals := make([]Journal, len(stores))
		var all sync.WaitGroup
		for i, s := range stores {
			all.Go(func() {
				journal, err := s.Journal(t.Context(), uid)
				if err != nil {
					t.Errorf("server %d, journal %s: %v", i, uid, err)
				}
				journals[i] = journal
			})
		}
		all.Wait()
		if t.Failed() {
			return
		}
		for _, j := range journals[1:] {
			if got, want := j.Checkpoint().GetIdentity(), journals[0].Checkpoint().GetIdentity(); got != want {
				t.Errorf("journal %s has the identities %s and %s", uid, got, want)
			}
		}
	}
}
