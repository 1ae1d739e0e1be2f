package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// Note implements Notes.
func (m *Memory) Note(ctx context.Context, key string) (*storev1.Note, uint64, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, 0, err
	}
	stored := m.data.notes[key]
	if stored.value == nil {
		return nil, 0, fmt.Errorf("note %s: %w", key, ErrNotFound)
	}
	note, err := decodeNote(key, stored.value)
	return note, stored.revision, err
}

// PutNote implements Notes.
func (m *Memory) PutNote(ctx context.Context, key string, note *storev1.Note, revision uint64, life time.Duration) (uint64, error) {
	value, err := encodeNote(key, note)
	if err != nil {
		return 0, err
	}
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return 0, err
	}
	if err := m.data.expectNote(key, revision); err != nil {
		return 0, err
	}
	put := m.data.putNote(key, value)
	m.data.lapses[key] = time.AfterFunc(lifeOf(life), func() { m.data.lapse(key, put) })
	return put, nil
}

// LaterNote makes a note one that a later version of the service wrote. There must be one.
func (m *Memory) LaterNote(key string) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	m.data.putNote(key, later(m.data.notes[key].value))
}

// DeleteNote implements Notes.
func (m *Memory) DeleteNote(ctx context.Context, key string, revision uint64) error {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	if err := m.data.expectNote(key, revision); err != nil {
		return err
	}
	m.data.putNote(key, nil)
	return nil
}

// expectNote needs the lock. It returns ErrConflict where a note does not have the revision; 0 is that of none.
func (d *memoryData) expectNote(key string, revision uint64) error {
	has := uint64(0)
	if stored := d.notes[key]; stored.value != nil {
		has = stored.revision
	}
	if has != revision {
		return fmt.Errorf("note %s: %w", key, ErrConflict)
	}
	return nil
}

// putNote needs the lock. It replaces a note that does not lapse yet, or deletes it.
func (d *memoryData) putNote(key string, value []byte) uint64 {
	if timer := d.lapses[key]; timer != nil {
		timer.Stop()
		delete(d.lapses, key)
	}
	d.revision++
	d.notes[key] = memoryValue{revision: d.revision, value: value}
	close(d.noted)
	d.noted = make(chan struct{})
	return d.revision
}

// lapse deletes a note that still has a revision.
func (d *memoryData) lapse(key string, revision uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.expectNote(key, revision) == nil {
		d.putNote(key, nil)
	}
}

// WatchNotes implements Notes.
func (m *Memory) WatchNotes(ctx context.Context) (<-chan NoteChange, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	return watched(ctx, m, m.data.notesAfter, NoteChange{Synced: true}, func(c NoteChange) (uint64, bool) { return c.Revision, c.Deleted }), nil
}

// notesAfter needs the lock. It returns the notes that changed after a revision, in that order, and what is closed when another changes.
func (d *memoryData) notesAfter(revision uint64) ([]NoteChange, <-chan struct{}) {
	var changes []NoteChange
	for key, stored := range d.notes {
		if stored.revision <= revision {
			continue
		}
		change := NoteChange{Key: key, Revision: stored.revision, Deleted: stored.value == nil}
		if !change.Deleted {
			change.Note, _ = decodeNote(key, stored.value) // Nil where a later version wrote it.
		}
		changes = append(changes, change)
	}
	slices.SortFunc(changes, func(a, b NoteChange) int { return cmp.Compare(a.Revision, b.Revision) })
	return changes, d.noted
}
