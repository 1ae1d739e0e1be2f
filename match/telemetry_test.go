package match_test

import (
	"strings"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func TestJudgeTelemetry(t *testing.T) {
	row := func(criterion integrationv1.TraceCriterion, blocked bool) *integrationv1.TelemetryRow {
		r := &integrationv1.TelemetryRow{
			Table: "DeviceEvents", ActionType: "Something", EventTime: stamp(noon), Criterion: criterion, TraceValue: "a value", Blocked: blocked,
		}
		if blocked {
			r.Control = "attack surface reduction"
		}
		return r
	}
	const (
		process = integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS
		hash    = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH
		address = integrationv1.TraceCriterion_TRACE_CRITERION_REMOTE_ADDRESS
	)
	answer := func(rows ...*integrationv1.TelemetryRow) *integrationv1.Telemetry {
		return &integrationv1.Telemetry{AskedTime: stamp(noon), Rows: rows}
	}
	failed := answer()
	failed.Problem = &integrationv1.Problem{Message: "It is not permitted."}
	tests := []struct {
		name      string
		telemetry *integrationv1.Telemetry
		min       integrationv1.Confidence
		verdict   integrationv1.Verdict
		outcome   integrationv1.Outcome
		sure      integrationv1.Confidence
		words     string
	}{
		{"not asked", nil, 0, integrationv1.Verdict_VERDICT_CANNOT_JUDGE, 0, 0, ""},
		{"nothing found", answer(), 0, integrationv1.Verdict_VERDICT_CANNOT_JUDGE, 0, 0, "holds none of the attack's traces, which is no proof"},
		{"could not be asked", failed, 0, integrationv1.Verdict_VERDICT_CANNOT_JUDGE, 0, 0, "Telemetry could not be asked, or not wholly: It is not permitted."},
		{
			"logged", answer(row(process, false)), 0, integrationv1.Verdict_VERDICT_LOGGED, 0, integrationv1.Confidence_CONFIDENCE_CERTAIN,
			`recorded the attack, and raised no alert that counts: telemetry of DeviceEvents, asked at 2026`,
		},
		{
			"blocked, and logged", answer(row(hash, true), row(process, false)), 0, integrationv1.Verdict_VERDICT_PREVENTED,
			integrationv1.Outcome_OUTCOME_BLOCKED, integrationv1.Confidence_CONFIDENCE_STRONG, "by attack surface reduction",
		},
		{
			"a block that is not sure enough, and a sure row", answer(row(address, true), row(hash, false)), integrationv1.Confidence_CONFIDENCE_STRONG,
			integrationv1.Verdict_VERDICT_LOGGED, 0, integrationv1.Confidence_CONFIDENCE_STRONG, "file hash",
		},
		{
			"nothing that is sure enough", answer(row(address, true)), integrationv1.Confidence_CONFIDENCE_STRONG,
			integrationv1.Verdict_VERDICT_CANNOT_JUDGE, 0, 0, "none of what it holds is as surely about the attack",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := match.Judge(match.Case{ActorID: "actor", Telemetry: test.telemetry, MinConfidence: test.min})
			if got.GetVerdict() != test.verdict || got.GetOutcome() != test.outcome || got.GetConfidence() != test.sure ||
				!strings.Contains(got.GetExplanation(), test.words) || got.GetTelemetry() != test.telemetry {
				t.Errorf("verdict = %v", got)
			}
		})
	}
}
