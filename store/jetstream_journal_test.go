package store

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// An acknowledgement that was lost on its way is found at the end of the stream.
func TestLostAcknowledgement(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, first := writer(t, s, "uid")
	j := opened.(*jetJournal)
	identity := first.GetIdentity()
	batch, err := new(framer).frame(1, entries(1, 3))
	must(t, err)
	last := batch[2]

	// The batch never arrived.
	wantError(t, j.afterFailure(t.Context(), identity, 3, last, context.DeadlineExceeded), ErrUnavailable)
	// It arrived, and only the answer did not.
	answer, err := j.publish(t.Context(), j.subject(identity), batch)
	must(t, err)
	if answer.Error != nil || answer.Sequence != 3 {
		t.Fatalf("the engine answered %+v", answer)
	}
	must(t, j.afterFailure(t.Context(), identity, 3, last, context.DeadlineExceeded))
	// What is there is another's.
	wantError(t, j.afterFailure(t.Context(), identity, 3, batch[1], context.DeadlineExceeded), ErrUnavailable)
	// The journal was renewed, or deleted, meanwhile.
	j.damage.found(identity)
	_, err = j.Recover(t.Context())
	must(t, err)
	wantError(t, j.afterFailure(t.Context(), identity, 3, last, context.DeadlineExceeded), ErrFenced)
	must(t, s.DeleteJournal(t.Context(), "uid"))
	wantError(t, j.afterFailure(t.Context(), identity, 3, last, context.DeadlineExceeded), ErrNotFound)
}

// A batch is stored whole or not at all, also where another wrote before it.
func TestBatchIsWhole(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, first := writer(t, s, "uid")
	j := opened.(*jetJournal)
	batch, err := new(framer).frame(1, entries(1, 5))
	must(t, err)
	j.last = 7 // As if it had seen more.
	answer, err := j.publish(t.Context(), j.subject(first.GetIdentity()), batch)
	must(t, err)
	if !answer.fenced() {
		t.Errorf("the engine answered %+v", answer)
	}
	if stats, err := j.Stats(t.Context()); err != nil || stats.Last != 0 {
		t.Errorf("stored %+v, %v", stats, err)
	}
}

// A journal whose head is gone without having been trimmed is damaged.
func TestRecoverFindsALostHead(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, first := writer(t, s, "uid")
	j := opened.(*jetJournal)
	_, err := j.Append(t.Context(), entries(1, 10))
	must(t, err)
	save(t, j, 10)
	must(t, j.Trim(t.Context(), 3, time.Time{}))
	stream, err := s.js.Stream(t.Context(), j.stream(first.GetIdentity()))
	must(t, err)
	must(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(4)))
	_, err = j.Get(t.Context(), 2)
	wantError(t, err, ErrTrimmed)
	recovered, err := j.Recover(t.Context())
	must(t, err)
	if recovered.GetIdentity() == first.GetIdentity() {
		t.Error("the loss of an entry went unnoticed")
	}
}

// A trimming and a renewal that were cut off are finished by the next Recover.
func TestRecoverFinishes(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, first := writer(t, s, "uid")
	j := opened.(*jetJournal)
	_, err := j.Append(t.Context(), entries(1, 10))
	must(t, err)
	save(t, j, 10)

	current, _, err := j.get()
	must(t, err)
	must(t, j.save(t.Context(), current.trimmed(6, time.Unix(9, 0))))
	_, err = j.Get(t.Context(), 5)
	wantError(t, err, ErrTrimmed) // The checkpoint counts, not what is still there.
	recovered, err := j.Recover(t.Context())
	must(t, err)
	if stats, err := j.Stats(t.Context()); err != nil || stats.First != 6 || stats.Last != 10 || recovered.GetIdentity() != first.GetIdentity() {
		t.Errorf("stats are %+v, %v; recovered %v", stats, err, recovered)
	}

	current, _, err = j.get()
	must(t, err)
	must(t, j.save(t.Context(), current.renewed()))
	identity := j.Checkpoint().GetIdentity()
	recovered, err = j.Recover(t.Context())
	must(t, err)
	if recovered.GetIdentity() != identity || recovered.GetLastSequence() != 0 {
		t.Errorf("recovered %v, renewed was to %s", recovered, identity)
	}
	if _, err := s.js.Stream(t.Context(), j.stream(first.GetIdentity())); err == nil {
		t.Error("the stream of the identity before is still there")
	}
	if last, err := j.Append(t.Context(), entries(1, 2)); err != nil || last != 2 {
		t.Errorf("appended through %d, %v", last, err)
	}
}

// A writer that is late, whose journal another has renewed or trimmed meanwhile, drops nothing that is there.
func TestLateWriterDropsNothing(t *testing.T) {
	s := openDir(t, t.TempDir())
	opened, first := writer(t, s, "uid")
	late := opened.(*jetJournal)
	_, err := late.Append(t.Context(), entries(1, 3))
	must(t, err)
	save(t, late, 3)
	stood, _, _ := late.get()

	// Another trims: what the late one would purge is gone already.
	opened, err = peerOf(t, s).Journal(t.Context(), "uid")
	must(t, err)
	next := opened.(*jetJournal)
	_, err = next.Recover(t.Context())
	must(t, err)
	must(t, next.Trim(t.Context(), 3, time.Unix(1, 0)))
	must(t, late.purge(t.Context(), stood))
	wantEntries(t, next, 3, 3, 3, 3)

	// Another renews it: the late one's streams are gone, and it takes no other for stale.
	next.damage.found(first.GetIdentity())
	_, err = next.Recover(t.Context())
	must(t, err)
	_, err = next.Append(t.Context(), entries(1, 2))
	must(t, err)
	save(t, next, 2)
	must(t, late.deleteStreams(t.Context(), first.GetIdentity()))
	reader, err := peerOf(t, s).Journal(t.Context(), "uid")
	must(t, err)
	wantEntries(t, reader, 1, 2, 1, 2)
	wantError(t, late.SaveCheckpoint(t.Context(), stood.checkpoint), ErrFenced)
}
