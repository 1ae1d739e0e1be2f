package sequences_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// director is a caller with one stream. It keeps every event with its token, and comes again by itself after a failure that says
// that it may.
type director struct {
	house   *house
	request *integrationv1.StreamAlertsRequest
	name    string
	// steady says that it never cuts its stream.
	steady bool

	// While no call runs these belong to the test's goroutine, else to the call's.
	cancel context.CancelFunc // nil while the stream is cut
	ended  chan struct{}
	// eras are what was kept: a new one begins where the journal was replaced, which is told.
	eras []*era
	// done says that the stream was completed.
	done bool
	// faults are what no stream may do.
	faults []string
	// forgotten are events that were forgotten, so that they came again.
	forgotten []*received

	mu sync.Mutex
	// refused says that the last call ended with a failure, and the next has kept nothing yet.
	refused bool
	// patience is after how many more events the caller cuts its stream itself; negative: it does not.
	patience int
}

// era is what a director kept of a journal of one identity.
type era struct {
	identity string
	// start is the position that the stream began behind.
	start uint64
	// opened is when it was asked for, began when its first event came.
	opened, began time.Time
	kept          []*received
	// anew says that it began with the oldest token that works, from after another era.
	anew bool
	// lost are where tokens were refused since what came after them is no longer kept, which is told: the sequence before the loss,
	// and the first one behind it.
	lost []loss
}

type loss struct{ after, first uint64 }

// received is an event as it was kept.
type received struct {
	*integrationv1.StreamAlertsResponse
	at    time.Time
	token *storev1.ResumeToken
}

// ofJournal says that an event rests on the journal, and does not tell the present.
func (r *received) ofJournal() bool { return r.GetAlert() != nil || r.GetCompleted() != nil }

// tokenOf reads a resume token. To callers it is opaque; the model goes by the positions in it.
func tokenOf(text string) (*storev1.ResumeToken, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(data) < 4 {
		return nil, fmt.Errorf("the token %q: %w", text, err)
	}
	token := &storev1.ResumeToken{}
	return token, proto.Unmarshal(data[:len(data)-4], token)
}

// era returns the one in force.
func (d *director) era() *era {
	if len(d.eras) == 0 {
		d.eras = append(d.eras, &era{})
	}
	return d.eras[len(d.eras)-1]
}

// position is the sequence through which everything was kept.
func (e *era) position() uint64 {
	if len(e.kept) == 0 {
		return 0
	}
	return e.kept[len(e.kept)-1].token.GetSequence()
}

// running says whether a call runs.
func (d *director) running() bool {
	if d.cancel == nil {
		return false
	}
	select {
	case <-d.ended:
		d.cut()
	default:
	}
	return d.cancel != nil
}

// resume forgets the last events that were kept, but never the first, and opens the stream with the token of the last one left.
func (d *director) resume(forget int) {
	e := d.era()
	e.kept = e.kept[:max(len(e.kept)-forget, min(len(e.kept), 1))]
	d.done = false
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.ended = cancel, make(chan struct{})
	d.mu.Lock()
	d.patience = -1
	d.mu.Unlock()
	go func() {
		defer close(d.ended)
		d.run(ctx)
	}()
}

// cut ends the stream on the caller's side.
func (d *director) cut() {
	if d.cancel == nil {
		return
	}
	d.cancel()
	<-d.ended
	d.cancel = nil
}

// cutAfter makes the caller cut its stream after some more events; never where the number is negative.
func (d *director) cutAfter(events int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.patience = events
}

// run keeps the stream going until ctx ends or it is complete.
func (d *director) run(ctx context.Context) {
	token := ""
	if kept := d.era().kept; len(kept) > 0 {
		token = kept[len(kept)-1].GetResumeToken()
	}
	for wait := 1; ; {
		before := len(d.era().kept)
		err := d.call(ctx, token)
		d.mu.Lock()
		d.refused = ctx.Err() == nil && !errors.Is(err, errImpatient) && !errors.Is(err, io.EOF)
		d.mu.Unlock()
		if kept := d.era().kept; len(kept) > 0 {
			token = kept[len(kept)-1].GetResumeToken()
		}
		if wait = min(2*wait, 60); len(d.era().kept) > before {
			wait = 2
		}
		switch refused := detailOf(err); {
		case ctx.Err() != nil, errors.Is(err, errImpatient):
			return
		case errors.Is(err, io.EOF):
			d.done = true
			return
		case refused.GetReason() == integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED.String():
			token = refused.GetMetadata()["oldest_resume_token"]
			oldest, err := tokenOf(token)
			if err != nil {
				d.faults = append(d.faults, err.Error())
				return
			}
			d.era().lost = append(d.era().lost, loss{d.era().position(), oldest.GetSequence() + 1})
		case refused.GetReason() == integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED.String():
			token = refused.GetMetadata()["oldest_resume_token"]
			d.mu.Lock()
			d.eras = append(d.eras, &era{anew: true})
			d.mu.Unlock()
		case status.Code(err) == codes.Unavailable:
		default:
			d.faults = append(d.faults, fmt.Sprintf("the stream ended with %v", err))
			return
		}
		select {
		case <-time.After(d.house.pace.of(wait)):
		case <-ctx.Done():
			return
		}
	}
}

var errImpatient = errors.New("the caller has enough")

// call opens the stream once, and keeps what comes until it ends.
func (d *director) call(ctx context.Context, token string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := proto.CloneOf(d.request)
	request.ResumeToken = token
	opened := time.Now()
	events, err := d.house.edge.client.StreamAlerts(ctx, request)
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if err != nil {
			return err
		}
		if err := d.keep(opened, event); err != nil {
			d.faults = append(d.faults, err.Error())
			return errImpatient
		}
		d.mu.Lock()
		if d.patience >= 0 {
			d.patience--
		}
		enough := d.patience == 0
		d.mu.Unlock()
		if enough && event.GetCompleted() == nil {
			return errImpatient
		}
	}
}

// keep keeps an event.
func (d *director) keep(opened time.Time, event *integrationv1.StreamAlertsResponse) error {
	token, err := tokenOf(event.GetResumeToken())
	if err != nil {
		return err
	}
	e := d.era()
	if len(e.kept) == 0 {
		e.identity, e.start, e.opened, e.began = token.GetIdentity(), token.GetStartSequence(), opened, time.Now()
	}
	if token.GetIdentity() != e.identity {
		return fmt.Errorf("the journal was replaced, and the stream goes on without a word: %v", event)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = false
	e.kept = append(e.kept, &received{StreamAlertsResponse: event, at: time.Now(), token: token})
	return nil
}

// comesAgain says that the stream is about to be opened again, after a failure.
func (d *director) comesAgain() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
}

// count returns how many events of the journal were kept behind a number of events.
func (d *director) count(behind int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(journalled(d.eras[0].kept[min(behind, len(d.eras[0].kept)):]))
}

// detailOf returns why a call was refused; nil where that is not told.
func detailOf(err error) *errdetails.ErrorInfo {
	for _, one := range status.Convert(err).Details() {
		if info, ok := one.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}
