package stream

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// The bounds of a completed event, which must stay below 3 MB with a thousand Actors.
const (
	completedIDs = 10_000 // alert ids over all Actors
	leastIDs     = 5      // alert ids of an Actor
	leastWords   = 512    // bytes of an explanation
	leastProblem = 256    // bytes of a message or a remedy, of why telemetry could not be asked
	leastValue   = 128    // bytes of a value of a row of telemetry
)

// fitCompleted cuts what is told of each Actor until the event is not too large: what says the least goes first.
func fitCompleted(e *integrationv1.CompletedEvent) {
	most := max(completedIDs/max(len(e.GetVerdicts()), 1), leastIDs)
	for _, cut := range []func(*integrationv1.ActorVerdict){
		func(v *integrationv1.ActorVerdict) { cutIDs(v, most) },
		func(v *integrationv1.ActorVerdict) { cutRows(v, 5) },
		func(v *integrationv1.ActorVerdict) { cutMisses(v, 1) },
		func(v *integrationv1.ActorVerdict) { v.Device = withoutAddresses(v.GetDevice()) },
		func(v *integrationv1.ActorVerdict) { cutRows(v, 1) },
		dropRowsAsServed,
		func(v *integrationv1.ActorVerdict) { cutMisses(v, 0) },
		func(v *integrationv1.ActorVerdict) { cutIDs(v, leastIDs) },
		cutExplanations,
		cutTelemetryWords,
		func(v *integrationv1.ActorVerdict) { cutIDs(v, 0) },
	} {
		for _, verdict := range e.GetVerdicts() {
			cut(verdict)
		}
		if proto.Size(e) <= maxEvent {
			return
		}
	}
}

// cutIDs cuts the list of the alerts that count.
func cutIDs(v *integrationv1.ActorVerdict, most int) {
	v.CountingAlertIds = v.GetCountingAlertIds()[:min(len(v.GetCountingAlertIds()), most)]
}

// cutMisses cuts the near misses. What is cut is counted.
func cutMisses(v *integrationv1.ActorVerdict, most int) {
	if len(v.GetNearMisses()) <= most {
		return
	}
	left := map[integrationv1.CountingCriterion]int64{}
	for _, u := range v.GetUncounted() {
		left[u.GetCriterion()] = u.GetAlerts()
	}
	for _, m := range v.GetNearMisses()[most:] {
		left[m.GetCriterion()]++
	}
	v.NearMisses, v.Uncounted = v.GetNearMisses()[:most], match.UncountedOf(left)
}

// cutRows cuts the rows of telemetry. What is cut is counted.
func cutRows(v *integrationv1.ActorVerdict, most int) {
	if len(v.GetTelemetry().GetRows()) <= most {
		return
	}
	t := proto.CloneOf(v.GetTelemetry())
	t.MoreRows += int64(len(t.GetRows()) - most)
	// What LOGGED rests on is the first row that is no block, behind those that are and do not decide.
	first := slices.IndexFunc(t.GetRows(), func(r *integrationv1.TelemetryRow) bool { return !r.GetBlocked() })
	if v.GetVerdict() == integrationv1.Verdict_VERDICT_LOGGED && first >= most {
		t.Rows[most-1] = t.GetRows()[first]
	}
	t.Rows = t.GetRows()[:most]
	v.Telemetry = t
}

// dropRowsAsServed drops the rows of telemetry as they were served.
func dropRowsAsServed(v *integrationv1.ActorVerdict) {
	if v.GetTelemetry() == nil {
		return
	}
	v.Telemetry = proto.CloneOf(v.GetTelemetry())
	for _, row := range v.GetTelemetry().GetRows() {
		row.RowJson = ""
	}
}

// cutExplanations cuts the words of a verdict.
func cutExplanations(v *integrationv1.ActorVerdict) {
	v.Explanation = cutWords(v.GetExplanation(), leastWords)
	if v.GetAmendment() != nil {
		v.Amendment.Explanation = cutWords(v.GetAmendment().GetExplanation(), leastWords)
	}
}

// cutTelemetryWords cuts the values of rows of telemetry, and why it could not be asked.
func cutTelemetryWords(v *integrationv1.ActorVerdict) {
	if v.GetTelemetry() == nil {
		return
	}
	v.Telemetry = proto.CloneOf(v.GetTelemetry())
	if p := v.GetTelemetry().GetProblem(); p != nil {
		p.Message, p.Remedy = cutWords(p.GetMessage(), leastProblem), cutWords(p.GetRemedy(), leastProblem)
	}
	for _, row := range v.GetTelemetry().GetRows() {
		for _, value := range []*string{&row.ActionType, &row.MdeDeviceId, &row.TraceValue, &row.DefenderValue} {
			*value = cutWords(*value, leastValue)
		}
	}
}

// cutWords cuts a text to a number of bytes, at a rune's edge, and shows that it was cut.
func cutWords(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
