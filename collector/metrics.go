package collector

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// metrics are what the collectors of a process count.
type metrics struct {
	reads     *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	revisions *prometheus.CounterVec
	oddities  *prometheus.CounterVec
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
	}
	if registerer != nil {
		registerer.MustRegister(m.reads, m.failures, m.revisions, m.oddities)
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

// forget drops the metrics of an integration that is no more.
func (m *metrics) forget(id string) {
	labels := prometheus.Labels{"integration_id": id}
	m.reads.DeletePartialMatch(labels)
	m.failures.DeletePartialMatch(labels)
	m.revisions.DeletePartialMatch(labels)
	m.oddities.DeletePartialMatch(labels)
}
