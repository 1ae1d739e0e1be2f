package demo

import (
	"cmp"
	"fmt"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// telemetryWanted is what telemetry should hold of an attack, and what of it the verdict should rest on.
type telemetryWanted struct {
	// rows is how many rows fit the attack. What follows is of the first, on which the verdict rests.
	rows                   int
	table, action, control string
	blocked                bool
	criterion              integrationv1.TraceCriterion
	// reason is why telemetry cannot be asked; not set where it can.
	reason integrationv1.ErrorReason
}

// says returns what the verdict's words must have.
func (w *telemetryWanted) says() []string {
	switch {
	case w.reason != 0:
		return []string{"Telemetry could not be asked"}
	case w.rows == 0:
		return []string{"Telemetry was asked at", "no proof"}
	}
	says := []string{"telemetry of " + w.table, w.action}
	if w.control != "" {
		says = append(says, "blocked the attack by "+w.control)
	}
	return says
}

// check tells differ all that is compared with what a verdict says of telemetry. Where w is nil telemetry must not have been asked.
func (w *telemetryWanted) check(verdict *integrationv1.ActorVerdict, differ func(same bool, what string, want, have any)) {
	got := verdict.GetTelemetry()
	if w == nil || got == nil {
		differ((w == nil) == (got == nil), "telemetry asked", w != nil, got != nil)
		return
	}
	differ(got.GetAskedTime() != nil, "time of asking telemetry", "one", "none")
	differ(got.GetProblem().GetReason() == w.reason, "problem of telemetry", wordOf(w.reason), wordOf(got.GetProblem().GetReason()))
	differ(len(got.GetRows()) == w.rows && got.GetMoreRows() == 0, "rows of telemetry", w.rows, int64(len(got.GetRows()))+got.GetMoreRows())
	row := &integrationv1.TelemetryRow{}
	if len(got.GetRows()) > 0 {
		row = got.GetRows()[0]
	}
	differ(row.GetTable() == w.table, "table", cmp.Or(w.table, "none"), cmp.Or(row.GetTable(), "none"))
	differ(row.GetActionType() == w.action, "action", cmp.Or(w.action, "none"), cmp.Or(row.GetActionType(), "none"))
	differ(row.GetControl() == w.control, "control", cmp.Or(w.control, "none"), cmp.Or(row.GetControl(), "none"))
	differ(row.GetBlocked() == w.blocked, "blocked", w.blocked, row.GetBlocked())
	differ(row.GetCriterion() == w.criterion, "criterion of the row", wordOf(w.criterion), wordOf(row.GetCriterion()))
	for _, words := range w.says() {
		differ(strings.Contains(verdict.GetExplanation(), words), "words", fmt.Sprintf("%q", words), "none of these")
	}
}

// withoutTelemetry returns what is expected where telemetry cannot be asked: what it alone tells of was missed.
func (e expectation) withoutTelemetry() expectation {
	if e.telemetry == nil {
		return e
	}
	if e.telemetry.rows > 0 {
		e.verdict, e.outcome, e.confidence = integrationv1.Verdict_VERDICT_MISSED, 0, 0
	}
	e.telemetry = &telemetryWanted{reason: integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID}
	return e
}

// telemetryText tells what telemetry holds of an attack, row by row. Why it could not be asked, and that it holds nothing, are the
// verdict's own words.
func (n *narrator) telemetryText(v *integrationv1.ActorVerdict) []string {
	const columns = 120 // of a value
	var texts []string
	for _, row := range v.GetTelemetry().GetRows() {
		text := fmt.Sprintf("Telemetry: %s, %s at %s", row.GetTable(), row.GetActionType(), n.since(row.GetEventTime().AsTime()))
		if row.GetControl() != "" {
			text += ", by " + row.GetControl()
		}
		if row.GetBlocked() {
			text += ": BLOCKED"
		}
		texts = append(texts, fmt.Sprintf("%s. It fits by its %s: the attack has %s, the row %s.", text, inWords(wordOf(row.GetCriterion())),
			shorten(row.GetTraceValue(), columns), shorten(row.GetDefenderValue(), columns)))
	}
	if more := v.GetTelemetry().GetMoreRows(); more > 0 {
		texts = append(texts, "Beyond these: "+count(more, "row")+".")
	}
	return texts
}

// restsOnTelemetry tells in a few words which row a verdict rests on.
func restsOnTelemetry(r *result, row *integrationv1.TelemetryRow) string {
	text := fmt.Sprintf("telemetry: %s after %.1fs", row.GetActionType(), row.GetEventTime().AsTime().Sub(r.began).Seconds())
	if row.GetControl() != "" {
		text += ", by " + row.GetControl()
	}
	return text + ", attack by " + inWords(wordOf(row.GetCriterion()))
}

// askedOfTelemetry tells, behind what a verdict without an alert rests on, whether telemetry was asked; "" where it was not to be.
func askedOfTelemetry(v *integrationv1.ActorVerdict) string {
	switch t := v.GetTelemetry(); {
	case t == nil:
		return ""
	case t.GetProblem() != nil:
		return ", telemetry could not be asked"
	default:
		return ", telemetry asked at " + clock(t.GetAskedTime().AsTime())
	}
}
