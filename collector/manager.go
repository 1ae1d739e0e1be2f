package collector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// Manager runs a collector for each integration of the registry, and follows its changes.
type Manager struct {
	options Options
	budgets *budgets
	metrics *metrics

	mu      sync.Mutex
	running map[string]*running   // by integration id
	byUID   map[string]*Collector // by journal
	changed chan struct{}         // closed and made anew when running changes
	cluster *cluster              // nil where the server is alone with its store
	leaving bool
}

type running struct {
	collector *Collector
	cancel    context.CancelFunc
}

// NewManager returns a manager; Run makes it work.
func NewManager(options Options) *Manager {
	if options.Wanted == nil {
		options.Wanted = func([]string) defender.Wanted { return defender.Wanted{} }
	}
	m := &Manager{
		options: options,
		budgets: newBudgets(options.Store, options.Settings.Budgets),
		metrics: newMetrics(options.Metrics),
		running: map[string]*running{},
		byUID:   map[string]*Collector{},
		changed: make(chan struct{}),
	}
	if options.Lease > 0 {
		m.budgets.held = func(app string) bool { return m.holdOf(app) != nil }
	}
	if options.Metrics != nil {
		options.Metrics.MustRegister(newGauges(m))
		if options.Lease > 0 {
			options.Metrics.MustRegister(newClusterGauges(m)...)
			options.Metrics.MustRegister(m.metrics.fencedWrites, m.metrics.takeOvers)
		}
	}
	return m
}

// Run collects until ctx ends, and returns when every collector has stopped.
func (m *Manager) Run(ctx context.Context) error {
	if m.options.Lease == 0 {
		return m.collect(ctx)
	}
	for ctx.Err() == nil {
		m.takePart(ctx)
	}
	return nil
}

// collect runs a collector for each integration until ctx ends, and returns when every one has stopped.
func (m *Manager) collect(ctx context.Context) error {
	var collectors sync.WaitGroup
	defer collectors.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for ctx.Err() == nil {
		changes, err := m.options.Store.WatchRecords(ctx)
		if err != nil && ctx.Err() != nil {
			break // Stopped while it began: nothing is wrong.
		}
		if err != nil {
			m.options.Log.ErrorContext(ctx, "the registry cannot be watched", "error", err)
			select {
			case <-time.After(m.options.Settings.RetryMin):
			case <-ctx.Done():
			}
			continue
		}
		m.follow(ctx, changes, &collectors)
	}
	return nil
}

// follow applies the registry's changes until the watch ends.
func (m *Manager) follow(ctx context.Context, changes <-chan store.Change, collectors *sync.WaitGroup) {
	there := map[string]bool{}
	synced := false
	for change := range changes {
		switch {
		case change.Synced:
			// What the watch did not tell was deleted while nobody watched.
			synced = true
			for _, id := range m.ids() {
				if !there[id] && m.gone(ctx, id) {
					m.remove(ctx, id)
				}
			}
		case change.Deleted:
			m.remove(ctx, change.ID)
		default:
			if !synced {
				there[change.ID] = true
			}
			m.start(ctx, change.Record, collectors)
		}
	}
}

// gone says whether a record that a watch did not tell of is there no more: one that cannot be read is not told of either, and
// its journal must not be lost for that.
func (m *Manager) gone(ctx context.Context, id string) bool {
	_, _, err := m.options.Store.Record(ctx, id)
	return errors.Is(err, store.ErrNotFound)
}

// start gives a record to its collector, or starts one.
func (m *Manager) start(ctx context.Context, record *storev1.Record, collectors *sync.WaitGroup) {
	id := record.GetIntegration().GetIntegrationId()
	m.mu.Lock()
	r := m.running[id]
	m.mu.Unlock()
	if r != nil && r.collector.uid == record.GetUid() {
		r.collector.set(record)
		m.deal()
		return
	}
	m.remove(ctx, id)
	c := newCollector(m, record)
	m.metrics.replaced.WithLabelValues(id) // From zero on, so that the first is an increase.
	ctx, cancel := context.WithCancel(ctx)
	m.mu.Lock()
	m.running[id] = &running{collector: c, cancel: cancel}
	m.byUID[c.uid] = c
	m.tell()
	m.mu.Unlock()
	m.deal()
	collectors.Go(func() { c.run(ctx) })
}

// stop ends the collector of an integration, and waits until it has ended, so that a new one of the same id never overlaps it.
func (m *Manager) stop(id string) {
	m.mu.Lock()
	r := m.running[id]
	if r == nil {
		m.mu.Unlock()
		return
	}
	delete(m.running, id)
	delete(m.byUID, r.collector.uid)
	m.tell()
	m.mu.Unlock()
	r.cancel()
	<-r.collector.done
	m.metrics.forget(id)
}

// remove ends the collector of an integration that was deleted, and sees that its journal is gone: whoever deleted the record
// deletes the journal too, but a collector that had not heard of it may have made it anew.
func (m *Manager) remove(ctx context.Context, id string) {
	m.mu.Lock()
	r := m.running[id]
	m.mu.Unlock()
	m.stop(id)
	if r == nil {
		return
	}
	if err := m.options.Store.DeleteJournal(ctx, r.collector.uid); err != nil && ctx.Err() == nil {
		m.options.Log.ErrorContext(ctx, "the journal of a deleted integration cannot be deleted", "integration_id", id, "journal", r.collector.uid, "error", err)
	}
}

// tell wakes who waits for a collector. The caller holds mu.
func (m *Manager) tell() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Manager) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sortedKeys(m.running)
}

// Collector returns the collector of an integration's journal, waiting until it runs or ctx ends: a record is stored a moment
// before its collector starts.
func (m *Manager) Collector(ctx context.Context, id, uid string) (*Collector, error) {
	for {
		m.mu.Lock()
		r, changed := m.running[id], m.changed
		m.mu.Unlock()
		if r != nil && r.collector.uid == uid {
			return r.collector, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the collector: %w", ctx.Err())
		}
	}
}

// Spender returns what is asked before each call that is made for an integration outside its collector, such as a test of its
// links: such calls count, and leave the reserve alone.
func (m *Manager) Spender(integration *integrationv1.Integration) defender.SpendFunc {
	id := integration.GetIntegrationId()
	spend := m.budgets.guest(application(integration))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[id] == nil {
		return spend // A metric for whatever id a caller tests would have no bound.
	}
	return m.metrics.counting(id, spend)
}

// Left tells what is left of the budget that an integration spends.
func (m *Manager) Left(integration *integrationv1.Integration) []*integrationv1.BudgetLeft {
	return m.budgets.left(application(integration), defender.LimitsOf(integration)...)
}

// Status returns how the integration with that journal does; nil where it has no collector yet.
func (m *Manager) Status(uid string) *integrationv1.IntegrationStatus {
	m.mu.Lock()
	c := m.byUID[uid]
	m.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.Status()
}
