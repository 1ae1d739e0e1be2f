package stream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// change stores the integration's record anew.
func (h *house) change(change func(*integrationv1.Integration)) {
	h.t.Helper()
	record, revision, err := h.store.Record(h.t.Context(), integrationID)
	if err != nil {
		h.t.Fatal(err)
	}
	changed := proto.CloneOf(record)
	change(changed.GetIntegration())
	if _, err := h.store.UpdateRecord(h.t.Context(), changed, revision); err != nil {
		h.t.Fatal(err)
	}
}

// delete deletes the integration as its call does: the record, then the journal.
func (h *house) delete() {
	h.t.Helper()
	record, revision, err := h.store.Record(h.t.Context(), integrationID)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.store.DeleteRecord(h.t.Context(), integrationID, revision); err != nil {
		h.t.Fatal(err)
	}
	if err := h.store.DeleteJournal(h.t.Context(), record.GetUid()); err != nil {
		h.t.Fatal(err)
	}
}

// openSlow opens a stream whose caller takes its time over each event.
func (h *house) openSlow(request *integrationv1.StreamAlertsRequest, each time.Duration) *call {
	ctx, cancel := context.WithCancel(context.Background())
	c := &call{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = h.streams.Stream(ctx, request, func(r *integrationv1.StreamAlertsResponse) error {
			time.Sleep(each)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, r)
			return nil
		})
	}()
	return c
}

// phases returns the phases that were told, each once where it came several times on end.
func phases(events []*integrationv1.StreamAlertsResponse) []integrationv1.ProgressEvent_Phase {
	var list []integrationv1.ProgressEvent_Phase
	for _, e := range events {
		if p := e.GetProgress(); p != nil {
			list = append(list, p.GetPhase())
		}
	}
	return slices.Compact(list)
}

// backlog is how many alerts are there before the streams begin. The slow one takes two minutes over them.
const backlog = 120

// kinds are the streams that the tables below are about. Each is asked to do something at a time when it is in the middle of it.
var kinds = map[string]struct {
	open func(h *house, began time.Time) *call
	// alerts is how many of the backlog it gets.
	alerts int
	// verdicts are what it ends with; nil where it does not end.
	verdicts []string
}{
	"following": {open: func(h *house, _ time.Time) *call {
		return h.open(following(actorNamed("one", "ws-one.contoso.test")))
	}},
	"bounded, in its window": {open: func(h *house, _ time.Time) *call {
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		request.Window.EndTime = timestamppb.New(time.Now().Add(30 * time.Minute))
		return h.open(request)
	}, alerts: backlog, verdicts: []string{"one VERDICT_PREVENTED"}},
	"waiting for its closing": {open: func(h *house, _ time.Time) *call {
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		request.Window.StartTime = timestamppb.New(time.Now().Add(-10 * time.Minute))
		request.Window.EndTime = timestamppb.New(time.Now().Add(-time.Minute))
		h.source.Fail(errors.New("broken")) // Until the change is over.
		return h.open(request)
	}, alerts: backlog, verdicts: []string{"one VERDICT_PREVENTED"}},
	"catching up": {open: func(h *house, began time.Time) *call {
		request := following(actorNamed("one", "ws-one.contoso.test"))
		request.Window = &integrationv1.Window{StartTime: timestamppb.New(began)}
		return h.openSlow(request, time.Second)
	}, alerts: backlog},
}

// inEveryKind runs a test with a stream of each kind in the middle of what it does.
func inEveryKind(t *testing.T, test func(t *testing.T, h *house, kind string, c *call)) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, collector.DefaultSettings())
				defer func() { h.stop() }()
				began := time.Now()
				h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", began.Add(24*time.Hour)))
				for i := range backlog {
					h.source.Put(collectortest.Alert(fmt.Sprintf("old%03d", i), deviceOne, "ws-one.contoso.test", began.Add(time.Duration(i)*time.Millisecond)), began)
				}
				time.Sleep(2 * time.Minute)
				c := kind.open(h, began)
				time.Sleep(time.Minute)
				test(t, h, name, c)
			})
		})
	}
}

// wantWhole puts an alert, lets the stream go on, and wants all that its kind gets, each once, and its end.
func wantWhole(t *testing.T, h *house, name string, c *call) {
	t.Helper()
	kind := kinds[name]
	h.source.Fail(nil)
	h.source.Put(collectortest.Alert("new", deviceOne, "ws-one.contoso.test", time.Now()), time.Now())
	time.Sleep(45 * time.Minute)
	c.close()
	var want []string
	for i := range kind.alerts {
		want = append(want, fmt.Sprintf("KIND_NEW old%03d A test alert", i))
	}
	// It is sent whatever the window: what is about none of it is sent, too, and does not count.
	want = append(append(want, "KIND_NEW new A test alert"), kind.verdicts...)
	got := journalled(c.events)
	if !slices.Equal(got, want) {
		t.Errorf("%d events, want %d; the last are %q, want %q", len(got), len(want), got[max(0, len(got)-3):], want[max(0, len(want)-3):])
	}
	if ended := c.err == nil; ended != (kind.verdicts != nil) || !ended && !errors.Is(c.err, context.Canceled) {
		t.Errorf("it ended with %v", c.err)
	}
}

// Paused, a stream stays, says so, and nothing is called; resumed, it goes on where it was.
func TestPausedInEveryKind(t *testing.T) {
	inEveryKind(t, func(t *testing.T, h *house, name string, c *call) {
		h.pause(true)
		synctest.Wait()
		calls := len(h.source.Reads())
		time.Sleep(time.Hour)
		if made := len(h.source.Reads()) - calls; made != 0 {
			t.Errorf("%d reads while paused", made)
		}
		told := phases(c.seen())
		if len(told) == 0 || told[len(told)-1] != integrationv1.ProgressEvent_PHASE_PAUSED {
			t.Errorf("it was told %v, and is paused", told)
		}
		h.pause(false)
		wantWhole(t, h, name, c)
	})
}

// A change of the settings costs a stream nothing.
func TestUpdatedInEveryKind(t *testing.T) {
	inEveryKind(t, func(t *testing.T, h *house, name string, c *call) {
		h.change(func(i *integrationv1.Integration) { i.DisplayName = "Contoso, renamed" })
		time.Sleep(10 * time.Second)
		h.change(func(i *integrationv1.Integration) { i.Authentication.ClientId = "another-app" })
		time.Sleep(10 * time.Second)
		wantWhole(t, h, name, c)
	})
}

// Deleted, a stream ends with NOT_FOUND as soon as its caller takes the next event. Registered again, the id has a new journal: the
// old stream ends all the same, and its token is refused with one that works.
func TestDeletedInEveryKind(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("registered again %v", again), func(t *testing.T) {
			inEveryKind(t, func(t *testing.T, h *house, _ string, c *call) {
				began := time.Now()
				h.delete()
				if again {
					h.register("uid-2")
				}
				<-c.done
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %v until the stream was told", took)
				}
				var f *failure.Error
				if !errors.As(c.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND || f.Metadata["integration_id"] != integrationID {
					t.Fatalf("it ended with %v", c.err)
				}
				if !again {
					return
				}
				h.source.Fail(nil)
				request := following(actorNamed("one", "ws-one.contoso.test"))
				first := h.open(request)
				time.Sleep(time.Second)
				token := decode(t, first.close()[0].GetResumeToken())
				token.Uid = "uid-1"
				refused := h.open(resumed(request, encode(token)))
				<-refused.done
				if !errors.As(refused.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED {
					t.Fatalf("with the old journal's token: %v", refused.err)
				}
				works := h.open(resumed(request, f.Metadata["oldest_resume_token"]))
				time.Sleep(time.Minute)
				h.source.Put(collectortest.Alert("new", deviceOne, "ws-one.contoso.test", time.Now()), time.Now())
				time.Sleep(time.Minute)
				if got := journalled(works.close()); len(got) == 0 || got[len(got)-1] != "KIND_NEW new A test alert" {
					t.Errorf("with the oldest token that works: %d events, %v", len(got), works.err)
				}
			})
		})
	}
}
