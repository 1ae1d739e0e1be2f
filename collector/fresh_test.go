package collector_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// A stream waits for the devices that its verdict rests on until the budget lets them be looked up, and nobody else waits for that with it. Where
// that would take longer than a poll waits, it does not wait, and the pair tells why.
func TestDevicesOfAClosingHoldUpNoPoll(t *testing.T) {
	for name, tt := range map[string]struct {
		period time.Duration // in which the devices may be looked up once
		told   bool
	}{
		"soon": {period: 50 * time.Second},
		"late": {period: time.Hour, told: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testDevicesOfAClosing(t, tt.period, tt.told) })
		})
	}
}

func testDevicesOfAClosing(t *testing.T, period time.Duration, told bool) {
	settings := collector.DefaultSettings()
	settings.Rereads = nil
	settings.Budgets = maps.Clone(settings.Budgets)
	settings.Budgets[defender.LimitEndpoint] = []collector.Allowance{{Period: period, Calls: 1}}
	b := newStillBench(t)
	b.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
	source := &timed{Source: b.source}
	b.startOn(settings, source, b.store)
	defer func() { b.stop() }()
	m, _, err := b.collector().Join(t.Context(), [][]string{{"ws-one.contoso.test"}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Leave()
	time.Sleep(15 * time.Second)
	began := time.Now()
	due := began.Add(5 * time.Second)
	m.SetClosing(collector.Closing{Since: began.Add(-time.Minute), Due: due})
	time.Sleep(2 * time.Minute)

	reads := source.since(began)
	for i := 1; i < len(reads); i++ {
		if gap := reads[i].Sub(reads[i-1]); gap > settings.FastInterval+settings.FastInterval/10 {
			t.Errorf("no alerts were read for %s", gap)
		}
	}
	completed := 0
	for _, p := range b.entries() {
		pair := p.Entry.GetPair()
		if len(pair.GetWaiting().GetStreams()) == 0 {
			continue
		}
		completed++
		problem := pair.GetDevices().GetProblem().GetReason()
		switch lookedUp := pair.GetDevices().GetLookedUpTime().AsTime(); {
		case told && problem != integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT:
			t.Errorf("the pair tells %s, and the devices could not be looked up", problem)
		case !told && (problem != 0 || lookedUp.Before(due)):
			t.Errorf("the pair tells %s, and the devices were looked up %s before it was due", problem, due.Sub(lookedUp))
		}
		if waited := p.Entry.GetEntryTime().AsTime().Sub(due); waited > time.Minute || told && waited > settings.FastInterval+settings.FastInterval/10 {
			t.Errorf("the stream was completed %s after it was due", waited)
		}
	}
	if completed != 1 {
		t.Errorf("%d pairs complete the stream", completed)
	}
}
