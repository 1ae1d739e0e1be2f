package store

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// errClosed is what a closed store returns.
var errClosed = fmt.Errorf("%w: it was closed", ErrUnavailable)

// encodeRecord returns a record's id, and the record as it is stored.
func encodeRecord(record *storev1.Record) (id string, value []byte, err error) {
	id = record.GetIntegration().GetIntegrationId()
	if err := checkKey(id); err != nil {
		return "", nil, fmt.Errorf("record: %w", err)
	}
	stored := proto.CloneOf(record)
	stored.Format = formatVersion
	value, err = proto.Marshal(stored)
	if err != nil {
		return "", nil, fmt.Errorf("encode record %s: %w", id, err)
	}
	return id, value, nil
}

// decodeRecord is the reverse of encodeRecord.
func decodeRecord(id string, value []byte) (*storev1.Record, error) {
	record := new(storev1.Record)
	if err := proto.Unmarshal(value, record); err != nil {
		return nil, fmt.Errorf("decode record %s: %w", id, err)
	}
	if err := checkFormat(record.GetFormat()); err != nil {
		return nil, fmt.Errorf("decode record %s: %w", id, err)
	}
	return record, nil
}

// encodeLedger returns a ledger as it is stored.
func encodeLedger(key string, ledger *storev1.Ledger) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	stored := proto.CloneOf(ledger)
	stored.Format = formatVersion
	value, err := proto.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode ledger %s: %w", key, err)
	}
	return value, nil
}

// decodeLedger is the reverse of encodeLedger. Nothing stored is an empty ledger.
func decodeLedger(key string, value []byte) (*storev1.Ledger, error) {
	ledger := new(storev1.Ledger)
	if value == nil {
		ledger.Format = formatVersion
		return ledger, nil
	}
	if err := proto.Unmarshal(value, ledger); err != nil {
		return nil, fmt.Errorf("decode ledger %s: %w", key, err)
	}
	if err := checkFormat(ledger.GetFormat()); err != nil {
		return nil, fmt.Errorf("decode ledger %s: %w", key, err)
	}
	return ledger, nil
}

// encodeTest returns a test of an integration's links as it is stored.
func encodeTest(uid string, test *integrationv1.ConnectivityTest) ([]byte, error) {
	if err := checkUID(uid); err != nil {
		return nil, fmt.Errorf("test: %w", err)
	}
	return frame(nil, test)
}

// decodeTest is the reverse of encodeTest.
func decodeTest(uid string, value []byte) (*integrationv1.ConnectivityTest, error) {
	test := new(integrationv1.ConnectivityTest)
	if _, err := unframe(value, 0, test); err != nil {
		return nil, fmt.Errorf("decode the test of %s: %w", uid, err)
	}
	return test, nil
}

// encodeNote returns a note as it is stored.
func encodeNote(key string, note *storev1.Note) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("note: %w", err)
	}
	return frame(nil, note)
}

// decodeNote is the reverse of encodeNote. What a later version wrote is ErrVersion.
func decodeNote(key string, value []byte) (*storev1.Note, error) {
	note := new(storev1.Note)
	if _, err := unframe(value, 0, note); err != nil {
		return nil, fmt.Errorf("decode note %s: %w", key, err)
	}
	return note, nil
}

// lifeOf returns how long a note lives: whole seconds, at least one.
func lifeOf(life time.Duration) time.Duration { return max(life.Truncate(time.Second), time.Second) }

// page returns at most limit of the ids, in their order, beginning after `after`.
func page(ids []string, after string, limit int) []string {
	slices.Sort(ids)
	start, found := slices.BinarySearch(ids, after)
	if found {
		start++
	}
	return ids[start:min(len(ids), start+max(0, limit))]
}
