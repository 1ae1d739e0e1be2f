package collector

import (
	"maps"

	"github.com/prometheus/client_golang/prometheus"
)

// budgetGauges tell what is left of the budgets when they are asked: it changes with time alone. Integrations of one application and
// tenant share a budget, and tell the same.
type budgetGauges struct {
	manager       *Manager
	left, allowed *prometheus.Desc
}

func newBudgetGauges(m *Manager) *budgetGauges {
	labels := []string{"integration_id", "limit", "period"}
	return &budgetGauges{
		manager: m,
		left: prometheus.NewDesc("defender_integration_budget_calls_left",
			"Calls at Microsoft that this service still allows itself within the period, of the integration's application and tenant.", labels, nil),
		allowed: prometheus.NewDesc("defender_integration_budget_calls_allowed",
			"Calls at Microsoft that this service allows itself in any span of the period.", labels, nil),
	}
}

// Describe implements prometheus.Collector.
func (g *budgetGauges) Describe(all chan<- *prometheus.Desc) {
	all <- g.left
	all <- g.allowed
}

// Collect implements prometheus.Collector.
func (g *budgetGauges) Collect(all chan<- prometheus.Metric) {
	g.manager.mu.Lock()
	running := maps.Clone(g.manager.running)
	g.manager.mu.Unlock()
	for id, r := range running {
		for _, one := range r.collector.budgetLeft() {
			labels := []string{id, one.GetLimit(), one.GetPeriod().AsDuration().String()}
			all <- prometheus.MustNewConstMetric(g.left, prometheus.GaugeValue, float64(one.GetLeft()), labels...)
			all <- prometheus.MustNewConstMetric(g.allowed, prometheus.GaugeValue, float64(one.GetAllowed()), labels...)
		}
	}
}
