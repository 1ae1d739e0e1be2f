package acceptance_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// The budget of a fleet in trouble, for each minute.
const fleetBudget = 900

// fleetFlags make a fleet poll often, inside its budget. A poll reads back only a little, or it would make good what a defect loses.
func fleetFlags() []string {
	return []string{
		"--poll-fast", "200ms", "--poll-slow", "200ms", "--poll-overlap", "500ms", "--retry-min", "100ms", "--retry-max", "1s",
		"--closing-interval", "200ms",
		"--budget", fmt.Sprintf("graph-alerts=%d/1m", fleetBudget),
	}
}

// fleetRun is a fleet under load, with streams that resume on whichever server takes them.
type fleetRun struct {
	*ownRun
	fleet *fleet
	rng   *rand.Rand
	// refused counts the late writes of servers that stood still.
	refused int
	// takeovers are how long it took after a fault until something new was heard.
	takeovers []time.Duration
}

// newFleetRun starts a fleet with streams of both kinds, and waits until they have heard something.
func newFleetRun(t *testing.T, rng *rand.Rand, streams int) *fleetRun {
	t.Helper()
	f := newFleet(t, fleetFlags()...)
	r := &fleetRun{fleet: f, rng: rng, ownRun: &ownRun{t: t, house: f.house, began: f.house.microsoft.Now(), client: f.connect(t)}}
	f.house.register(t, r.client, integrationv1.DeviceSource_KIND_MACHINES)
	actor := func() *integrationv1.Actor {
		return &integrationv1.Actor{ActorId: "first", FqHostName: defendertest.SampleDevices()[0].DNSName}
	}
	r.every = resumeBy(t, f.connect(t), following(r.began))
	r.one = resumeBy(t, f.connect(t), following(r.began, actor()))
	for i := range streams - 2 {
		request := following(r.began)
		if i%2 == 0 {
			request = following(r.began, actor())
		}
		r.more = append(r.more, resumeBy(t, f.connect(t), request))
	}
	r.load(10)
	r.settle()
	return r
}

// during goes on with the load for a time.
func (r *fleetRun) during(d time.Duration) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(d); ; {
		select {
		case <-tick.C:
			r.step()
		case <-end:
			return
		}
	}
}

// fleetFaults are what happens to a fleet, each with how often it does in a hundred.
func (r *fleetRun) faults() []func() string {
	return []func() string{r.killServer, r.pauseServer, r.pauseWriter, r.killNode, r.pauseNode}
}

// killServer kills a server and starts it again.
func (r *fleetRun) killServer() string {
	m := r.fleet.members[r.rng.IntN(len(r.fleet.members))]
	m.life.Kill()
	r.during(time.Duration(r.rng.Int64N(int64(2 * lease))))
	m.start()
	return fmt.Sprintf("server %d was killed", m.number)
}

// pauseServer stops a server for longer than a lease.
func (r *fleetRun) pauseServer() string {
	m := r.fleet.members[r.rng.IntN(len(r.fleet.members))]
	m.pause()
	r.during(lease + time.Duration(r.rng.Int64N(int64(lease))))
	m.resume()
	return fmt.Sprintf("server %d stood still", m.number)
}

// pauseWriter stops the server that is about to append until another has taken over, and sees that what it then writes is refused.
func (r *fleetRun) pauseWriter() string {
	for _, m := range r.fleet.members {
		m.stopAt.Store(true)
	}
	stopped := -1
	for stopped < 0 {
		r.during(100 * time.Millisecond)
		for i, m := range r.fleet.members {
			select {
			case <-m.stopped:
				stopped = i
			default:
			}
		}
	}
	for _, m := range r.fleet.members {
		m.stopAt.Store(false)
	}
	writer := r.fleet.members[stopped]
	if len(r.fleet.members) == 1 {
		r.during(lease)
		writer.resume()
		return "the only server stood still before it appended"
	}
	recovered := func(m *member) int { return strings.Count(m.output(), `"msg":"journal recovered"`) }
	before := make([]int, len(r.fleet.members))
	for i, m := range r.fleet.members {
		before[i] = recovered(m)
	}
	limit := time.Now().Add(patience)
	for taken := false; !taken; {
		r.during(100 * time.Millisecond)
		for i, m := range r.fleet.members {
			taken = taken || m != writer && recovered(m) > before[i]
		}
		if time.Now().After(limit) {
			r.t.Fatalf("no server takes over from server %d, which stands still", stopped)
		}
	}
	late := strings.Count(writer.output(), store.ErrFenced.Error())
	writer.resume()
	writer.life.WaitFor(r.t, "the late write to be refused", func(string) bool {
		return strings.Count(writer.output(), store.ErrFenced.Error()) > late
	})
	r.refused++
	return fmt.Sprintf("server %d stood still before it appended, and its late write was refused", stopped)
}

// killNode kills a NATS server and starts it again.
func (r *fleetRun) killNode() string {
	i := r.rng.IntN(3)
	r.fleet.nodes.kill(i)
	r.during(time.Second + time.Duration(r.rng.Int64N(int64(lease))))
	r.fleet.nodes.start(i)
	return fmt.Sprintf("node %d was killed", i)
}

// pauseNode stops a NATS server for longer than a lease.
func (r *fleetRun) pauseNode() string {
	i := r.rng.IntN(3)
	r.fleet.nodes.pause(i)
	r.during(lease + time.Duration(r.rng.Int64N(int64(lease))))
	r.fleet.nodes.resume(i)
	return fmt.Sprintf("node %d stood still", i)
}

// heals waits until what appears after a fault is heard, everywhere, and the cluster is whole again.
func (r *fleetRun) heals(what string) {
	r.t.Helper()
	began := time.Now()
	r.load(2)
	r.settle()
	r.takeovers = append(r.takeovers, time.Since(began))
	r.fleet.nodes.awaitLeader()
	r.t.Logf("%s; all was heard after %s", what, time.Since(began).Round(time.Millisecond))
}

// verifyFleet compares what all streams heard with the simulated side's record, and counts its calls.
func (r *fleetRun) verifyFleet() {
	r.t.Helper()
	row := &matrixRow{}
	r.verify(row)
	var calls []time.Time
	for _, call := range r.house.microsoft.Calls(nil) {
		if call.Route == defendertest.RouteAlerts {
			calls = append(calls, call.Time)
		}
	}
	for i := range calls {
		if j := i + fleetBudget; j < len(calls) && calls[j].Sub(calls[i]) < time.Minute {
			r.t.Errorf("more than %d calls in a minute, from %s on", fleetBudget, calls[i])
			break
		}
	}
	for _, resumed := range r.resumers() {
		for _, h := range resumed.all() {
			if h.gap || h.reason != integrationv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
				r.t.Errorf("a stream was told of a gap (%v) or sent away with %s", h.gap, h.reason)
			}
		}
	}
	slices.Sort(r.takeovers)
	if n := len(r.takeovers); n > 0 {
		r.t.Logf("after a fault all was heard in %s (median) and %s (worst)", r.takeovers[n/2].Round(time.Millisecond), r.takeovers[n-1].Round(time.Millisecond))
	}
	r.t.Logf("%d revisions, %d streams, %d calls for alerts, %d late writes refused, lost %d, twice %d, untrue pairs %d",
		len(r.house.tenant.Revisions()), len(r.resumers()), len(calls), r.refused, row.Lost, row.Twice, row.UntruePairs)
}

// TestFleet kills and stops servers and NATS nodes, one after the other, at random, while alerts appear and change and streams resume:
// nothing is lost, nothing comes twice, no pair is untrue, and what a server writes late is refused.
//
// ACCEPTANCE_FLEET is how many faults there are, ACCEPTANCE_STREAMS how many streams, ACCEPTANCE_SERVERS how many servers.
func TestFleet(t *testing.T) {
	t.Parallel()
	seed := uint64(numberFrom(t, "ACCEPTANCE_SEED", rand.IntN(1<<31)+1))
	count := numberFrom(t, "ACCEPTANCE_FLEET", 4)
	t.Logf("ACCEPTANCE_SEED=%d ACCEPTANCE_FLEET=%d", seed, count)
	r := newFleetRun(t, rand.New(rand.NewPCG(seed, 0)), numberFrom(t, "ACCEPTANCE_STREAMS", 6))
	// Each kind of fault comes, a fifth of them at an append; then at random.
	faults := r.faults()
	var plan []func() string
	for len(plan) < count {
		round := slices.Clone(faults)
		r.rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		plan = append(plan, round...)
	}
	for _, fault := range plan[:count] {
		r.heals(fault())
	}
	r.verifyFleet()
}

// TestAllNodesAreKilled kills all three NATS nodes at once, as a loss of power does, and starts them again: nothing that was acknowledged
// is lost.
func TestAllNodesAreKilled(t *testing.T) {
	t.Parallel()
	r := newFleetRun(t, rand.New(rand.NewPCG(1, 0)), 4)
	for range numberFrom(t, "ACCEPTANCE_POWER", 1) {
		r.during(500 * time.Millisecond)
		for i := range 3 {
			r.fleet.nodes.kill(i)
		}
		r.during(time.Second)
		for i := range 3 {
			r.fleet.nodes.start(i)
		}
		r.heals("all nodes were killed")
	}
	r.verifyFleet()
}

// TestRollingUpgrade replaces the servers one by one under load, each told to end in order: nothing is lost, and no stream is sent away for
// good.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	r := newFleetRun(t, rand.New(rand.NewPCG(2, 0)), 4)
	for _, m := range r.fleet.members {
		m.terminate()
		m.start()
		m.awaitReady()
		r.heals(fmt.Sprintf("server %d was replaced", m.number))
	}
	r.verifyFleet()
}
