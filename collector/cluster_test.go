package collector_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// node is a server of this service on a NATS server that others share.
type node struct {
	store   *store.JetStream
	manager *collector.Manager
	stop    func()
}

// startNATS starts a NATS server and returns its URL.
func startNATS(t *testing.T) string {
	t.Helper()
	s, err := natsserver.NewServer(&natsserver.Options{
		Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the NATS server did not get ready")
	}
	return s.ClientURL()
}

func startNode(t *testing.T, url string, source *collectortest.Source) *node {
	t.Helper()
	opened, err := store.OpenJetStream(t.Context(), store.Options{URL: url})
	// A machine that is busy may not connect in time: the service tries again too.
	for deadline := time.Now().Add(time.Minute); errors.Is(err, store.ErrUnavailable) && time.Now().Before(deadline); {
		opened, err = store.OpenJetStream(t.Context(), store.Options{URL: url})
	}
	if err != nil {
		t.Fatal(err)
	}
	settings := collector.DefaultSettings()
	settings.SlowInterval, settings.FastInterval = 100*time.Millisecond, 100*time.Millisecond
	settings.RetryMin, settings.RetryMax = 50*time.Millisecond, time.Second
	settings.Budgets = nil
	n := &node{store: opened, manager: collector.NewManager(collector.Options{
		Settings: settings, Store: opened, Lease: 2 * time.Second,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			return source.Connect(spend), nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string { return []string{d.GetDeviceDnsName()} },
		Log:        slog.New(slog.DiscardHandler),
	})}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.manager.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// collects counts the integrations that a server collects for, as many as it knows of.
func (n *node) collects(integrations int) int {
	count := 0
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // What is not there is not waited for.
	for i := range integrations {
		c, err := n.manager.Collector(ctx, fmt.Sprint("i-", i), fmt.Sprint("uid-", i))
		if err == nil && c.Collects() {
			count++
		}
	}
	return count
}

// await waits until the servers collect for so many integrations each.
func await(t *testing.T, nodes []*node, want ...int) {
	t.Helper()
	var got []int
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = got[:0]
		for _, n := range nodes {
			got = append(got, n.collects(6))
		}
		if slices.Equal(got, want) {
			return
		}
	}
	t.Fatalf("the servers collect for %v, want %v", got, want)
}

// On a real engine, where notes lapse by themselves: leases are shared out, taken over of a server that died, and handed over by one that
// goes. Each integration's journal goes on, with each alert once.
func TestServersOnJetStream(t *testing.T) {
	url, source := startNATS(t), &collectortest.Source{}
	first := startNode(t, url, source)
	now := time.Now()
	for i := range 6 {
		_, err := first.store.CreateRecord(t.Context(), &storev1.Record{Format: 1, Uid: fmt.Sprint("uid-", i), Integration: &integrationv1.Integration{
			IntegrationId: fmt.Sprint("i-", i), TenantId: "contoso.test",
			Authentication: &integrationv1.Authentication{ClientId: fmt.Sprint("app-", i)},
			DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES},
			CreateTime:     timestamppb.New(now),
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	nodes := []*node{first}
	await(t, nodes, 6)
	source.Put(titled("a1", "Before", now), now)
	nodes = append(nodes, startNode(t, url, source), startNode(t, url, source))
	await(t, nodes, 2, 2, 2)

	// It is cut off: to the others it is as good as killed.
	if err := first.store.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, nodes[1:], 3, 3)
	first.stop()
	source.Put(titled("a2", "After", now.Add(time.Second)), now)
	nodes[1].stop()
	await(t, nodes[2:], 6)
	for i := range 6 {
		journal, err := nodes[2].store.Journal(t.Context(), fmt.Sprint("uid-", i))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for deadline := time.Now().Add(time.Minute); len(got) < 2 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			got = got[:0]
			for p, err := range journal.Read(t.Context(), 1, journal.Checkpoint().GetLastSequence()) {
				if err != nil {
					t.Fatal(err)
				}
				if rev := p.Entry.GetRevision(); rev != nil {
					got = append(got, rev.GetKey())
				}
			}
		}
		if !slices.Equal(got, []string{"a1", "a2"}) {
			t.Errorf("the journal of integration %d has %q", i, got)
		}
	}
}
