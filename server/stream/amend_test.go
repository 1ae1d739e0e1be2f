package stream_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Resumed with a completed's token, the window is judged again after a new closing read, and a verdict that changed says from what, and
// why; also where the stream is cut in between. What did not change says nothing, and the next time it is the new verdict that was given.
func TestAmended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(time.Hour)),
			collectortest.Device(deviceTwo, "ws-two.contoso.test", now.Add(time.Hour)))
		request := boundedRequest(actorNamed("three", "ws-three"), actorNamed("two", "ws-two"), actorNamed("one", "ws-one"))
		h.source.Put(collectortest.Alert("a2", deviceTwo, "ws-two.contoso.test", now.Add(5*time.Second)), now.Add(6*time.Second))
		first := h.open(request)
		<-first.done
		completed := wantVerdicts(t, first, integrationv1.Verdict_VERDICT_CANNOT_JUDGE, integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Verdict_VERDICT_MISSED)
		for _, v := range completed.GetCompleted().GetVerdicts() {
			if v.GetAmendment() != nil {
				t.Errorf("a first verdict is amended: %v", v)
			}
		}

		late := collectortest.Alert("late", deviceOne, "ws-one.contoso.test", now.Add(10*time.Second))
		late.LastUpdateTime = completed.GetCompleted().GetPair().GetThrough()
		h.source.Put(late, time.Now())
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(time.Hour)),
			collectortest.Device(deviceTwo, "ws-two.contoso.test", now.Add(time.Hour)), collectortest.Device(deviceThree, "ws-three.contoso.test", now.Add(time.Hour)))
		time.Sleep(30 * time.Minute) // Re-reads come meanwhile, which rest on the devices of before.
		second := h.open(resumed(request, completed.GetResumeToken()))
		<-second.done
		again := wantVerdicts(t, second, integrationv1.Verdict_VERDICT_MISSED, integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Verdict_VERDICT_PREVENTED)
		verdicts := again.GetCompleted().GetVerdicts()
		wantAmended(t, verdicts[0], integrationv1.Verdict_VERDICT_CANNOT_JUDGE, "AMENDED from CANNOT_JUDGE (DEVICE_UNKNOWN)")
		wantAmended(t, verdicts[1], 0, "")
		wantAmended(t, verdicts[2], integrationv1.Verdict_VERDICT_MISSED, `AMENDED from MISSED: alert "late" decides, which was first read at`)

		for i, e := range second.events {
			if e.GetCompleted() != nil {
				break
			}
			c := h.open(resumed(request, e.GetResumeToken()))
			<-c.done
			if got := c.events[len(c.events)-1].GetCompleted(); !proto.Equal(got, again.GetCompleted()) {
				t.Errorf("resumed after event %d it is judged as %v, want %v", i, got, again.GetCompleted())
			}
		}
		// The order of the Actors does not bind a token.
		request.Actors[0], request.Actors[2] = request.GetActors()[2], request.GetActors()[0]
		third := h.open(resumed(request, again.GetResumeToken()))
		<-third.done
		for _, v := range third.events[len(third.events)-1].GetCompleted().GetVerdicts() {
			wantAmended(t, v, 0, "")
		}
	})
}

// wantVerdicts wants a call to have ended with verdicts, and returns its last event.
func wantVerdicts(t *testing.T, c *call, verdicts ...integrationv1.Verdict) *integrationv1.StreamAlertsResponse {
	t.Helper()
	last := c.events[len(c.events)-1]
	for i, want := range verdicts {
		if got := last.GetCompleted().GetVerdicts()[i]; got.GetVerdict() != want {
			t.Errorf("verdict = %v, want %v", got, want)
		}
	}
	return last
}

func wantAmended(t *testing.T, v *integrationv1.ActorVerdict, from integrationv1.Verdict, words string) {
	t.Helper()
	amendment := v.GetAmendment()
	if (amendment == nil) != (words == "") || amendment.GetVerdict() != from || !strings.HasPrefix(amendment.GetExplanation(), words) {
		t.Errorf("%s: amended %v, want from %v and %q", v.GetActorId(), amendment, from, words)
	}
}
