package acceptance_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The devices that verdicts are about: one with alerts now and then, and one that never has any.
const (
	rareDevice  = 2
	quietDevice = 4
)

// fleetVerdict is a bounded stream of a fleet and what it said, by whichever servers.
type fleetVerdict struct {
	number   int // of the integration
	from, to time.Time
	events   []received
	err      error
}

// judgeAllTheWhile opens bounded streams, so many at a time, one after the other until the test ends.
func (r *fleetRun) judgeAllTheWhile(count int) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var all sync.WaitGroup
	for i := range count {
		rng := rand.New(rand.NewPCG(r.rng.Uint64(), uint64(i)))
		all.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				v := r.judgeOnce(ctx, n%len(r.ids), time.Duration(rng.Int64N(int64(3*time.Second))))
				if ctx.Err() != nil {
					return // It was cut by the end of the test.
				}
				r.verdictsMu.Lock()
				r.verdicts = append(r.verdicts, v)
				r.verdictsMu.Unlock()
			}
		})
	}
	r.endVerdicts = sync.OnceFunc(func() {
		cancel()
		all.Wait()
	})
	r.t.Cleanup(r.endVerdicts)
}

// judgeOnce has a window judged that ends so far from now.
func (r *fleetRun) judgeOnce(ctx context.Context, number int, length time.Duration) *fleetVerdict {
	v := &fleetVerdict{number: number, from: r.house.microsoft.Now()}
	v.to = v.from.Add(length + time.Second)
	request := bounded(v.from, v.to, actorOf(rareDevice), actorOf(quietDevice))
	request.IntegrationId = r.ids[number]
	for event, err := range r.client.Alerts(request).Events(ctx) {
		if err != nil {
			v.err = err
			return v
		}
		v.events = append(v.events, received{r.house.microsoft.Now(), r.house.tenant.Held(), event.StreamAlertsResponse})
		event.Ack()
	}
	return v
}

// verifyVerdicts compares what bounded streams said with the record of the simulated side: the pair that each rests on is true, and
// reaches over the window; none says MISSED of a device that had an alert in it; and of the device that has none, none says anything else
// where it can be judged.
func (r *fleetRun) verifyVerdicts() {
	r.t.Helper()
	r.endVerdicts()
	devices := defendertest.SampleDevices()
	rare := concerning(r.house.tenant.Revisions(), devices[rareDevice])
	given := map[integrationv1.Verdict]int{}
	vouched := 0
	for _, v := range r.verdicts {
		var end *integrationv1.CompletedEvent
		when := map[string][]int{}
		for i, e := range v.events {
			if alert := e.event.GetAlert(); alert != nil {
				when[string(alert.GetRaw())] = append(when[string(alert.GetRaw())], i)
			}
			if completed := e.event.GetCompleted(); completed != nil {
				end = completed
			}
		}
		if end == nil || v.err != nil || end.GetFailedClosing() != nil {
			r.t.Errorf("a bounded stream of %s ended with %v and %v", r.ids[v.number], end, v.err)
			continue
		}
		for raw, places := range when {
			if len(places) > 1 {
				r.t.Errorf("a bounded stream heard %d times: %.200s", len(places), raw)
			}
		}
		pair := end.GetPair()
		if pair.GetSince().AsTime().After(v.from) || pair.GetThrough().AsTime().Before(v.to) {
			r.t.Errorf("the window from %s to %s is closed by the pair %v", v.from, v.to, pair)
		}
		var due []defendertest.Revision
		had := false // an alert whose activity is in the window for sure: it is a moment before it was added
		for _, revision := range rare {
			// The pair may reach further back than the window, which other streams need, and this one did not ask for.
			if isDue(revision, rare) && !revision.LastUpdate.Before(v.from) {
				due = append(due, revision)
			}
			had = had || revision.Number == 1 && !revision.Added.Before(v.from.Add(time.Second)) && revision.Added.Before(v.to)
		}
		var j judgement
		j.vouch(pair, len(v.events)-1, v.events[len(v.events)-1], due, when, 0)
		vouched += j.vouched
		for _, complaint := range j.complaints {
			r.t.Errorf("%s: %s", r.ids[v.number], complaint)
		}
		r.verifyVerdict(v, end, had, given)
	}
	r.t.Logf("%d bounded streams, whose pairs vouch for %d revisions: %v", len(r.verdicts), vouched, given)
	if len(r.verdicts) > 0 && given[integrationv1.Verdict_VERDICT_MISSED] == 0 {
		r.t.Error("no verdict is MISSED: nothing was tested")
	}
}

// verifyVerdict looks at the verdicts of one window, and counts them.
func (r *fleetRun) verifyVerdict(v *fleetVerdict, end *integrationv1.CompletedEvent, had bool, given map[integrationv1.Verdict]int) {
	r.t.Helper()
	for _, verdict := range end.GetVerdicts() {
		given[verdict.GetVerdict()]++
		missed := verdict.GetVerdict() == integrationv1.Verdict_VERDICT_MISSED
		detected := verdict.GetVerdict() == integrationv1.Verdict_VERDICT_DETECTED || verdict.GetVerdict() == integrationv1.Verdict_VERDICT_PREVENTED
		switch quiet := verdict.GetActorId() == actorOf(quietDevice).GetActorId(); {
		case quiet && detected, !quiet && had && !detected:
			r.t.Errorf("the window of %s from %s to %s, in which there was an alert (%t): %v", r.ids[v.number], v.from, v.to, had && !quiet, verdict)
		case missed && fleetIntegrations[v.number].devices == integrationv1.DeviceSource_KIND_NONE:
			r.t.Errorf("MISSED without a device source: %v", verdict)
		}
	}
}
