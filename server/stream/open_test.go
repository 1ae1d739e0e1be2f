package stream_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// At its start a stream tells which alerts about its Actors are open: each by its last revision, only those of before the window.
func TestOpenAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		put := func(id, device, name string, status integrationv1.AlertStatus) {
			a := collectortest.Alert(id, device, name, time.Now())
			a.Status = status
			h.source.Put(a, time.Now())
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		isNew, inProgress, resolved := integrationv1.AlertStatus_ALERT_STATUS_NEW, integrationv1.AlertStatus_ALERT_STATUS_IN_PROGRESS,
			integrationv1.AlertStatus_ALERT_STATUS_RESOLVED
		put("new", deviceOne, "ws-one.contoso.test", isNew)
		put("by another's name", deviceTwo, "ws-two.contoso.test", isNew)
		put("without a status", deviceOne, "ws-one.contoso.test", 0)
		put("resolved since", deviceOne, "ws-one.contoso.test", isNew)
		put("resolved since", deviceOne, "ws-one.contoso.test", resolved)
		put("by its device's id", deviceOne, "old-name.contoso.test", inProgress)
		for i := range 25 {
			put(fmt.Sprintf("many %d", i), deviceTwo, "many.contoso.test", isNew)
		}
		time.Sleep(time.Hour)
		put("in the window", deviceOne, "ws-one.contoso.test", isNew)
		time.Sleep(time.Minute)
		c := h.open(boundedRequest(actorNamed("one", "ws-one"), actorNamed("many", "many"), actorNamed("none", "ws-none")))
		time.Sleep(time.Second)
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		time.Sleep(10 * time.Minute)
		var events []*integrationv1.ActorsEvent
		for _, e := range c.close() {
			if a := e.GetActors(); a != nil {
				events = append(events, a)
			}
		}
		want := func(e *integrationv1.ActorsEvent, actor, count int, ids ...string) {
			t.Helper()
			state := e.GetActors()[actor]
			var got []string
			for _, open := range state.GetOpenAlerts() {
				got = append(got, open.GetAlertId())
			}
			if len(got) < len(ids) || fmt.Sprint(got[:len(ids)]) != fmt.Sprint(ids) || int(state.GetOpenAlertCount()) != count {
				t.Errorf("of %s %d open alerts are told, %q, want %d and first %q", state.GetActorId(), state.GetOpenAlertCount(), got, count, ids)
			}
		}
		first, last := events[0], events[len(events)-1]
		want(first, 0, 1, "new")
		want(first, 1, 25, "many 24", "many 23")
		want(first, 2, 0)
		want(last, 0, 2, "by its device's id", "new")
		want(last, 1, 26, "many 24", "many 23") // Alerts have shown meanwhile whose the other's device is.
		if told := len(last.GetActors()[1].GetOpenAlerts()); told != 20 {
			t.Errorf("%d open alerts are told of one Actor", told)
		}
		if since := first.GetOpenAlertsSince(); since == nil || since.AsTime().After(time.Now().Add(-time.Hour)) {
			t.Errorf("it is told since when they are known: %v", since)
		}
	})
}

// Where there are too many to be looked at, each Actor gets its share: one with many alerts, or one with many revisions, takes no other's.
func TestOpenAlertsAreSharedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		const actors = 40
		now := time.Now()
		request := boundedRequest()
		for i := range actors {
			name := fmt.Sprintf("ws-%d.contoso.test", i)
			request.Actors = append(request.Actors, actorNamed(fmt.Sprint(i), name))
			for j := range 60 {
				a := collectortest.Alert(fmt.Sprintf("%d of %d", j, i), fmt.Sprintf("%040x", i+1), name, now.Add(time.Duration(j)*time.Second))
				a.Status = integrationv1.AlertStatus_ALERT_STATUS_NEW
				h.source.Put(a, now)
			}
		}
		time.Sleep(time.Hour)
		windowFrom(request, time.Now(), time.Minute)
		c := h.open(request)
		time.Sleep(time.Second)
		for _, state := range c.seen()[0].GetActors().GetActors() {
			if len(state.GetOpenAlerts()) != 20 || state.GetOpenAlertCount() < 50 {
				t.Errorf("of %s %d open alerts are told, and %d are counted", state.GetActorId(), len(state.GetOpenAlerts()), state.GetOpenAlertCount())
			}
		}
		c.close()
	})
}

// An update says what was so before: the status, the outcome, the activity, and which evidence is new.
func TestWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		first := collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now.Add(5*time.Second))
		first.Status = integrationv1.AlertStatus_ALERT_STATUS_NEW
		first.GetEvidence()[1].GetFile().DetectionStatus = integrationv1.DetectionStatus_DETECTION_STATUS_DETECTED
		h.source.Put(first, now.Add(6*time.Second))
		second := collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now.Add(5*time.Second))
		second.Status = integrationv1.AlertStatus_ALERT_STATUS_RESOLVED
		second.GetEvidence()[1].GetFile().DetectionStatus = integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED
		second.Evidence = append(second.Evidence, &integrationv1.Evidence{Type: "userEvidence", Detail: &integrationv1.Evidence_User{User: &integrationv1.UserEvidence{}}})
		second.LastUpdateTime = timestamppb.New(now.Add(30 * time.Second))
		h.source.Put(second, now.Add(31*time.Second))
		c := h.open(boundedRequest(actorNamed("one", "ws-one")))
		<-c.done
		for _, e := range c.events {
			a := e.GetAlert()
			if a == nil {
				continue
			}
			previous := a.GetPrevious()
			switch a.GetKind() {
			case integrationv1.AlertEvent_KIND_NEW:
				if previous != nil || a.GetAddedEvidence() != nil {
					t.Errorf("a first revision tells of one before: %v", a)
				}
			default:
				if previous.GetStatus() != integrationv1.AlertStatus_ALERT_STATUS_NEW || previous.GetOutcome() != integrationv1.Outcome_OUTCOME_DETECTED ||
					previous.GetActivity() != integrationv1.Activity_ACTIVITY_IN_WINDOW || fmt.Sprint(a.GetAddedEvidence()) != "[/evidence/2]" ||
					a.GetOutcome().GetOutcome() != integrationv1.Outcome_OUTCOME_BLOCKED {
					t.Errorf("before it was %v, added is %q", previous, a.GetAddedEvidence())
				}
			}
		}
		if got := journalled(c.events); len(got) != 3 {
			t.Errorf("events = %q", got)
		}
	})
}
