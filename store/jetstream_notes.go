package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// markerLife is for how long the engine keeps the mark of a note that was deleted or has lapsed, for watches that lost touch meanwhile.
const markerLife = time.Hour

// noteBucket returns the bucket of the notes. It is made when it is first used: a server that shares its store with none needs none.
func (s *JetStream) noteBucket(ctx context.Context) (jetstream.KeyValue, error) {
	s.notesMu.Lock()
	defer s.notesMu.Unlock()
	if s.notes != nil {
		return s.notes, nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	name := s.options.Prefix + "-notes"
	config := s.bucketConfig(name)
	config.AllowMsgTTL, config.SubjectDeleteMarkerTTL = true, markerLife
	notes, err := s.openBucket(ctx, name, config)
	if err != nil {
		return nil, fmt.Errorf("the bucket of notes: %w", unavailable(err))
	}
	s.notes = notes
	return notes, nil
}

// Note implements Notes. It asks the leader of the bucket's stream.
func (s *JetStream) Note(ctx context.Context, key string) (*storev1.Note, uint64, error) {
	if checkKey(key) != nil {
		return nil, 0, fmt.Errorf("note %q: %w", key, ErrNotFound)
	}
	bucket, err := s.noteBucket(ctx)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	stored, err := bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, fmt.Errorf("note %s: %w", key, ErrNotFound)
	}
	if err != nil {
		return nil, 0, unavailable(err)
	}
	note, err := decodeNote(key, stored.Value())
	return note, stored.Revision(), err
}

// PutNote implements Notes.
func (s *JetStream) PutNote(ctx context.Context, key string, note *storev1.Note, revision uint64, life time.Duration) (uint64, error) {
	value, err := encodeNote(key, note)
	if err != nil {
		return 0, err
	}
	bucket, err := s.noteBucket(ctx)
	if err != nil {
		return 0, err
	}
	var put uint64
	err = s.write(ctx, func(ctx context.Context) (err error) {
		put, err = retryMismatch(ctx, bucket, key, revision, func() (uint64, error) {
			return s.publishNote(ctx, bucket, key, value, revision, lifeOf(life))
		})
		return err
	})
	return put, noteError(key, err)
}

// publishNote is the bucket's Create, or an Update with a life, which the client has none for.
func (s *JetStream) publishNote(
	ctx context.Context, bucket jetstream.KeyValue, key string, value []byte, revision uint64, life time.Duration,
) (uint64, error) {
	if revision == 0 {
		return create(ctx, bucket, key, value, jetstream.KeyTTL(life))
	}
	message := nats.NewMsg("$KV." + bucket.Bucket() + "." + key)
	message.Data = value
	ack, err := s.js.PublishMsg(ctx, message, jetstream.WithExpectLastSequencePerSubject(revision), jetstream.WithMsgTTL(life))
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && wrongSequence(refused) {
		return 0, fmt.Errorf("%w: %w", jetstream.ErrKeyRevisionMismatch, err)
	}
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// DeleteNote implements Notes.
func (s *JetStream) DeleteNote(ctx context.Context, key string, revision uint64) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("note: %w", err)
	}
	bucket, err := s.noteBucket(ctx)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(ctx context.Context) error {
		_, err := retryMismatch(ctx, bucket, key, revision, func() (uint64, error) {
			return 0, bucket.Purge(ctx, key, jetstream.LastRevision(revision), jetstream.PurgeTTL(markerLife))
		})
		return err
	})
	return noteError(key, err)
}

// noteError returns an error of the engine as one that callers branch on.
func noteError(key string, err error) error {
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("note %s: %w", key, ErrConflict)
	}
	return unavailable(err)
}

// WatchNotes implements Notes.
func (s *JetStream) WatchNotes(ctx context.Context) (<-chan NoteChange, error) {
	bucket, err := s.noteBucket(ctx)
	if err != nil {
		return nil, err
	}
	changes := make(chan NoteChange)
	synced := false
	err = s.follow(ctx, bucket, func(ctx context.Context, entry jetstream.KeyValueEntry) {
		change := s.noteChangeOf(entry)
		if change.Deleted && !synced {
			return
		}
		synced = synced || change.Synced
		select {
		case changes <- change:
		case <-ctx.Done():
		}
	}, func() { close(changes) })
	if err != nil {
		return nil, err
	}
	return changes, nil
}

// noteChangeOf returns what the bucket of the notes told.
func (s *JetStream) noteChangeOf(entry jetstream.KeyValueEntry) NoteChange {
	if entry == nil {
		return NoteChange{Synced: true}
	}
	change := NoteChange{Key: entry.Key(), Revision: entry.Revision()}
	if entry.Operation() != jetstream.KeyValuePut {
		change.Deleted = true
		return change
	}
	var err error
	if change.Note, err = decodeNote(entry.Key(), entry.Value()); err != nil {
		s.logger.Error("a note of another server cannot be read", "note", entry.Key(), "error", err)
	}
	return change
}
