package collector

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// takePart collects as one of the servers that share the store, until ctx ends or the others take this server for dead. The streams on it
// end then: what was collected meanwhile was so without what they want.
func (m *Manager) takePart(ctx context.Context) {
	c := newCluster(m)
	if err := c.renew(ctx); err != nil {
		if ctx.Err() == nil {
			m.options.Log.WarnContext(ctx, "this server cannot make itself known to the others", "error", err)
			select {
			case <-time.After(m.options.Settings.RetryMin):
			case <-ctx.Done():
			}
		}
		return
	}
	m.mu.Lock()
	m.cluster = c
	m.mu.Unlock()
	inner, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		defer cancel()
		if err := c.run(inner); errors.Is(err, errLapsed) {
			c.log.ErrorContext(ctx, "begin anew: the streams on this server end, and can be resumed", "error", err)
		}
	})
	_ = m.collect(inner)
	running.Wait()
	c.leave(context.WithoutCancel(ctx))
	m.clear()
}

// clear forgets the collectors, which have stopped.
func (m *Manager) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster = nil
	clear(m.running)
	clear(m.byUID)
	m.tell()
}

// Retire makes the server hand its leases over to those that share its store, and take none any more: it is about to end. Streams go on.
func (m *Manager) Retire() {
	m.mu.Lock()
	m.leaving = true
	c := m.cluster
	m.mu.Unlock()
	if c != nil {
		c.retire()
	}
}

func (m *Manager) retired() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leaving
}

// deal makes leases follow the registry: which applications there are, and which collector works under which.
func (m *Manager) deal() {
	m.mu.Lock()
	c := m.cluster
	m.mu.Unlock()
	if c != nil {
		m.assign()
		c.look()
	}
}

// assign gives every collector the lease of its application, where this server has it.
func (m *Manager) assign() {
	for _, c := range m.all() {
		c.assign(m.holdOf(c.application()))
	}
}

// holdOf returns the lease of an application, where this server has it.
func (m *Manager) holdOf(app string) *hold {
	m.mu.Lock()
	c := m.cluster
	m.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.holdOf(app)
}

// all returns the collectors.
func (m *Manager) all() []*Collector {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*Collector, 0, len(m.running))
	for _, id := range sortedKeys(m.running) {
		list = append(list, m.running[id].collector)
	}
	return list
}

// of returns the collectors of an application.
func (m *Manager) of(app string) []*Collector {
	var list []*Collector
	for _, c := range m.all() {
		if c.application() == app {
			list = append(list, c)
		}
	}
	return list
}

// journal returns the collector of a journal; nil where there is none.
func (m *Manager) journal(uid string) *Collector {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byUID[uid]
}

// applications returns the applications that calls are counted by, each once.
func (m *Manager) applications() []string {
	apps := map[string]bool{}
	for _, c := range m.all() {
		apps[c.application()] = true
	}
	return sortedKeys(apps)
}

// newClusterGauges tell of the servers that share a store.
func newClusterGauges(m *Manager) []prometheus.Collector {
	gauge := func(name, help string, f func(*cluster) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "defender_integration", Name: name, Help: help}, func() float64 {
			m.mu.Lock()
			c := m.cluster
			m.mu.Unlock()
			if c == nil {
				return 0
			}
			return float64(f(c))
		})
	}
	return []prometheus.Collector{
		gauge("leases_held", "Leases that this server has: applications at a tenant that it collects for.", (*cluster).held),
		gauge("servers", "Servers that share the store, as far as this one knows, itself among them.", (*cluster).servers),
		gauge("wishes", "Wishes of the streams on other servers that collectors of this one have taken in.", func(*cluster) int {
			count := 0
			for _, c := range m.all() {
				count += c.wishes()
			}
			return count
		}),
	}
}
