package collector

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// gauges tell how each integration does when they are asked. Times are told as such and not as ages: who reads them knows the time,
// and an age that nobody updates does not grow.
type gauges struct {
	manager *Manager

	state, stateSince, lastGood, pairThrough, covered *prometheus.Desc
	nextPoll, devices                                 *prometheus.Desc
	left, allowed                                     *prometheus.Desc
	pending, closings, questions                      *prometheus.Desc
	bytes, entries, first                             *prometheus.Desc
	token, certificate                                *prometheus.Desc
	retentionBytes, retentionAge                      *prometheus.Desc
}

func newGauges(m *Manager) *gauges {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("defender_integration_"+name, help, append([]string{"integration_id"}, labels...), nil)
	}
	return &gauges{
		manager: m,
		state: desc("state", "1 for the state that the integration is in and 0 for the others: active, paused, throttled, failing or retired.",
			"state"),
		stateSince: desc("state_since_timestamp_seconds", "Since when the integration is in its state."),
		lastGood: desc("last_good_read_timestamp_seconds",
			"Through when alerts were read by the last good read of any depth, by Microsoft's clock. None before the first."),
		pairThrough: desc("pair_through_timestamp_seconds",
			"Through when the newest pair of a depth (poll, reread, closing) is complete, by Microsoft's clock. None before the first of this process.", "depth"),
		covered: desc("covered_since_timestamp_seconds", "Since when everything was read without a break. None before the first read."),
		nextPoll: desc("next_poll_timestamp_seconds",
			"When the next poll is due: that it lies further and further back says that the collector hangs. None while none is due."),
		devices: desc("devices_looked_up_timestamp_seconds",
			"When the last whole look-up of devices began. None before the first: devices are looked up while a stream asks for Actors."),
		left: desc("budget_calls_left",
			"Calls at Microsoft that this service still allows itself within the period, of the integration's application and tenant. Integrations of one application share them.",
			"limit", "period"),
		allowed:   desc("budget_calls_allowed", "Calls at Microsoft that this service allows itself in any span of the period.", "limit", "period"),
		pending:   desc("pending_entries", "Entries that were read and wait to be appended to the journal."),
		closings:  desc("closings_waiting_streams", "Streams that wait for a closing read, those among them whose window has not ended yet."),
		questions: desc("telemetry_questions_waiting", "Questions to telemetry that have no answer in the journal yet."),
		bytes:     desc("journal_bytes", "What the journal takes in the store, when it was last looked at (--trim-interval)."),
		entries:   desc("journal_entries", "Entries in the journal, when it was last looked at (--trim-interval)."),
		first: desc("journal_first_entry_timestamp_seconds",
			"When the journal's first entry was made, when it was last looked at (--trim-interval). None while it is empty."),
		token: desc("token_expiry_timestamp_seconds",
			"Until when the token in use is good, for alerts and for devices. None before the first. It is renewed minutes before.", "target"),
		certificate: desc("client_certificate_expiry_timestamp_seconds",
			"Until when the client certificate is good that tokens are asked for with. None before the first token, and for other credentials."),
		retentionBytes: prometheus.NewDesc("defender_integration_journal_retention_bytes",
			"From what size on a journal's oldest entries are dropped (--retention-bytes).", nil, nil),
		retentionAge: prometheus.NewDesc("defender_integration_journal_retention_seconds",
			"From what age on a journal's entries are dropped (--retention-age).", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		g.state, g.stateSince, g.lastGood, g.pairThrough, g.covered, g.nextPoll, g.devices, g.left, g.allowed,
		g.pending, g.closings, g.questions, g.bytes, g.entries, g.first, g.token, g.certificate, g.retentionBytes, g.retentionAge,
	} {
		all <- desc
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(all chan<- prometheus.Metric) {
	settings := g.manager.options.Settings
	all <- prometheus.MustNewConstMetric(g.retentionBytes, prometheus.GaugeValue, float64(settings.RetentionBytes))
	all <- prometheus.MustNewConstMetric(g.retentionAge, prometheus.GaugeValue, settings.RetentionAge.Seconds())
	g.manager.mu.Lock()
	running := maps.Clone(g.manager.running)
	g.manager.mu.Unlock()
	for id, r := range running {
		if !r.collector.Collects() {
			continue // The server that does tells it.
		}
		g.collect(&integrationGauges{id: id, all: all}, r.collector)
	}
}

// collect tells of one integration.
func (g *gauges) collect(out *integrationGauges, c *Collector) {
	now, _ := c.Snapshot()
	for _, state := range states() {
		out.number(g.state, boolean(now.state == state), labelOf(state.String(), "STATE_"))
	}
	out.time(g.stateSince, now.since)
	out.time(g.lastGood, now.lastGood)
	for _, p := range now.Pairs {
		out.time(g.pairThrough, p.Pair.GetThrough().AsTime(), labelOf(p.Pair.GetDepth().String(), "DEPTH_"))
	}
	out.time(g.covered, now.Covered)
	out.time(g.nextPoll, now.NextPoll)
	if now.Devices != nil {
		out.time(g.devices, now.Devices.LookedUp)
	}
	for _, one := range c.budgetLeft() {
		labels := []string{one.GetLimit(), one.GetPeriod().AsDuration().String()}
		out.number(g.left, float64(one.GetLeft()), labels...)
		out.number(g.allowed, float64(one.GetAllowed()), labels...)
	}

	c.mu.Lock()
	closings, questions, journal, expiring := len(c.closings), len(c.questions), c.journaled, c.expiring
	c.mu.Unlock()
	out.number(g.pending, float64(c.waiting.Load()))
	out.number(g.closings, float64(closings))
	out.number(g.questions, float64(questions))
	if journal.First > 0 {
		out.number(g.bytes, float64(journal.Bytes))
		out.number(g.entries, float64(journal.Last+1-journal.First))
		out.time(g.first, journal.firstMade)
	}
	if expiring == nil {
		return
	}
	e := expiring.Expiries()
	out.time(g.token, e.AlertToken, "alerts")
	out.time(g.token, e.DeviceToken, "devices")
	out.time(g.certificate, e.Certificate)
}

// integrationGauges sends what is told of one integration.
type integrationGauges struct {
	id  string
	all chan<- prometheus.Metric
}

func (o *integrationGauges) number(desc *prometheus.Desc, value float64, labels ...string) {
	o.all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, append([]string{o.id}, labels...)...)
}

// time tells a time; the zero time, which stands for none, is left out.
func (o *integrationGauges) time(desc *prometheus.Desc, at time.Time, labels ...string) {
	if !at.IsZero() {
		o.number(desc, float64(at.UnixMilli())/1000, labels...)
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// states returns the states that an integration can be in.
func states() []integrationv1.IntegrationStatus_State {
	values := integrationv1.IntegrationStatus_State(0).Descriptor().Values()
	var all []integrationv1.IntegrationStatus_State
	for i := range values.Len() {
		if n := values.Get(i).Number(); n != 0 {
			all = append(all, integrationv1.IntegrationStatus_State(n))
		}
	}
	return all
}

// journaled is a journal's size when it was last looked at; First is 0 before the first look.
type journaled struct {
	store.Stats
	// firstMade is when its first entry was made; zero while it has none.
	firstMade time.Time
}

// measured takes note of the journal's size. It belongs to the collector's goroutine.
func (c *Collector) measured(stats store.Stats) {
	found := journaled{Stats: stats}
	if len(c.index.entries) > 0 {
		found.firstMade = time.Unix(0, c.index.entries[0].made)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.journaled = found
}

// setExpiring takes note of whose credentials are in use; of none that cannot tell.
func (c *Collector) setExpiring(source Source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expiring, _ = source.(Expiring)
}
