package stream_test

import (
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

const (
	deviceOne = "1111111111111111111111111111111111111111"
	deviceTwo = "2222222222222222222222222222222222222222"
)

// A bounded stream sends its alert once, then the proof and the verdicts.
func TestBoundedStreamJudges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		h.source.SetDevices(
			collectortest.Device(deviceOne, "ws-one.contoso.test", now),
			collectortest.Device(deviceTwo, "ws-two.contoso.test", now),
		)
		h.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now.Add(20*time.Second)), now.Add(50*time.Second))
		c := h.open(boundedRequest(
			actorNamed("one", "ws-one.contoso.test"), actorNamed("two", "ws-two.contoso.test"), actorNamed("three", "ws-three.contoso.test")))
		<-c.done
		if c.err != nil {
			t.Fatal(c.err)
		}
		want := []string{
			"KIND_NEW a1 A test alert",
			"one VERDICT_PREVENTED", "two VERDICT_MISSED", "three VERDICT_CANNOT_JUDGE",
		}
		if got := journalled(c.events); !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
		if first := c.events[0].GetActors(); first == nil {
			t.Errorf("the first event is %v, want actors", c.events[0])
		}
		last := c.events[len(c.events)-1].GetCompleted()
		if last.GetPair().GetDepth() != integrationv1.Pair_DEPTH_CLOSING {
			t.Errorf("the proof is %v, want a closing read's pair", last.GetPair())
		}
		if v := last.GetVerdicts()[2]; v.GetCannotJudgeReason() != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN {
			t.Errorf("reason = %v", v.GetCannotJudgeReason())
		}
	})
}

// What a stream sends depends only on its request and the journal: cut at any event and resumed, also after a restart, it sends
// the same, each once.
func TestResumeAtEveryEvent(t *testing.T) {
	for name, actors := range map[string][]*integrationv1.Actor{
		"one Actor":    {actorNamed("one", "ws-one")},
		"every device": nil,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { resumeAtEveryEvent(t, actors) })
		})
	}
}

func resumeAtEveryEvent(t *testing.T, actors []*integrationv1.Actor) {
	h := newHouse(t, collector.DefaultSettings())
	defer func() { h.stop() }()
	now := time.Now()
	h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now))
	for i, id := range []string{"a1", "a2", "a3"} {
		at := now.Add(time.Duration(10+5*i) * time.Second)
		// The device's id alone: that it is the Actor's, only the device source tells.
		alert := collectortest.Alert(id, deviceOne, "", at)
		h.source.Put(alert, at.Add(10*time.Second))
		alert.Title, alert.LastUpdateTime = "Changed", timestamppb.New(at.Add(time.Minute))
		h.source.Put(alert, at.Add(70*time.Second))
	}
	request := boundedRequest(actors...)
	whole := h.open(request)
	<-whole.done
	want := journalled(whole.events)
	if len(want) != 6+len(actors) {
		t.Fatalf("events = %q, want three new, three updated and a verdict for each Actor", want)
	}
	for i, e := range whole.events[:len(whole.events)-1] {
		if i == len(whole.events)/2 {
			h.stop()
			h.start(collector.DefaultSettings())
		}
		c := h.open(resumed(request, e.GetResumeToken()))
		<-c.done
		if c.err != nil {
			t.Fatalf("resumed after event %d: %v", i, c.err)
		}
		if got := append(journalled(whole.events[:i+1]), journalled(c.events)...); !slices.Equal(got, want) {
			t.Errorf("resumed after event %d: events = %q, want %q", i, got, want)
		}
	}
}

// A device fact that comes after the alerts makes the stream look through what it has passed, and send what matches now.
func TestSecondLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		h.source.Put(collectortest.Alert("a1", deviceOne, "old-name.contoso.test", now.Add(5*time.Second)), now.Add(6*time.Second))
		c := h.open(boundedRequest(actorNamed("one", "new-name.contoso.test")))
		time.Sleep(30 * time.Second)
		if got := journalled(c.seen()); len(got) != 0 {
			t.Fatalf("events = %q before the device is known", got)
		}
		h.source.SetDevices(collectortest.Device(deviceOne, "new-name.contoso.test", now))
		<-c.done
		want := []string{"KIND_NEW a1 A test alert", "one VERDICT_PREVENTED"}
		if got := journalled(c.events); !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
		for _, e := range c.events {
			if a := e.GetAlert(); a != nil && a.GetActors()[0].GetMatches()[0].GetCriterion() != integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE {
				t.Errorf("matched by %v", a.GetActors()[0].GetMatches())
			}
		}
	})
}

// A stream that begins now knows the devices by the facts that were learned before it.
func TestFactsFromBeforeTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		request := &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Actors: []*integrationv1.Actor{actorNamed("one", "ws-one")},
		}
		first := h.open(request)
		time.Sleep(time.Second)
		h.source.Put(collectortest.Alert("before", deviceOne, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		second := h.open(request)
		time.Sleep(time.Second)
		h.source.Put(collectortest.Alert("after", deviceOne, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		if got, want := journalled(first.close()), []string{"KIND_NEW before A test alert", "KIND_NEW after A test alert"}; !slices.Equal(got, want) {
			t.Errorf("the first stream: %q, want %q", got, want)
		}
		if got, want := journalled(second.close()), []string{"KIND_NEW after A test alert"}; !slices.Equal(got, want) {
			t.Errorf("the second stream: %q, want %q", got, want)
		}
	})
}

// An alert that was sent is sent again when it no longer matches, and says so.
func TestNoLongerMatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		h.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now.Add(5*time.Second)), now.Add(6*time.Second))
		other := collectortest.Alert("a1", deviceTwo, "ws-two.contoso.test", now.Add(5*time.Second))
		other.LastUpdateTime = timestamppb.New(now.Add(40 * time.Second))
		h.source.Put(other, now.Add(41*time.Second))
		c := h.open(&integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Actors: []*integrationv1.Actor{actorNamed("one", "ws-one.contoso.test")},
		})
		time.Sleep(2 * time.Minute)
		var alerts []*integrationv1.AlertEvent
		for _, e := range c.close() {
			if a := e.GetAlert(); a != nil {
				alerts = append(alerts, a)
			}
		}
		if len(alerts) != 2 || alerts[0].GetNoLongerMatches() || !alerts[1].GetNoLongerMatches() {
			t.Errorf("alerts = %v, want the second to say that it no longer matches", alerts)
		}
	})
}

// Calls do not grow with streams, and streams that close together share their closing reads.
func TestCallsDoNotGrowWithStreams(t *testing.T) {
	reads := func(streams int) (reads, lookups int) {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, collector.DefaultSettings())
			defer h.stop()
			h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
			request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
			var calls []*call
			for range streams {
				calls = append(calls, h.open(request))
			}
			for _, c := range calls {
				<-c.done
				if c.err != nil {
					t.Error(c.err)
				}
			}
			reads, lookups = len(h.source.Reads()), h.source.Lookups()
		})
		return reads, lookups
	}
	oneReads, oneLookups := reads(1)
	manyReads, manyLookups := reads(201)
	if oneReads != manyReads || oneLookups != manyLookups {
		t.Errorf("1 stream: %d reads, %d look-ups; 201 streams: %d and %d", oneReads, oneLookups, manyReads, manyLookups)
	}
}

// Where no closing read succeeds within the limit, the stream is told so: what was seen is judged, all else cannot be.
func TestFailedClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		h.source.SetDevices(
			collectortest.Device(deviceOne, "ws-one.contoso.test", now), collectortest.Device(deviceTwo, "ws-two.contoso.test", now))
		h.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now.Add(5*time.Second)), now.Add(6*time.Second))
		c := h.open(boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("two", "ws-two.contoso.test")))
		time.Sleep(time.Minute)
		h.source.Fail(errors.New("broken"))
		began := time.Now()
		<-c.done
		want := []string{"KIND_NEW a1 A test alert", "one VERDICT_PREVENTED", "two VERDICT_CANNOT_JUDGE"}
		if got := journalled(c.events); !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
		if took := time.Since(began); took < 17*time.Minute || took > 18*time.Minute {
			t.Errorf("it took %v after the window, want the wait and the closing limit", took)
		}
		last := c.events[len(c.events)-1].GetCompleted()
		if last.GetFailedClosing().GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED {
			t.Errorf("proof = %v", last)
		}
	})
}

// A token is bound to all that its stream depends on.
func TestTokenRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		request := boundedRequest(actorNamed("one", "ws-one"))
		c := h.open(request)
		time.Sleep(time.Second)
		token := c.seen()[0].GetResumeToken()
		c.close()
		for name, test := range map[string]struct {
			change func(*integrationv1.StreamAlertsRequest)
			reason integrationv1.ErrorReason
		}{
			"damaged": {func(r *integrationv1.StreamAlertsRequest) { r.ResumeToken = "A" + token[1:] }, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID},
			"cut":     {func(r *integrationv1.StreamAlertsRequest) { r.ResumeToken = token[:len(token)-2] }, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID},
			"actors":  {func(r *integrationv1.StreamAlertsRequest) { r.Actors[0].HostName = "ws-two" }, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN},
			"window": {func(r *integrationv1.StreamAlertsRequest) {
				r.Window.EndTime = timestamppb.New(r.GetWindow().GetEndTime().AsTime().Add(time.Second))
			}, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN},
			"wait": {func(r *integrationv1.StreamAlertsRequest) { r.Wait.Seconds++ }, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN},
		} {
			r := resumed(request, token)
			test.change(r)
			c := h.open(r)
			<-c.done
			var f *failure.Error
			if !errors.As(c.err, &f) || f.Reason != test.reason {
				t.Errorf("%s: %v, want %v", name, c.err, test.reason)
			}
		}
	})
}

// Registered again, an integration has a new journal, and no old token works; the error has one that does.
func TestRegisteredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		request := &integrationv1.StreamAlertsRequest{IntegrationId: integrationID}
		c := h.open(request)
		time.Sleep(time.Second)
		_, revision, err := h.store.Record(t.Context(), integrationID)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.store.DeleteRecord(t.Context(), integrationID, revision); err != nil {
			t.Fatal(err)
		}
		if err := h.store.DeleteJournal(t.Context(), "uid-1"); err != nil {
			t.Fatal(err)
		}
		<-c.done
		var f *failure.Error
		if !errors.As(c.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND {
			t.Errorf("the running stream ended with %v", c.err)
		}
		h.register("uid-2")
		again := h.open(resumed(request, c.events[0].GetResumeToken()))
		<-again.done
		if !errors.As(again.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED {
			t.Fatalf("resumed: %v", again.err)
		}
		works := h.open(resumed(request, f.Metadata["oldest_resume_token"]))
		time.Sleep(time.Second)
		if got := works.seen(); len(got) == 0 {
			t.Error("the oldest token that works does not work")
		}
		works.close()
	})
}

// Paused, nothing is called and streams say so; the time that a closing read is tried stands still.
func TestPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		c := h.open(boundedRequest(actorNamed("one", "ws-one.contoso.test")))
		time.Sleep(30 * time.Second)
		h.pause(true)
		synctest.Wait()
		calls := len(h.source.Reads())
		time.Sleep(time.Hour)
		if got := len(h.source.Reads()); got != calls {
			t.Errorf("%d reads while paused", got-calls)
		}
		events := c.seen()
		if last := events[len(events)-1].GetProgress(); last.GetPhase() != integrationv1.ProgressEvent_PHASE_PAUSED {
			t.Errorf("the last event is %v, want that it is paused", events[len(events)-1])
		}
		h.pause(false)
		<-c.done
		if got, want := journalled(c.events), []string{"one VERDICT_MISSED"}; !slices.Equal(got, want) {
			t.Errorf("events = %q, want %q", got, want)
		}
	})
}

func (h *house) pause(paused bool) {
	h.t.Helper()
	record, revision, err := h.store.Record(h.t.Context(), integrationID)
	if err != nil {
		h.t.Fatal(err)
	}
	changed := proto.CloneOf(record)
	changed.Integration.Paused = paused
	if _, err := h.store.UpdateRecord(h.t.Context(), changed, revision); err != nil {
		h.t.Fatal(err)
	}
}

// A stream that asks for a time before anything was read makes the collector read back to it, once for all that ask.
func TestReadBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		h.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now.Add(-26*time.Hour)), now)
		time.Sleep(2 * time.Minute)
		request := &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID,
			Actors:        []*integrationv1.Actor{actorNamed("one", "ws-one")},
			Window:        &integrationv1.Window{StartTime: timestamppb.New(now.Add(-27 * time.Hour))},
		}
		calls := []*call{h.open(request), h.open(request), h.open(request)}
		time.Sleep(time.Minute)
		for _, c := range calls {
			if got, want := journalled(c.close()), []string{"KIND_NEW a1 A test alert"}; !slices.Equal(got, want) {
				t.Errorf("events = %q, want %q", got, want)
			}
		}
		back := 0
		for _, since := range h.source.Reads() {
			if !since.After(now.Add(-27 * time.Hour)) {
				back++
			}
		}
		if back != 1 {
			t.Errorf("%d reads reached back, want 1", back)
		}
	})
}

// A new device of one Actor is looked for soon, also where another Actor of the stream is known.
func TestUnknownBesideKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		known, added := collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()), collectortest.Device(deviceTwo, "ws-two.contoso.test", time.Now())
		h.source.SetDevices(known)
		first := h.open(boundedRequest(actorNamed("one", "ws-one")))
		time.Sleep(10 * time.Second)
		h.source.SetDevices(known, added)
		c := h.open(&integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Actors: []*integrationv1.Actor{actorNamed("one", "ws-one"), actorNamed("two", "ws-two")},
		})
		time.Sleep(90 * time.Second)
		first.close()
		var last *integrationv1.ActorsEvent
		for _, e := range c.close() {
			if a := e.GetActors(); a != nil {
				last = a
			}
		}
		if got := last.GetActors()[1].GetKnowledge(); got != integrationv1.ActorState_KNOWLEDGE_KNOWN {
			t.Errorf("after 90 seconds the second Actor's device is %v", got)
		}
	})
}

// A stream that catches up with many alerts has each revision once and in order, also those that no longer match, which no key of
// its Actors finds.
func TestCatchUpWithLaterRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		const alerts = 400
		now := time.Now()
		var first, second []string
		for i := range alerts {
			at := now.Add(time.Duration(i) * time.Millisecond)
			id := fmt.Sprintf("a%03d", i)
			h.source.Put(collectortest.Alert(id, deviceOne, "ws-one.contoso.test", at), now)
			later := collectortest.Alert(id, deviceTwo, "ws-two.contoso.test", at)
			later.LastUpdateTime = timestamppb.New(at.Add(time.Minute))
			h.source.Put(later, now.Add(2*time.Minute))
			first, second = append(first, "KIND_NEW "+id+" A test alert"), append(second, "KIND_UPDATED "+id+" A test alert")
		}
		time.Sleep(5 * time.Minute)
		request := &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID,
			Actors:        []*integrationv1.Actor{actorNamed("one", "ws-one")},
			Window:        &integrationv1.Window{StartTime: timestamppb.New(now)},
		}
		whole := h.open(request)
		time.Sleep(time.Minute)
		events := whole.close()
		want := slices.Concat(first, second)
		if got := journalled(events); !slices.Equal(got, want) {
			t.Fatalf("%d events, want %d; the first: %q", len(got), len(want), got[:min(len(got), 3)])
		}
		for _, i := range []int{1, 200, 399, 401, 700} {
			c := h.open(resumed(request, events[i].GetResumeToken()))
			time.Sleep(time.Minute)
			if got := append(journalled(events[:i+1]), journalled(c.close())...); !slices.Equal(got, want) {
				t.Errorf("resumed after event %d: %d events, want %d", i, len(got), len(want))
			}
		}
	})
}
