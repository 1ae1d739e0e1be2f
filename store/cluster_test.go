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
	ports := freePorts(t, 3)
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprint("nats://127.0.0.1:", port))
	}
	var servers []*server.Server
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
		t.Cleanup(func() {
			s.Shutdown()
			s.WaitForShutdown()
		})
		servers = append(servers, s)
	}
	urls := make([]string, len(servers))
	for i, s := range servers {
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("a server did not start")
		}
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
