package acceptance_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"defender-integration/acceptance/process"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// readers is how many readers the kill test has.
const readers = 3

// killedReader is a reader of the kill test: a process that is killed at random times and started again. It reads two streams, each
// into a notebook: everything, and what concerns three Actors.
type killedReader struct {
	t        *testing.T
	rng      *rand.Rand
	socket   string
	requests map[string]*integrationv1.StreamAlertsRequest // by notebook
	all, one *noted

	process *process.Process
	due     time.Time // when it is killed next
	times   int       // how often it was
}

// newKilledReader starts a reader of what happened from a time on. Of the Actors one is known by an alternate name, and one by a name
// that its device bears only later.
func newKilledReader(t *testing.T, rng *rand.Rand, h *house, number int, began time.Time) *killedReader {
	t.Helper()
	devices := defendertest.SampleDevices()
	actors := []*integrationv1.Actor{
		{ActorId: "first", FqHostName: devices[0].DNSName},
		{ActorId: "second", HostName: "unknown", AlternateHostNames: []string{devices[1].DNSName}},
		{ActorId: "third", HostName: lateName},
	}
	all, one := filepath.Join(h.dir, fmt.Sprintf("all-%d", number)), filepath.Join(h.dir, fmt.Sprintf("actors-%d", number))
	k := &killedReader{
		t: t, rng: rng, socket: h.socket, all: &noted{path: all}, one: &noted{path: one},
		requests: map[string]*integrationv1.StreamAlertsRequest{all: following(began), one: following(began, actors...)},
	}
	k.start()
	return k
}

func (k *killedReader) start() {
	k.process = startReader(k.t, k.socket, k.requests)
	k.due = time.Now().Add(time.Duration(k.rng.Int64N(int64(6 * time.Second))))
}

// killWhenDue kills the reader and starts it again where it is time for that.
func (k *killedReader) killWhenDue() {
	k.check()
	if time.Now().Before(k.due) {
		return
	}
	k.process.Kill()
	k.times++
	k.start()
}

// check ends the test where the reader ended by itself, as it does when a token is refused or a gap is told.
func (k *killedReader) check() {
	select {
	case <-k.process.Done():
		k.t.Fatalf("the reader ended by itself: %v\n%s", k.process.Err(), k.process.Output())
	default:
	}
}

// noted is how far a notebook was read.
type noted struct {
	path   string
	offset int64
	alerts int   // how many there were
	last   place // of the last event
}

// read reads no more than what came since it was last called, since the service waits meanwhile.
func (n *noted) read(t *testing.T) *noted {
	t.Helper()
	data, err := readFrom(n.path, n.offset)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	if len(data) == 0 {
		return n
	}
	n.offset += int64(len(data))
	n.alerts += bytes.Count(data, []byte(`"alert":true`))
	var last note
	if err := json.Unmarshal(data[bytes.LastIndexByte(data[:len(data)-1], '\n')+1:], &last); err != nil {
		t.Fatal(err)
	}
	if n.last, err = placeOf(last.Token); err != nil {
		t.Fatal(err)
	}
	return n
}

// readFrom returns what a file has from an offset on.
func readFrom(path string, offset int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.NewSectionReader(file, offset, math.MaxInt64-offset))
	return data, errors.Join(err, file.Close())
}
