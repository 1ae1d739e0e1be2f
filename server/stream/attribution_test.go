package stream_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// withProcess adds a process that was blocked to an alert, and returns the traces of the attack that it is.
func withProcess(alert *integrationv1.Alert, id int64, at time.Time) *integrationv1.Traces {
	alert.Evidence = append(alert.Evidence, &integrationv1.Evidence{Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{
		ProcessId: id, ProcessCreationTime: timestamppb.New(at), DetectionStatus: integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED,
	}}})
	return &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{ProcessId: id, ProcessCreationTime: timestamppb.New(at)}}}
}

// A stream tells how surely an alert is about the attack on its Actor, and judges by those that are as surely so as the request asks.
func TestStreamAttributes(t *testing.T) {
	const (
		deviceOnly = integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY
		strong     = integrationv1.Confidence_CONFIDENCE_STRONG
		certain    = integrationv1.Confidence_CONFIDENCE_CERTAIN
	)
	tests := []struct {
		least    integrationv1.Confidence
		counting map[string]bool
		verdict  integrationv1.Verdict
		deciding string
	}{
		{0, map[string]bool{"attack": true, "other": true}, integrationv1.Verdict_VERDICT_PREVENTED, ""},
		{deviceOnly, map[string]bool{"attack": true, "other": true}, integrationv1.Verdict_VERDICT_PREVENTED, ""},
		{strong, map[string]bool{"attack": true}, integrationv1.Verdict_VERDICT_PREVENTED, "attack"},
		{certain, map[string]bool{"attack": true}, integrationv1.Verdict_VERDICT_PREVENTED, "attack"},
	}
	for _, test := range tests {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, collector.DefaultSettings())
			defer h.stop()
			now := time.Now()
			h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now))
			at := now.Add(10 * time.Second)
			attack, other := collectortest.Alert("attack", deviceOne, "", at), collectortest.Alert("other", deviceOne, "", at)
			actor := actorNamed("one", "ws-one.contoso.test")
			actor.Traces = withProcess(attack, 4711, at)
			withProcess(other, 4712, at)
			// By when it was created alone.
			other.FirstActivityTime, other.LastActivityTime = nil, nil
			h.source.Put(attack, at.Add(time.Second))
			h.source.Put(other, at.Add(time.Second))
			request := boundedRequest(actor)
			request.MinConfidence = test.least
			c := h.open(request)
			<-c.done
			seen := 0
			for _, e := range c.events {
				alert := e.GetAlert()
				if alert == nil {
					continue
				}
				seen++
				id, m := alert.GetAlert().GetId(), alert.GetActors()[0]
				want := map[string]integrationv1.Confidence{"attack": certain, "other": deviceOnly}[id]
				if m.GetAttribution().GetConfidence() != want || m.GetCounts() != test.counting[id] || alert.GetActivityByCreation() != (id == "other") {
					t.Errorf("at least %v: %s is %v", test.least, id, alert)
				}
				// The file was prevented, the process blocked: it decides where it is the attack's own.
				if id == "attack" && (m.GetOutcome().GetOutcome() != integrationv1.Outcome_OUTCOME_BLOCKED || len(m.GetOutcome().GetContradictions()) != 1) {
					t.Errorf("the attack ended %v", m.GetOutcome())
				}
			}
			completed := c.events[len(c.events)-1].GetCompleted()
			verdict := completed.GetVerdicts()[0]
			if seen != 2 || completed.GetAlerts() != 2 || completed.GetCountingAlerts() != int64(len(test.counting)) || verdict.GetVerdict() != test.verdict ||
				test.deciding != "" && verdict.GetDecidingAlertId() != test.deciding {
				t.Errorf("at least %v: %d alerts, completed %v", test.least, seen, completed)
			}
		})
	}
}

// Where no alert is surely enough about the attack, none counts.
func TestNothingSureEnoughIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now))
		at := now.Add(10 * time.Second)
		h.source.Put(collectortest.Alert("other", deviceOne, "", at), at.Add(time.Second))
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		request.MinConfidence = integrationv1.Confidence_CONFIDENCE_WEAK
		c := h.open(request)
		<-c.done
		completed := c.events[len(c.events)-1].GetCompleted()
		if completed.GetCountingAlerts() != 0 || completed.GetVerdicts()[0].GetVerdict() != integrationv1.Verdict_VERDICT_MISSED {
			t.Errorf("completed is %v", completed)
		}
	})
}

// A thousand Actors that one alert matches, each with traces as long as they may be, do not make an event that is too large.
func TestEventOfManyAttacks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		at := time.Now().Add(10 * time.Second)
		alert := collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", at)
		long := strings.Repeat("x", 500)
		alert.Evidence = append(alert.Evidence, &integrationv1.Evidence{Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{
			ProcessId: 1, ProcessCreationTime: timestamppb.New(at), ProcessCommandLine: "a " + long,
			ImageFile: &integrationv1.FileDetails{FileName: long, FilePath: long}, UserAccount: &integrationv1.UserAccount{AccountName: long},
		}}})
		alert.Title = long
		h.source.Put(alert, at.Add(time.Second))
		var actors []*integrationv1.Actor
		for i := range 1000 {
			actor := actorNamed(fmt.Sprint("actor-", i), "ws-one.contoso.test")
			trace := &integrationv1.ProcessTrace{
				ProcessId: 1, ProcessCreationTime: timestamppb.New(at), CommandLine: "a " + long, ImageFile: &integrationv1.FileTrace{FileName: long, FilePath: "/" + long},
			}
			actor.Traces = &integrationv1.Traces{
				Processes: []*integrationv1.ProcessTrace{trace}, Users: []string{long}, ExpectedTitles: []string{long}, MitreTechniques: []string{"T1059"},
			}
			actors = append(actors, actor)
		}
		c := h.open(boundedRequest(actors...))
		time.Sleep(30 * time.Second)
		found := false
		for _, e := range c.close() {
			if size := proto.Size(e); size > 3<<20 {
				t.Errorf("an event of %d bytes", size)
			}
			if e.GetAlert() == nil {
				continue
			}
			found = true
			if len(e.GetAlert().GetActors()) != len(actors) {
				t.Fatalf("%d Actors", len(e.GetAlert().GetActors()))
			}
			for _, m := range e.GetAlert().GetActors() {
				if m.GetAttribution().GetConfidence() != integrationv1.Confidence_CONFIDENCE_CERTAIN || m.GetAttribution().GetExplanation() == "" {
					t.Fatalf("match %v", m)
				}
			}
		}
		if !found {
			t.Error("no alert")
		}
	})
}
