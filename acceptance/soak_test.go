package acceptance_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"defender-integration/acceptance/process"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// soakSettings are how large a soak is and how fast everything goes in it.
type soakSettings struct {
	length                        time.Duration
	streams, connections, devices int
	seed                          uint64

	poll, overlap, retention       time.Duration // of the service
	deviceInterval, closing        time.Duration
	alertEvery, faultEvery         time.Duration // of the simulated side; a fault comes after that time on average
	late, swing                    time.Duration // how late alerts are shown at most, how far Microsoft's clock is moved at most
	cutEvery, updateEvery          time.Duration // between two cut connections, two changes of the integration, on average
	stay, stall, window            time.Duration // how long restless streams stay, slow ones stall, a bounded window is, on average
	sampleEvery                    time.Duration
	memoryRatio, goroutinesBesides float64 // by how much memory may grow; what part of the goroutines may be other
}

// soakSettingsOf reads ACCEPTANCE_SOAK, how long the soak is, and ACCEPTANCE_SEED, where everything random begins. Without a length
// it is short and small. A retention that is much longer than what delays an alert keeps what is lawfully dropped out of the run: an
// alert that is shown when its last update lies below the journal's floor.
func soakSettingsOf(t *testing.T) soakSettings {
	t.Helper()
	s := soakSettings{
		length: 8 * time.Second, streams: 100, connections: 4, devices: 20, seed: rand.Uint64(),
		poll: 250 * time.Millisecond, overlap: 30 * time.Second, deviceInterval: time.Second, closing: time.Second,
		alertEvery: 50 * time.Millisecond, faultEvery: time.Second, late: time.Second, swing: time.Second,
		cutEvery: time.Second, updateEvery: 2 * time.Second,
		stay: time.Second, stall: 300 * time.Millisecond, window: time.Second,
		sampleEvery: 100 * time.Millisecond, memoryRatio: 1.6, goroutinesBesides: 0.3,
	}
	var err error
	if text := os.Getenv("ACCEPTANCE_SEED"); text != "" {
		if s.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("ACCEPTANCE_SEED is %q: %v", text, err)
		}
	}
	text := os.Getenv("ACCEPTANCE_SOAK")
	if text == "" {
		s.retention = time.Hour
		return s
	}
	const shortest = 2 * time.Minute
	if s.length, err = time.ParseDuration(text); err != nil || s.length < shortest {
		t.Fatalf("ACCEPTANCE_SOAK is %q and must be at least %s", text, shortest)
	}
	s.streams, s.connections, s.devices = 1000, 20, 200
	s.retention = min(s.length/6, 10*time.Minute)
	s.poll, s.overlap, s.deviceInterval, s.closing = 2*time.Second, min(s.retention, time.Minute), 15*time.Second, min(s.retention/10, 5*time.Second)
	s.alertEvery, s.faultEvery, s.late, s.swing = 300*time.Millisecond, 5*time.Second, min(s.retention/6, 20*time.Second), 2*time.Second
	s.cutEvery, s.updateEvery = 20*time.Second, 30*time.Second
	s.stay, s.stall, s.window = 30*time.Second, 5*time.Second, min(s.retention/6, 30*time.Second)
	s.sampleEvery, s.memoryRatio, s.goroutinesBesides = min(5*time.Second, s.length/60), 1.15, 0.01
	if s.length < 40*time.Minute {
		// The service keeps the newest entries decoded, up to a bound that this run comes to in about ten minutes.
		s.memoryRatio = 1.5
	}
	return s
}

// TestSoak lets the service run for a time with many streams of every kind, while alerts appear and change, Microsoft fails in every
// way, connections break and the integration is changed. Each stream has each revision that concerns it once; and what the service
// takes (goroutines, memory, open files, the journal) does not grow.
func TestSoak(t *testing.T) {
	s := soakSettingsOf(t)
	if s.length < time.Minute {
		t.Parallel()
	}
	t.Logf("ACCEPTANCE_SOAK=%s ACCEPTANCE_SEED=%d", s.length, s.seed)
	r := &soakRun{t: t, settings: s, house: newHouse(t, service(t)), refusals: map[string]int{}}
	r.begin()
	r.warmUp()
	r.live()
	r.finish()
	r.end()
	r.report()
}

// soakRun is one soak: the parties to it, each with goroutines of its own, and what they share.
type soakRun struct {
	t        *testing.T
	settings soakSettings
	house    *house
	service  *process.Process
	ledger   *ledger
	script   *soakScript
	trouble  *soakTrouble
	lines    []*soakLine
	streams  []*soakStream
	gauges   *soakGauges
	refusals map[string]int // for which reasons the service ended streams, and how often

	working   sync.WaitGroup     // script and trouble
	rest      context.CancelFunc // lets them end
	streaming sync.WaitGroup     // the streams
	leave     context.CancelFunc // lets them end
}

// random returns a generator for one party, which the seed and its name make.
func (r *soakRun) random(party uint64) *rand.Rand {
	return rand.New(rand.NewPCG(r.settings.seed, party))
}

// The parties of [soakRun.random]; streams come behind.
const (
	scriptParty uint64 = iota
	troubleParty
	firstStreamParty
)

// begin starts the service and every party.
func (r *soakRun) begin() {
	s := r.settings
	r.gauges = newSoakGauges(r.t)
	r.service = r.house.serve(r.t, nil,
		"--metrics-address", r.gauges.address, "--log-level", "warn",
		"--poll-fast", s.poll.String(), "--poll-slow", s.poll.String(), "--poll-overlap", s.overlap.String(),
		"--device-interval", s.deviceInterval.String(), "--closing-interval", s.closing.String(), "--retention-age", s.retention.String())
	for range s.connections {
		r.lines = append(r.lines, newSoakLine(r.t, r.house.socket))
	}
	r.house.register(r.t, r.lines[0].client, integrationv1.DeviceSource_KIND_MACHINES)
	r.ledger = newLedger()
	r.script = newSoakScript(r)
	r.trouble = newSoakTrouble(r)

	streaming, leave := context.WithCancel(r.t.Context())
	working, rest := context.WithCancel(r.t.Context())
	r.leave, r.rest = leave, rest
	r.t.Cleanup(func() {
		leave()
		rest()
		r.streaming.Wait()
		r.working.Wait()
	})
	for i := range s.streams {
		stream := newSoakStream(r, i)
		r.streams = append(r.streams, stream)
		r.streaming.Go(func() { stream.run(streaming) })
	}
	r.working.Go(func() { r.script.run(working) })
	r.working.Go(func() { r.trouble.run(working) })
}

// warmUp waits until every stream was told something. What the service takes until then is no growth.
func (r *soakRun) warmUp() {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	limit := time.After(2 * patience)
	for slices.ContainsFunc(r.streams, func(s *soakStream) bool { return !s.begun() }) {
		select {
		case <-look.C:
		case <-r.service.Done():
			r.t.Fatalf("the service ended by itself: %v", r.service.Err())
		case <-limit:
			r.t.Fatal("not every stream begins")
		}
	}
}

// live samples and audits until the time is over, and there are as many samples as it takes to compare them.
func (r *soakRun) live() {
	over := time.NewTimer(r.settings.length)
	defer over.Stop()
	sample := time.NewTicker(r.settings.sampleEvery)
	defer sample.Stop()
	for isOver := false; !isOver || len(r.gauges.samples) < fewestSamples; {
		select {
		case <-over.C:
			isOver = true
		case <-r.service.Done():
			r.t.Fatalf("the service ended by itself: %v", r.service.Err())
		case <-sample.C:
			r.gauges.sample(r.t, r.house.dir)
			r.audit()
		}
		if r.t.Failed() {
			r.t.Fatalf("stopped after %s", time.Since(r.gauges.began).Round(time.Second))
		}
	}
}

// audit holds every stream to the ledger.
func (r *soakRun) audit() {
	for _, stream := range r.streams {
		stream.audit()
	}
}

// finish lets script and trouble come to rest and waits until every stream that follows has everything, and for a few reads more:
// what would be delivered a second time is, then.
func (r *soakRun) finish() {
	const moreReads = 3
	r.rest()
	r.working.Wait()
	r.script.settle()
	r.trouble.settle()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	owed, quiet := -1, time.After(patience)
	for {
		now := 0
		for _, stream := range r.streams {
			now += stream.owed()
		}
		if now == 0 {
			break
		}
		if now != owed {
			owed, quiet = now, time.After(patience)
		}
		select {
		case <-look.C:
		case <-r.service.Done():
			r.t.Fatalf("the service ended by itself: %v", r.service.Err())
		case <-quiet:
			r.t.Fatalf("%d deliveries are owed, and nothing more comes", owed)
		}
	}
	rested := r.house.microsoft.Now()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	_, err := r.house.microsoft.WaitCalls(ctx, moreReads, func(c defendertest.Call) bool {
		return c.Route == defendertest.RouteAlerts && c.Time.After(rested) && c.Done
	})
	if err != nil {
		r.t.Errorf("waiting for further reads: %v", err)
	}
	r.audit()
}

// end ends the streams and the service, each in order.
func (r *soakRun) end() {
	r.leave()
	r.streaming.Wait()
	r.audit()
	for _, line := range r.lines {
		for reason, times := range line.refusals() {
			r.refusals[reason.String()] += times
			// The disk of a loaded machine may be slow; the streams resume by themselves.
			if reason != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE {
				r.t.Errorf("the service ended streams %d times with %s", times, reason)
			}
		}
	}
	if len(r.refusals) > 0 {
		r.t.Logf("the service ended streams: %s\n%s", counts(r.refusals), r.ended())
	}
	r.service.Stop(r.t)
	for line := range strings.Lines(r.service.Output()) {
		if strings.Contains(line, `"level":"ERROR"`) || strings.Contains(line, "panic") || strings.Contains(line, "DATA RACE") {
			r.t.Errorf("the service wrote: %s", line)
		}
	}
}

// ended returns some lines of the service's log about calls that ended otherwise than by a cut connection.
func (r *soakRun) ended() string {
	const most = 10
	var text strings.Builder
	n := 0
	for line := range strings.Lines(r.service.Output()) {
		if strings.Contains(line, "finished call") && !strings.Contains(line, "transport is closing") && n < most {
			text.WriteString(line)
			n++
		}
	}
	return text.String()
}

// report logs what happened and fails where something grew.
func (r *soakRun) report() {
	kinds, delivered, gaps, completed, begun := map[string]int{}, 0, 0, 0, 0
	for _, stream := range r.streams {
		kinds[stream.kind]++
		delivered += stream.alerts
		gaps += stream.gaps
		completed += stream.completed
	}
	for _, line := range r.lines {
		begun += int(line.calls.Load())
	}
	alerts, revisions := r.ledger.alertCount(), r.ledger.count(everyDevice)
	calls := r.house.calls()
	rows := [][2]string{
		{"seed", strconv.FormatUint(r.settings.seed, 10)},
		{"minutes", fmt.Sprintf("%.1f", r.gauges.elapsed().Minutes())},
		{"streams", fmt.Sprintf("%d over %d connections: %s", len(r.streams), len(r.lines), counts(kinds))},
		{"alerts, and their revisions at Microsoft", fmt.Sprintf("%d, %d; %d shown late", alerts, revisions, r.script.late)},
		{"revisions delivered; lost, twice", fmt.Sprintf("%d; 0, 0", delivered)},
		{"bounded streams completed, and begun anew", strconv.Itoa(completed)},
		{"streams resumed", strconv.Itoa(begun - len(r.streams) - completed)},
		{"streams ended by the service", cmp.Or(counts(r.refusals), "0")},
		{"connections cut", strconv.Itoa(r.trouble.cuts)},
		{"faults at Microsoft", counts(r.trouble.faults)},
		{"changes of the integration and of devices", counts(r.trouble.changes)},
		{"calls at Microsoft", counts(calls)},
		{"kills, gaps", fmt.Sprintf("0, %d", gaps)},
	}
	r.gauges.report(r.t, r.settings, rows)
}
