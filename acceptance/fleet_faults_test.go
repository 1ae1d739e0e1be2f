package acceptance_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The kinds of faults.
const (
	serverKilled = "a server was killed"
	serverPaused = "a server stood still"
	writerPaused = "a server stood still before it appended"
	nodeKilled   = "a node was killed"
	nodePaused   = "a node stood still"
)

// fleetFault is a fault that was made.
type fleetFault struct {
	kind string
	at   time.Time
}

// makes notes that a fault is made now.
func (r *fleetRun) makes(kind string) {
	r.faults = append(r.faults, &fleetFault{kind: kind, at: time.Now()})
}

// kindsOfFaults are what happens to a fleet. Each returns when it is mended, and says what was done.
func (r *fleetRun) kindsOfFaults() []func() string {
	return []func() string{r.killServer, r.pauseServer, r.pauseWriter, r.killNode, r.pauseNode}
}

// killServer kills a server and starts it again.
func (r *fleetRun) killServer() string {
	m := r.fleet.members[r.rng.IntN(len(r.fleet.members))]
	r.makes(serverKilled)
	m.life.Kill()
	r.during(time.Duration(r.rng.Int64N(int64(2 * lease))))
	m.start()
	return fmt.Sprintf("server %d was killed", m.number)
}

// pauseServer stops a server for longer than a lease.
func (r *fleetRun) pauseServer() string {
	m := r.fleet.members[r.rng.IntN(len(r.fleet.members))]
	r.makes(serverPaused)
	m.pause()
	r.during(lease + time.Duration(r.rng.Int64N(int64(lease))))
	m.resume()
	return fmt.Sprintf("server %d stood still", m.number)
}

// lateWrite is what a server logs whose late write was refused.
const lateWrite = `"msg":"the journal refused a late write`

// pauseWriter stops the server that is about to append until others have taken over all that it collects, and sees that what it then writes
// is refused.
func (r *fleetRun) pauseWriter() string {
	writer := r.stopBeforeAppend()
	r.makes(writerPaused)
	if len(r.fleet.members) == 1 {
		r.during(lease)
		writer.resumeAppend()
		return "the only server stood still before it appended"
	}
	limit := time.Now().Add(patience)
	for slices.ContainsFunc(r.ids, func(id string) bool { return r.fleet.collects(id) == writer }) {
		r.during(100 * time.Millisecond)
		if time.Now().After(limit) {
			r.t.Fatalf("no server takes over from server %d, which stands still", writer.number)
		}
	}
	refused := strings.Count(writer.output(), lateWrite)
	writer.resumeAppend()
	writer.life.WaitFor(r.t, "the late write to be refused", func(string) bool {
		return strings.Count(writer.output(), lateWrite) > refused
	})
	return fmt.Sprintf("server %d stood still before it appended, and its late write was refused", writer.number)
}

// stopBeforeAppend waits until a server is about to append, and stops it there.
func (r *fleetRun) stopBeforeAppend() (writer *member) {
	for _, m := range r.fleet.members {
		m.stopAt.Store(true)
	}
	for writer == nil {
		r.during(100 * time.Millisecond)
		for _, m := range r.fleet.members {
			select {
			case <-m.stopped:
				writer = m
			default:
			}
			if writer != nil {
				break
			}
		}
	}
	for _, m := range r.fleet.members {
		// Another that has come there meanwhile goes on.
		if m != writer && !m.stopAt.CompareAndSwap(true, false) {
			<-m.stopped
			m.resumeAppend()
		}
	}
	return writer
}

// killNode kills a NATS server and starts it again.
func (r *fleetRun) killNode() string {
	i := r.rng.IntN(3)
	r.makes(nodeKilled)
	r.fleet.nodes.kill(i)
	r.during(time.Second + time.Duration(r.rng.Int64N(int64(lease))))
	r.fleet.nodes.start(i)
	return fmt.Sprintf("node %d was killed", i)
}

// pauseNode stops a NATS server for longer than a lease.
func (r *fleetRun) pauseNode() string {
	i := r.rng.IntN(3)
	r.makes(nodePaused)
	r.fleet.nodes.pause(i)
	r.during(lease + time.Duration(r.rng.Int64N(int64(lease))))
	r.fleet.nodes.resume(i)
	return fmt.Sprintf("node %d stood still", i)
}

// recoveredLine is what a server logs that begins to collect an integration.
var recoveredLine = regexp.MustCompile(`"time":"([^"]+)","level":"INFO","msg":"journal recovered","integration_id":"([^"]+)"`)

// recovery is that a server began to collect an integration.
type recovery struct {
	by *member
	at time.Time
}

// recovered returns who began to collect an integration when, by what the servers log.
func (f *fleet) recovered(id string) (all []recovery) {
	for _, m := range f.members {
		for _, line := range recoveredLine.FindAllStringSubmatch(m.output(), -1) {
			at, err := time.Parse(time.RFC3339Nano, line[1])
			if err != nil {
				f.t.Fatal(err)
			}
			if line[2] == id {
				all = append(all, recovery{m, at})
			}
		}
	}
	slices.SortFunc(all, func(a, b recovery) int { return a.at.Compare(b.at) })
	return all
}

// collects returns the server that began to collect an integration last; nil where none did.
func (f *fleet) collects(id string) *member {
	all := f.recovered(id)
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1].by
}

// recoveries tells who began to collect an integration in a time, and how long after it had begun.
func (f *fleet) recoveries(id string, from, until time.Time) string {
	var told []string
	for _, r := range f.recovered(id) {
		if r.at.After(from) && r.at.Before(until) {
			told = append(told, fmt.Sprintf("by server %d after %s", r.by.number, r.at.Sub(from).Round(grain)))
		}
	}
	if len(told) == 0 {
		return "was not taken over"
	}
	return "was taken over " + strings.Join(told, ", and ")
}
