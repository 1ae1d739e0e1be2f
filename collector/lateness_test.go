package collector_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// startMeasured starts the bench with its metrics in a registry.
func (b *bench) startMeasured(settings collector.Settings) *prometheus.Registry {
	registry := prometheus.NewPedanticRegistry()
	b.manager = collector.NewManager(collector.Options{
		Settings: settings, Store: b.store,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			b.source.SetSpend(spend)
			return b.source, nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string { return []string{d.GetDeviceDnsName()} },
		Log:        slog.New(slog.DiscardHandler), Metrics: registry,
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.manager.Run(ctx) })
	b.stop = func() { cancel(); running.Wait() }
	return registry
}

// sums returns the sum of each metric over its labels: of a histogram, how many it counted, and under name_sum what they add up to.
func sums(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			all[family.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			all[family.GetName()+"_sum"] += m.GetHistogram().GetSampleSum()
		}
	}
	return all
}

// What Microsoft shows after polling has passed its last update arrived late, by a poll or a deeper read alike. What is read late since
// the service was away did not, and says nothing of Microsoft's lateness.
func TestArrivedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newStillBench(t)
		b.source.Put(titled("before", "x", time.Now().Add(-time.Minute)), time.Now())
		registry := b.startMeasured(collector.DefaultSettings())
		defer func() { b.stop() }()
		time.Sleep(5 * time.Minute)
		now := time.Now()
		b.source.Put(titled("at once", "x", now), now)
		b.source.Put(titled("in the overlap", "x", now), now.Add(3*time.Minute))
		b.source.Put(titled("in the re-read", "x", now), now.Add(90*time.Minute))
		time.Sleep(2 * time.Hour)
		metrics := sums(t, registry)
		if n := metrics["defender_integration_revision_lateness_seconds"]; n != 3 {
			t.Errorf("the lateness of %v revisions was counted, want 3", n)
		}
		if total := time.Duration(metrics["defender_integration_revision_lateness_seconds_sum"] * float64(time.Second)); total < 93*time.Minute || total > 105*time.Minute {
			t.Errorf("they are late by %v in all, want 93 minutes, and a poll's and a re-read's interval more", total)
		}
		b.stop()
		b.source.Put(titled("while away", "x", time.Now().Add(time.Minute)), time.Now().Add(time.Minute))
		time.Sleep(2 * time.Hour)
		registry = b.startMeasured(collector.DefaultSettings())
		time.Sleep(5 * time.Minute)
		if n := sums(t, registry)["defender_integration_revision_lateness_seconds"]; n != 0 {
			t.Errorf("being away was counted %v times as lateness", n)
		}
		want := map[string]bool{"before": false, "at once": false, "in the overlap": true, "in the re-read": true, "while away": false}
		for _, p := range b.entries() {
			rev := p.Entry.GetRevision()
			if rev == nil {
				continue
			}
			if rev.GetArrivedLate() != want[rev.GetKey()] {
				t.Errorf("%s arrived late: %t", rev.GetKey(), rev.GetArrivedLate())
			}
			delete(want, rev.GetKey())
		}
		if len(want) > 0 {
			t.Errorf("not collected: %v", want)
		}
	})
}

// What is spent of the budget, and what is left, are metrics; an integration that is no more has none.
func TestBudgetMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newStillBench(t)
		registry := b.startMeasured(collector.DefaultSettings())
		defer func() { b.stop() }()
		c := b.collector()
		time.Sleep(10 * time.Second)
		metrics := sums(t, registry)
		spent, left, allowed := metrics["defender_integration_calls_total"], metrics["defender_integration_budget_calls_left"], metrics["defender_integration_budget_calls_allowed"]
		if spent < 1 || allowed != 120+80+1200 || spent+left != allowed {
			t.Errorf("%v calls spent, %v left of %v", spent, left, allowed)
		}
		var told int64
		s, _ := c.Snapshot()
		for _, one := range s.Budget {
			told += one.GetLeft()
		}
		if float64(told) != left {
			t.Errorf("streams are told that %d calls are left, want %v", told, left)
		}
		record, revision, err := b.store.Record(t.Context(), "contoso")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.store.DeleteRecord(t.Context(), record.GetIntegration().GetIntegrationId(), revision); err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		time.Sleep(time.Second)
		for name, value := range sums(t, registry) {
			if value != 0 && !strings.HasPrefix(name, "defender_integration_journal_retention_") { // those are settings
				t.Errorf("%s is %v without an integration", name, value)
			}
		}
	})
}
