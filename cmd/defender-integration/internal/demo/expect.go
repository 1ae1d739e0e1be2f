package demo

import (
	"fmt"
	"slices"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// expectation is what the service should say of an attack. What is not set is not compared, but for the verdict, what it amends, and
// the number of revisions, and whether telemetry was asked. Where an alert decides, its latencies must be told.
type expectation struct {
	verdict integrationv1.Verdict
	outcome integrationv1.Outcome
	reason  integrationv1.CannotJudgeReason
	// amends is the verdict that was given first.
	amends integrationv1.Verdict
	// criterion is what an alert that counts must have matched by.
	criterion integrationv1.MatchCriterion
	// confidence is how surely the deciding alert is about the attack, trace what of its traces was found in that.
	confidence integrationv1.Confidence
	trace      integrationv1.TraceCriterion
	// activity is how that of the deciding alert lies to the window.
	activity integrationv1.Activity
	// turned is the outcome that the deciding alert had in the revision before its last.
	turned integrationv1.Outcome
	// nearMiss is what the nearest alert that does not count failed by.
	nearMiss integrationv1.CountingCriterion
	// open is an alert that must have been told of as open.
	open string
	// telemetry is what telemetry should hold of the attack; nil where it is not asked.
	telemetry *telemetryWanted
	// revisions is how many revisions of alerts are sent, each once.
	revisions int
}

// differs says in words what is other than expected; "" where nothing is.
func (e expectation) differs(got *result) string {
	var parts []string
	differ := func(same bool, what string, want, have any) {
		if !same {
			parts = append(parts, fmt.Sprintf("%s %v instead of %v", what, have, want))
		}
	}
	verdict, decided := got.verdict(), got.deciding()
	differ(verdict.GetVerdict() == e.verdict, "verdict", wordOf(e.verdict), wordOf(verdict.GetVerdict()))
	differ(e.outcome == 0 || verdict.GetOutcome() == e.outcome, "outcome", wordOf(e.outcome), wordOf(verdict.GetOutcome()))
	differ(e.reason == 0 || verdict.GetCannotJudgeReason() == e.reason, "reason", wordOf(e.reason), wordOf(verdict.GetCannotJudgeReason()))
	differ(verdict.GetAmendment().GetVerdict() == e.amends, "amended verdict", wordOf(e.amends), wordOf(verdict.GetAmendment().GetVerdict()))
	differ(got.first.GetVerdict() == e.amends, "first verdict", wordOf(e.amends), wordOf(got.first.GetVerdict()))
	differ(e.criterion == 0 || got.matchedBy(e.criterion), "match", "one by "+wordOf(e.criterion), "none")
	differ(e.confidence == 0 || verdict.GetConfidence() == e.confidence, "confidence", wordOf(e.confidence), wordOf(verdict.GetConfidence()))
	differ(e.trace == 0 || slices.Contains(met(attributionOf(decided)), e.trace), "traces met", inWords(wordOf(e.trace)), wordsOf(met(attributionOf(decided))))
	differ(e.activity == 0 || decided.GetActivity() == e.activity, "activity", wordOf(e.activity), wordOf(decided.GetActivity()))
	before := decided.GetPrevious().GetOutcome()
	differ(e.turned == 0 || before == e.turned, "outcome before", wordOf(e.turned), wordOf(before))
	nearest := integrationv1.CountingCriterion_COUNTING_CRITERION_UNSPECIFIED
	if misses := verdict.GetNearMisses(); len(misses) > 0 {
		nearest = misses[0].GetCriterion()
	}
	differ(e.nearMiss == 0 || nearest == e.nearMiss, "nearest miss", wordOf(e.nearMiss), wordOf(nearest))
	differ(e.open == "" || got.open[e.open], "open alerts", e.open, "none")
	decides := e.outcome != 0 && (e.telemetry == nil || e.telemetry.rows == 0)
	differ(!decides || timed(verdict.GetLatencies()), "latencies", "all", "not all")
	e.telemetry.check(verdict, differ)
	differ(got.revisions() == e.revisions, "revisions sent", e.revisions, got.revisions())
	differ(got.repeated == 0, "revisions sent twice", 0, got.repeated)
	return strings.Join(parts, "; ")
}

// timed says that all steps of an alert's way are told.
func timed(l *integrationv1.Latencies) bool {
	return l.GetActivityToCreated() != nil && l.GetCreatedToVisible() != nil && l.GetVisibleToDelivered() != nil
}

// met returns by what an alert was found to be about the attack.
func met(a *integrationv1.Attribution) []integrationv1.TraceCriterion {
	var list []integrationv1.TraceCriterion
	for _, c := range a.GetComparisons() {
		if c.GetResult() == integrationv1.TraceComparison_RESULT_MET {
			list = append(list, c.GetCriterion())
		}
	}
	return list
}

// saying tells a verdict, with the outcome where that says more.
func saying(verdict integrationv1.Verdict, outcome integrationv1.Outcome) string {
	text := wordOf(verdict)
	if outcome == 0 || strings.HasPrefix(text, wordOf(outcome)) {
		return text
	}
	return text + " (" + wordOf(outcome) + ")"
}
