package match

import (
	"fmt"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// decidingRow returns the row of telemetry that decides where no alert counts: the first that is as surely about the attack as is asked for.
// Blocks stand first. It returns nil where there is none.
func (c Case) decidingRow() *integrationv1.TelemetryRow {
	for _, row := range c.Telemetry.GetRows() {
		if confidenceOfRow(row) >= c.MinConfidence {
			return row
		}
	}
	return nil
}

// judgeLogged gives the verdict that a row of telemetry makes.
//
// A control that blocks stops what it blocks as it begins, which is BLOCKED: telemetry does not tell a block before from one while it ran.
func (c Case) judgeLogged(verdict *integrationv1.ActorVerdict, row *integrationv1.TelemetryRow) {
	if row.GetBlocked() {
		verdict.Verdict, verdict.Outcome = integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Outcome_OUTCOME_BLOCKED
	} else {
		verdict.Verdict = integrationv1.Verdict_VERDICT_LOGGED
	}
	verdict.Confidence = confidenceOfRow(row)
	verdict.Explanation = c.explainLogged(row)
}

// confidenceOfRow returns how surely a row is about the attack, by the strongest criterion that it fits.
func confidenceOfRow(row *integrationv1.TelemetryRow) integrationv1.Confidence {
	switch row.GetCriterion() {
	case integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS:
		return integrationv1.Confidence_CONFIDENCE_CERTAIN
	case integrationv1.TraceCriterion_TRACE_CRITERION_CHILD_PROCESS,
		integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH,
		integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE:
		return integrationv1.Confidence_CONFIDENCE_STRONG
	default:
		return integrationv1.Confidence_CONFIDENCE_WEAK
	}
}

// explainLogged says in words what telemetry holds.
func (c Case) explainLogged(row *integrationv1.TelemetryRow) string {
	what := "recorded the attack, and raised no alert that counts"
	if row.GetBlocked() {
		what = "blocked the attack by " + row.GetControl() + ", and raised no alert that counts"
	}
	text := fmt.Sprintf("Defender %s: telemetry of %s, asked at %s, has %s of %s, with the %s %s.", what, row.GetTable(),
		clock(timeOf(c.Telemetry.GetAskedTime())), quote(row.GetActionType()), clock(timeOf(row.GetEventTime())),
		spell(row.GetCriterion().String(), "TRACE_CRITERION_"), quote(row.GetTraceValue()))
	if more := int64(len(c.Telemetry.GetRows())-1) + c.Telemetry.GetMoreRows(); more > 0 {
		text += fmt.Sprintf(" %s.", fits(more))
	}
	if problem := c.Telemetry.GetProblem(); problem != nil {
		text += " Not all of it could be asked: " + problem.GetMessage()
	}
	return text
}

func fits(more int64) string {
	if more == 1 {
		return "1 more row fits"
	}
	return fmt.Sprintf("%d more rows fit", more)
}

// explainNoRows says, with a space before it, what it means that telemetry holds nothing of the attack, or that it could not be asked; empty
// where it was not to be.
func explainNoRows(telemetry *integrationv1.Telemetry) string {
	problem := telemetry.GetProblem().GetMessage()
	switch {
	case telemetry == nil:
		return ""
	case len(telemetry.GetRows()) > 0:
		text := fmt.Sprintf(" Telemetry was asked at %s, and none of what it holds is as surely about the attack as min_confidence asks.",
			clock(timeOf(telemetry.GetAskedTime())))
		if problem != "" {
			text += " Not all of it could be asked: " + problem
		}
		return text
	case problem != "":
		return " Telemetry could not be asked, or not wholly: " + problem
	}
	return fmt.Sprintf(" Telemetry was asked at %s and holds none of the attack's traces, which is no proof: events are sampled and capped.",
		clock(timeOf(telemetry.GetAskedTime())))
}
