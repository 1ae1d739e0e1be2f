package acceptance_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The budgets of a fleet, for each minute and application. What its polls and the tests of its connections want is more, so that it spends
// them.
const (
	fleetAlertsBudget    = 120
	fleetDevicesBudget   = 20
	fleetHuntingBudget   = 15
	fleetTelemetryBudget = 5 // of the same route
)

// fleetFlags make a fleet poll often, inside its budget. A poll reads back only a little, or it would make good what a defect loses.
func fleetFlags() []string {
	return []string{
		"--poll-fast", "200ms", "--poll-slow", "200ms", "--poll-overlap", "500ms", "--retry-min", "100ms", "--retry-max", "1s",
		"--closing-interval", "500ms",
		"--budget", fmt.Sprintf("graph-alerts=%d/1m", fleetAlertsBudget),
		"--budget", fmt.Sprintf("defender-for-endpoint=%d/1m", fleetDevicesBudget),
		"--budget", fmt.Sprintf("hunting=%d/1m", fleetHuntingBudget), "--budget", fmt.Sprintf("telemetry=%d/1m", fleetTelemetryBudget),
	}
}

// fleetSize is how large a fleet's run is.
type fleetSize struct {
	integrations int // each of an application of its own, with another device source
	streams      int // that resume, on whichever server takes them
	verdicts     int // how many bounded streams there are at any time
}

// fleetRun is a fleet under load, with streams that resume on whichever server takes them.
type fleetRun struct {
	*ownRun
	fleet  *fleet
	rng    *rand.Rand
	ids    []string   // of the integrations
	alike  []*resumer // as every, of the further integrations
	faults []*fleetFault

	verdictsMu  sync.Mutex
	verdicts    []*fleetVerdict
	endVerdicts func()
}

// fleetIntegrations are the ids of a fleet's integrations, and where each looks devices up.
var fleetIntegrations = []struct {
	id      string
	devices integrationv1.DeviceSource_Kind
}{
	{integrationID, integrationv1.DeviceSource_KIND_MACHINES},
	{"fabrikam", integrationv1.DeviceSource_KIND_HUNTING},
	{"tailspin", integrationv1.DeviceSource_KIND_NONE},
}

// fleetApplication is the application that an integration of a fleet reads as.
func fleetApplication(number int) string { return fmt.Sprintf("0a0b0c0d-1111-4222-8333-%012d", number) }

// newFleetRun starts a fleet with streams of all kinds, and waits until they have heard something.
func newFleetRun(t *testing.T, rng *rand.Rand, size fleetSize) *fleetRun {
	t.Helper()
	f := newFleet(t, fleetFlags()...)
	r := &fleetRun{fleet: f, rng: rng, ownRun: &ownRun{t: t, house: f.house, began: f.house.microsoft.Now(), client: f.connect(t)}}
	for i, integration := range fleetIntegrations[:size.integrations] {
		f.house.tenant.AddApplication(fleetApplication(i), defendertest.RunSecret,
			defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead, defendertest.RoleThreatHuntingRead)
		f.house.registerAs(t, r.client, integration.id, fleetApplication(i), integration.devices)
		r.ids = append(r.ids, integration.id)
	}
	for i := range max(size.streams, 2*size.integrations) {
		number := i % size.integrations
		request := following(r.began)
		if i/size.integrations%2 == 1 {
			request = following(r.began, actorOf(0))
		}
		request.IntegrationId = r.ids[number]
		resumed := resumeBy(t, f.connect(t), request)
		switch i {
		case 0:
			r.every = resumed
		case size.integrations:
			r.one = resumed
		default:
			r.more = append(r.more, resumed)
		}
		if i > 0 && i < size.integrations {
			r.alike = append(r.alike, resumed)
		}
	}
	r.load(10)
	r.settle()
	r.judgeAllTheWhile(size.verdicts)
	return r
}

// actorOf is the Actor on a device of the sample.
func actorOf(device int) *integrationv1.Actor {
	return &integrationv1.Actor{ActorId: fmt.Sprint(device), FqHostName: defendertest.SampleDevices()[device].DNSName}
}

// during goes on with the load for a time.
func (r *fleetRun) during(d time.Duration) {
	tick := time.NewTicker(100 * time.Millisecond)
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

// load makes n steps.
func (r *fleetRun) load(n int) {
	for range n {
		r.step()
	}
}

// step makes an alert appear, or one change that all integrations have read: what was replaced before anybody could keep it, nobody can be
// expected to deliver. Alerts are about the first two devices, and now and then about the third; never about the fifth.
func (r *fleetRun) step() {
	r.t.Helper()
	r.number++
	if r.number%3 == 0 && len(r.alerts) > 0 {
		id := r.alerts[r.number/2%len(r.alerts)]
		revisions := r.house.tenant.Revisions(id)
		if r.heardEverywhere(revisions[len(revisions)-1].Hash) {
			if _, err := r.house.tenant.Change(id, func(a *defendertest.Alert) { a.Title = fmt.Sprintf("Change %d", r.number) }); err != nil {
				r.t.Fatal(err)
			}
			return
		}
	}
	device := r.number % 2
	if r.number%20 == 10 {
		device = rareDevice
	}
	a := r.house.tenant.AddAlert(defendertest.Alert{
		Title: fmt.Sprintf("Alert %d", r.number), FirstActivity: r.house.microsoft.Now(),
		Evidence: []defendertest.Evidence{defendertest.DeviceEvidence{Device: defendertest.SampleDevices()[device]}},
	})
	r.alerts = append(r.alerts, a.ID)
}

// heardEverywhere says whether a revision was heard of every integration.
func (r *fleetRun) heardEverywhere(hash [sha256.Size]byte) bool {
	return r.every.hears(hash) && !slices.ContainsFunc(r.alike, func(other *resumer) bool { return !other.hears(hash) })
}

// heals waits until what appears after a fault is heard, everywhere, and the cluster is whole again.
func (r *fleetRun) heals(what string) {
	r.t.Helper()
	began := time.Now()
	r.load(2)
	r.settle()
	r.fleet.nodes.awaitLeader()
	r.t.Logf("%s; all was heard %s after it was mended", what, time.Since(began).Round(time.Millisecond))
}

// testConnections tests the connection of one integration after another, on whichever server takes the call, until the test ends. What
// that calls counts by the budget of the server that collects; whether it succeeds in the midst of faults is not what matters.
func (r *fleetRun) testConnections(every time.Duration) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := r.fleet.connect(r.t)
		for i := 0; ; i++ {
			select {
			case <-time.After(every):
			case <-ctx.Done():
				return
			}
			bounded, cancel := context.WithTimeout(ctx, lease)
			_, _ = c.Service().TestConnectivity(bounded, &integrationv1.TestConnectivityRequest{
				Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: r.ids[i%len(r.ids)]},
			})
			cancel()
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
}
