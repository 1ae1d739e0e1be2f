package origin_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// following asks for all that happened to the first device within the last hour, and for what will.
func (h *house) following(id string) *integrationv1.StreamAlertsRequest {
	return &integrationv1.StreamAlertsRequest{
		IntegrationId: id, Window: &integrationv1.Window{StartTime: timestamppb.New(h.microsoft.Now().Add(-time.Hour))},
		Actors: []*integrationv1.Actor{{ActorId: "first", HostName: defendertest.SampleDevices()[0].DNSName}},
	}
}

// resumed is a request that goes on after a token.
func resumed(request *integrationv1.StreamAlertsRequest, token string) *integrationv1.StreamAlertsRequest {
	request = proto.CloneOf(request)
	request.ResumeToken = token
	return request
}

// stream is a stream of alerts with what it has told so far.
type stream struct {
	t    *testing.T
	name string
	// events gives what comes; it is closed at the stream's end.
	events chan *integrationv1.StreamAlertsResponse
	// known says that the Actor's device was found, by what came so far.
	known bool
}

// open opens a stream, which ends with the test.
func (h *house) open(request *integrationv1.StreamAlertsRequest) *stream {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	source, err := h.client.StreamAlerts(ctx, request)
	if err != nil {
		cancel()
		h.t.Fatal(err)
	}
	s := &stream{t: h.t, name: request.GetIntegrationId(), events: make(chan *integrationv1.StreamAlertsResponse)}
	go func() {
		defer close(s.events)
		for {
			event, err := source.Recv()
			if err != nil {
				return
			}
			select {
			case s.events <- event:
			case <-ctx.Done():
				return
			}
		}
	}()
	h.t.Cleanup(func() {
		cancel()
		for range s.events {
			continue // until it has ended
		}
	})
	return s
}

// next waits for an event that is wanted.
func (s *stream) next(what string, wanted func(*integrationv1.StreamAlertsResponse) bool) *integrationv1.StreamAlertsResponse {
	s.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case event, ok := <-s.events:
			if !ok {
				s.t.Fatalf("%s: the stream ended before %s", s.name, what)
			}
			for _, actor := range event.GetActors().GetActors() {
				s.known = actor.GetKnowledge() == integrationv1.ActorState_KNOWLEDGE_KNOWN
			}
			if wanted(event) {
				return event
			}
		case <-timer.C:
			s.t.Fatalf("%s: waited in vain for %s", s.name, what)
		}
	}
}

// wantAlert waits for the next alert, which must be the one of a title, and returns the resume token.
func (s *stream) wantAlert(title string) string {
	s.t.Helper()
	event := s.next("the alert "+title, func(event *integrationv1.StreamAlertsResponse) bool { return event.GetAlert() != nil })
	if got := event.GetAlert().GetAlert().GetTitle(); got != title {
		s.t.Fatalf("%s: got the alert %q, want %q", s.name, got, title)
	}
	return event.GetResumeToken()
}

// waitDevice waits until the Actor's device is known.
func (s *stream) waitDevice() {
	s.t.Helper()
	if !s.known {
		s.next("the Actor's device", func(*integrationv1.StreamAlertsResponse) bool { return s.known })
	}
}
