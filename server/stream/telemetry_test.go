package stream_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// tracesOf gives an Actor traces.
func tracesOf(a *integrationv1.Actor) *integrationv1.Actor {
	a.Traces = &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{CommandLine: "attack --on " + a.GetActorId()}}}
	return a
}

// telemetry answers by the device: what is blocked, logged or not there. It counts its calls and questions.
type telemetry struct {
	mu    sync.Mutex
	calls int
	asked []*defender.TelemetryQuestion
	fail  error
}

func (x *telemetry) find(_ context.Context, questions []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls++
	x.asked = append(x.asked, questions...)
	if x.fail != nil {
		return nil, x.fail
	}
	var answers []*integrationv1.Telemetry
	for _, q := range questions {
		row := &integrationv1.TelemetryRow{
			Table: "DeviceEvents", ActionType: "ProcessCreated", EventTime: timestamppb.New(q.Since), MdeDeviceId: strings.Join(q.DeviceIDs, ","),
			Criterion: integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE, TraceValue: q.Traces.GetProcesses()[0].GetCommandLine(),
		}
		answer := &integrationv1.Telemetry{AskedTime: timestamppb.Now(), Rows: []*integrationv1.TelemetryRow{row}}
		switch {
		case slices.Contains(q.DeviceIDs, deviceOne):
			row.ActionType, row.Control, row.Blocked = "AsrOfficeChildProcessBlocked", "attack surface reduction", true
		case !slices.Contains(q.DeviceIDs, deviceTwo):
			answer.Rows = nil
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

const (
	deviceThree = "3333333333333333333333333333333333333333"
	deviceFour  = "4444444444444444444444444444444444444444"
)

// telemetryHouse is a house with four known devices, of which the fourth raises an alert, and a request for all of them.
func telemetryHouse(t *testing.T, x *telemetry) (*house, *integrationv1.StreamAlertsRequest) {
	h := newHouse(t, collector.DefaultSettings())
	h.source.SetTraces(x.find)
	now := time.Now()
	var devices []*integrationv1.Device
	var actors []*integrationv1.Actor
	for name, id := range map[string]string{"one": deviceOne, "two": deviceTwo, "three": deviceThree, "four": deviceFour} {
		devices = append(devices, collectortest.Device(id, "ws-"+name+".contoso.test", now.Add(time.Hour)))
	}
	for _, name := range []string{"one", "two", "three", "four"} {
		actors = append(actors, tracesOf(actorNamed(name, "ws-"+name)))
	}
	h.source.SetDevices(devices...)
	h.source.Put(collectortest.Alert("a4", deviceFour, "ws-four.contoso.test", now.Add(5*time.Second)), now.Add(6*time.Second))
	request := boundedRequest(append(actors, actorNamed("untraced", "ws-three.contoso.test"))...)
	request.Telemetry = true
	return h, request
}

// Before it is said that an attack was missed, telemetry is asked about the Actors with traces and without a counting alert: a block makes
// PREVENTED, a row LOGGED, and nothing leaves MISSED as it is. A stream that is cut and resumed anywhere says the same, and asks once.
func TestTelemetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &telemetry{}
		h, request := telemetryHouse(t, x)
		defer h.stop()
		whole := h.open(request)
		<-whole.done
		last := whole.events[len(whole.events)-1].GetCompleted()
		words := map[string]string{
			"one": "by attack surface reduction", "two": "recorded the attack", "three": "holds none of the attack's traces", "four": "", "untraced": "",
		}
		for i, want := range []struct {
			verdict integrationv1.Verdict
			outcome integrationv1.Outcome
			rows    int
		}{
			{integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Outcome_OUTCOME_BLOCKED, 1},
			{integrationv1.Verdict_VERDICT_LOGGED, 0, 1},
			{integrationv1.Verdict_VERDICT_MISSED, 0, 0},
			{integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Outcome_OUTCOME_PREVENTED, -1},
			{integrationv1.Verdict_VERDICT_MISSED, 0, -1},
		} {
			got := last.GetVerdicts()[i]
			rows := -1
			if got.GetTelemetry() != nil {
				rows = len(got.GetTelemetry().GetRows())
			}
			if got.GetVerdict() != want.verdict || got.GetOutcome() != want.outcome || rows != want.rows || !strings.Contains(got.GetExplanation(), words[got.GetActorId()]) {
				t.Errorf("verdict = %v, want %v", got, want)
			}
		}
		if x.calls != 1 || len(x.asked) != 3 {
			t.Errorf("%d calls with %d questions", x.calls, len(x.asked))
		}
		hunting := 0
		for i, e := range whole.events {
			if e.GetProgress().GetPhase() == integrationv1.ProgressEvent_PHASE_HUNTING {
				hunting++
			}
			if e.GetCompleted() != nil {
				break
			}
			c := h.open(resumed(request, e.GetResumeToken()))
			<-c.done
			if got := c.events[len(c.events)-1].GetCompleted(); !proto.Equal(got, last) {
				t.Errorf("resumed after event %d: %v, want %v", i, got, last)
			}
		}
		if x.calls != 1 || hunting == 0 {
			t.Errorf("%d calls after resuming, hunting was told %d times", x.calls, hunting)
		}
		plain := proto.CloneOf(request)
		plain.Telemetry = false
		c := h.open(plain)
		<-c.done
		for _, v := range c.events[len(c.events)-1].GetCompleted().GetVerdicts() {
			if v.GetTelemetry() != nil || v.GetVerdict() == integrationv1.Verdict_VERDICT_LOGGED {
				t.Errorf("telemetry was not asked for: %v", v)
			}
		}
	})
}

// Where telemetry cannot be asked the verdict says so, and waits no longer than it may; asked again later, the verdict is amended.
func TestTelemetryThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &telemetry{fail: &defender.Error{Permanent: true, Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING, Message: "ThreatHunting.Read.All is missing.",
		}}}
		h, request := telemetryHouse(t, x)
		defer h.stop()
		c := h.open(request)
		<-c.done
		completed := c.events[len(c.events)-1]
		for i, v := range completed.GetCompleted().GetVerdicts()[:3] {
			if v.GetVerdict() != integrationv1.Verdict_VERDICT_MISSED || !strings.Contains(v.GetExplanation(), "Telemetry could not be asked, or not wholly: ThreatHunting.Read.All is missing.") ||
				v.GetTelemetry().GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING {
				t.Errorf("verdict %d = %v", i, v)
			}
		}
		x.mu.Lock()
		x.fail = nil
		x.mu.Unlock()
		time.Sleep(5 * time.Minute)
		again := h.open(resumed(request, completed.GetResumeToken()))
		<-again.done
		verdicts := again.events[len(again.events)-1].GetCompleted().GetVerdicts()
		wantAmended(t, verdicts[0], integrationv1.Verdict_VERDICT_MISSED, "AMENDED from MISSED: telemetry")
		wantAmended(t, verdicts[1], integrationv1.Verdict_VERDICT_MISSED, "AMENDED from MISSED: telemetry")
		wantAmended(t, verdicts[2], 0, "")
	})
}

// Two hundred streams that close in one minute make three calls.
func TestTelemetryOfManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &telemetry{}
		h, request := telemetryHouse(t, x)
		defer h.stop()
		var calls []*call
		for i := range 200 {
			one := proto.CloneOf(request)
			one.Reference = fmt.Sprint(i)
			one.Window.StartTime = timestamppb.Now()
			one.Window.EndTime = timestamppb.New(time.Now().Add(time.Minute))
			calls = append(calls, h.open(one))
			time.Sleep(300 * time.Millisecond)
		}
		for _, c := range calls {
			<-c.done
			if v := c.events[len(c.events)-1].GetCompleted().GetVerdicts()[1]; v.GetVerdict() != integrationv1.Verdict_VERDICT_LOGGED {
				t.Errorf("verdict = %v", v)
			}
		}
		if x.calls > 4 {
			t.Errorf("%d calls", x.calls)
		}
	})
}

// Two Actors that are one machine under one attack are asked about once, and both have the answer.
func TestTelemetryOfOneMachineTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &telemetry{}
		h, request := telemetryHouse(t, x)
		defer h.stop()
		again := proto.CloneOf(request.GetActors()[0])
		again.ActorId = "one again"
		request.Actors = append(request.Actors, again)
		c := h.open(request)
		<-c.done
		for _, v := range c.events[len(c.events)-1].GetCompleted().GetVerdicts() {
			if strings.HasPrefix(v.GetActorId(), "one") && (v.GetVerdict() != integrationv1.Verdict_VERDICT_PREVENTED || len(v.GetTelemetry().GetRows()) != 1) {
				t.Errorf("verdict = %v", v)
			}
		}
		if len(x.asked) != 3 {
			t.Errorf("%d questions", len(x.asked))
		}
	})
}

// Telemetry is asked of the devices whose alerts are the Actor's, and of no other that fits it more weakly; where the device source does not
// know the Actor, of the device whose id it gives.
func TestTelemetryOfItsOwnDevicesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &telemetry{}
		h, request := telemetryHouse(t, x)
		defer h.stop()
		one := collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now().Add(time.Hour))
		one.IpAddresses = []string{"10.0.0.7"}
		three := collectortest.Device(deviceThree, "ws-three.contoso.test", time.Now().Add(time.Hour))
		h.source.SetDevices(one, three)
		actor := request.GetActors()[2]
		actor.HostName, actor.IpAddresses = "ws-three.contoso.test", []string{"10.0.0.7"}
		unknown := tracesOf(actorNamed("unknown", "ws-two.contoso.test"))
		unknown.MdeDeviceId = deviceTwo
		request.Actors = []*integrationv1.Actor{actor, unknown}
		c := h.open(request)
		<-c.done
		var asked []string
		for _, q := range x.asked {
			asked = append(asked, strings.Join(slices.Concat(q.DeviceIDs, q.FullNames, q.ShortNames), ","))
		}
		slices.Sort(asked)
		if !slices.Equal(asked, []string{deviceTwo, deviceThree}) {
			t.Errorf("asked of %q", asked)
		}
		for i, want := range []integrationv1.Verdict{integrationv1.Verdict_VERDICT_MISSED, integrationv1.Verdict_VERDICT_LOGGED} {
			if v := c.events[len(c.events)-1].GetCompleted().GetVerdicts()[i]; v.GetVerdict() != want {
				t.Errorf("verdict = %v, want %v", v, want)
			}
		}
	})
}

// A stream that passed what telemetry answered without asking for it, and is resumed with asking for it, completes.
func TestTelemetryAskedForOnceAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &telemetry{}
		h, request := telemetryHouse(t, x)
		defer h.stop()
		h.source.SetTraces(func(ctx context.Context, q []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
			time.Sleep(5 * time.Second)
			return x.find(ctx, q)
		})
		c := h.open(request)
		token := ""
		for token == "" {
			time.Sleep(time.Second)
			if last := c.seen()[len(c.seen())-1]; last.GetProgress().GetPhase() == integrationv1.ProgressEvent_PHASE_HUNTING {
				token = last.GetResumeToken()
			}
		}
		plain := resumed(request, token)
		plain.Telemetry = false
		without := h.open(plain)
		<-c.done
		<-without.done
		for _, e := range without.events {
			if e.GetCompleted() == nil {
				token = e.GetResumeToken()
			}
		}
		again := h.open(resumed(request, token))
		time.Sleep(10 * time.Minute)
		again.cancel()
		<-again.done
		if got := journalled(again.events); !slices.Contains(got, "one VERDICT_PREVENTED") {
			t.Errorf("within ten minutes: %q", got)
		}
	})
}

// A verdict that rested on telemetry, and is given again without what it held, says so, and not that
// it rested on an alert.
func TestTelemetryThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &telemetry{}
		h, request := telemetryHouse(t, x)
		defer h.stop()
		c := h.open(request)
		<-c.done
		token := c.events[len(c.events)-1].GetResumeToken()
		missed := integrationv1.Verdict_VERDICT_MISSED
		again := func(telemetry bool, words ...string) {
			t.Helper()
			time.Sleep(5 * time.Minute)
			r := resumed(request, token)
			r.Telemetry = telemetry
			c := h.open(r)
			<-c.done
			for i, v := range c.events[len(c.events)-1].GetCompleted().GetVerdicts()[:2] {
				if got := v.GetAmendment().GetExplanation(); v.GetVerdict() != missed || !strings.Contains(got, words[i]) {
					t.Errorf("verdict = %v", v)
				}
			}
		}
		again(false, "AMENDED from PREVENTED (BLOCKED)", "LOGGED: the row of telemetry that decided before counts no longer: telemetry was not to be asked")
		x.fail = &defender.Error{Permanent: true, Problem: &integrationv1.Problem{Message: "It is not permitted."}}
		again(true, "that decided before counts no longer: telemetry could not be asked", "that decided before counts no longer: telemetry could not be asked")
		x.fail = nil
		h.source.SetTraces(func(_ context.Context, q []*defender.TelemetryQuestion) ([]*integrationv1.Telemetry, error) {
			answers := make([]*integrationv1.Telemetry, len(q))
			for i := range answers {
				answers[i] = &integrationv1.Telemetry{AskedTime: timestamppb.Now()}
			}
			return answers, nil
		})
		again(true, "that decided before counts no longer: telemetry holds it no more", "that decided before counts no longer: telemetry holds it no more")
	})
}
