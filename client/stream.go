package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxEventSize is what an event may take: the service sends none over 3 MB. It is asked for explicitly, since a smaller limit of
// the connection would end a stream with RESOURCE_EXHAUSTED at the same event again and again.
const maxEventSize = 4 << 20

// endGrace is how long a completed stream waits for the server to end it.
const endGrace = 5 * time.Second

// ErrEndedEarly says that the server ended the stream with OK and without a `completed`, which the contract does not allow. It
// proves nothing and is not retried.
var ErrEndedEarly = errors.New("the server ended the stream of alerts before it was completed")

// Stream is a stream of alerts. Events receives it; Ack of an event, and Acknowledged, may be called meanwhile from other
// goroutines.
type Stream struct {
	client  *Client
	request *integrationv1.StreamAlertsRequest

	mu sync.Mutex
	// token is what the stream resumes with.
	token string
	// connection counts the connections, and delivered the events of this one; acknowledged is the latest that was.
	connection, delivered, acknowledged int
}

// Event is one event of a stream.
type Event struct {
	// StreamAlertsResponse is the event as it was received, with its resume token.
	*integrationv1.StreamAlertsResponse

	stream             *Stream
	connection, number int
}

// Alerts returns the stream of alerts that the request asks for. It calls nothing before its events are received. The request's
// resume_token, where it is set, is where it begins. The request is copied.
func (c *Client) Alerts(request *integrationv1.StreamAlertsRequest) *Stream {
	return &Stream{client: c, request: proto.CloneOf(request), token: request.GetResumeToken()}
}

// Ack acknowledges the event and all that came before it on the stream: after a reconnection they do not come again. It is safe
// for concurrent use. Acknowledging late, when the stream has reconnected since, does nothing: the event comes again, or did.
func (e *Event) Ack() {
	s := e.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.connection != s.connection || e.number <= s.acknowledged || e.GetResumeToken() == "" {
		return
	}
	s.acknowledged, s.token = e.number, e.GetResumeToken()
}

// Acknowledged returns the token that the stream resumes with: that of the last acknowledged event; before there is one, the
// request's, or where that has none and the stream was connected, the token of its start.
func (s *Stream) Acknowledged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// Events yields the stream's events in order. It ends without an error after `completed`; where it ends otherwise, the last thing
// that it yields is an error without an event:
//
//   - a *[TokenError] where the service refuses the resume token, at the start or after a reconnection: nothing is ever begun
//     anew in silence;
//   - the status of the call, but where its code is UNAVAILABLE, or RESOURCE_EXHAUSTED with a RetryInfo (as where events were left unread
//     for too long, or the service's operator allows no more streams): these are retried, without end, after the time that the server
//     names or a growing one. RESOURCE_EXHAUSTED without one is a request that can never succeed, as where it is too large. PERMISSION_DENIED and UNAUTHENTICATED
//     are final too: what the service's operator does not allow, asking again does not change. After UNAUTHENTICATED, which a certificate
//     brings that expired while its connection was open, the server closes the connection within seconds; where the connection's
//     credentials have a newer certificate by then, Events may be called again;
//   - [ErrEndedEarly];
//   - the error of ctx.
//
// A request without a window and a token begins now: at the first connection, not anew at each. Only if that breaks before the
// first event has arrived does it begin when the next is made.
//
// Leaving the loop ends the call at the server, and so does the end of ctx. Events may be called again then, which resumes after the last acknowledged event
// (after a `completed`, that waits for another closing read and judges again), and must not be called twice at one time.
func (s *Stream) Events(ctx context.Context) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		wait := s.client.waits.begin()
		for {
			received, end, err := s.connect(ctx, yield)
			if end {
				return
			}
			if over(ctx) {
				// What the call says then depends on who noticed first.
				yield(nil, fmt.Errorf("stream of alerts: %w", context.Cause(ctx)))
				return
			}
			if !retryable(err) {
				yield(nil, typed(err, s.Acknowledged()))
				return
			}
			if received {
				wait.reset()
			}
			pause := wait.next(err)
			s.client.log.InfoContext(ctx, "the stream of alerts broke; it reconnects",
				"integration_id", s.request.GetIntegrationId(), "reference", s.request.GetReference(),
				"wait", pause, "reason", Reason(err), "error", err)
			if err := sleep(ctx, pause); err != nil {
				yield(nil, fmt.Errorf("stream of alerts: %w", err))
				return
			}
		}
	}
}

// over reports whether ctx has ended. The server keeps the call's deadline too and may end the call at it a moment before the
// timer of ctx does; over waits for that.
func over(ctx context.Context) bool {
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// connect makes one call and yields its events. It returns whether there was any, whether the stream is over for the caller
// (completed, or left), and otherwise why the call ended.
func (s *Stream) connect(ctx context.Context, yield func(*Event, error) bool) (received, end bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	connection, request := s.newConnection()
	call, err := s.client.service.StreamAlerts(ctx, request, grpc.MaxCallRecvMsgSize(maxEventSize))
	if err != nil {
		return false, false, err
	}
	for {
		response, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return received, false, ErrEndedEarly
		}
		if err != nil {
			return received, false, err
		}
		event := s.deliver(connection, response)
		received = true
		completed := response.GetCompleted() != nil
		if !yield(event, nil) {
			return received, true, nil
		}
		if completed {
			// All has been told, so how the call ends changes nothing. Waiting for it lets the server end it well.
			timer := time.AfterFunc(endGrace, cancel)
			defer timer.Stop()
			_, _ = call.Recv()
			return received, true, nil
		}
	}
}

// newConnection begins a connection: from here on only its events are acknowledged.
func (s *Stream) newConnection() (int, *integrationv1.StreamAlertsRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connection++
	s.delivered, s.acknowledged = 0, 0
	request := proto.CloneOf(s.request)
	request.ResumeToken = s.token
	return s.connection, request
}

// deliver makes an event of what was received. The first event, `actors`, holds no history, and its token is the stream's start:
// without another token the stream resumes with it, for a request that begins now would begin later each time.
func (s *Stream) deliver(connection int, response *integrationv1.StreamAlertsResponse) *Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivered++
	if s.token == "" && s.delivered == 1 && response.GetActors() != nil {
		s.token = response.GetResumeToken()
	}
	return &Event{StreamAlertsResponse: response, stream: s, connection: connection, number: s.delivered}
}
