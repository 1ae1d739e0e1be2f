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
	replaced  *prometheus.CounterVec
	revisions *prometheus.CounterVec
	oddities  *prometheus.CounterVec
	lateness  *prometheus.HistogramVec
	spent     *prometheus.CounterVec

	fencedWrites *prometheus.CounterVec
	takeOvers    prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		reads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "defender_integration", Name: "read_duration_seconds",
			Help:    "How long whole reads of alerts took, by depth.",
			Buckets: prometheus.ExponentialBuckets(0.01, 4, 8),
		}, []string{"integration_id", "depth"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "failures_total",
			Help: "What failed while an integration was collected, by what was done (connect, read, devices, telemetry, store) and by the reason that the integration's problem has.",
		}, []string{"integration_id", "operation", "reason"}),
		replaced: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "journals_replaced_total",
			Help: "Journals that were damaged or lost and began anew, with another identity.",
		}, []string{"integration_id"}),
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
		fencedWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "fenced_writes_total",
			Help: "Writes that a journal refused, since another process had written to it meanwhile.",
		}, []string{"integration_id"}),
		takeOvers: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "lease_takeovers_total",
			Help: "Leases that this server took, of servers that share its store.",
		}),
	}
	if registerer != nil {
		registerer.MustRegister(m.reads, m.failures, m.replaced, m.revisions, m.oddities, m.lateness, m.spent)
	}
	return m
}

// The operations that failures are counted by.
const (
	operationConnect   = "connect"
	operationRead      = "read"
	operationDevices   = "devices"
	operationTelemetry = "telemetry"
	operationStore     = "store"
)

func (m *metrics) read(id string, depth integrationv1.Pair_Depth, took time.Duration, err error) {
	if err != nil {
		m.failed(id, operationRead, problemOf(err))
		return
	}
	m.reads.WithLabelValues(id, labelOf(depth.String(), "DEPTH_")).Observe(took.Seconds())
}

// failed counts what failed, by what an operator is told of it.
func (m *metrics) failed(id, operation string, problem *integrationv1.Problem) {
	m.failures.WithLabelValues(id, operation, labelOf(problem.GetReason().String(), "ERROR_REASON_")).Inc()
}

// labelOf returns the name of an enum's value as a label has it: without the enum's prefix, in lower case.
func labelOf(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

func (m *metrics) revision(id string, r *storev1.Revision) {
	m.revisions.WithLabelValues(id).Inc()
	for _, o := range r.GetAlert().GetOddities() {
		m.oddities.WithLabelValues(id, labelOf(o.GetKind().String(), "KIND_")).Inc()
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
	m.replaced.DeletePartialMatch(labels)
	m.revisions.DeletePartialMatch(labels)
	m.oddities.DeletePartialMatch(labels)
	m.lateness.DeletePartialMatch(labels)
	m.spent.DeletePartialMatch(labels)
	m.fencedWrites.DeletePartialMatch(labels)
}
