package match_test

import (
	"testing"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func TestState(t *testing.T) {
	lookup := match.Lookup{Kind: integrationv1.DeviceSource_KIND_MACHINES, Time: noon, Rhythm: 26 * time.Hour}
	failed := lookup
	failed.Problem = &integrationv1.Problem{Message: "Microsoft answered 503"}
	open := match.Window{Start: noon}
	actor := &integrationv1.Actor{HostName: "pc1"}
	knownDevice := resolve(t, actor, device(idA, "pc1"))
	tests := []struct {
		name       string
		resolution match.Resolution
		lookup     match.Lookup
		window     match.Window
		knowledge  integrationv1.ActorState_Knowledge
		reason     integrationv1.CannotJudgeReason
	}{
		{"known and judgeable", knownDevice, lookup, open, known, 0},
		{"unknown", resolve(t, actor), lookup, open, unknown, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN},
		{"the zero resolution is unknown", match.Resolution{}, lookup, open, unknown, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN},
		{
			"ambiguous", resolve(t, actor, device(idA, "pc1.a.com"), device(idB, "pc1.b.com")), lookup, open,
			isAmbiguous, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS,
		},
		{
			"pending", match.Resolution{}, match.Lookup{Kind: integrationv1.DeviceSource_KIND_MACHINES}, open,
			integrationv1.ActorState_KNOWLEDGE_PENDING, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_PENDING,
		},
		{
			"pending, since it failed", match.Resolution{}, match.Lookup{Kind: integrationv1.DeviceSource_KIND_MACHINES, Problem: failed.Problem}, open,
			integrationv1.ActorState_KNOWLEDGE_PENDING, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED,
		},
		{
			"no device source", match.Resolution{}, match.Lookup{Kind: integrationv1.DeviceSource_KIND_NONE}, open,
			integrationv1.ActorState_KNOWLEDGE_NO_DEVICE_SOURCE, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_NO_DEVICE_SOURCE,
		},
		{"an open window: looked up since its start, failed since", knownDevice, failed, open, known, 0},
		{
			"an open window: looked up before its start, failed since", knownDevice, failed, match.Window{Start: noon.Add(time.Second)},
			known, integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_LOOKUP_FAILED,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := match.State("actor", test.resolution, test.lookup, test.window)
			if got.GetActorId() != "actor" || got.GetKnowledge() != test.knowledge || got.GetCannotJudgeReason() != test.reason ||
				got.GetJudgeable() != (test.reason == 0) || len(got.GetDevices()) != len(test.resolution.Devices) {
				t.Errorf("state %v", got)
			}
			judgeable, reason := match.Judgeable(test.resolution, test.lookup, test.window)
			if judgeable != got.GetJudgeable() || reason != got.GetCannotJudgeReason() {
				t.Errorf("judgeable = %v, %v", judgeable, reason)
			}
		})
	}
}
