package demo

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// everything is an expectation of all that is compared.
func everything() expectation {
	return expectation{
		verdict: integrationv1.Verdict_VERDICT_PREVENTED, outcome: integrationv1.Outcome_OUTCOME_BLOCKED,
		reason: integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, amends: integrationv1.Verdict_VERDICT_MISSED,
		criterion: integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME, confidence: integrationv1.Confidence_CONFIDENCE_CERTAIN,
		trace: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS, activity: integrationv1.Activity_ACTIVITY_REACTIVATED,
		turned: integrationv1.Outcome_OUTCOME_DETECTED, nearMiss: integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY,
		open: "da1_1", revisions: 1,
	}
}

// fulfilled is a result with all of that.
func fulfilled() (*result, *integrationv1.ActorVerdict, *integrationv1.AlertEvent) {
	e := &integrationv1.AlertEvent{
		Alert: &integrationv1.Alert{Id: "da1_1"}, Activity: integrationv1.Activity_ACTIVITY_REACTIVATED,
		Previous: &integrationv1.PreviousRevision{Outcome: integrationv1.Outcome_OUTCOME_DETECTED},
		Actors: []*integrationv1.ActorMatch{{
			Counts: true, Matches: []*integrationv1.Match{{Criterion: integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME}},
			Attribution: &integrationv1.Attribution{Comparisons: []*integrationv1.TraceComparison{{
				Criterion: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS, Result: integrationv1.TraceComparison_RESULT_MET,
			}}},
		}},
	}
	v := &integrationv1.ActorVerdict{
		ActorId: "anna", Verdict: integrationv1.Verdict_VERDICT_PREVENTED, Outcome: integrationv1.Outcome_OUTCOME_BLOCKED, DecidingAlertId: "da1_1",
		CannotJudgeReason: integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, Confidence: integrationv1.Confidence_CONFIDENCE_CERTAIN,
		Amendment:  &integrationv1.Amendment{Verdict: integrationv1.Verdict_VERDICT_MISSED},
		NearMisses: []*integrationv1.NearMiss{{Criterion: integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY}},
		Latencies: &integrationv1.Latencies{
			ActivityToCreated: durationpb.New(1), CreatedToVisible: durationpb.New(1), VisibleToDelivered: durationpb.New(0),
		},
	}
	return &result{
		attack: &attack{actor: &integrationv1.Actor{ActorId: "anna"}}, open: map[string]bool{"da1_1": true},
		first:     &integrationv1.ActorVerdict{Verdict: integrationv1.Verdict_VERDICT_MISSED},
		completed: &integrationv1.CompletedEvent{Verdicts: []*integrationv1.ActorVerdict{v}}, alerts: []*integrationv1.AlertEvent{e},
	}, v, e
}

// blockedUnseen is an expectation of a block that telemetry alone tells of.
func blockedUnseen() expectation {
	return expectation{
		verdict: integrationv1.Verdict_VERDICT_PREVENTED, outcome: integrationv1.Outcome_OUTCOME_BLOCKED,
		telemetry: &telemetryWanted{
			rows: 1, table: "DeviceEvents", action: "AsrRansomwareBlocked", control: "attack surface reduction", blocked: true,
			criterion: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS,
		},
	}
}

// What telemetry holds is compared, and that the verdict's words rest on it.
func TestDiffersByTelemetry(t *testing.T) {
	blocked := func() *integrationv1.ActorVerdict {
		return &integrationv1.ActorVerdict{
			Verdict: integrationv1.Verdict_VERDICT_PREVENTED, Outcome: integrationv1.Outcome_OUTCOME_BLOCKED,
			Explanation: `Defender blocked the attack by attack surface reduction: telemetry of DeviceEvents has "AsrRansomwareBlocked".`,
			Telemetry: &integrationv1.Telemetry{AskedTime: at(1), Rows: []*integrationv1.TelemetryRow{{
				Table: "DeviceEvents", ActionType: "AsrRansomwareBlocked", Control: "attack surface reduction", Blocked: true,
				Criterion: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS,
			}}},
		}
	}
	missed := func() *integrationv1.ActorVerdict {
		return &integrationv1.ActorVerdict{
			Verdict: integrationv1.Verdict_VERDICT_MISSED, Telemetry: &integrationv1.Telemetry{AskedTime: at(1)},
			Explanation: "Telemetry was asked at noon and holds none of the attack's traces, which is no proof.",
		}
	}
	without := Way{API: integrationv1.Api_API_DEFENDER_FOR_ENDPOINT}
	nothing := expectation{verdict: integrationv1.Verdict_VERDICT_MISSED, telemetry: &telemetryWanted{}}
	for _, test := range []struct {
		want    expectation
		got     func() *integrationv1.ActorVerdict
		spoil   func(*integrationv1.ActorVerdict)
		differs string
	}{
		{want: blockedUnseen(), got: blocked},
		{want: nothing, got: missed},
		{blockedUnseen(), blocked, func(v *integrationv1.ActorVerdict) { v.Telemetry = nil }, "telemetry asked false instead of true"},
		{expectation{verdict: integrationv1.Verdict_VERDICT_MISSED}, missed, nil, "telemetry asked true instead of false"},
		{nothing, missed, func(v *integrationv1.ActorVerdict) { v.Telemetry.AskedTime = nil }, "time of asking telemetry none instead of one"},
		{nothing, missed, func(v *integrationv1.ActorVerdict) { v.Explanation = "Telemetry was asked at noon." }, `words none of these instead of "no proof"`},
		{
			nothing, missed, func(v *integrationv1.ActorVerdict) {
				v.Telemetry.Problem = &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING}
			},
			"problem of telemetry PERMISSION_MISSING instead of UNSPECIFIED",
		},
		{blockedUnseen(), blocked, func(v *integrationv1.ActorVerdict) { v.Telemetry.MoreRows = 2 }, "rows of telemetry 3 instead of 1"},
		{blockedUnseen(), blocked, func(v *integrationv1.ActorVerdict) { v.Telemetry.Rows[0].Table = "" }, "table none instead of DeviceEvents"},
		{blockedUnseen(), blocked, func(v *integrationv1.ActorVerdict) { v.Telemetry.Rows[0].ActionType = "" }, "action none instead of AsrRansomwareBlocked"},
		{blockedUnseen(), blocked, func(v *integrationv1.ActorVerdict) { v.Telemetry.Rows[0].Control = "" }, "control none instead of attack surface reduction"},
		{blockedUnseen(), blocked, func(v *integrationv1.ActorVerdict) { v.Telemetry.Rows[0].Blocked = false }, "blocked false instead of true"},
		{
			blockedUnseen(), blocked, func(v *integrationv1.ActorVerdict) { v.Telemetry.Rows[0].Criterion = 0 },
			"criterion of the row UNSPECIFIED instead of PROCESS",
		},
		{
			blockedUnseen().through(without), missed, func(v *integrationv1.ActorVerdict) {
				v.Telemetry.Problem = &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID}
				v.Explanation = "Telemetry could not be asked, or not wholly: it is another API."
			}, "",
		},
		{nothing.through(without), missed, nil, "problem of telemetry UNSPECIFIED instead of CONFIGURATION_INVALID; words none of these instead of \"Telemetry could not be asked\""},
	} {
		v := test.got()
		if test.spoil != nil {
			test.spoil(v)
		}
		got := &result{attack: &attack{}, completed: &integrationv1.CompletedEvent{Verdicts: []*integrationv1.ActorVerdict{v}}}
		if differs := test.want.differs(got); differs != test.differs {
			t.Errorf("%q, want %q", differs, test.differs)
		}
	}
}

// All that is expected is compared with what came.
func TestDiffers(t *testing.T) {
	got, _, _ := fulfilled()
	if differs := everything().differs(got); differs != "" {
		t.Errorf("what is as expected differs: %s", differs)
	}
	for want, spoil := range map[string]func(*result, *integrationv1.ActorVerdict, *integrationv1.AlertEvent){
		"verdict DETECTED instead of PREVENTED": func(_ *result, v *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			v.Verdict = integrationv1.Verdict_VERDICT_DETECTED
		},
		"outcome DETECTED instead of BLOCKED": func(_ *result, v *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			v.Outcome = integrationv1.Outcome_OUTCOME_DETECTED
		},
		"reason UNSPECIFIED instead of AMBIGUOUS": func(_ *result, v *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			v.CannotJudgeReason = integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_UNSPECIFIED
		},
		"amended verdict UNSPECIFIED instead of MISSED": func(_ *result, v *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			v.Amendment = nil
		},
		"first verdict UNSPECIFIED instead of MISSED": func(r *result, _ *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			r.first = nil
		},
		"match none instead of one by FULL_NAME": func(_ *result, _ *integrationv1.ActorVerdict, e *integrationv1.AlertEvent) {
			e.Actors[0].Counts = false
		},
		"confidence WEAK instead of CERTAIN": func(_ *result, v *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			v.Confidence = integrationv1.Confidence_CONFIDENCE_WEAK
		},
		"traces met nothing instead of process": func(_ *result, _ *integrationv1.ActorVerdict, e *integrationv1.AlertEvent) {
			e.Actors[0].Attribution.Comparisons[0].Result = integrationv1.TraceComparison_RESULT_NOT_MET
		},
		"activity IN_WINDOW instead of REACTIVATED": func(_ *result, _ *integrationv1.ActorVerdict, e *integrationv1.AlertEvent) {
			e.Activity = integrationv1.Activity_ACTIVITY_IN_WINDOW
		},
		"outcome before UNSPECIFIED instead of DETECTED": func(_ *result, _ *integrationv1.ActorVerdict, e *integrationv1.AlertEvent) {
			e.Previous = nil
		},
		"nearest miss UNSPECIFIED instead of ACTIVITY": func(_ *result, v *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			v.NearMisses = nil
		},
		"open alerts none instead of da1_1": func(r *result, _ *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			r.open = nil
		},
		"latencies": func(_ *result, v *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			v.Latencies.CreatedToVisible = nil
		},
		"revisions sent 2 instead of 1": func(r *result, _ *integrationv1.ActorVerdict, e *integrationv1.AlertEvent) {
			r.alerts = append(r.alerts, e)
		},
		"revisions sent twice 1 instead of 0": func(r *result, _ *integrationv1.ActorVerdict, _ *integrationv1.AlertEvent) {
			r.repeated = 1
		},
	} {
		got, v, e := fulfilled()
		spoil(got, v, e)
		if differs := everything().differs(got); !strings.HasPrefix(differs, want) || strings.Contains(differs, ";") {
			t.Errorf("%q, want %q alone", differs, want)
		}
	}
}
