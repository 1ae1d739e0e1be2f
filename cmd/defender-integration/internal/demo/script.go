package demo

import (
	"fmt"
	"strings"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// script is what happens at the simulated Microsoft and what the service is expected to make of it.
type script struct {
	// window is how long each attack lasts; wait, tolerance and onTime are those of its stream's request.
	window, wait, tolerance, onTime time.Duration
	devices                         []defendertest.Device
	attacks                         []attack
	// others are alerts about machines that are no Actors. Their times count from the campaign's beginning.
	others []step
}

// attack is one attack on one Actor.
type attack struct {
	title string
	actor *integrationv1.Actor
	// begins is when it begins, counted from the campaign's beginning.
	begins time.Duration
	steps  []step
	// cutFor, where set, is how long the Director's connection is cut once the first alert has arrived.
	cutFor time.Duration
	want   expectation
}

// step is something that Defender does.
type step struct {
	// at is when, counted from the attack's beginning.
	at time.Duration
	// told is what is printed of it.
	told string
	// alert is the alert that it makes visible: a new one, or by its id a revision of one that was there. began is the attack's
	// beginning, now the present.
	alert func(began, now time.Time) defendertest.Alert
}

// expectation is what the service should say of an attack. What is not set is not compared, but for the verdict.
type expectation struct {
	verdict integrationv1.Verdict
	outcome integrationv1.Outcome
	reason  integrationv1.CannotJudgeReason
	// criterion is what an alert that counts must have matched by.
	criterion integrationv1.MatchCriterion
	// revisions is how many revisions of alerts are sent, each once.
	revisions int
}

// saying tells a verdict, with the outcome where that says more.
func saying(verdict integrationv1.Verdict, outcome integrationv1.Outcome) string {
	text := wordOf(verdict)
	if outcome == 0 || strings.HasPrefix(text, wordOf(outcome)) {
		return text
	}
	return text + " (" + wordOf(outcome) + ")"
}

// differs says in words what is other than expected; "" where nothing is.
func (e expectation) differs(got *result) string {
	var parts []string
	differ := func(same bool, what string, want, have any) {
		if !same {
			parts = append(parts, fmt.Sprintf("%s %v instead of %v", what, have, want))
		}
	}
	verdict := got.verdict()
	differ(verdict.GetVerdict() == e.verdict, "verdict", wordOf(e.verdict), wordOf(verdict.GetVerdict()))
	differ(e.outcome == 0 || verdict.GetOutcome() == e.outcome, "outcome", wordOf(e.outcome), wordOf(verdict.GetOutcome()))
	differ(e.reason == 0 || verdict.GetCannotJudgeReason() == e.reason, "reason", wordOf(e.reason), wordOf(verdict.GetCannotJudgeReason()))
	differ(e.criterion == 0 || got.matchedBy(e.criterion), "match", "one by "+wordOf(e.criterion), "none")
	differ(got.revisions() == e.revisions, "revisions sent", e.revisions, got.revisions())
	differ(got.repeated == 0, "revisions sent twice", 0, got.repeated)
	return strings.Join(parts, "; ")
}
