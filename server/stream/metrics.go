package stream

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/reflect/protoreflect"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// metrics are what the streams of a process count.
type metrics struct {
	events   *prometheus.CounterVec
	verdicts *prometheus.CounterVec
	delivery prometheus.Histogram
	phases   *phases
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "stream_events_total",
			Help: "Events that streams were given, by kind: actors, alert, progress, gap or completed.",
		}, []string{"event"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "defender_integration", Name: "verdicts_total",
			Help: "Verdicts that streams were given, one for each Actor of a completed event.",
		}, []string{"verdict"}),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "defender_integration", Name: "delivery_seconds",
			Help:    "How long after its entry was made an alert was given to gRPC, on streams that had caught up.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60},
		}),
		phases: newPhases(),
	}
	// From zero on, so that the first is an increase.
	for _, kind := range []string{"actors", "alert", "progress", "gap", "completed"} {
		m.events.WithLabelValues(kind)
	}
	for number, name := range integrationv1.Verdict_name {
		if number != 0 {
			m.verdicts.WithLabelValues(labelOf(name, "VERDICT_"))
		}
	}
	if registerer != nil {
		registerer.MustRegister(m.events, m.verdicts, m.delivery, m.phases)
	}
	return m
}

// sent counts an event that a stream was given.
func (m *metrics) sent(response *integrationv1.StreamAlertsResponse) {
	kind := ""
	switch event := response.GetEvent().(type) {
	case *integrationv1.StreamAlertsResponse_Actors:
		kind = "actors"
	case *integrationv1.StreamAlertsResponse_Alert:
		kind = "alert"
	case *integrationv1.StreamAlertsResponse_Progress:
		kind = "progress"
	case *integrationv1.StreamAlertsResponse_Gap:
		kind = "gap"
	case *integrationv1.StreamAlertsResponse_Completed:
		kind = "completed"
		for _, v := range event.Completed.GetVerdicts() {
			m.verdicts.WithLabelValues(labelOf(v.GetVerdict().String(), "VERDICT_")).Inc()
		}
	}
	m.events.WithLabelValues(kind).Inc()
}

// delivered measures how long an entry took to a stream that had caught up.
func (m *metrics) delivered(entry *storev1.Entry) {
	if entry.GetRevision() != nil {
		m.delivery.Observe(max(0, time.Since(entry.GetEntryTime().AsTime()).Seconds()))
	}
}

// labelOf returns the name of an enum's value as a label has it: without the enum's prefix, in lower case.
func labelOf(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// phases count the open streams of each integration by what they do. An integration without a stream is not in it, so that it needs
// not be told when one is deleted.
type phases struct {
	desc *prometheus.Desc

	mu   sync.Mutex
	open map[string]map[integrationv1.ProgressEvent_Phase]int
}

func newPhases() *phases {
	return &phases{
		desc: prometheus.NewDesc("defender_integration_streams",
			"Open streams, by the phase that they tell: catching_up, following, waiting, closing, paused or hunting. None where an integration has no stream.",
			[]string{"integration_id", "phase"}, nil),
		open: map[string]map[integrationv1.ProgressEvent_Phase]int{},
	}
}

// move counts a stream in another phase than before; the unspecified one stands for no stream.
func (p *phases) move(id string, from, to integrationv1.ProgressEvent_Phase) {
	if from == to {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.open[id]
	if counts == nil {
		counts = map[integrationv1.ProgressEvent_Phase]int{}
		p.open[id] = counts
	}
	if to != integrationv1.ProgressEvent_PHASE_UNSPECIFIED {
		counts[to]++
	}
	if from == integrationv1.ProgressEvent_PHASE_UNSPECIFIED {
		return
	}
	if counts[from]--; counts[from] == 0 {
		delete(counts, from)
	}
	if len(counts) == 0 {
		delete(p.open, id)
	}
}

// Describe implements prometheus.Collector.
func (p *phases) Describe(all chan<- *prometheus.Desc) { all <- p.desc }

// Collect implements prometheus.Collector. Of an integration that has a stream every phase is told, so that none is missing when its
// last stream leaves it.
func (p *phases) Collect(all chan<- prometheus.Metric) {
	values := integrationv1.ProgressEvent_Phase(0).Descriptor().Values()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, counts := range p.open {
		for i := range values.Len() {
			value := values.Get(i)
			if value.Number() == protoreflect.EnumNumber(integrationv1.ProgressEvent_PHASE_UNSPECIFIED) {
				continue
			}
			all <- prometheus.MustNewConstMetric(p.desc, prometheus.GaugeValue,
				float64(counts[integrationv1.ProgressEvent_Phase(value.Number())]), id, labelOf(string(value.Name()), "PHASE_"))
		}
	}
}
