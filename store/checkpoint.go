package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// saved is a checkpoint as it is kept: with the sequence before which entries were dropped by Trim, since a journal that begins
// later than that has lost its head.
type saved struct {
	checkpoint *storev1.Checkpoint
	first      uint64
}

// firstSize is how many bytes `first` takes in the frame of a checkpoint.
const firstSize = 8

// encode returns the checkpoint as it is stored.
func (s saved) encode() ([]byte, error) {
	return frame(binary.BigEndian.AppendUint64(nil, s.first), s.checkpoint)
}

// decodeSaved is the reverse of encode. What cannot be read is ErrDamaged, what a later version wrote is ErrVersion.
func decodeSaved(stored []byte) (saved, error) {
	checkpoint := new(storev1.Checkpoint)
	first, err := unframe(stored, firstSize, checkpoint)
	if err == nil {
		err = checkFormat(checkpoint.GetFormat())
	}
	if errors.Is(err, ErrVersion) {
		return saved{}, fmt.Errorf("the checkpoint: %w", err)
	}
	if err != nil {
		return saved{}, fmt.Errorf("%w: the checkpoint: %w", ErrDamaged, err)
	}
	return saved{checkpoint: checkpoint, first: binary.BigEndian.Uint64(first)}, nil
}

// newSaved returns the first checkpoint of a journal, with an identity of its own.
func newSaved() saved {
	return saved{
		checkpoint: &storev1.Checkpoint{Format: formatVersion, Identity: rand.Text()},
		first:      1,
	}
}

// renewed returns the checkpoint of the journal after its entries were dropped: another identity, and of what was known only
// since when it was polled.
func (s saved) renewed() saved {
	next := newSaved()
	next.checkpoint.PolledSince = s.checkpoint.GetPolledSince()
	return next
}

// next returns the checkpoint to keep when the writer wants `given`: with the journal's format and identity, and never an earlier
// floor. `last` is the sequence of the last entry that the writer knows.
func (s saved) next(given *storev1.Checkpoint, last uint64) (saved, error) {
	switch sequence := given.GetLastSequence(); {
	case sequence > last:
		return saved{}, fmt.Errorf("a checkpoint at %d is beyond the last entry, %d", sequence, last)
	case sequence < s.checkpoint.GetLastSequence():
		return saved{}, fmt.Errorf("a checkpoint at %d is before the last one, at %d", sequence, s.checkpoint.GetLastSequence())
	}
	checkpoint := proto.CloneOf(given)
	checkpoint.Format, checkpoint.Identity = formatVersion, s.checkpoint.GetIdentity()
	if floorOf(checkpoint).Before(floorOf(s.checkpoint)) {
		checkpoint.FloorTime = s.checkpoint.GetFloorTime()
	}
	return saved{checkpoint: checkpoint, first: s.first}, nil
}

// trimmed returns the checkpoint to keep when entries before the sequence `before` are dropped. Entries that no reader can have
// seen stay.
func (s saved) trimmed(before uint64, floor time.Time) saved {
	checkpoint := proto.CloneOf(s.checkpoint)
	if floor.After(floorOf(checkpoint)) {
		checkpoint.FloorTime = timestampOf(floor)
	}
	before = min(before, checkpoint.GetLastSequence()+1)
	return saved{checkpoint: checkpoint, first: max(s.first, before)}
}

// advanced returns the checkpoint with another last sequence.
func (s saved) advanced(last uint64) saved {
	checkpoint := proto.CloneOf(s.checkpoint)
	checkpoint.LastSequence = last
	return saved{checkpoint: checkpoint, first: s.first}
}
