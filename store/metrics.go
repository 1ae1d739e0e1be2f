package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// roomGauges tell how much room the store in this process has, when they are asked.
type roomGauges struct {
	room              *room
	used, limit, free *prometheus.Desc
	reserved          *prometheus.Desc
}

func newRoomGauges(r *room) *roomGauges {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("defender_integration_store_"+name, help, nil, nil)
	}
	return &roomGauges{
		room: r,
		used: desc("bytes", "What the store takes in the data directory, as it counts itself."),
		limit: desc("limit_bytes",
			"What the store may take (--data-max-bytes): entries are refused beyond it, and readiness is not served."),
		free:     desc("disk_free_bytes", "What the disk of the data directory has left for this process."),
		reserved: desc("disk_reserved_bytes", "What is kept free of the disk: with less left, entries are refused, and readiness is not served."),
	}
}

// Describe implements prometheus.Collector.
func (g *roomGauges) Describe(all chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{g.used, g.limit, g.free, g.reserved} {
		all <- desc
	}
}

// Collect implements prometheus.Collector. A disk that cannot be asked is left out.
func (g *roomGauges) Collect(all chan<- prometheus.Metric) {
	g.room.mu.Lock()
	used := g.room.used + g.room.appended
	g.room.mu.Unlock()
	tell := func(desc *prometheus.Desc, bytes int64) {
		all <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(bytes))
	}
	tell(g.used, used)
	tell(g.limit, g.room.limit)
	tell(g.reserved, reserve)
	if free, err := freeOn(g.room.dir); err == nil {
		tell(g.free, free)
	}
}

// register registers the metrics of the store in this process, where the options say where.
func (s *JetStream) register() error {
	if s.options.Metrics == nil || s.embedded == nil {
		return nil
	}
	s.embedded.restarts = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "defender_integration_store_restarts_total",
		Help: "Times that the store's server in this process was restarted, since it did not answer a write.",
	})
	return errors.Join(s.options.Metrics.Register(newRoomGauges(s.room)), s.options.Metrics.Register(s.embedded.restarts))
}
