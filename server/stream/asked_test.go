package stream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// A device source that is asked for some devices alone says nothing of an Actor that it was not asked for: neither that the device
// is unknown, nor that it was well when it was asked for last. However fresh the look-up of others is, the Actor cannot be judged.
func TestAnActorThatWasNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		h.source.SetWantedOnly(true)
		named := func(id string) *integrationv1.Actor {
			return &integrationv1.Actor{ActorId: id, FqHostName: id + ".contoso.test"}
		}
		h.source.SetDevices(
			collectortest.Device(deviceOne, "one.contoso.test", time.Now().Add(24*time.Hour)),
			collectortest.Device(deviceTwo, "two.contoso.test", time.Now().Add(24*time.Hour)),
		)
		// Two is known from an earlier stream; one keeps the look-ups going.
		early := h.open(&integrationv1.StreamAlertsRequest{IntegrationId: integrationID, Actors: []*integrationv1.Actor{named("two")}})
		one := h.open(&integrationv1.StreamAlertsRequest{IntegrationId: integrationID, Actors: []*integrationv1.Actor{named("one")}})
		defer one.close()
		time.Sleep(time.Minute)
		early.close()
		time.Sleep(time.Hour)
		began := time.Now()
		time.Sleep(20 * time.Minute)
		h.source.FailDevices(&defender.Error{Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, Message: "Hunting failed.",
		}})
		request := boundedRequest(named("one"), named("two"), named("three"))
		request.Window = &integrationv1.Window{StartTime: timestamppb.New(began), EndTime: timestamppb.New(began.Add(time.Minute))}
		c := h.open(request)
		time.Sleep(10 * time.Minute)
		var completed *integrationv1.CompletedEvent
		for _, e := range c.close() {
			if e.GetCompleted() != nil {
				completed = e.GetCompleted()
			}
		}
		want := map[string]integrationv1.CannotJudgeReason{
			"one":   integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_UNSPECIFIED, // it was asked for after the window, and is MISSED
			"two":   integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED,
			"three": integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED,
		}
		if len(completed.GetVerdicts()) != len(want) {
			t.Fatalf("completed is %v", completed)
		}
		for _, v := range completed.GetVerdicts() {
			if v.GetCannotJudgeReason() != want[v.GetActorId()] {
				t.Errorf("%s: %s %s, %s; want %s", v.GetActorId(), v.GetVerdict(), v.GetCannotJudgeReason(), v.GetExplanation(), want[v.GetActorId()])
			}
			if v.GetActorId() == "one" && v.GetVerdict() != integrationv1.Verdict_VERDICT_MISSED {
				t.Errorf("one: %v", v)
			}
		}
	})
}

// A stream that was away when its window ended is judged by the devices as they are looked up for it once it is back: no Actor of it is MISSED
// by what was known then.
func TestAwayWhenTheWindowEnded(t *testing.T) {
	for _, wantedOnly := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, collector.DefaultSettings())
			defer h.stop()
			h.source.SetWantedOnly(wantedOnly)
			h.source.SetDevices(collectortest.Device(deviceOne, "one.contoso.test", time.Now().Add(time.Hour)))
			began := time.Now().Add(10 * time.Minute)
			request := boundedRequest(&integrationv1.Actor{ActorId: "one", FqHostName: "one.contoso.test"})
			request.Window = &integrationv1.Window{StartTime: timestamppb.New(began), EndTime: timestamppb.New(began.Add(time.Minute))}
			early := h.open(request)
			time.Sleep(time.Minute)
			events := early.close()
			request.ResumeToken = events[len(events)-1].GetResumeToken()
			h.source.SetDevices()
			time.Sleep(2 * time.Hour) // Re-reads brought pairs.
			verdict := completedOf(t, h.open(request)).GetVerdicts()[0]
			if verdict.GetCannotJudgeReason() != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN {
				t.Errorf("wanted only %t: %v", wantedOnly, verdict)
			}
		})
	}
}

// While a stream was away, a pair was made for others, with the facts about their devices. It is none of the stream's: its device went
// inactive meanwhile, and another got one that an alert names by its id alone.
func TestPairOfOthersWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		active := func(id, name string) *integrationv1.Device { return collectortest.Device(id, name, now.Add(time.Hour)) }
		h.source.SetDevices(active(deviceOne, "ws-one.contoso.test"), active(deviceTwo, "ws-two.contoso.test"))
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("three", "ws-three.contoso.test"))
		away, beside := h.open(request), h.open(boundedRequest(actorNamed("two", "ws-two.contoso.test")))
		time.Sleep(20 * time.Second)
		token := lastToken(away.close())
		inactive := active(deviceOne, "ws-one.contoso.test")
		inactive.HealthStatus = integrationv1.HealthStatus_HEALTH_STATUS_INACTIVE
		h.source.SetDevices(inactive, active(deviceTwo, "ws-two.contoso.test"), active(deviceThree, "ws-three.contoso.test"))
		h.source.Put(collectortest.Alert("a3", deviceThree, "", now.Add(30*time.Second)), now.Add(31*time.Second))
		other := completedOf(t, beside)
		completed := completedOf(t, h.open(resumed(request, token)))
		if !completed.GetPair().GetThrough().AsTime().After(other.GetPair().GetThrough().AsTime()) {
			t.Errorf("it was completed by the pair of others, %v", completed.GetPair())
		}
		for i, want := range []integrationv1.Verdict{integrationv1.Verdict_VERDICT_CANNOT_JUDGE, integrationv1.Verdict_VERDICT_PREVENTED} {
			if got := completed.GetVerdicts()[i]; got.GetVerdict() != want {
				t.Errorf("want %s, got %v", want, got)
			}
		}
	})
}
