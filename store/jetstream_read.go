package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// chunkEntries and chunkBytes bound what one request for entries brings. A reader holds two such chunks at most.
	chunkEntries = 512
	chunkBytes   = 2 << 20
)

// The engine's subjects for reads, before a stream's name: from any replica, and from the leader.
const (
	directGet = "$JS.API.DIRECT.GET."
	leaderGet = "$JS.API.STREAM.MSG.GET."
)

// Read implements Journal.
func (j *jetJournal) Read(ctx context.Context, from, through uint64) iter.Seq2[Positioned, error] {
	return func(yield func(Positioned, error) bool) {
		saved, _, err := j.get()
		if err != nil {
			yield(Positioned{}, err)
			return
		}
		from, through := max(1, from), min(through, saved.checkpoint.GetLastSequence())
		if from <= through && from < saved.first {
			yield(Positioned{}, fmt.Errorf("entry %d: %w", from, ErrTrimmed))
			return
		}
		for entry, err := range j.scan(ctx, saved.checkpoint.GetIdentity(), from, through) {
			if !yield(entry, err) {
				return
			}
		}
	}
}

// Get implements Journal.
func (j *jetJournal) Get(ctx context.Context, sequence uint64) (Positioned, error) {
	saved, _, err := j.get()
	if err != nil {
		return Positioned{}, err
	}
	switch {
	case sequence == 0, sequence > saved.checkpoint.GetLastSequence():
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, ErrNotFound)
	case sequence < saved.first:
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, ErrTrimmed)
	}
	identity := saved.checkpoint.GetIdentity()
	bounded, cancel := j.store.bound(ctx)
	defer cancel()
	reply, err := j.store.conn.RequestWithContext(bounded, directGet+j.stream(identity), fmt.Appendf(nil, `{"seq":%d}`, sequence))
	switch {
	case err != nil && !errors.Is(err, nats.ErrNoResponders):
		return Positioned{}, unavailable(err)
	case err != nil || reply.Header.Get("Status") != "":
		return j.missing(ctx, identity, sequence)
	}
	entry, err := unframeEntry(sequence, reply.Data)
	if err != nil {
		j.damage.found(identity)
	}
	return entry, err
}

// scan reads entries of an identity, also those beyond the checkpoint. It asks for them in chunks by the engine's direct reads,
// which need no consumer, so that any number of readers cost nothing in the engine; and for the next chunk before it decodes
// one.
func (j *jetJournal) scan(ctx context.Context, identity string, from, through uint64) iter.Seq2[Positioned, error] {
	return func(yield func(Positioned, error) bool) {
		if from > through {
			return
		}
		reader, err := j.newChunkReader(identity)
		if err != nil {
			yield(Positioned{}, err)
			return
		}
		defer reader.close()
		next := from
		if err = reader.request(next, through); err != nil {
			yield(Positioned{}, err)
			return
		}
		for next <= through {
			chunk, err := reader.receive(ctx, next)
			if err != nil {
				yield(Positioned{}, err)
				return
			}
			if after := next + uint64(len(chunk)); len(chunk) > 0 && after <= through {
				if err = reader.request(after, through); err != nil {
					yield(Positioned{}, err)
					return
				}
			}
			for _, framed := range chunk {
				entry, err := unframeEntry(next, framed)
				if err != nil {
					j.damage.found(identity)
				}
				if !yield(entry, err) || err != nil {
					return
				}
				next++
			}
			if len(chunk) > 0 {
				continue
			}
			// What should be next is not there: find out why, or read on after it.
			entry, err := j.missing(ctx, identity, next)
			if !yield(entry, err) || err != nil {
				return
			}
			if next++; next <= through {
				if err = reader.request(next, through); err != nil {
					yield(Positioned{}, err)
					return
				}
			}
		}
	}
}

// missing returns the entry that a direct read did not, which a replica that is behind explains, or why it is missing.
func (j *jetJournal) missing(ctx context.Context, identity string, sequence uint64) (Positioned, error) {
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	// First the leader, then the checkpoint: what was trimmed after the leader answered is then told as trimmed.
	framed, missing := j.leaderEntry(ctx, identity, sequence)
	if missing == nil {
		entry, err := unframeEntry(sequence, framed)
		if err != nil {
			j.damage.found(identity)
		}
		return entry, err
	}
	if !errors.Is(missing, jetstream.ErrMsgNotFound) && !errors.Is(missing, jetstream.ErrStreamNotFound) {
		return Positioned{}, unavailable(missing)
	}
	s, revision, err := j.store.checkpoint(ctx, j.uid)
	if err != nil {
		return Positioned{}, err
	}
	j.set(s, revision)
	switch {
	case s.checkpoint.GetIdentity() != identity:
		return Positioned{}, fmt.Errorf("%w: it was renewed meanwhile", ErrDamaged)
	case sequence < s.first:
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, ErrTrimmed)
	}
	j.damage.found(identity)
	return Positioned{}, fmt.Errorf("%w: entry %d is missing", ErrDamaged, sequence)
}

// leaderEntry reads an entry from the stream's leader, which has everything that was acknowledged. It returns the engine's errors.
func (j *jetJournal) leaderEntry(ctx context.Context, identity string, sequence uint64) ([]byte, error) {
	request := fmt.Appendf(nil, `{"seq":%d}`, sequence)
	reply, err := j.store.conn.RequestWithContext(ctx, leaderGet+j.stream(identity), request)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Data string `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, fmt.Errorf("the engine's answer: %w", err)
	}
	switch {
	case answer.Error == nil:
		return base64.StdEncoding.DecodeString(answer.Message.Data)
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, jetstream.ErrMsgNotFound
	case answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return nil, jetstream.ErrStreamNotFound
	}
	return nil, answer.Error
}

// chunkReader asks for chunks of entries, one request at a time.
type chunkReader struct {
	store   *JetStream
	subject string
	inbox   *nats.Subscription
	// answers has room for a whole chunk and its end.
	answers chan *nats.Msg
}

func (j *jetJournal) newChunkReader(identity string) (*chunkReader, error) {
	answers := make(chan *nats.Msg, chunkEntries+1)
	inbox, err := j.store.conn.ChanSubscribe(j.store.conn.NewInbox(), answers)
	if err != nil {
		return nil, unavailable(err)
	}
	return &chunkReader{store: j.store, subject: directGet + j.stream(identity), inbox: inbox, answers: answers}, nil
}

// close drops what is still to come. The subscription ends with the connection, if not before.
func (r *chunkReader) close() {
	_ = r.inbox.Unsubscribe()
}

// request asks for the chunk that begins at from. The engine's headers are left out, since taking them apart costs more than all
// else; an entry knows its own sequence.
func (r *chunkReader) request(from, through uint64) error {
	count := min(through-from+1, chunkEntries)
	request := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d,"no_hdr":true}`, from, count, chunkBytes)
	return unavailable(r.store.conn.PublishRequest(r.subject, r.inbox.Subject, request))
}

// receive returns the entries of the chunk that was asked for, as they are stored: those from `from` on without a hole. None
// means that the entry `from` was not found.
func (r *chunkReader) receive(ctx context.Context, from uint64) ([][]byte, error) {
	ctx, cancel := r.store.bound(ctx)
	defer cancel()
	var chunk [][]byte
	for whole := true; ; {
		var message *nats.Msg
		select {
		case message = <-r.answers:
		case <-ctx.Done():
			return nil, unavailable(ctx.Err())
		case <-r.store.closing.Done():
			return nil, errClosed
		}
		switch status := message.Header.Get("Status"); status {
		case "":
		case "204", "404", "503": // The end of the chunk; nothing found; no such stream.
			return chunk, nil
		default:
			return nil, fmt.Errorf("%w: read: %s %s", ErrUnavailable, status, message.Header.Get("Description"))
		}
		// After a hole, what follows is asked for again once the hole is understood.
		whole = whole && peekSequence(message.Data) == from+uint64(len(chunk))
		if whole {
			chunk = append(chunk, message.Data)
		}
	}
}
