package acceptance_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// verifyFleet compares what all streams heard with the simulated side's record, counts its calls, and looks at what was logged.
func (r *fleetRun) verifyFleet() {
	r.t.Helper()
	r.verifyVerdicts()
	row := &matrixRow{}
	r.verify(row)
	for _, resumed := range r.resumers() {
		for _, h := range resumed.all() {
			if h.gap || h.reason != integrationv1.ErrorReason_ERROR_REASON_UNSPECIFIED {
				r.t.Errorf("a stream was told of a gap (%v) or sent away with %s", h.gap, h.reason)
			}
		}
	}
	r.verifyCalls()
	r.verifyLogs()
	r.tellTakeOvers()
	r.t.Logf("%d revisions, %d streams, %d late writes refused, lost %d, twice %d, untrue pairs %d",
		len(r.house.tenant.Revisions()), len(r.resumers()), r.lateWrites(), row.Lost, row.Twice, row.UntruePairs)
}

// lateWrites is how many late writes were refused.
func (r *fleetRun) lateWrites() int {
	count := 0
	for _, m := range r.fleet.members {
		count += strings.Count(m.output(), lateWrite)
	}
	return count
}

// verifyCalls counts the calls that Microsoft got in each minute, for each application and limit, and holds them against the budgets.
func (r *fleetRun) verifyCalls() {
	r.t.Helper()
	budgets := map[string]int{
		defendertest.RouteAlerts: fleetAlertsBudget, defendertest.RouteMachines: fleetDevicesBudget,
		defendertest.RouteHunting: fleetHuntingBudget + fleetTelemetryBudget,
	}
	calls := map[string][]time.Time{}
	for _, call := range r.house.microsoft.Calls(nil) {
		calls[call.Route+" of "+call.App] = append(calls[call.Route+" of "+call.App], call.Time)
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		times := calls[name]
		worst, from := 0, 0
		for i, at := range times {
			for at.Sub(times[from]) >= time.Minute {
				from++
			}
			worst = max(worst, i-from+1)
		}
		route, _, _ := strings.Cut(name, " of ")
		budget, limited := budgets[route]
		if !limited {
			r.t.Logf("%d calls of %s, %d in the worst minute", len(times), name, worst)
			continue
		}
		r.t.Logf("%d calls of %s, %d in the worst minute, of %d that are allowed", len(times), name, worst, budget)
		if worst > budget {
			r.t.Errorf("%d calls of %s in a minute, and %d are allowed", worst, name, budget)
		}
	}
}

// verifyLogs wants no crash in what the servers wrote, and tells what they warn of.
func (r *fleetRun) verifyLogs() {
	r.t.Helper()
	said := map[string]int{}
	for _, m := range r.fleet.members {
		for line := range strings.Lines(m.output()) {
			var entry struct{ Level, Msg string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				r.t.Errorf("server %d wrote: %s", m.number, line)
				continue
			}
			if entry.Level == "WARN" || entry.Level == "ERROR" {
				said[entry.Level+" "+entry.Msg]++
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(said)) {
		r.t.Logf("%4d %s", said[what], what)
	}
}

// servingMetrics is what a server logs of where it serves its metrics.
var servingMetrics = regexp.MustCompile(`"msg":"serving metrics","address":"([^"]+)"`)

// goroutines adds up the goroutines of all servers.
func (f *fleet) goroutines() (sum float64) {
	f.t.Helper()
	for _, m := range f.members {
		// One that was killed may be starting still.
		served := servingMetrics.FindStringSubmatch(m.life.WaitFor(f.t, "where it serves its metrics", servingMetrics.MatchString))
		values, err := gaugesAt(f.t, served[1]).scrape(f.t)
		if err != nil {
			f.t.Fatal(err)
		}
		sum += values[goroutinesMetric]
	}
	return sum
}

// verifyGoroutines wants the servers to have about as many goroutines as before, with as many streams, once what the last fault left has
// ended.
func (r *fleetRun) verifyGoroutines(before float64) {
	r.t.Helper()
	most := before*1.2 + 50
	sum := r.fleet.goroutines()
	for limit := time.Now().Add(patience); sum > most; sum = r.fleet.goroutines() {
		if time.Now().After(limit) {
			r.t.Errorf("the servers have %.0f goroutines together, and had %.0f before the faults", sum, before)
			return
		}
		r.during(time.Second)
	}
	r.t.Logf("the servers have %.0f goroutines together, and had %.0f before the faults", sum, before)
}

// tellTakeOvers tells how long it took from each fault until something was heard that appeared after it: of every integration, which is
// when it was collected again, and on every stream.
func (r *fleetRun) tellTakeOvers() {
	r.t.Helper()
	added := map[[32]byte]time.Time{}
	for _, revision := range r.house.tenant.Revisions() {
		added[revision.Hash] = revision.Added
	}
	type times struct{ collected, streams []time.Duration }
	by := map[string]*times{}
	for i, fault := range r.faults {
		until := time.Now()
		if i+1 < len(r.faults) {
			until = r.faults[i+1].at
		}
		collected, streams := map[string]time.Duration{}, time.Duration(0)
		for _, resumed := range r.resumers() {
			for _, h := range resumed.all() {
				if at, is := added[h.hash]; !is || at.Before(fault.at) || h.when.After(until) {
					continue
				}
				took, id := h.when.Sub(fault.at), resumed.request.GetIntegrationId()
				if before, is := collected[id]; !is || took < before {
					collected[id] = took
				}
				streams = max(streams, took)
				break
			}
		}
		if by[fault.kind] == nil {
			by[fault.kind] = &times{}
		}
		slowest := slices.MaxFunc(r.ids, func(a, b string) int { return cmp.Compare(collected[a], collected[b]) })
		if collected[slowest] > 2*lease {
			r.t.Logf("after %s (fault %d), %s was collected again after %s; it %s, and was read %s", fault.kind, i+1, slowest,
				collected[slowest].Round(grain), r.fleet.recoveries(slowest, fault.at, until), r.reads(slowest, fault.at, fault.at.Add(collected[slowest])))
		}
		by[fault.kind].collected = append(by[fault.kind].collected, collected[slowest])
		by[fault.kind].streams = append(by[fault.kind].streams, streams)
	}
	for _, kind := range slices.Sorted(maps.Keys(by)) {
		r.t.Logf("after %s, %d times: all was collected again after %s, heard on every stream after %s",
			kind, len(by[kind].streams), spread(by[kind].collected), spread(by[kind].streams))
	}
}

// reads tells when Microsoft was asked for an integration's alerts in a time, from its beginning.
func (r *fleetRun) reads(id string, from, until time.Time) string {
	app := fleetApplication(slices.Index(r.ids, id))
	var told []string
	for _, call := range r.house.microsoft.Calls(nil) {
		if call.Route == defendertest.RouteAlerts && call.App == app && call.Time.After(from) && call.Time.Before(until) {
			told = append(told, call.Time.Sub(from).Round(grain).String())
		}
	}
	if len(told) == 0 {
		return "never"
	}
	return "after " + strings.Join(told, ", ")
}

// grain is how exact times are told.
const grain = 10 * time.Millisecond

// spread tells the median and the worst.
func spread(times []time.Duration) string {
	slices.Sort(times)
	return fmt.Sprintf("%s (median) and %s (worst)", times[len(times)/2].Round(grain), times[len(times)-1].Round(grain))
}
