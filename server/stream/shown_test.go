package stream_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// An alert that names its device by an id alone, or by a name that the Actor has no longer, is the Actor's where another alert's evidence
// shows so and no device source tells of one; it is said what that rests on, and a stream that is resumed anywhere says the same.
func TestDevicesThatAlertsShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		h.source.TakeDevicesAway()
		now := time.Now()
		put := func(id, device, name string, after time.Duration) {
			h.source.Put(collectortest.Alert(id, device, name, now.Add(after)), now.Add(after))
		}
		put("renamed", deviceOne, "old-name.contoso.test", 5*time.Second)
		put("nameless", deviceOne, "", 6*time.Second)
		put("named", deviceOne, "ws-one.contoso.test", 20*time.Second)
		put("later", deviceOne, "", 40*time.Second)
		put("other", deviceTwo, "", 41*time.Second)
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		whole := h.open(request)
		<-whole.done
		want := []string{
			"KIND_NEW named A test alert", "KIND_NEW renamed A test alert", "KIND_NEW nameless A test alert",
			"KIND_NEW later A test alert", "one VERDICT_PREVENTED",
		}
		got := journalled(whole.events)
		slices.Sort(got[1:3])
		slices.Sort(want[1:3])
		if !slices.Equal(got, want) {
			t.Fatalf("events = %q, want %q", got, want)
		}
		want = journalled(whole.events)
		criteria := map[string]integrationv1.MatchCriterion{}
		var last *integrationv1.ActorState
		for _, e := range whole.events {
			if a := e.GetAlert(); a != nil {
				criteria[a.GetAlert().GetId()] = a.GetActors()[0].GetMatches()[0].GetCriterion()
			}
			if a := e.GetActors(); a != nil {
				last = a.GetActors()[0]
			}
		}
		for _, id := range []string{"renamed", "nameless", "later"} {
			if criteria[id] != integrationv1.MatchCriterion_MATCH_CRITERION_SHOWN_DEVICE {
				t.Errorf("%s matched by %v", id, criteria[id])
			}
		}
		if d := last.GetDevices(); len(d) != 1 || d[0].GetShownByAlertId() != "named" || d[0].GetDevice().GetMdeDeviceId() != deviceOne || last.GetJudgeable() {
			t.Errorf("of the Actor it is told: %v", last)
		}
		for i, e := range whole.events {
			if e.GetCompleted() != nil {
				continue
			}
			c := h.open(resumed(request, e.GetResumeToken()))
			<-c.done
			if got := append(journalled(whole.events[:i+1]), journalled(c.events)...); !slices.Equal(got, want) {
				t.Errorf("resumed after event %d: events = %q, want %q", i, got, want)
			}
		}
	})
}

// Where alerts show several machines that an Actor may be, it cannot be judged; and what they show proves no absence.
func TestWhatAlertsShowIsNoProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		h.source.TakeDevicesAway()
		h.change(func(i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE}
		})
		now := time.Now()
		before := collectortest.Alert("before", deviceOne, "ws-one.contoso.test", now.Add(-time.Hour))
		before.LastUpdateTime = timestamppb.New(now)
		h.source.Put(before, now)
		h.source.Put(collectortest.Alert("a", strings.Repeat("3", 40), "twin.contoso.test", now.Add(5*time.Second)), now.Add(5*time.Second))
		h.source.Put(collectortest.Alert("b", deviceTwo, "twin.fabrikam.test", now.Add(6*time.Second)), now.Add(6*time.Second))
		c := h.open(boundedRequest(actorNamed("one", "ws-one"), actorNamed("twin", "twin")))
		<-c.done
		verdicts := c.events[len(c.events)-1].GetCompleted().GetVerdicts()
		for i, want := range []integrationv1.CannotJudgeReason{
			integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS,
		} {
			if got := verdicts[i]; got.GetVerdict() != integrationv1.Verdict_VERDICT_CANNOT_JUDGE || got.GetCannotJudgeReason() != want {
				t.Errorf("verdict = %v, want %v", got, want)
			}
		}
	})
}

// What an alert has shown is known as long as the journal has an alert that shows it: a stream that runs and one that is resumed say the
// same of what comes after the first of them was trimmed.
func TestWhatAlertsShowBehindTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		h.source.TakeDevicesAway()
		now := time.Now()
		put := func(id, device, name string, after time.Duration) {
			h.source.Put(collectortest.Alert(id, device, name, now.Add(after)), now.Add(after))
		}
		put("shows it first", deviceOne, "ws-one.contoso.test", time.Minute)
		put("shows it again", deviceOne, "ws-one.contoso.test", 50*time.Minute)
		put("names it by its id", deviceOne, "", 90*time.Minute)
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		request.Window.EndTime = nil
		running := h.open(request)
		time.Sleep(80 * time.Minute)
		journal, err := h.store.Journal(t.Context(), "uid-1")
		if err != nil {
			t.Fatal(err)
		}
		if stats, err := journal.Stats(t.Context()); err != nil || stats.First == 1 {
			t.Fatalf("nothing was trimmed: %v, %v", stats, err)
		}
		seen := running.seen()
		again := h.open(resumed(request, seen[len(seen)-1].GetResumeToken()))
		time.Sleep(20 * time.Minute)
		want := []string{"KIND_NEW shows it first A test alert", "KIND_NEW shows it again A test alert", "KIND_NEW names it by its id A test alert"}
		if got := journalled(running.close()); !slices.Equal(got, want) {
			t.Errorf("the running stream sent %q, want %q", got, want)
		}
		if got := journalled(again.close()); !slices.Equal(got, want[2:]) {
			t.Errorf("the resumed stream sent %q, want %q", got, want[2:])
		}
	})
}
