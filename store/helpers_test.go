package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// record returns a record to store.
func record(id, uid string) *storev1.Record {
	return &storev1.Record{Uid: uid, Integration: &integrationv1.Integration{IntegrationId: id}}
}

// entry returns the entry that the tests store at a sequence.
func entry(sequence int) *storev1.Entry {
	return &storev1.Entry{
		EntryTime: timestamppb.New(time.Unix(int64(sequence), 0)),
		Body: &storev1.Entry_Revision{Revision: &storev1.Revision{
			Key: fmt.Sprintf("alert-%d", sequence), Raw: []byte(fmt.Sprintf(`{"id":"alert-%d"}`, sequence)),
		}},
	}
}

// entries returns the entries from `from` through `through`.
func entries(from, through int) []*storev1.Entry {
	var all []*storev1.Entry
	for sequence := from; sequence <= through; sequence++ {
		all = append(all, entry(sequence))
	}
	return all
}

// writer opens and recovers a journal.
func writer(t *testing.T, s Store, uid string) (Journal, *storev1.Checkpoint) {
	t.Helper()
	j, err := s.Journal(t.Context(), uid)
	must(t, err)
	checkpoint, err := j.Recover(t.Context())
	must(t, err)
	return j, checkpoint
}

// save saves a checkpoint at a sequence, all else as it is.
func save(t *testing.T, j Journal, last uint64) {
	t.Helper()
	checkpoint := proto.CloneOf(j.Checkpoint())
	checkpoint.LastSequence = last
	must(t, j.SaveCheckpoint(t.Context(), checkpoint))
}

// wantEntries reads from `from` through `through` and wants the entries first to last.
func wantEntries(t *testing.T, j Journal, from, through uint64, first, last int) {
	t.Helper()
	next := first
	for got, err := range j.Read(t.Context(), from, through) {
		if err != nil {
			t.Fatalf("reading %d to %d: after %d: %v", from, through, next-1, err)
		}
		if got.Sequence != uint64(next) || !proto.Equal(got.Entry, entry(next)) {
			t.Fatalf("reading %d to %d: got %d, %v, want %d", from, through, got.Sequence, got.Entry, next)
		}
		next++
	}
	if next != last+1 {
		t.Fatalf("reading %d to %d ended after %d, want %d", from, through, next-1, last)
	}
}

// waited is what Wait returned.
type waited struct {
	checkpoint *storev1.Checkpoint
	err        error
}

// wait waits in the background, from no floor.
func wait(t *testing.T, j Journal, identity string, after uint64) <-chan waited {
	result := make(chan waited, 1)
	go func() {
		checkpoint, err := j.Wait(t.Context(), identity, after, time.Time{})
		result <- waited{checkpoint, err}
	}()
	return result
}

// receive receives within a time that only a hang passes.
func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value, ok := <-from:
		if !ok {
			t.Fatal("the channel was closed")
		}
		return value
	case <-time.After(time.Minute):
		t.Fatal("nothing came in a minute")
	}
	panic("unreachable")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got the error %v, want %v", err, want)
	}
}

func closeStore(t *testing.T, s Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}
