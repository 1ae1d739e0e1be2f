package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
)

const (
	// chunkEntries and chunkBytes bound what one request for entries brings. A reader holds two such chunks at most.
	chunkEntries = 512
	chunkBytes   = 2 << 20
	// replicaPatience is how long any replica may take to answer, before the leader is asked: the one that was asked may be stopped.
	replicaPatience = 2 * time.Second
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
		identity := saved.checkpoint.GetIdentity()
		for from <= through {
			entry, ok := j.store.recent.get(identity, from)
			if !ok {
				next, more := j.readStored(ctx, identity, from, through, yield)
				if !more {
					return
				}
				from = next
				continue
			}
			if err := ctx.Err(); err != nil {
				yield(Positioned{}, err)
				return
			}
			if !yield(entry, nil) {
				return
			}
			from++
		}
	}
}

// readStored reads entries that a checkpoint names out of the engine, until one comes that is at hand, and keeps the newest at
// hand. It returns the sequence after them, and whether the reader goes on.
func (j *jetJournal) readStored(
	ctx context.Context, identity string, from, through uint64, yield func(Positioned, error) bool,
) (next uint64, more bool) {
	end := j.store.recent.missing(identity, from, through)
	for entry, err := range j.scan(ctx, identity, from, end) {
		if err == nil && through-entry.Sequence < recentTip {
			j.store.recent.add(identity, entry, proto.Size(entry.Entry))
		}
		if !yield(entry, err) || err != nil {
			return 0, false
		}
	}
	return end + 1, true
}

// Get implements Journal.
func (j *jetJournal) Get(ctx context.Context, sequence uint64) (Positioned, error) {
	saved, _, err := j.get()
	if err != nil {
		return Positioned{}, err
	}
	if err := ctx.Err(); err != nil {
		return Positioned{}, err
	}
	switch {
	case sequence == 0, sequence > saved.checkpoint.GetLastSequence():
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, ErrNotFound)
	case sequence < saved.first:
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, ErrTrimmed)
	}
	identity := saved.checkpoint.GetIdentity()
	if entry, ok := j.store.recent.get(identity, sequence); ok {
		return entry, nil
	}
	patient, cancel := context.WithTimeout(ctx, replicaPatience)
	defer cancel()
	reply, err := j.store.conn.RequestWithContext(patient, directGet+j.stream(identity), fmt.Appendf(nil, `{"seq":%d}`, sequence))
	if ctx.Err() != nil {
		return Positioned{}, ctx.Err()
	}
	if err == nil && reply.Header.Get("Status") == "" {
		return j.decode(identity, sequence, reply.Data)
	}
	framed, err := j.missing(ctx, identity, sequence)
	if err != nil {
		return Positioned{}, err
	}
	return j.decode(identity, sequence, framed)
}

// decode decodes a stored entry, and notes where it is damaged.
func (j *jetJournal) decode(identity string, sequence uint64, framed []byte) (Positioned, error) {
	entry, err := unframeEntry(sequence, framed)
	if errors.Is(err, ErrDamaged) {
		j.damage.found(identity)
	}
	return entry, err
}

// scan reads entries of an identity out of the engine, also those beyond the checkpoint.
func (j *jetJournal) scan(ctx context.Context, identity string, from, through uint64) iter.Seq2[Positioned, error] {
	return func(yield func(Positioned, error) bool) {
		next := from
		for framed, err := range j.scanFramed(ctx, identity, from, through) {
			var entry Positioned
			if err == nil {
				entry, err = j.decode(identity, next, framed)
			}
			if !yield(entry, err) || err != nil {
				return
			}
			next++
		}
	}
}

// scanFramed is scan without the decoding. It asks for entries in chunks by the engine's direct reads, which need no consumer, so
// that any number of readers cost nothing in the engine; and for the next chunk before the caller decodes one.
func (j *jetJournal) scanFramed(ctx context.Context, identity string, from, through uint64) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		if from > through {
			return
		}
		reader, err := j.newChunkReader(identity)
		if err != nil {
			yield(nil, err)
			return
		}
		defer reader.close()
		if err := reader.request(from, through); err != nil {
			yield(nil, err)
			return
		}
		for next := from; next <= through; {
			chunk, err := j.nextChunk(ctx, reader, identity, next, through)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, framed := range chunk {
				if !yield(framed, nil) {
					return
				}
			}
			next += uint64(len(chunk))
		}
	}
}

// nextChunk returns the entries from `next` on that were asked for, at least one, and asks for those after them.
func (j *jetJournal) nextChunk(ctx context.Context, reader *chunkReader, identity string, next, through uint64) ([][]byte, error) {
	chunk, err := reader.receive(ctx, next)
	if err != nil {
		return nil, err
	}
	if len(chunk) == 0 {
		// What should be next is not there: find out why, or read on after it.
		framed, err := j.missing(ctx, identity, next)
		if err != nil {
			return nil, err
		}
		chunk = [][]byte{framed}
	}
	if after := next + uint64(len(chunk)); after <= through {
		if err := reader.request(after, through); err != nil {
			return nil, err
		}
	}
	return chunk, nil
}

// missing returns the entry that a direct read did not, as it is stored, which a replica that is behind explains; or why it is
// missing.
func (j *jetJournal) missing(ctx context.Context, identity string, sequence uint64) (framed []byte, err error) {
	renewed := false
	err = j.surely(ctx, func() error {
		framed, renewed, err = j.find(ctx, identity, sequence)
		if renewed {
			return nil
		}
		return err
	})
	switch {
	case renewed:
		return nil, fmt.Errorf("%w: it was renewed meanwhile", ErrDamaged)
	case errors.Is(err, ErrDamaged):
		j.damage.found(identity)
	}
	return framed, err
}

// find asks the leader for an entry, and says whether the journal has another identity by now.
func (j *jetJournal) find(ctx context.Context, identity string, sequence uint64) (framed []byte, renewed bool, err error) {
	ctx, cancel := j.store.bound(ctx)
	defer cancel()
	// First the leader, then the checkpoint: what was trimmed after the leader answered is then told as trimmed.
	framed, missing := j.leaderEntry(ctx, identity, sequence)
	if missing == nil {
		return framed, false, nil
	}
	if !errors.Is(missing, jetstream.ErrMsgNotFound) && !errors.Is(missing, jetstream.ErrStreamNotFound) {
		return nil, false, unavailable(missing)
	}
	s, revision, err := j.store.checkpoint(ctx, j.uid)
	if err != nil {
		return nil, false, err
	}
	j.set(s, revision)
	switch {
	case s.checkpoint.GetIdentity() != identity:
		return nil, true, nil
	case sequence < s.first:
		return nil, false, fmt.Errorf("entry %d: %w", sequence, ErrTrimmed)
	}
	return nil, false, fmt.Errorf("%w: entry %d is missing", ErrDamaged, sequence)
}

// leaderEntry reads an entry from the stream's leader, which has everything that was acknowledged. It returns the engine's errors.
func (j *jetJournal) leaderEntry(ctx context.Context, identity string, sequence uint64) ([]byte, error) {
	_, data, err := j.store.leaderMessage(ctx, j.stream(identity), fmt.Sprintf(`{"seq":%d}`, sequence))
	return data, err
}

// leaderMessage asks the leader of a stream for the message that a request of the engine's names, and returns its sequence and content.
func (s *JetStream) leaderMessage(ctx context.Context, stream, request string) (sequence uint64, data []byte, err error) {
	reply, err := s.conn.RequestWithContext(ctx, leaderGet+stream, []byte(request))
	if err != nil {
		return 0, nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
			Data     string `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return 0, nil, fmt.Errorf("the engine's answer: %w", err)
	}
	switch {
	case answer.Error == nil:
		data, err = base64.StdEncoding.DecodeString(answer.Message.Data)
		return answer.Message.Sequence, data, err
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return 0, nil, jetstream.ErrMsgNotFound
	case answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound:
		return 0, nil, jetstream.ErrStreamNotFound
	}
	return 0, nil, answer.Error
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
	r := &chunkReader{store: j.store, subject: directGet + j.stream(identity)}
	return r, r.open()
}

// open makes the reader ready for an answer.
func (r *chunkReader) open() (err error) {
	r.answers = make(chan *nats.Msg, chunkEntries+1)
	r.inbox, err = r.store.conn.ChanSubscribe(r.store.conn.NewInbox(), r.answers)
	return unavailable(err)
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
// means that the entry `from` was not found, or that nothing was answered.
func (r *chunkReader) receive(ctx context.Context, from uint64) ([][]byte, error) {
	patience := time.NewTimer(replicaPatience)
	defer patience.Stop()
	var chunk [][]byte
	for whole := true; ; {
		var message *nats.Msg
		select {
		case message = <-r.answers:
		case <-patience.C:
			// What comes still of this answer must not be taken for the next one.
			r.close()
			return chunk, r.open()
		case <-ctx.Done():
			return nil, unavailable(ctx.Err())
		case <-r.store.closing.Done():
			return nil, errClosed
		}
		patience.Reset(replicaPatience)
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
