package stream_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/stream"
)

// largeVerdicts are verdicts of as many Actors, each with all that it can have.
func largeVerdicts(actors, size int) *integrationv1.CompletedEvent {
	long := strings.Repeat("x", size)
	e := &integrationv1.CompletedEvent{}
	for i := range actors {
		v := &integrationv1.ActorVerdict{
			ActorId: fmt.Sprint(i), Verdict: integrationv1.Verdict_VERDICT_DETECTED, DecidingAlertId: long, Explanation: strings.Repeat("y", 5*size),
			Device:    &integrationv1.Device{MdeDeviceId: deviceOne, DeviceDnsName: "ws-one", IpAddresses: make([]string, 500)},
			Amendment: &integrationv1.Amendment{Explanation: strings.Repeat("z", 5*size)},
			Uncounted: []*integrationv1.Uncounted{{Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE, Alerts: 7}},
		}
		for range 10 {
			v.CountingAlertIds = append(v.CountingAlertIds, long)
			v.NearMisses = append(v.NearMisses, &integrationv1.NearMiss{
				AlertId: long, Title: long, Explanation: long, Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY,
			})
		}
		e.Verdicts = append(e.Verdicts, v)
	}
	return e
}

// What is told of the Actors is cut until the event is small enough, what says the least first; near misses that are cut are counted.
func TestFitCompleted(t *testing.T) {
	tests := []struct {
		actors, size           int
		ids, misses, uncounted int
		words                  int
		addresses              bool
	}{
		{actors: 10, size: 100, ids: 10, misses: 10, uncounted: 1, words: 500, addresses: true},
		{actors: 1000, size: 60, ids: 10, misses: 1, uncounted: 2, words: 300},
		{actors: 1000, size: 85, ids: 10, misses: 0, uncounted: 2, words: 425},
		{actors: 1000, size: 110, ids: 5, misses: 0, uncounted: 2, words: 550},
		{actors: 1000, size: 500, ids: 0, misses: 0, uncounted: 2, words: 512 + len("…")},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%d Actors, texts of %d", test.actors, test.size), func(t *testing.T) {
			e := largeVerdicts(test.actors, test.size)
			stream.FitCompleted(e)
			if size := proto.Size(e); size > 2<<20 || len(e.GetVerdicts()) != test.actors {
				t.Errorf("%d bytes for %d Actors", size, len(e.GetVerdicts()))
			}
			v := e.GetVerdicts()[0]
			left := int64(7 + 10 - len(v.GetNearMisses()))
			for _, u := range v.GetUncounted() {
				left -= u.GetAlerts()
			}
			if len(v.GetCountingAlertIds()) != test.ids || len(v.GetNearMisses()) != test.misses || len(v.GetUncounted()) != test.uncounted || left != 0 {
				t.Errorf("%d ids, %d near misses, uncounted %v", len(v.GetCountingAlertIds()), len(v.GetNearMisses()), v.GetUncounted())
			}
			if len(v.GetExplanation()) != test.words || len(v.GetAmendment().GetExplanation()) != test.words || (len(v.GetDevice().GetIpAddresses()) > 0) != test.addresses {
				t.Errorf("%d bytes of words, %d addresses", len(v.GetExplanation()), len(v.GetDevice().GetIpAddresses()))
			}
			if len(v.GetDecidingAlertId()) != test.size || v.GetVerdict() != integrationv1.Verdict_VERDICT_DETECTED || v.GetDevice().GetMdeDeviceId() != deviceOne {
				t.Errorf("verdict %v", v)
			}
		})
	}
}

// What telemetry holds of a thousand Actors, with all that it can have, is cut too: the row that decides stays the longest, and why not all
// could be asked is told in short.
func TestFitTelemetry(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, size := range []int{20, 512} {
		e := &integrationv1.CompletedEvent{}
		for i := range 1000 {
			answer := &integrationv1.Telemetry{Problem: &integrationv1.Problem{Message: long(2 * size), Remedy: long(2 * size)}}
			for row := range 20 {
				answer.Rows = append(answer.Rows, &integrationv1.TelemetryRow{
					Table: "DeviceProcessEvents", ActionType: long(size), MdeDeviceId: deviceOne, TraceValue: long(size), DefenderValue: long(size),
					RowJson: long(8 << 10), Blocked: row < 19,
				})
			}
			e.Verdicts = append(e.Verdicts, &integrationv1.ActorVerdict{
				ActorId: fmt.Sprint(i), Verdict: integrationv1.Verdict_VERDICT_LOGGED, Explanation: long(5 * size), Telemetry: answer,
			})
		}
		before := proto.CloneOf(e.GetVerdicts()[0].GetTelemetry())
		answer := e.GetVerdicts()[0].GetTelemetry()
		stream.FitCompleted(e)
		got := e.GetVerdicts()[0].GetTelemetry()
		if n := proto.Size(e); n > 2<<20 || got.GetMoreRows()+int64(len(got.GetRows())) != 20 || got.GetProblem().GetMessage() == "" {
			t.Errorf("texts of %d: %d bytes, %d rows and %d more, problem %v", size, n, len(got.GetRows()), got.GetMoreRows(), got.GetProblem())
		}
		if rows := got.GetRows(); len(rows) != 1 || rows[0].GetBlocked() || rows[0].GetActionType() == "" {
			t.Errorf("texts of %d: rows %v", size, rows)
		}
		if !proto.Equal(before, answer) {
			t.Error("the journal's answer was changed")
		}
	}
}
