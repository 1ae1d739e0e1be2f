package acceptance_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// listener keeps all that a stream says.
type listener struct {
	mu      sync.Mutex
	events  []received
	err     error
	changed chan struct{} // closed when there is more
}

// listen opens a stream at a house and keeps what it says until the test ends or stop is called. It acknowledges each event.
func listen(t *testing.T, h *house, c *client.Client, request *integrationv1.StreamAlertsRequest) (l *listener, stop func()) {
	t.Helper()
	l = &listener{changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for event, err := range c.Alerts(request).Events(ctx) {
			if err != nil {
				l.keep(func() { l.err = err })
				return
			}
			heard := received{h.microsoft.Now(), h.tenant.Held(), event.StreamAlertsResponse}
			l.keep(func() { l.events = append(l.events, heard) })
			event.Ack()
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return l, stop
}

func (l *listener) keep(what func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what()
	close(l.changed)
	l.changed = make(chan struct{})
}

// heard returns what was said so far, not to be modified, a channel that is closed when there is more, and how the stream ended.
func (l *listener) heard() ([]received, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.events), l.changed, l.err
}

// waitFor waits until an event from a place on is taken, and returns it.
func (l *listener) waitFor(t *testing.T, what string, from int, taken func(received) bool) received {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		events, changed, err := l.heard()
		if i := slices.IndexFunc(events[min(from, len(events)):], taken); i >= 0 {
			return events[from+i]
		}
		if err != nil {
			t.Fatalf("waiting for %s: the stream ended: %v", what, err)
		}
		from = max(from, len(events))
		select {
		case <-changed:
		case <-limit.C:
			last := "nothing"
			if len(events) > 0 {
				last = events[len(events)-1].event.String()
			}
			t.Fatalf("waiting for %s: a stream of %d events said last: %s", what, len(events), last)
		}
	}
}

// place is where the next event will be.
func (l *listener) place() int {
	events, _, _ := l.heard()
	return len(events)
}

// alertEvent is an event with an alert of these bytes.
func alertEvent(raw string) *integrationv1.StreamAlertsResponse {
	return &integrationv1.StreamAlertsResponse{Event: &integrationv1.StreamAlertsResponse_Alert{
		Alert: &integrationv1.AlertEvent{Raw: []byte(raw)},
	}}
}

// pairEvent is an event with a pair.
func pairEvent(since, through time.Time) *integrationv1.StreamAlertsResponse {
	return &integrationv1.StreamAlertsResponse{Event: &integrationv1.StreamAlertsResponse_Progress{Progress: &integrationv1.ProgressEvent{
		Pairs: []*integrationv1.Pair{{Since: timestamppb.New(since), Through: timestamppb.New(through)}},
	}}}
}
