package store

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// Seals keep a mark that was sealed with the sealing key, so that a process with another key learns of it before it stores anything, also
// where nothing is registered.
type Seals interface {
	// SealMark returns the sealed mark and its revision; nothing with revision 0 where there is none.
	SealMark(ctx context.Context) (sealed []byte, revision uint64, err error)
	// PutSealMark replaces the mark that has this revision (0: there is none), or returns ErrConflict. It is durable when it returns.
	PutSealMark(ctx context.Context, sealed []byte, revision uint64) error
}

// markKey is the mark's key in the bucket of ledgers, and what it is sealed with as the uid. No ledger has that name.
const markKey = "sealing-key"

// encodeMark returns a sealed mark as it is stored: a record without an integration.
func encodeMark(sealed []byte) ([]byte, error) {
	return proto.Marshal(&storev1.Record{Format: formatVersion, Uid: markKey, SealedSecrets: sealed})
}

// decodeMark is the reverse of encodeMark.
func decodeMark(value []byte) ([]byte, error) {
	mark := new(storev1.Record)
	if err := proto.Unmarshal(value, mark); err != nil {
		return nil, fmt.Errorf("decode the mark of the sealing key: %w", err)
	}
	if err := checkFormat(mark.GetFormat()); err != nil {
		return nil, fmt.Errorf("decode the mark of the sealing key: %w", err)
	}
	return mark.GetSealedSecrets(), nil
}

// sealed is what holds something sealed.
type sealed interface {
	Registry
	Seals
}

// recordsAtOnce is how many records are read at once.
const recordsAtOnce = 100

// CheckKey returns ErrKey where what is stored was sealed with another key: then nothing can be served. Where there was no mark of the
// key, it makes one. unopened are the integrations whose secrets cannot be opened although the key is the right one: a process with
// another key sealed them, or they are damaged.
func (s *Sealer) CheckKey(ctx context.Context, in sealed) (unopened []string, err error) {
	mark, revision, err := in.SealMark(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the mark of the sealing key: %w", err)
	}
	if revision != 0 {
		if _, err := s.Open(mark, markKey); err != nil {
			return nil, err
		}
	}
	err = eachRecord(ctx, in, func(found Versioned) error {
		_, err := s.Open(found.Record.GetSealedSecrets(), found.Record.GetUid())
		id := found.Record.GetIntegration().GetIntegrationId()
		if err != nil && revision == 0 {
			return fmt.Errorf("%w: those of integration %q", err, id)
		}
		if err != nil {
			unopened = append(unopened, id)
		}
		return nil
	})
	if err != nil || revision != 0 {
		return unopened, err
	}
	return nil, s.mark(ctx, in)
}

// mark makes the mark. Where another process made it just before, it must be one of the same key.
func (s *Sealer) mark(ctx context.Context, in sealed) error {
	made, err := s.Seal(&storev1.Secrets{}, markKey)
	if err != nil {
		return err
	}
	err = in.PutSealMark(ctx, made, 0)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	there, _, err := in.SealMark(ctx)
	if err != nil {
		return fmt.Errorf("read the mark of the sealing key: %w", err)
	}
	_, err = s.Open(there, markKey)
	return err
}

// eachRecord calls do with each record, in the order of their ids.
func eachRecord(ctx context.Context, registry Registry, do func(Versioned) error) error {
	for after := ""; ; {
		records, err := registry.Records(ctx, after, recordsAtOnce)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, found := range records {
			if err := do(found); err != nil {
				return err
			}
			after = found.Record.GetIntegration().GetIntegrationId()
		}
	}
}

// SealMark implements Seals.
func (s *JetStream) SealMark(ctx context.Context) ([]byte, uint64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	value, revision, err := valueOf(ctx, s.ledgers, markKey)
	if err != nil || revision == 0 {
		return nil, 0, unavailable(err)
	}
	mark, err := decodeMark(value)
	return mark, revision, err
}

// SealMark implements Seals.
func (m *Memory) SealMark(ctx context.Context) ([]byte, uint64, error) {
	m.data.mu.Lock()
	defer m.data.mu.Unlock()
	stored := m.data.ledgers[markKey]
	if err := m.usable(ctx); err != nil || stored.revision == 0 {
		return nil, 0, err
	}
	mark, err := decodeMark(stored.value)
	return mark, stored.revision, err
}

// PutSealMark implements Seals.
func (s *JetStream) PutSealMark(ctx context.Context, sealed []byte, revision uint64) error {
	value, err := encodeMark(sealed)
	if err != nil {
		return err
	}
	_, err = s.putLedger(ctx, markKey, value, revision)
	return err
}

// PutSealMark implements Seals.
func (m *Memory) PutSealMark(ctx context.Context, sealed []byte, revision uint64) error {
	value, err := encodeMark(sealed)
	if err != nil {
		return err
	}
	_, err = m.putLedger(ctx, markKey, value, revision)
	return err
}
