package collector

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// metrics are what the collectors of a process count.
type metrics struct {
	reads     *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	revisions *prometheus.CounterVec
	oddities  *prometheus.CounterVec
	lateness  *prometheus.HistogramVec
	spent     *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		reads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "defender_integration", Name: "read_duration_seconds",
			Help:    "How long whole reads of alerts took, by depth.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		}, []string{"integration_id", "depth"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "read_failures_total",
			Help: "Reads of alerts that failed, by reason.",
		}, []string{"integration_id", "reason"}),
		revisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "revisions_total",
			Help: "Revisions that entered the journal.",
		}, []string{"integration_id"}),
		oddities: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "oddities_total",
			Help: "Parts of elements that were not as documented, by kind.",
		}, []string{"integration_id", "kind"}),
		lateness: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "defender_integration", Name: "revision_lateness_seconds",
			Help: "How long after its last update, by Microsoft's clock, a revision could be read; what was updated while nobody polled is left out.",
			// From a poll's interval, over the overlap and the spans of the deeper reads, to a day.
			Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400},
		}, []string{"integration_id"}),
		spent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "calls_total",
			Help: "Calls at Microsoft that were counted against a limit, tests of the connection among them.",
		}, []string{"integration_id", "limit"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.reads, m.failures, m.revisions, m.oddities, m.lateness, m.spent)
	}
	return m
}

func (m *metrics) read(id string, depth integrationv1.Pair_Depth, took time.Duration, err error) {
	if err != nil {
		m.failures.WithLabelValues(id, strings.ToLower(strings.TrimPrefix(problemOf(err).GetReason().String(), "ERROR_REASON_"))).Inc()
		return
	}
	m.reads.WithLabelValues(id, strings.ToLower(strings.TrimPrefix(depth.String(), "DEPTH_"))).Observe(took.Seconds())
}

func (m *metrics) revision(id string, r *storev1.Revision) {
	m.revisions.WithLabelValues(id).Inc()
	for _, o := range r.GetAlert().GetOddities() {
		m.oddities.WithLabelValues(id, strings.ToLower(strings.TrimPrefix(o.GetKind().String(), "KIND_"))).Inc()
	}
}

func (m *metrics) late(id string, by time.Duration) {
	m.lateness.WithLabelValues(id).Observe(by.Seconds())
}

// counting returns a spender that counts what it lets through.
func (m *metrics) counting(id string, spend defender.SpendFunc) defender.SpendFunc {
	return func(ctx context.Context, limit defender.Limit) error {
		err := spend(ctx, limit)
		if err == nil {
			m.spent.WithLabelValues(id, string(limit)).Inc()
		}
		return err
	}
}

// forget drops the metrics of an integration that is no more.
func (m *metrics) forget(id string) {
	labels := prometheus.Labels{"integration_id": id}
	m.reads.DeletePartialMatch(labels)
	m.failures.DeletePartialMatch(labels)
	m.revisions.DeletePartialMatch(labels)
	m.oddities.DeletePartialMatch(labels)
	m.lateness.DeletePartialMatch(labels)
	m.spent.DeletePartialMatch(labels)
}
