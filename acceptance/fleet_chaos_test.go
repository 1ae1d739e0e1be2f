package acceptance_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestFleet kills and stops servers and NATS nodes, one after the other, at random, while alerts appear and change, streams resume, windows
// are judged and connections are tested: nothing is lost, nothing comes twice, no pair is untrue, no budget is passed, and what a server
// writes late is refused. Then each server is replaced, and a stream is cut and resumed on another server each time.
//
// ACCEPTANCE_FLEET is how many faults there are, ACCEPTANCE_STREAMS how many streams, ACCEPTANCE_SERVERS how many servers,
// ACCEPTANCE_INTEGRATIONS how many integrations.
func TestFleet(t *testing.T) {
	t.Parallel()
	seed := uint64(numberFrom(t, "ACCEPTANCE_SEED", rand.IntN(1<<31)+1))
	count := numberFrom(t, "ACCEPTANCE_FLEET", 4)
	streams := numberFrom(t, "ACCEPTANCE_STREAMS", 8)
	t.Logf("ACCEPTANCE_SEED=%d ACCEPTANCE_FLEET=%d", seed, count)
	r := newFleetRun(t, rand.New(rand.NewPCG(seed, 0)), fleetSize{
		integrations: numberFrom(t, "ACCEPTANCE_INTEGRATIONS", 2), streams: streams - streams/8, verdicts: streams / 8,
	})
	r.testConnections(time.Second)
	// Each kind of fault comes, a fifth of them at an append; then at random.
	kinds := r.kindsOfFaults()
	var plan []func() string
	for len(plan) < count {
		round := slices.Clone(kinds)
		r.rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		plan = append(plan, round...)
	}
	goroutines := r.fleet.goroutines()
	for _, fault := range plan[:count] {
		r.heals(fault())
	}
	r.verifyGoroutines(goroutines)
	r.replaceServers()
	r.cut(10)
	r.verifyFleet()
	if refused, least := r.lateWrites(), count/len(kinds); refused < least {
		t.Errorf("%d late writes were refused, and at least %d were made", refused, least)
	}
}

// largeFleet skips a test that `make fleet` runs. Everybody's run has TestFleet for it.
func largeFleet(t *testing.T) {
	t.Helper()
	if os.Getenv("ACCEPTANCE_FLEET") == "" {
		t.Skip("make fleet runs it")
	}
	t.Parallel()
}

// TestAllNodesAreKilled kills all three NATS nodes at once, as a loss of power does, and starts them again: nothing that was acknowledged
// is lost. Meanwhile each server lives and is not ready, and each stream is told.
//
// ACCEPTANCE_POWER is how often.
func TestAllNodesAreKilled(t *testing.T) {
	largeFleet(t)
	r := newFleetRun(t, rand.New(rand.NewPCG(1, 0)), fleetSize{integrations: 1, streams: 4})
	for range numberFrom(t, "ACCEPTANCE_POWER", 1) {
		r.during(500 * time.Millisecond)
		began := time.Now()
		r.makes("all nodes were killed")
		for i := range 3 {
			r.fleet.nodes.kill(i)
		}
		r.during(time.Second)
		r.wantAway(began)
		for i := range 3 {
			r.fleet.nodes.start(i)
		}
		r.heals("all nodes were killed")
	}
	r.verifyFleet()
}

// wantAway wants every server to tell that its store is away: by its health, and to every stream since a time.
func (r *fleetRun) wantAway(since time.Time) {
	r.t.Helper()
	for _, m := range r.fleet.members {
		(&ownRun{t: r.t, house: &m.house}).wantHealth(healthv1.HealthCheckResponse_NOT_SERVING)
	}
	for _, resumed := range r.resumers() {
		resumed.until(r.t, "word that the store is away", func(all []heard) bool {
			return slices.ContainsFunc(all, func(h heard) bool {
				return h.when.After(since) && h.problem.GetReason() == integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE
			})
		})
	}
}

// TestRollingUpgrade replaces the servers one by one under load, each told to end in order: nothing is lost, and no stream is sent away for
// good. One with another sealing key does not start.
func TestRollingUpgrade(t *testing.T) {
	largeFleet(t)
	r := newFleetRun(t, rand.New(rand.NewPCG(2, 0)), fleetSize{integrations: 3, streams: 30, verdicts: 3})
	r.replaceServers()
	r.wantKeyRefused()
	r.verifyFleet()
}

// replaceServers replaces the servers one by one.
func (r *fleetRun) replaceServers() {
	r.t.Helper()
	for _, m := range r.fleet.members {
		m.awaitReady() // It may have been killed just now.
		r.makes("a server was replaced")
		m.life.Interrupt(syscall.SIGTERM)
		for limit := time.Now().Add(patience); ; r.during(100 * time.Millisecond) {
			if m.over() {
				break
			}
			if time.Now().After(limit) {
				r.t.Fatalf("server %d does not end", m.number)
			}
		}
		if err := m.life.Err(); err != nil {
			r.t.Errorf("server %d ended with %v", m.number, err)
		}
		m.start()
		m.awaitReady()
		r.during(500 * time.Millisecond)
		r.heals(fmt.Sprintf("server %d was replaced", m.number))
	}
}

// wantKeyRefused wants a server that has another sealing key than the others to say so, and to serve nothing.
func (r *fleetRun) wantKeyRefused() {
	r.t.Helper()
	h := *r.house
	h.program, h.socket = service(r.t), filepath.Join(h.dir, "other")
	// A server of its own makes another key.
	alone := h.serve(r.t, nil, "--data-dir", filepath.Join(h.dir, "alone"), "--sealing-key-file", filepath.Join(h.dir, "other.key"))
	alone.WaitFor(r.t, "the server to be ready", func(output string) bool { return strings.Contains(output, `"msg":"ready"`) })
	alone.Stop(r.t)
	p := h.serve(r.t, nil, append(slices.Clone(r.fleet.flags), "--sealing-key-file", filepath.Join(h.dir, "other.key"))...)
	select {
	case <-p.Done():
	case <-time.After(patience):
		r.t.Fatal("a server with another sealing key runs")
	}
	if out := p.Output(); p.Err() == nil || !strings.Contains(out, "the sealing key is another than the one the secrets were sealed with") ||
		strings.Contains(out, `"msg":"ready"`) {
		r.t.Errorf("a server with another sealing key ended with %v and wrote:\n%s", p.Err(), out)
	}
}
