package acceptance_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// faultRow is a fault at Microsoft's side, and what is to come of it.
type faultRow struct {
	// fault and where name the row.
	fault, where string
	// server are settings of the simulated side.
	server defendertest.Options
	// prepare is called before the streams are opened; it may be nil.
	prepare func(*faultRun)
	// begin starts the fault and returns what ends it.
	begin func(*faultRun) (end func())
	// quiet says that no alert changes while it lasts.
	quiet bool
	// route is where it acts. It lasts for at least meets requests there, and steps of the script; default: scriptSteps.
	route        string
	meets, steps int
	// lag is how much later than the record says an alert counts as visible.
	lag time.Duration
	// tells is what streams and the integration's status tell of it; the zero value: nothing.
	tells telling
}

// telling is what is told of a fault: the problem's reason, the integration's state, and whether it is told until when nothing is
// called. What fails in the list of machines alone is told by the status, and in no stream's progress.
type telling struct {
	reason    integrationv1.ErrorReason
	also      integrationv1.ErrorReason // which may be told too, where it is a matter of moments
	state     integrationv1.IntegrationStatus_State
	untilWhen bool
}

// String is the row's last column.
func (t telling) String() string {
	reason := strings.TrimPrefix(t.reason.String(), "ERROR_REASON_")
	switch {
	case t.reason == 0:
		return "nothing"
	case t.state == integrationv1.IntegrationStatus_STATE_ACTIVE:
		return "status: " + reason
	case t.untilWhen:
		return "progress and status: " + reason + ", until when"
	}
	return "progress and status: " + reason
}

// The pace of a row.
const (
	scriptPace  = 40 * time.Millisecond
	scriptSteps = 12 // while a fault lasts, at least
	pollsAfter  = 3  // when all is delivered: what would come twice comes by then
)

// faultRun is one row under way.
type faultRun struct {
	*house

	t      *testing.T
	row    faultRow
	client *client.Client
	// all hears everything, two what concerns two Actors; stops end them.
	all, two *listener
	stops    []func()
	// over is closed when the fault ends.
	over  chan struct{}
	steps int
	ids   []string // of the script's alerts
}

// run runs a row and returns what came of it.
func (row faultRow) run(t *testing.T, program string) matrixRow {
	t.Helper()
	r := &faultRun{t: t, row: row, house: newHouseBeside(t, program, row.server), over: make(chan struct{})}
	service := r.serve(t, nil, "--poll-fast", "150ms", "--poll-slow", "150ms", "--poll-overlap", "10s", "--device-interval", "200ms",
		"--retry-min", "100ms", "--retry-max", "400ms", "--retry-permanent", "400ms", "--log-level", "warn")
	r.client = r.connect(t)
	r.register(t, r.client, integrationv1.DeviceSource_KIND_MACHINES)
	if row.prepare != nil {
		row.prepare(r)
	}
	r.open()
	for range 3 {
		r.step()
	}
	r.delivered("before the fault")

	begun, place := len(r.microsoft.Calls(nil)), r.all.place()
	end := row.begin(r)
	r.endure(place)
	close(r.over)
	end()
	calls, ended := len(r.microsoft.Calls(nil))-begun, time.Now()
	recovery := r.recover(ended)
	r.settle()
	for _, stop := range r.stops {
		stop()
	}
	service.Stop(t)
	return r.judged(matrixRow{Fault: row.fault, Where: row.where, Recovery: recovery, Calls: calls, Told: row.tells.String()}, place)
}

// open opens the streams and waits until the Actors' devices are known.
func (r *faultRun) open() {
	began, devices := r.microsoft.Now(), defendertest.SampleDevices()
	open := func(request *integrationv1.StreamAlertsRequest) *listener {
		l, stop := listen(r.t, r.house, r.client, request)
		r.stops = append(r.stops, stop)
		return l
	}
	r.all = open(following(began))
	r.two = open(following(began, &integrationv1.Actor{ActorId: "first", FqHostName: devices[0].DNSName},
		&integrationv1.Actor{ActorId: "second", HostName: strings.Split(devices[1].DNSName, ".")[0]}))
	r.two.waitFor(r.t, "the Actors' devices", 0, func(e received) bool {
		actors := e.event.GetActors().GetActors()
		return len(actors) == 2 && !slices.ContainsFunc(actors, func(a *integrationv1.ActorState) bool {
			return a.GetKnowledge() != integrationv1.ActorState_KNOWLEDGE_KNOWN
		})
	})
}

// add adds an alert on one of the devices, the first two of which are the Actors'.
func (r *faultRun) add(device int, change func(*defendertest.Alert), visibility ...defendertest.Visibility) string {
	a := defendertest.Alert{Evidence: []defendertest.Evidence{defendertest.DeviceEvidence{Device: defendertest.SampleDevices()[device]}}}
	if change != nil {
		change(&a)
	}
	return r.tenant.AddAlert(a, visibility...).ID
}

// change changes an alert.
func (r *faultRun) change(id string, change func(*defendertest.Alert), visibility ...defendertest.Visibility) {
	if _, err := r.tenant.Change(id, change, visibility...); err != nil {
		r.t.Error(err)
	}
}

// step is one step of the script: an alert appears, now and then late, or one that is there changes.
func (r *faultRun) step() {
	r.steps++
	switch {
	case r.steps%3 == 0 && !r.row.quiet:
		id := r.ids[(r.steps*7)%len(r.ids)]
		r.change(id, func(a *defendertest.Alert) { a.Title = fmt.Sprint("change ", r.steps) })
	case r.steps%4 == 0:
		r.ids = append(r.ids, r.add(r.steps%3, nil, defendertest.Late(300*time.Millisecond)))
	default:
		r.ids = append(r.ids, r.add(r.steps%3, nil))
	}
}

// endure lets the script go on while the fault lasts: for some steps, until enough requests met it, and until it was told.
func (r *faultRun) endure(place int) {
	pace := time.NewTicker(scriptPace)
	defer pace.Stop()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for steps := 1; ; steps++ {
		r.step()
		met := len(r.microsoft.Calls(func(c defendertest.Call) bool { return c.Faulty && c.Route == r.row.route }))
		if steps >= cmp.Or(r.row.steps, scriptSteps) && met >= r.row.meets && r.told(place) {
			return
		}
		select {
		case <-pace.C:
		case <-limit.C:
			r.t.Fatalf("the fault was met by %d requests, and is not told as %s: the status is %s", met, r.row.tells, r.status())
		}
	}
}

// quiet waits until no request is under way, after one was: the next is a poll's interval away.
func (r *faultRun) quiet() {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	for {
		before := len(r.microsoft.Calls(nil))
		calls, err := r.microsoft.WaitCalls(ctx, before+1, func(defendertest.Call) bool { return true })
		if err != nil {
			r.t.Fatalf("waiting for a request: %v", err)
		}
		last := calls[len(calls)-1].Number
		if _, err = r.microsoft.WaitCalls(ctx, 1, func(c defendertest.Call) bool { return c.Number == last && c.Done }); err != nil {
			r.t.Fatalf("waiting for an answer: %v", err)
		}
		if len(r.microsoft.Calls(func(c defendertest.Call) bool { return !c.Done })) == 0 {
			return
		}
	}
}

func (r *faultRun) status() *integrationv1.IntegrationStatus {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	got, err := r.client.Service().GetIntegration(ctx, &integrationv1.GetIntegrationRequest{IntegrationId: integrationID})
	if err != nil {
		r.t.Fatal(err)
	}
	return got.GetIntegration().GetStatus()
}

// told says whether the status and, but for the list of machines, both streams tell what they are to tell.
func (r *faultRun) told(place int) bool {
	tells := r.row.tells
	if tells.reason == 0 {
		return true
	}
	status := r.status()
	if status.GetProblem().GetReason() != tells.reason || status.GetState() != tells.state || (status.GetThrottledUntil() != nil) != tells.untilWhen {
		return false
	}
	if r.row.route == defendertest.RouteMachines {
		return true
	}
	events, _, _ := r.all.heard()
	return slices.ContainsFunc(events[place:], func(e received) bool {
		progress := e.event.GetProgress()
		return progress.GetProblem().GetReason() == tells.reason && progress.GetProblem().GetRemedy() != "" && (progress.GetThrottledUntil() != nil) == tells.untilWhen
	})
}

// recover returns how long after the fault's end things were as before: an alert that appears then is delivered to both streams, and
// for the list of machines a look-up succeeds.
func (r *faultRun) recover(ended time.Time) time.Duration {
	r.t.Helper()
	if r.row.route == defendertest.RouteMachines {
		from := len(r.microsoft.Calls(nil))
		r.calls200(from, 1, defendertest.RouteMachines)
		return time.Since(ended)
	}
	r.marker("after the fault")
	return time.Since(ended)
}

// marker adds an alert and waits until both streams have it.
func (r *faultRun) marker(what string) {
	r.t.Helper()
	id := r.add(0, nil)
	for _, l := range []*listener{r.all, r.two} {
		l.waitFor(r.t, "an alert "+what, 0, func(e received) bool { return e.event.GetAlert().GetAlert().GetId() == id })
	}
}

// calls200 waits for so many good calls of a route, after a number of calls.
func (r *faultRun) calls200(after, n int, route string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	_, err := r.microsoft.WaitCalls(ctx, n, func(c defendertest.Call) bool {
		return c.Number > after && c.Route == route && c.Done && c.Status == http.StatusOK && !c.Faulty
	})
	if err != nil {
		r.t.Fatalf("waiting for %d good calls of %s: %v; the status is %s", n, route, err, r.status())
	}
}

// delivered waits until what is there is delivered.
func (r *faultRun) delivered(what string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	if err := r.tenant.WaitServed(ctx); err != nil {
		r.t.Fatalf("%s: not all is read: %v; the status is %s", what, err, r.status())
	}
	r.marker(what)
}

// settle waits until all is delivered, both streams tell no problem and a pair that began after that, and some polls more were made.
func (r *faultRun) settle() {
	r.t.Helper()
	r.delivered("at the end")
	since := r.microsoft.Now()
	places := []int{r.all.place(), r.two.place()}
	r.calls200(len(r.microsoft.Calls(nil)), pollsAfter, defendertest.RouteAlerts)
	for i, l := range []*listener{r.all, r.two} {
		l.waitFor(r.t, "a pair after the fault", places[i], func(e received) bool {
			return e.event.GetProgress().GetProblem() == nil && slices.ContainsFunc(pairsOf(e.event), func(p *integrationv1.Pair) bool {
				return p.GetDepth() == integrationv1.Pair_DEPTH_POLL && !p.GetThrough().AsTime().Before(since)
			})
		})
	}
	if status := r.status(); status.GetState() != integrationv1.IntegrationStatus_STATE_ACTIVE || status.GetProblem() != nil {
		r.t.Errorf("after the fault the status is %s", status)
	}
}

// judged fills the row in by what both streams got, and checks that nothing was told where nothing is to be told.
func (r *faultRun) judged(row matrixRow, place int) matrixRow {
	r.t.Helper()
	revisions, devices := r.tenant.Revisions(), defendertest.SampleDevices()
	for name, of := range map[string]struct {
		listener  *listener
		revisions []defendertest.Revision
	}{
		"the stream of everything":  {r.all, revisions},
		"the stream for two Actors": {r.two, concerning(revisions, devices[0], devices[1])},
	} {
		events, _, _ := of.listener.heard()
		j := judge(of.revisions, events, r.row.lag)
		if j.stale > 0 {
			r.t.Errorf("%s: %d revisions came after newer ones", name, j.stale)
		}
		for _, complaint := range j.complaints[:min(len(j.complaints), 10)] {
			r.t.Errorf("%s: %s", name, complaint)
		}
		if j.pairs == 0 || j.vouched == 0 {
			r.t.Errorf("%s: %d pairs vouch for %d revisions", name, j.pairs, j.vouched)
		}
		row.Lost, row.Twice, row.UntruePairs = row.Lost+j.lost, row.Twice+j.twice, row.UntruePairs+j.untruePairs
		for _, e := range events[min(place, len(events)):] {
			if problem := e.event.GetProgress().GetProblem(); problem != nil && problem.GetReason() != r.row.tells.reason && problem.GetReason() != r.row.tells.also {
				r.t.Errorf("%s told %s", name, problem)
				break
			}
		}
		r.t.Logf("%s: %d revisions, %d events, %d pairs that vouch for %d revisions", name, len(of.revisions), len(events), j.pairs, j.vouched)
	}
	return row
}
