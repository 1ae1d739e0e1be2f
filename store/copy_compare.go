package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
)

// errDiffers says that a copy is not what was copied.
var errDiffers = errors.New("the copy differs")

// refusal returns the error in an answer of the engine's; nil where it has none.
func refusal(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("the engine's answer: %w", err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// compareJournals returns an error where the copy of a journal does not begin and end where the other does, or where an entry is not
// readable, in its place and the same byte for byte.
func compareJournals(ctx context.Context, from, to *jetJournal, identity string, stats Stats, entries uint64) error {
	for _, side := range []*jetJournal{from, to} {
		got, count, err := side.stats(ctx, identity)
		if err != nil {
			return unavailable(err)
		}
		if got.First != stats.First || got.Last != stats.Last || count != entries {
			return fmt.Errorf("%w: it has %d entries from %d through %d, and there were %d from %d through %d when copying began",
				errDiffers, count, got.First, got.Last, entries, stats.First, stats.Last)
		}
	}
	copied, stop := iter.Pull2(to.scanFramed(ctx, identity, stats.First, stats.Last))
	defer stop()
	sequence := stats.First
	for original, err := range from.scanFramed(ctx, identity, stats.First, stats.Last) {
		if err != nil {
			return err
		}
		framed, err, ok := copied()
		switch {
		case !ok:
			return fmt.Errorf("%w: it lacks entry %d", errDiffers, sequence)
		case err != nil:
			return err
		case !bytes.Equal(original, framed):
			return fmt.Errorf("%w at entry %d", errDiffers, sequence)
		}
		if _, err := unframeEntry(sequence, framed); err != nil {
			return err
		}
		sequence++
	}
	return nil
}

// message is a message as the engine tells it of a stream's leader.
type message struct {
	Subject  string `json:"subject"`
	Sequence uint64 `json:"seq"`
	Header   []byte `json:"hdrs"`
	Data     []byte `json:"data"`
	Time     string `json:"time"`
}

// same says whether two messages are equal.
func (m *message) same(other *message) bool {
	return m.Subject == other.Subject && m.Sequence == other.Sequence && m.Time == other.Time &&
		bytes.Equal(m.Header, other.Header) && bytes.Equal(m.Data, other.Data)
}

// nextMessage returns the first message of a stream at or after a sequence, by its leader; nil where there is none.
func (s *JetStream) nextMessage(ctx context.Context, stream string, sequence uint64) (*message, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	reply, err := s.conn.RequestWithContext(ctx, leaderGet+stream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">"}`, sequence))
	if err != nil {
		return nil, unavailable(err)
	}
	err = refusal(reply.Data)
	if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.ErrorCode == jetstream.JSErrCodeMessageNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	var answer struct {
		Message *message `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, fmt.Errorf("the engine's answer: %w", err)
	}
	return answer.Message, nil
}

// compareBuckets returns an error where the copy of a bucket does not hold the same under the same keys at the same revisions. It returns how
// many values there are, marks of deletion left out.
func compareBuckets(ctx context.Context, from, to *JetStream, stream string) (count int, err error) {
	for sequence := uint64(1); ; {
		original, err := from.nextMessage(ctx, stream, sequence)
		if err != nil {
			return 0, err
		}
		copied, err := to.nextMessage(ctx, stream, sequence)
		if err != nil {
			return 0, err
		}
		switch {
		case original == nil && copied == nil:
			return count, nil
		case original == nil || copied == nil || !original.same(copied):
			return 0, fmt.Errorf("%w at revision %d", errDiffers, sequence)
		}
		if len(original.Data) > 0 {
			count++
		}
		sequence = original.Sequence + 1
	}
}
