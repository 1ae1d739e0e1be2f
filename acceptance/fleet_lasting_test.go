package acceptance_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/protobuf/proto"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// lasting reads a stream's alerts and its end, which rest on the journal, until there were so many (-1: all) or it is over.
func lasting(t *testing.T, c *client.Client, request *integrationv1.StreamAlertsRequest, most int) (events []*integrationv1.StreamAlertsResponse, over bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := c.Service().StreamAlerts(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	for len(events) != most {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return events, true
		}
		if err != nil {
			t.Fatalf("after %d events: %v", len(events), err)
		}
		if event.GetAlert() != nil || event.GetCompleted() != nil {
			events = append(events, event)
		}
		if event.GetCompleted() != nil {
			return events, true // A token of this event asks for another judgement.
		}
	}
	return events, false
}

// same wants two streams of one request to say the same.
func same(t *testing.T, got, want []*integrationv1.StreamAlertsResponse) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if a, b := stripped(got[i]), stripped(want[i]); !proto.Equal(a, b) {
			t.Fatalf("event %d of %d is\n%v, want of %d\n%v", i, len(got), a, len(want), b)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
}

// stripped returns an event without what tells when its stream began: the token, and of the end the pair that completed it, which is the
// first after that.
func stripped(event *integrationv1.StreamAlertsResponse) *integrationv1.StreamAlertsResponse {
	event = proto.CloneOf(event)
	if completed := event.GetCompleted(); completed != nil {
		completed.Proof = nil
		for _, verdict := range completed.GetVerdicts() {
			verdict.Explanation = "" // It names the times of that pair.
		}
	}
	event.ResumeToken = ""
	return event
}
