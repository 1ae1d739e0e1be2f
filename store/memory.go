package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Memory is a store for tests: it keeps everything in memory, encoded as the engine would keep it, and waits only on channels, so
// that it runs in fake time (testing/synctest). What is told of [Store] holds for it too, except that nothing outlives the process.
type Memory struct {
	data *memoryData
	// done ends what waits on this store.
	done    chan struct{}
	watches sync.WaitGroup

	// The rest is guarded by data.mu.
	closed      bool
	unavailable error
	behind      bool
	journals    map[string]*memoryJournal
}

// memoryData is what is stored. Several Memory may stand on it, as several processes on a cluster.
type memoryData struct {
	mu       sync.Mutex
	revision uint64
	records  map[string]memoryValue
	ledgers  map[string]memoryValue
	tests    map[string][]byte
	logs     map[string]*memoryLog
	notes    map[string]memoryValue
	// lapses are the timers of the notes that are there.
	lapses map[string]*time.Timer
	// noted is closed, and replaced, with each change of a note.
	noted chan struct{}
	// changed is closed, and replaced, with each change of a record.
	changed chan struct{}
}

// memoryValue is a value with its revision; nil where it was deleted.
type memoryValue struct {
	revision uint64
	value    []byte
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return newMemoryOn(&memoryData{
		records: make(map[string]memoryValue),
		ledgers: make(map[string]memoryValue),
		tests:   make(map[string][]byte),
		logs:    make(map[string]*memoryLog),
		changed: make(chan struct{}),
		notes:   make(map[string]memoryValue),
		lapses:  make(map[string]*time.Timer),
		noted:   make(chan struct{}),
	})
}

func newMemoryOn(data *memoryData) *Memory {
	return &Memory{data: data, done: make(chan struct{}), journals: make(map[string]*memoryJournal)}
}

// Peer returns another store on the same data, as another process on the same cluster has it. After Close it is the process that
// was started again.
func (m *Memory) Peer() *Memory {
	return newMemoryOn(m.data)
}

// Backup returns a store on a copy of what is stored now, as a backup of a data directory is that is put back. Records and journals are
// in it.
func (m *Memory) Backup() *Memory {
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	copied := NewMemory()
	copied.data.revision, copied.data.records = d.revision, maps.Clone(d.records)
	for uid, log := range d.logs {
		copied.data.logs[uid] = &memoryLog{saved: log.saved, revision: log.revision, first: log.first, entries: slices.Clone(log.entries)}
	}
	return copied
}

// SetUnavailable makes every call on this store, Close and waiting apart, fail with ErrUnavailable, or ends that.
func (m *Memory) SetUnavailable(unavailable bool) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.unavailable = nil
	if unavailable {
		m.unavailable = fmt.Errorf("%w: as the test wants it", ErrUnavailable)
	}
}

// SetBehind makes this store one that is told of no checkpoint that others save, as one whose watch is late, or ends that. What it has missed
// then it is told with the next.
func (m *Memory) SetBehind(behind bool) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.behind = behind
}

// usable needs the lock. It returns why the store cannot be used.
func (m *Memory) usable(ctx context.Context) error {
	if m.closed {
		return errClosed
	}
	if m.unavailable != nil {
		return m.unavailable
	}
	return ctx.Err()
}

// Ready implements Store.
func (m *Memory) Ready(ctx context.Context) error {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	return m.usable(ctx)
}

// Close implements Store. The data stays, for a Peer.
func (m *Memory) Close() error {
	m.data.mu.Lock()
	if !m.closed {
		m.closed = true
		close(m.done)
		for uid, journal := range m.journals {
			journal.end(errClosed)
			m.data.forget(uid, journal)
		}
	}
	m.data.mu.Unlock()
	m.watches.Wait()
	return nil
}

// CreateRecord implements Registry.
func (m *Memory) CreateRecord(ctx context.Context, record *storev1.Record) (uint64, error) {
	id, value, err := encodeRecord(record)
	if err != nil {
		return 0, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	if m.data.records[id].value != nil {
		return 0, fmt.Errorf("record %s: %w", id, ErrExists)
	}
	return m.data.putRecord(id, value), nil
}

// Record implements Registry.
func (m *Memory) Record(ctx context.Context, id string) (*storev1.Record, uint64, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, 0, err
	}
	stored := m.data.records[id]
	if stored.value == nil {
		return nil, 0, fmt.Errorf("record %s: %w", id, ErrNotFound)
	}
	record, err := decodeRecord(id, stored.value)
	return record, stored.revision, err
}

// Records implements Registry.
func (m *Memory) Records(ctx context.Context, after string, limit int) ([]Versioned, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	var ids []string
	for id, stored := range m.data.records {
		if stored.value != nil {
			ids = append(ids, id)
		}
	}
	var records []Versioned
	for _, id := range page(ids, after, limit) {
		stored := m.data.records[id]
		record, err := decodeRecord(id, stored.value)
		if err != nil {
			return nil, err
		}
		records = append(records, Versioned{Record: record, Revision: stored.revision})
	}
	return records, nil
}

// UpdateRecord implements Registry.
func (m *Memory) UpdateRecord(ctx context.Context, record *storev1.Record, revision uint64) (uint64, error) {
	id, value, err := encodeRecord(record)
	if err != nil {
		return 0, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	if err := m.data.expect(id, revision); err != nil {
		return 0, err
	}
	return m.data.putRecord(id, value), nil
}

// DeleteRecord implements Registry.
func (m *Memory) DeleteRecord(ctx context.Context, id string, revision uint64) error {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	if err := m.data.expect(id, revision); err != nil {
		return err
	}
	m.data.putRecord(id, nil)
	return nil
}

// expect needs the lock. It returns an error where the record does not have the revision.
func (d *memoryData) expect(id string, revision uint64) error {
	switch stored := d.records[id]; {
	case stored.value == nil:
		return fmt.Errorf("record %s: %w", id, ErrNotFound)
	case stored.revision != revision:
		return fmt.Errorf("record %s: %w", id, ErrConflict)
	}
	return nil
}

// putRecord needs the lock.
func (d *memoryData) putRecord(id string, value []byte) uint64 {
	d.revision++
	d.records[id] = memoryValue{revision: d.revision, value: value}
	close(d.changed)
	d.changed = make(chan struct{})
	return d.revision
}

// WatchRecords implements Registry.
func (m *Memory) WatchRecords(ctx context.Context) (<-chan Change, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	return watched(ctx, m, m.data.changesAfter, Change{Synced: true}, func(c Change) (uint64, bool) { return c.Revision, c.Deleted }), nil
}

// watched returns a channel with what there is, then synced, then every change, until ctx or the store ends. after, which needs the lock,
// returns what changed after a revision, in that order, and what is closed when another changes; about a change of, its revision and
// whether it tells of a deletion.
func watched[C any](
	ctx context.Context, m *Memory, after func(revision uint64) ([]C, <-chan struct{}), synced C, of func(C) (revision uint64, deleted bool),
) <-chan C {
	changes := make(chan C)
	m.watches.Go(func() {
		defer close(changes)
		send := func(change C) bool {
			select {
			case changes <- change:
				return true
			case <-ctx.Done():
			case <-m.done:
			}
			return false
		}
		var told uint64
		for first := true; ; first = false {
			m.data.mu.Lock()
			news, changed := after(told)
			m.data.mu.Unlock()
			for _, change := range news {
				revision, deleted := of(change)
				told = revision
				if deleted && first {
					continue
				}
				if !send(change) {
					return
				}
			}
			if first && !send(synced) {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-m.done:
				return
			}
		}
	})
	return changes
}

// changesAfter needs the lock. It returns the records that changed after a revision, in that order, and what is closed when
// another changes.
func (d *memoryData) changesAfter(revision uint64) ([]Change, <-chan struct{}) {
	var changes []Change
	for id, stored := range d.records {
		if stored.revision <= revision {
			continue
		}
		change := Change{ID: id, Deleted: stored.value == nil, Versioned: Versioned{Revision: stored.revision}}
		if !change.Deleted {
			record, err := decodeRecord(id, stored.value)
			if err != nil {
				continue // What was encoded here is decoded here.
			}
			change.Record = record
		}
		changes = append(changes, change)
	}
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(a.Revision, b.Revision) })
	return changes, d.changed
}

// Ledger implements Ledgers.
func (m *Memory) Ledger(ctx context.Context, key string) (*storev1.Ledger, uint64, error) {
	if err := checkKey(key); err != nil {
		return nil, 0, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, 0, err
	}
	stored := m.data.ledgers[key]
	ledger, err := decodeLedger(key, stored.value)
	return ledger, stored.revision, err
}

// PutLedger implements Ledgers.
func (m *Memory) PutLedger(ctx context.Context, key string, ledger *storev1.Ledger, revision uint64) (uint64, error) {
	value, err := encodeLedger(key, ledger)
	if err != nil {
		return 0, err
	}
	return m.putLedger(ctx, key, value, revision)
}

// putLedger is PutLedger for an encoded value.
func (m *Memory) putLedger(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	if m.data.ledgers[key].revision != revision {
		return 0, fmt.Errorf("ledger %s: %w", key, ErrConflict)
	}
	m.data.revision++
	m.data.ledgers[key] = memoryValue{revision: m.data.revision, value: value}
	return m.data.revision, nil
}

// SaveTest implements Tests.
func (m *Memory) SaveTest(ctx context.Context, uid string, test *integrationv1.ConnectivityTest) error {
	value, err := encodeTest(uid, test)
	if err != nil {
		return err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	m.data.tests[uid] = value
	return nil
}

// LastTest implements Tests.
func (m *Memory) LastTest(ctx context.Context, uid string) (*integrationv1.ConnectivityTest, error) {
	if err := checkUID(uid); err != nil {
		return nil, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	value, ok := m.data.tests[uid]
	if !ok {
		return nil, nil
	}
	return decodeTest(uid, value)
}
