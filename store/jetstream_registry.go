package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// CreateRecord implements Registry.
func (s *JetStream) CreateRecord(ctx context.Context, record *storev1.Record) (uint64, error) {
	id, value, err := encodeRecord(record)
	if err != nil {
		return 0, err
	}
	var revision uint64
	err = s.write(ctx, func(ctx context.Context) (err error) {
		revision, err = s.records.Create(ctx, id, value)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, fmt.Errorf("record %s: %w", id, ErrExists)
	}
	return revision, unavailable(err)
}

// Record implements Registry.
func (s *JetStream) Record(ctx context.Context, id string) (*storev1.Record, uint64, error) {
	if checkKey(id) != nil {
		return nil, 0, fmt.Errorf("record %q: %w", id, ErrNotFound)
	}
	stored, err := s.readRecord(ctx, id)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, fmt.Errorf("record %s: %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, 0, unavailable(err)
	}
	record, err := decodeRecord(id, stored.Value())
	return record, stored.Revision(), err
}

// readRecord reads a record as it is stored, as soon as few enough others are being read.
func (s *JetStream) readRecord(ctx context.Context, id string) (jetstream.KeyValueEntry, error) {
	patient, done := context.WithTimeout(ctx, readingPatience)
	defer done()
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-patient.Done():
		return nil, patient.Err()
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.records.Get(ctx, id)
}

// Records implements Registry. A record that is deleted meanwhile is left out, so that fewer than limit can come although there
// are more; callers go on after the last one until none comes.
func (s *JetStream) Records(ctx context.Context, after string, limit int) ([]Versioned, error) {
	bounded, cancel := s.bound(ctx)
	defer cancel()
	ids, err := keysOf(bounded, s.js, s.records)
	if err != nil {
		return nil, unavailable(err)
	}
	var records []Versioned
	for _, id := range page(ids, after, len(ids)) {
		if len(records) == limit {
			break
		}
		record, revision, err := s.Record(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound):
			continue // Only the mark of its deletion is there.
		case err != nil:
			return nil, err
		}
		records = append(records, Versioned{Record: record, Revision: revision})
	}
	return records, nil
}

// keysOf returns the keys of a bucket, those that were deleted too. It asks the leader of the bucket's stream: a lister of keys reads
// from any replica, which may not have what was acknowledged a moment ago.
func keysOf(ctx context.Context, js jetstream.JetStream, bucket jetstream.KeyValue) ([]string, error) {
	stream, err := js.Stream(ctx, "KV_"+bucket.Bucket())
	if err != nil {
		return nil, err
	}
	prefix := "$KV." + bucket.Bucket() + "."
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		keys = append(keys, strings.TrimPrefix(subject, prefix))
	}
	return keys, nil
}

// UpdateRecord implements Registry.
func (s *JetStream) UpdateRecord(ctx context.Context, record *storev1.Record, revision uint64) (uint64, error) {
	id, value, err := encodeRecord(record)
	if err != nil {
		return 0, err
	}
	if revision == 0 { // The engine would create it.
		return 0, s.mismatch(ctx, id)
	}
	var updated uint64
	err = s.write(ctx, func(ctx context.Context) (err error) {
		updated, err = compareAndSet(ctx, s.records, id, value, revision)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return 0, s.mismatch(ctx, id)
	}
	return updated, unavailable(err)
}

// DeleteRecord implements Registry. What the record held leaves the engine at once; that there was one stays known.
func (s *JetStream) DeleteRecord(ctx context.Context, id string, revision uint64) error {
	if _, current, err := s.Record(ctx, id); err != nil {
		return err
	} else if current != revision {
		return fmt.Errorf("record %s: %w", id, ErrConflict)
	}
	err := s.write(ctx, func(ctx context.Context) error {
		_, err := retryMismatch(ctx, s.records, id, revision, func() (uint64, error) {
			return 0, s.records.Purge(ctx, id, jetstream.LastRevision(revision))
		})
		return err
	})
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return s.mismatch(ctx, id)
	}
	return unavailable(err)
}

// mismatch returns why a record does not have a revision.
func (s *JetStream) mismatch(ctx context.Context, id string) error {
	if _, _, err := s.Record(ctx, id); err != nil {
		return err
	}
	return fmt.Errorf("record %s: %w", id, ErrConflict)
}

// Ledger implements Ledgers.
func (s *JetStream) Ledger(ctx context.Context, key string) (*storev1.Ledger, uint64, error) {
	if err := checkKey(key); err != nil {
		return nil, 0, fmt.Errorf("ledger: %w", err)
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	value, revision, err := valueOf(ctx, s.ledgers, key)
	if err != nil {
		return nil, 0, unavailable(err)
	}
	ledger, err := decodeLedger(key, value)
	return ledger, revision, err
}

// valueOf returns what a key has, and its revision; nothing with revision 0 where it has none.
func valueOf(ctx context.Context, bucket jetstream.KeyValue, key string) ([]byte, uint64, error) {
	stored, err := bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return stored.Value(), stored.Revision(), nil
}

// PutLedger implements Ledgers.
func (s *JetStream) PutLedger(ctx context.Context, key string, ledger *storev1.Ledger, revision uint64) (uint64, error) {
	value, err := encodeLedger(key, ledger)
	if err != nil {
		return 0, err
	}
	return s.putLedger(ctx, key, value, revision)
}

// putLedger is PutLedger for an encoded value.
func (s *JetStream) putLedger(ctx context.Context, key string, value []byte, revision uint64) (updated uint64, err error) {
	err = s.write(ctx, func(ctx context.Context) (err error) {
		updated, err = compareAndSet(ctx, s.ledgers, key, value, revision)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return 0, fmt.Errorf("ledger %s: %w", key, ErrConflict)
	}
	return updated, unavailable(err)
}
