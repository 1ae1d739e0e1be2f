package store

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// The same code runs on a cluster of three that keeps everything three times.
func TestJetStreamOnAClusterConforms(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster of three takes ten seconds")
	}
	url := startCluster(t)
	for i, c := range conformance {
		t.Run(c.name, func(t *testing.T) {
			open := func(t *testing.T) Store {
				// Each test has the cluster for itself, by another prefix.
				s, err := OpenJetStream(t.Context(), Options{URL: url, Replicas: 3, Prefix: fmt.Sprint("test-", i), Logger: logger(t)})
				must(t, err)
				t.Cleanup(func() { _ = s.Close() })
				return s
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

// startCluster starts three servers and returns their URLs once they have a leader.
func startCluster(t *testing.T) string {
	t.Helper()
	for range 3 {
		if servers := startServers(t, freePorts(t, 3)); servers != nil {
			return awaitLeader(t, servers)
		}
		t.Log("a server did not start: another process may have taken its port; trying others")
	}
	t.Fatal("the servers did not start")
	return ""
}

// startServers starts a server for each port, which others route to; nil where one of them does not get ready.
func startServers(t *testing.T, ports []int) []*server.Server {
	t.Helper()
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprint("nats://127.0.0.1:", port))
	}
	var servers []*server.Server
	stop := func() {
		for _, s := range servers {
			s.Shutdown()
			s.WaitForShutdown()
		}
	}
	for i, port := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("node-", i),
			Host:       "127.0.0.1", Port: server.RANDOM_PORT,
			NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
			Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: port},
			// All three, its own too: their number tells a server how many make a majority.
			Routes: server.RoutesFromStr(strings.Join(routes, ",")),
		})
		must(t, err)
		s.Start()
		servers = append(servers, s)
	}
	for _, s := range servers {
		if !s.ReadyForConnections(20 * time.Second) {
			stop()
			return nil
		}
	}
	t.Cleanup(stop)
	return servers
}

// awaitLeader returns the URLs of servers once they have a leader that knows them all.
func awaitLeader(t *testing.T, servers []*server.Server) string {
	t.Helper()
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.ClientURL()
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, s := range servers {
			if s.JetStreamIsLeader() && len(s.JetStreamClusterPeers()) == len(servers) {
				return strings.Join(urls, ",")
			}
		}
	}
	t.Fatal("the cluster has no leader")
	return ""
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, count int) []int {
	t.Helper()
	ports := make([]int, count)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer listener.Close() // Not before the others are chosen.
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports
}
