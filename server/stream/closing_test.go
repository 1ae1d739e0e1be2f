package stream_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// upstream is a failure as the adapter tells it.
func upstream(reason integrationv1.ErrorReason, permanent bool, retryAt time.Time) error {
	return &defender.Error{
		Problem: &integrationv1.Problem{Reason: reason, Message: "It failed.", Remedy: "Mend it."}, Permanent: permanent, RetryAt: retryAt,
	}
}

// obstacles are why no closing read can succeed.
var obstacles = map[string]struct {
	set, lift func(h *house)
	// reason is what the stream is told, in progress and at its end.
	reason integrationv1.ErrorReason
	// after is how long after it was due the closing fails.
	after time.Duration
}{
	"403": {
		set: func(h *house) {
			h.source.Fail(upstream(integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, true, time.Time{}))
		},
		lift:   func(h *house) { h.source.Fail(nil) },
		reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, after: 15 * time.Minute,
	},
	"retired": {
		set: func(h *house) {
			h.source.Fail(upstream(integrationv1.ErrorReason_ERROR_REASON_API_RETIRED, true, time.Time{}))
		},
		lift: func(h *house) {
			h.source.Fail(nil)
			h.pause(true)
			time.Sleep(time.Second)
			h.pause(false)
		},
		reason: integrationv1.ErrorReason_ERROR_REASON_API_RETIRED,
	},
	"throttled for hours": {
		set: func(h *house) {
			h.source.Fail(upstream(integrationv1.ErrorReason_ERROR_REASON_THROTTLED, false, time.Now().Add(3*time.Hour)))
		},
		lift:   func(h *house) { h.source.Fail(nil); time.Sleep(3 * time.Hour) },
		reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED, after: 15 * time.Minute,
	},
	"hung": {
		set:    func(h *house) { h.source.Hang(true) },
		lift:   func(h *house) { h.source.Hang(false) },
		reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE, after: 15 * time.Minute,
	},
}

// A closing read that cannot succeed ends its stream when it has been tried for as long as it is, with the cause: what was seen is
// judged, all else cannot be. A following stream beside it is told the same, stays, and goes on when it is mended.
func TestClosingThatCannotSucceed(t *testing.T) {
	for name, obstacle := range obstacles {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, collector.DefaultSettings())
				defer func() { h.stop() }()
				now := time.Now()
				h.source.SetDevices(
					collectortest.Device(deviceOne, "ws-one.contoso.test", now), collectortest.Device(deviceTwo, "ws-two.contoso.test", now))
				h.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now.Add(5*time.Second)), now.Add(6*time.Second))
				request := boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("two", "ws-two.contoso.test"))
				beside := h.open(following(actorNamed("one", "ws-one.contoso.test")))
				c := h.open(request)
				time.Sleep(time.Minute)
				obstacle.set(h)
				<-c.done
				if c.err != nil {
					t.Fatal(c.err)
				}
				due := request.GetWindow().GetEndTime().AsTime().Add(request.GetWait().AsDuration())
				if took := time.Since(due); took < obstacle.after || took > obstacle.after+time.Minute {
					t.Errorf("it ended %v after the closing was due, want %v", took, obstacle.after)
				}
				want := []string{"KIND_NEW a1 A test alert", "one VERDICT_PREVENTED", "two VERDICT_CANNOT_JUDGE"}
				if got := journalled(c.events); !slices.Equal(got, want) {
					t.Errorf("events = %q, want %q", got, want)
				}
				last := c.events[len(c.events)-1].GetCompleted()
				if got := last.GetFailedClosing().GetReason(); got != obstacle.reason || last.GetPair() != nil {
					t.Errorf("the closing failed for %v, want %v", got, obstacle.reason)
				}
				if words := last.GetVerdicts()[1].GetExplanation(); !strings.Contains(words, strings.TrimRight(last.GetFailedClosing().GetRemedy(), ".")+". Resume with the token") {
					t.Errorf("it is said: %s", words)
				}
				for i, events := range [][]*integrationv1.StreamAlertsResponse{c.events, beside.seen()} {
					if !toldOf(events, obstacle.reason) {
						t.Errorf("stream %d was not told of %v while it lasted", i, obstacle.reason)
					}
				}
				obstacle.lift(h)
				h.source.Put(collectortest.Alert("a2", deviceOne, "ws-one.contoso.test", time.Now()), time.Now())
				time.Sleep(5 * time.Minute)
				if got := journalled(beside.close()); len(got) == 0 || got[len(got)-1] != "KIND_NEW a2 A test alert" {
					t.Errorf("the following stream has %q, %v", got, beside.err)
				}
				// The token of a failed closing asks for another one, which can be made now.
				again := h.open(resumed(request, c.events[len(c.events)-1].GetResumeToken()))
				<-again.done
				if got := again.events[len(again.events)-1].GetCompleted(); again.err != nil || got.GetPair() == nil {
					t.Errorf("asked for again: %v, %v", got, again.err)
				}
			})
		})
	}
}

// toldOf says whether progress told of a problem.
func toldOf(events []*integrationv1.StreamAlertsResponse, reason integrationv1.ErrorReason) bool {
	return slices.ContainsFunc(events, func(e *integrationv1.StreamAlertsResponse) bool {
		return e.GetProgress().GetProblem().GetReason() == reason
	})
}

// The time that a closing is tried stands still while the integration is paused, whatever stands in the way of it.
func TestClosingStandsStillWhilePaused(t *testing.T) {
	for _, name := range []string{"403", "throttled for hours", "hung"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				obstacle := obstacles[name]
				h := newHouse(t, collector.DefaultSettings())
				defer func() { h.stop() }()
				request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
				c := h.open(request)
				time.Sleep(time.Minute)
				obstacle.set(h)
				time.Sleep(7 * time.Minute) // Five of the fifteen.
				h.pause(true)
				synctest.Wait()
				calls := len(h.source.Reads())
				time.Sleep(time.Hour)
				if made := len(h.source.Reads()) - calls; made != 0 {
					t.Errorf("%d reads while paused", made)
				}
				if told := phases(c.seen()); told[len(told)-1] != integrationv1.ProgressEvent_PHASE_PAUSED {
					t.Errorf("it was told %v", told)
				}
				h.pause(false)
				resumedAt := time.Now()
				<-c.done
				if took := time.Since(resumedAt); took < 10*time.Minute || took > 11*time.Minute+10*time.Second {
					t.Errorf("it ended %v after it was resumed (%v), want ten minutes, and at most the last try", took, c.err)
				}
				if got := c.events[len(c.events)-1].GetCompleted().GetFailedClosing().GetReason(); got != obstacle.reason {
					t.Errorf("the closing failed for %v, want %v", got, obstacle.reason)
				}
			})
		})
	}
}

// A read that hangs is over at once when the integration is paused, changed or deleted: nobody waits for it.
func TestReadThatHangsIsSetAside(t *testing.T) {
	for name, test := range map[string]struct {
		change func(h *house)
		// reads says that the next read is made at once.
		reads bool
	}{
		"changed": {change: func(h *house) {
			h.change(func(i *integrationv1.Integration) { i.Authentication.ClientId = "another-app" })
		}, reads: true},
		"paused and resumed": {change: func(h *house) {
			h.pause(true)
			time.Sleep(time.Minute)
			h.pause(false)
		}, reads: true},
		"deleted": {change: func(h *house) { h.delete() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, collector.DefaultSettings())
				defer func() { h.stop() }()
				c := h.open(following(actorNamed("one", "ws-one.contoso.test")))
				time.Sleep(time.Minute)
				h.source.Hang(true)
				time.Sleep(time.Minute)
				h.source.Hang(false)
				h.source.Hang(true) // Only what began before goes on.
				time.Sleep(time.Minute)
				calls := len(h.source.Reads())
				test.change(h)
				time.Sleep(10 * time.Second)
				if made := len(h.source.Reads()) - calls; (made > 0) != test.reads {
					t.Errorf("%d reads within ten seconds", made)
				}
				if problem := h.manager.Status("uid-1").GetProblem(); problem != nil {
					t.Errorf("it is told as a problem: %v", problem)
				}
				select {
				case <-c.done:
					var f *failure.Error
					if test.reads || !errors.As(c.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND {
						t.Errorf("the stream ended with %v", c.err)
					}
				default:
					if !test.reads {
						t.Error("the stream goes on")
					}
					c.close()
				}
			})
		})
	}
}

// While the store takes nothing, no closing can be told, since what a stream is told at its end is an entry: it is told what is
// wrong, stays, and has its closing read when the store is back, however long that took.
func TestClosingWhileTheStoreIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(2*time.Hour)))
		c := h.open(boundedRequest(actorNamed("one", "ws-one.contoso.test")))
		time.Sleep(time.Minute)
		h.store.SetUnavailable(true)
		time.Sleep(time.Hour)
		select {
		case <-c.done:
			t.Fatalf("it ended with %v", c.err)
		default:
		}
		if events := c.seen(); !toldOf(events, integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE) {
			t.Errorf("it was not told: %v", events[len(events)-1])
		}
		h.store.SetUnavailable(false)
		<-c.done
		if got, want := journalled(c.events), []string{"one VERDICT_MISSED"}; c.err != nil || !slices.Equal(got, want) {
			t.Errorf("events = %q, %v; want %q", got, c.err, want)
		}
	})
}

// A bounded stream that is still catching up when its closing fails for others is judged by an entry of its own.
func TestClosingFailsWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		began := time.Now()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", began))
		h.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", began), began)
		h.source.Put(collectortest.Alert("a2", deviceOne, "ws-one.contoso.test", began.Add(time.Second)), began)
		time.Sleep(time.Minute)
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		request.Window.StartTime = timestamppb.New(began)
		quick, slow := h.open(request), h.openSlow(request, 10*time.Minute)
		h.source.Fail(upstream(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, false, time.Time{}))
		<-quick.done
		<-slow.done
		for _, c := range []*call{quick, slow} {
			want := []string{"KIND_NEW a1 A test alert", "KIND_NEW a2 A test alert", "one VERDICT_PREVENTED"}
			if got := journalled(c.events); c.err != nil || !slices.Equal(got, want) {
				t.Errorf("events = %q, %v; want %q", got, c.err, want)
			}
			if got := c.events[len(c.events)-1].GetCompleted().GetFailedClosing().GetReason(); got != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED {
				t.Errorf("the closing failed for %v", got)
			}
		}
	})
}
