package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

const (
	// batchEntries is the engine's limit for an atomic batch.
	batchEntries = 1000
	// batchBytes bounds what a batch makes the engine hold in memory.
	batchBytes = 8 << 20
	// messageOverhead is about what the engine stores beside an entry.
	messageOverhead = 256
)

// The headers of an atomic batch (ADR-50 of NATS).
const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// Append implements Journal.
func (j *jetJournal) Append(ctx context.Context, entries []*storev1.Entry) (uint64, error) {
	defer j.writing.Unlock()
	if err := j.lockWriter(); err != nil {
		return 0, err
	}
	f, ok := j.store.framers.Get().(*framer)
	if !ok {
		f = new(framer)
	}
	defer j.store.framers.Put(f)
	framed, err := f.frame(j.last+1, entries)
	if err != nil {
		return 0, err
	}
	for len(framed) > 0 {
		count, size := nextBatch(framed)
		if err := j.store.take(ctx, size); err != nil {
			j.resign()
			return 0, err
		}
		if err := j.appendBatch(ctx, framed[:count]); err != nil {
			j.resign()
			return 0, err
		}
		j.appended.add(j.last+1, entries[:count], framed[:count])
		j.last += uint64(count)
		entries, framed = entries[count:], framed[count:]
	}
	return j.last, nil
}

// nextBatch returns how many of the entries make the next batch, and what they take.
func nextBatch(framed [][]byte) (count int, size int64) {
	for _, entry := range framed[:min(len(framed), batchEntries)] {
		if count > 0 && size+int64(len(entry)) > batchBytes {
			break
		}
		count++
		size += int64(len(entry)) + messageOverhead
	}
	return count, size
}

// appendBatch stores a batch whole, right after the last sequence, or not at all.
func (j *jetJournal) appendBatch(ctx context.Context, batch [][]byte) error {
	saved, _, _ := j.get()
	identity := saved.checkpoint.GetIdentity()
	bounded, cancel := j.store.bound(ctx)
	defer cancel()
	answer, err := j.publish(bounded, j.subject(identity), batch)
	want := j.last + uint64(len(batch))
	switch {
	case err == nil && answer.Error == nil && answer.Sequence == want:
		return nil
	case err == nil && answer.fenced():
		return fmt.Errorf("journal %s: %w", j.uid, ErrFenced)
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		err = answer.unexpected(want)
	}
	return j.afterFailure(ctx, identity, want, batch[len(batch)-1], err)
}

// publish sends a batch and returns the engine's answer to the last message, which is the only one that is answered.
func (j *jetJournal) publish(ctx context.Context, subject string, batch [][]byte) (*batchAnswer, error) {
	id := nuid.Next()
	var reply *nats.Msg
	for i, entry := range batch {
		message := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: entry}
		if i == 0 {
			message.Header.Set(jetstream.ExpectedLastSeqHeader, strconv.FormatUint(j.last, 10))
		}
		if len(batch) > 1 {
			message.Header.Set(headerBatchID, id)
			message.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
		}
		var err error
		switch {
		case i < len(batch)-1:
			err = j.store.conn.PublishMsg(message)
		case len(batch) > 1:
			message.Header.Set(headerBatchCommit, "1")
			fallthrough
		default:
			reply, err = j.store.conn.RequestMsgWithContext(ctx, message)
		}
		if err != nil {
			return nil, err
		}
	}
	answer := new(batchAnswer)
	if err := json.Unmarshal(reply.Data, answer); err != nil {
		return nil, fmt.Errorf("the engine's answer: %w", err)
	}
	return answer, nil
}

// afterFailure finds out what became of a batch that was not acknowledged. An acknowledgement that was lost on its way is one.
func (j *jetJournal) afterFailure(ctx context.Context, identity string, want uint64, last []byte, cause error) error {
	cause = fmt.Errorf("journal %s: append: %w", j.uid, unavailable(cause))
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	if s, _, err := j.store.checkpoint(ctx, j.uid); errors.Is(err, ErrNotFound) {
		return err
	} else if err == nil && s.checkpoint.GetIdentity() != identity {
		return fmt.Errorf("journal %s: %w", j.uid, ErrFenced)
	}
	stored, err := j.leaderEntry(ctx, identity, want)
	if err == nil && bytes.Equal(stored, last) {
		if stats, _, err := j.stats(ctx, identity); err == nil && stats.Last == want {
			return nil
		}
	}
	if j.store.embedded != nil {
		j.store.embedded.suspected()
	}
	return cause
}

// batchAnswer is what the engine answers to a message or a batch.
type batchAnswer struct {
	Error    *jetstream.APIError `json:"error"`
	Sequence uint64              `json:"seq"`
}

// fenced says that another wrote to the stream.
func (a *batchAnswer) fenced() bool {
	return a.Error != nil && wrongSequence(a.Error)
}

// wrongSequence says that the engine refused a message since another wrote before it.
func wrongSequence(err *jetstream.APIError) bool {
	return err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || err.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// unexpected returns the answer as an error.
func (a *batchAnswer) unexpected(want uint64) error {
	if a.Error != nil {
		return a.Error
	}
	return fmt.Errorf("the engine stored the last entry at %d, not at %d", a.Sequence, want)
}
