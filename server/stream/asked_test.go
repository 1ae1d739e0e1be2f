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
		h.source.WantedOnly = true
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
