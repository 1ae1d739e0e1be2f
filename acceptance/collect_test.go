package acceptance_test

import (
	"bytes"
	"context"
	"testing"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// collected is what a stream brought.
type collected struct {
	alerts []*integrationv1.AlertEvent
	times  map[string]int // by bytes as served: how often they came
}

// collect reads a stream until done says so, or it is completed.
func (h *house) collect(t *testing.T, request *integrationv1.StreamAlertsRequest, done func(*collected) bool) *collected {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	got := &collected{times: map[string]int{}}
	for event, err := range h.connect(t).Alerts(request).Events(ctx) {
		if err != nil {
			t.Errorf("after %d alerts: %v", len(got.alerts), err)
			return got
		}
		if gap := event.GetGap(); gap != nil {
			t.Errorf("a gap: %v", gap)
		}
		if a := event.GetAlert(); a != nil {
			got.alerts = append(got.alerts, a)
			got.times[string(a.GetRaw())]++
		}
		event.Ack()
		if done(got) {
			break
		}
	}
	return got
}

// checkOnce compares what came with what there was: each revision once, with its very bytes, and nothing else.
func (c *collected) checkOnce(t *testing.T, revisions []defendertest.Revision) {
	t.Helper()
	missing, repeated := 0, 0
	for _, revision := range revisions {
		switch n := c.times[string(revision.Raw)]; {
		case n == 0:
			missing++
			if missing <= 5 {
				t.Errorf("%s, updated %s, created %s, was never delivered; %s", revision.Key, revision.LastUpdate, revision.Created, history(revision))
			}
		case n > 1:
			repeated++
			if repeated <= 5 {
				t.Errorf("%s was delivered %d times", revision.Key, n)
			}
		}
	}
	if missing > 0 || repeated > 0 || len(c.alerts) != len(revisions) {
		t.Errorf("of %d revisions %d are missing and %d came more than once; %d alerts were delivered",
			len(revisions), missing, repeated, len(c.alerts))
	}
	for _, a := range c.alerts {
		if !bytes.Contains(a.GetRaw(), []byte(a.GetAlert().GetId())) {
			t.Errorf("the alert %q came with bytes of another", a.GetAlert().GetId())
		}
	}
}
