package store

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// streamNamed returns the configuration of a stream.
func (s *JetStream) streamNamed(t *testing.T, name string) jetstream.StreamConfig {
	t.Helper()
	stream, err := s.js.Stream(t.Context(), name)
	must(t, err)
	return stream.CachedInfo().Config
}

// changeStream changes the configuration of a stream, as another version of the service may.
func (s *JetStream) changeStream(t *testing.T, name string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	config := s.streamNamed(t, name)
	change(&config)
	_, err := s.js.UpdateStream(t.Context(), config)
	must(t, err)
}

// What a newer version of the service made of a bucket stays, also where an older one is started beside it.
func TestNoStreamIsSetBack(t *testing.T) {
	url := startServer(t)
	s := openURL(t, url)
	s.changeStream(t, "KV_defender-records", func(c *jetstream.StreamConfig) {
		c.Description, c.MaxMsgsPerSubject, c.MaxMsgSize = "of a newer version", 3, 1<<19
	})
	want := s.streamNamed(t, "KV_defender-records")
	older := openURL(t, url)
	got := older.streamNamed(t, "KV_defender-records")
	if got.Description != want.Description || got.MaxMsgsPerSubject != 3 || got.MaxMsgSize != 1<<19 {
		t.Errorf("got %+v, want %+v", got, want)
	}

	// What the operator says is what an operator can change.
	limited := openCluster(t, Options{URL: url, JournalMaxBytes: 1 << 20, Logger: logger(t)})
	if got := limited.streamNamed(t, "KV_defender-records"); got.MaxBytes != 1<<20 || got.Description != want.Description {
		t.Errorf("got %+v, want a limit and the description", got)
	}
}

func TestStreamsOfALaterFormatAreRefused(t *testing.T) {
	url := startServer(t)
	s := openURL(t, url)
	j, checkpoint := writer(t, s, "uid")
	_, err := j.Append(t.Context(), entries(1, 3))
	must(t, err)
	save(t, j, 3)
	later := func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{formatKey: "2"} }

	s.changeStream(t, j.(*jetJournal).stream(checkpoint.GetIdentity()), later)
	_, err = j.Recover(t.Context())
	wantError(t, err, ErrVersion)
	_, err = j.Stats(t.Context())
	wantError(t, err, ErrVersion)
	wantEntries(t, j, 1, 3, 1, 3)

	s.changeStream(t, "KV_defender-ledgers", later)
	wantError(t, openRefused(t, Options{URL: url}), ErrVersion)
	if got := s.streamNamed(t, "KV_defender-ledgers").Metadata[formatKey]; got != "2" {
		t.Errorf("it was changed to format %q", got)
	}
}

// onCluster are tests that one cluster of three serves, one after the other.
var onCluster = []struct {
	name string
	test func(t *testing.T, n *nodes)
}{
	{"Replicas", testReplicas},
	{"Placement", testPlacement},
	{"FewerServersThanReplicas", testFewerServers},
	{"Copy", testCopyThere},
	{"Away", testAway},
	{"AwayAtTheStart", testAwayAtStart},
}

func TestOnACluster(t *testing.T) {
	if testing.Short() {
		t.Skip("a cluster that is stopped and started takes half a minute")
	}
	t.Parallel() // It waits most of the time.
	n := startNodes(t)
	for _, c := range onCluster {
		t.Run(c.name, func(t *testing.T) { c.test(t, n) })
	}
}

// openOn opens a store with a prefix of its own on the cluster, with what else the options say.
func (n *nodes) openOn(t *testing.T, options Options) *JetStream {
	t.Helper()
	options.URL, options.Prefix, options.Logger = n.urls(), t.Name()[len("TestOnACluster/"):], logger(t)
	return openCluster(t, options)
}

// Streams get the replicas that are asked for, those that are there too, and none gets fewer.
func testReplicas(t *testing.T, n *nodes) {
	one := n.openOn(t, Options{Replicas: 1})
	j, checkpoint := writer(t, one, "uid")
	// A stream that was just made may not be known on all servers, and the service tries again.
	eventually(t, "the journal to be written", func() bool {
		_, err := j.Append(t.Context(), entries(1, 3))
		if errors.Is(err, ErrUnavailable) {
			_, err = j.Recover(t.Context())
			must(t, err)
			return false
		}
		must(t, err)
		return true
	})
	save(t, j, 3)
	bucket, stream := "KV_Replicas-records", j.(*jetJournal).stream(checkpoint.GetIdentity())
	want := func(s *JetStream, replicas int) {
		t.Helper()
		for _, name := range []string{bucket, stream} {
			if got := s.streamNamed(t, name).Replicas; got != replicas {
				t.Errorf("%s has %d replicas, want %d", name, got, replicas)
			}
		}
	}
	want(one, 1)
	three := n.openOn(t, Options{Replicas: 3})
	j, _ = writer(t, three, "uid")
	want(three, 3)
	wantEntries(t, j, 1, 3, 1, 3)
	again := n.openOn(t, Options{Replicas: 1})
	writer(t, again, "uid")
	want(again, 3)
}

func testPlacement(t *testing.T, n *nodes) {
	s := n.openOn(t, Options{PlacementCluster: "test", PlacementTags: []string{"rack:1"}})
	stream, err := s.js.Stream(t.Context(), "KV_Placement-records")
	must(t, err)
	if got := stream.CachedInfo().Cluster.Leader; got != "node-1" {
		t.Errorf("it is on %s, want node-1", got)
	}
}

func testFewerServers(t *testing.T, n *nodes) {
	_, err := OpenJetStream(t.Context(), Options{URL: n.urls(), Prefix: "fewer", Replicas: 5, Logger: logger(t)})
	wantError(t, err, ErrUnavailable)
	t.Log(err)
	_, err = OpenJetStream(t.Context(), Options{URL: n.urls(), Prefix: "fewer", Replicas: 3, PlacementTags: []string{"rack:1"}, Logger: logger(t)})
	wantError(t, err, ErrUnavailable)
	t.Log(err)
}

// While the cluster is away calls fail and nothing ends; when it is back everything goes on, and the watches tell what they missed.
func testAway(t *testing.T, n *nodes) {
	s, other := n.openOn(t, Options{Replicas: 3}), n.openOn(t, Options{Replicas: 3})
	changes, err := s.WatchRecords(t.Context())
	must(t, err)
	if c := receive(t, changes); !c.Synced {
		t.Fatalf("%+v", c)
	}
	j, checkpoint := writer(t, other, "uid")
	_, err = j.Append(t.Context(), entries(1, 3))
	must(t, err)
	save(t, j, 3)
	reader, err := s.Journal(t.Context(), "uid")
	must(t, err)
	waited := wait(t, reader, checkpoint.GetIdentity(), 3)

	for i := range n.servers {
		n.stop(i)
	}
	wantError(t, s.Ready(t.Context()), ErrUnavailable)
	_, err = s.CreateRecord(t.Context(), record("away", "uid"))
	wantError(t, err, ErrUnavailable)
	for _, err := range reader.Read(t.Context(), 1, 3) {
		wantError(t, err, ErrUnavailable)
		break
	}
	n.start(0, 1, 2)
	n.awaitLeader()
	eventually(t, "the stores to be ready", func() bool { return s.Ready(t.Context()) == nil && other.Ready(t.Context()) == nil })
	eventually(t, "the records to be readable", func() bool {
		_, _, err := other.Record(t.Context(), "back")
		return errors.Is(err, ErrNotFound)
	})
	revision, err := other.CreateRecord(t.Context(), record("back", "uid"))
	must(t, err)
	if c := receive(t, changes); c.ID != "back" || c.Revision != revision {
		t.Errorf("the watch told %+v", c)
	}
	eventually(t, "the journal to be recovered", func() bool {
		_, err = j.Recover(t.Context())
		return err == nil
	})
	_, err = j.Append(t.Context(), entries(4, 5))
	must(t, err)
	save(t, j, 5)
	if got := receive(t, waited); got.err != nil || got.checkpoint.GetLastSequence() != 5 {
		t.Errorf("the reader learned of %v, %v", got.checkpoint, got.err)
	}
	wantEntries(t, reader, 1, 5, 1, 5)
}

// A cluster that is not there yet is no error of the set-up: it may come.
func testAwayAtStart(t *testing.T, n *nodes) {
	for i := range n.servers {
		n.stop(i)
	}
	_, err := OpenJetStream(t.Context(), Options{URL: n.urls(), Prefix: "start"})
	wantError(t, err, ErrUnavailable)
	n.start(0)
	// One of three is no majority.
	_, err = OpenJetStream(t.Context(), Options{URL: n.urls(), Prefix: "start", Replicas: 3, Timeout: 2 * time.Second})
	wantError(t, err, ErrUnavailable)
	t.Log(err)
	n.start(1, 2)
	n.awaitLeader()
	n.openOn(t, Options{Replicas: 3})
}
