package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// memoryLog is a journal as it is stored.
type memoryLog struct {
	saved    saved
	revision uint64
	// entries are framed; the first has the sequence first.
	first   uint64
	entries [][]byte
	// failure is what happens to the next Append, where it is not nil.
	failure *appendFailure
	// handles are those of all stores on the data.
	handles []*memoryJournal
}

// appendFailure is an Append that fails.
type appendFailure struct {
	err    error
	stored int
}

// memoryJournal is one store's handle of a journal. What is not in the view is guarded by data.mu.
type memoryJournal struct {
	*view
	store *Memory
	uid   string
	// log is nil after the journal's deletion.
	log *memoryLog

	// writer says that Recover was called, and no Append failed since. The writer takes last for the last sequence, and revision
	// for the checkpoint's.
	writer         bool
	last, revision uint64
	// damaged says that Read found damage, which makes Recover drop everything.
	damaged bool
}

// last needs the lock.
func (l *memoryLog) last() uint64 { return l.first + uint64(len(l.entries)) - 1 }

// Journal implements Store.
func (m *Memory) Journal(ctx context.Context, uid string) (Journal, error) {
	if err := checkUID(uid); err != nil {
		return nil, err
	}
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	if journal, ok := m.journals[uid]; ok {
		return journal, nil
	}
	log, ok := d.logs[uid]
	if !ok {
		d.revision++
		log = &memoryLog{saved: newSaved(), revision: d.revision, first: 1}
		d.logs[uid] = log
	}
	journal := &memoryJournal{view: newView(log.saved, log.revision), store: m, uid: uid, log: log}
	log.handles = append(log.handles, journal)
	m.journals[uid] = journal
	return journal, nil
}

// DeleteJournal implements Store.
func (m *Memory) DeleteJournal(ctx context.Context, uid string) error {
	if err := checkUID(uid); err != nil {
		return err
	}
	d := m.data
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	delete(d.tests, uid)
	log, ok := d.logs[uid]
	if !ok {
		return nil
	}
	delete(d.logs, uid)
	for _, journal := range log.handles {
		journal.log = nil
		journal.end(fmt.Errorf("journal %s: %w", uid, ErrNotFound))
		delete(journal.store.journals, uid)
	}
	return nil
}

// forget needs the lock. It drops a handle of a journal.
func (d *memoryData) forget(uid string, journal *memoryJournal) {
	if log := d.logs[uid]; log != nil {
		log.handles = slices.DeleteFunc(log.handles, func(other *memoryJournal) bool { return other == journal })
	}
}

// FailAppend makes the next Append to a journal store only the first `stored` of its entries, and return err; a test of a lost
// acknowledgement stores all of them. The journal must exist.
func (m *Memory) FailAppend(uid string, stored int, err error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.data.logs[uid].failure = &appendFailure{err: err, stored: stored}
}

// Damage makes an entry of a journal unreadable, as a flipped bit on the disk does. The journal must have the entry.
func (m *Memory) Damage(uid string, sequence uint64) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	log := m.data.logs[uid]
	entry := slices.Clone(log.entries[sequence-log.first])
	entry[len(entry)-1] ^= 1
	log.entries[sequence-log.first] = entry
}

// Later makes an entry of a journal one that a later version of the service wrote. The journal must have the entry.
func (m *Memory) Later(uid string, sequence uint64) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	log := m.data.logs[uid]
	log.entries[sequence-log.first] = later(log.entries[sequence-log.first])
}

// later returns a frame as a later version of the service would have written it.
func later(framed []byte) []byte {
	framed = slices.Clone(framed)
	framed[0] = formatVersion + 1
	binary.BigEndian.PutUint32(framed[1:], checksum(framed))
	return framed
}

// Cut drops the entries of a journal from a sequence on, as a file that lost its end does. The journal must have the entry.
func (m *Memory) Cut(uid string, sequence uint64) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	log := m.data.logs[uid]
	log.entries = log.entries[:sequence-log.first]
}

// lock locks, and returns an error where the journal cannot be used. The caller unlocks in both cases.
func (j *memoryJournal) lock(ctx context.Context) error {
	j.store.data.mu.Lock()
	if err := j.store.usable(ctx); err != nil {
		return err
	}
	if j.log == nil {
		return fmt.Errorf("journal %s: %w", j.uid, ErrNotFound)
	}
	return nil
}

func (j *memoryJournal) unlock() { j.store.data.mu.Unlock() }

// save needs the lock. It stores a checkpoint and tells all handles.
func (j *memoryJournal) save(s saved) {
	d := j.store.data
	d.revision++
	j.log.saved, j.log.revision, j.revision = s, d.revision, d.revision
	for _, journal := range j.log.handles {
		if journal == j || !journal.store.behind {
			journal.set(s, d.revision)
		}
	}
}

// Refresh implements Journal.
func (j *memoryJournal) Refresh(ctx context.Context) (*storev1.Checkpoint, error) {
	defer j.unlock()
	if err := j.lock(ctx); err != nil {
		return nil, err
	}
	j.set(j.log.saved, j.log.revision)
	return j.log.saved.checkpoint, nil
}

// Recover implements Journal.
func (j *memoryJournal) Recover(ctx context.Context) (*storev1.Checkpoint, error) {
	defer j.unlock()
	if err := j.lock(ctx); err != nil {
		return nil, err
	}
	log := j.log
	next := log.saved.advanced(log.last())
	err := log.verify()
	if errors.Is(err, ErrVersion) {
		j.writer = false
		return nil, err
	}
	if j.damaged || err != nil {
		next = log.saved.renewed()
		log.first, log.entries = 1, nil
	}
	j.damaged = false
	j.save(next)
	j.writer, j.last = true, log.last()
	return next.checkpoint, nil
}

// verify needs the lock. It returns nil where everything is there that the checkpoint names, and the entries that readers may not
// have seen can be read; else ErrDamaged or ErrVersion.
func (l *memoryLog) verify() error {
	end := l.saved.checkpoint.GetLastSequence()
	if l.last() < end || l.first > l.saved.first {
		return fmt.Errorf("%w: it has the entries %d through %d", ErrDamaged, l.first, l.last())
	}
	for sequence := max(end, l.first); sequence <= l.last(); sequence++ {
		if _, err := unframeEntry(sequence, l.entries[sequence-l.first]); err != nil {
			return err
		}
	}
	return nil
}

// Append implements Journal.
func (j *memoryJournal) Append(ctx context.Context, entries []*storev1.Entry) (uint64, error) {
	defer j.unlock()
	if err := j.lock(ctx); err != nil {
		return 0, err
	}
	if !j.writer || j.log.last() != j.last {
		j.writer = false
		return 0, fmt.Errorf("journal %s: %w", j.uid, ErrFenced)
	}
	framed, err := new(framer).frame(j.last+1, entries)
	if err != nil {
		return 0, err
	}
	if failure := j.log.failure; failure != nil {
		j.log.failure, j.writer = nil, false
		j.log.entries = append(j.log.entries, framed[:min(len(framed), failure.stored)]...)
		return 0, failure.err
	}
	j.log.entries = append(j.log.entries, framed...)
	j.last = j.log.last()
	return j.last, nil
}

// SaveCheckpoint implements Journal.
func (j *memoryJournal) SaveCheckpoint(ctx context.Context, checkpoint *storev1.Checkpoint) error {
	defer j.unlock()
	if err := j.lockWriter(ctx); err != nil {
		return err
	}
	next, err := j.log.saved.next(checkpoint, j.last)
	if err != nil {
		return err
	}
	j.save(next)
	return nil
}

// Trim implements Journal.
func (j *memoryJournal) Trim(ctx context.Context, before uint64, floor time.Time) error {
	defer j.unlock()
	if err := j.lockWriter(ctx); err != nil {
		return err
	}
	next := j.log.saved.trimmed(before, floor)
	j.save(next)
	if next.first > j.log.first {
		// Where the end was cut off, there may be less.
		drop := min(next.first-j.log.first, uint64(len(j.log.entries)))
		j.log.entries = slices.Clone(j.log.entries[drop:])
		j.log.first += drop
	}
	return nil
}

// lockWriter is lock for what only the writer may do: ErrFenced where another recovered since.
func (j *memoryJournal) lockWriter(ctx context.Context) error {
	if err := j.lock(ctx); err != nil {
		return err
	}
	if !j.writer || j.revision != j.log.revision {
		j.writer = false
		return fmt.Errorf("journal %s: %w", j.uid, ErrFenced)
	}
	return nil
}

// Stats implements Journal.
func (j *memoryJournal) Stats(ctx context.Context) (Stats, error) {
	defer j.unlock()
	if err := j.lock(ctx); err != nil {
		return Stats{}, err
	}
	stats := Stats{First: j.log.first, Last: j.log.last()}
	for _, entry := range j.log.entries {
		stats.Bytes += uint64(len(entry))
	}
	return stats, nil
}

// Read implements Journal.
func (j *memoryJournal) Read(ctx context.Context, from, through uint64) iter.Seq2[Positioned, error] {
	return func(yield func(Positioned, error) bool) {
		s, _, err := j.get()
		if err != nil {
			yield(Positioned{}, err)
			return
		}
		through := min(through, s.checkpoint.GetLastSequence())
		for sequence := max(1, from); sequence <= through; sequence++ {
			entry, err := j.entry(ctx, s.checkpoint.GetIdentity(), sequence)
			if !yield(entry, err) || err != nil {
				return
			}
		}
	}
}

// Get implements Journal.
func (j *memoryJournal) Get(ctx context.Context, sequence uint64) (Positioned, error) {
	s, _, err := j.get()
	if err != nil {
		return Positioned{}, err
	}
	if sequence == 0 || sequence > s.checkpoint.GetLastSequence() {
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, ErrNotFound)
	}
	return j.entry(ctx, s.checkpoint.GetIdentity(), sequence)
}

// entry returns one entry that the checkpoint names.
func (j *memoryJournal) entry(ctx context.Context, identity string, sequence uint64) (Positioned, error) {
	defer j.unlock()
	if err := j.lock(ctx); err != nil {
		return Positioned{}, err
	}
	switch log := j.log; {
	case log.saved.checkpoint.GetIdentity() != identity:
		return Positioned{}, fmt.Errorf("%w: it was renewed meanwhile", ErrDamaged)
	case sequence < log.saved.first:
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, ErrTrimmed)
	case sequence < log.first || sequence > log.last():
		j.damaged = true
		return Positioned{}, fmt.Errorf("%w: entry %d is missing", ErrDamaged, sequence)
	default:
		entry, err := unframeEntry(sequence, log.entries[sequence-log.first])
		j.damaged = j.damaged || errors.Is(err, ErrDamaged)
		return entry, err
	}
}
