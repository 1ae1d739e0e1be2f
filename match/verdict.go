package match

import (
	"fmt"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Case is all that the verdict for one Actor rests on.
type Case struct {
	// ActorID is the Actor's id in the request.
	ActorID string
	// Alerts are the alerts that match the Actor, ambiguous ones too, in the journal's order. Where one stands there more than
	// once, the last one counts.
	Alerts []Judged
	// Resolution is what the device source makes of the Actor.
	Resolution Resolution
	// Lookup is how far the device source was asked.
	Lookup Lookup
	// Proof is what proves that collecting was complete.
	Proof Proof
	// Window is the request's window.
	Window Window
	// Tolerance is how far the clocks of machines may differ.
	Tolerance time.Duration
	// OnTime is how long after the window's end Defender may create an alert that is on time.
	OnTime time.Duration
	// MinConfidence is how surely an alert must be about the attack to count; where it is not set, as DefaultMinConfidence says.
	MinConfidence integrationv1.Confidence
}

// Judged is an alert that matches an Actor, with what was found about its last revision.
type Judged struct {
	// AlertID is the alert's id.
	AlertID string
	// Created is when Defender created it; zero where that is not known.
	Created time.Time
	// Processed says that Created is when Defender's back end processed it: a detection of the SIEM API tells no other time of its own.
	Processed bool
	// Match is how it matched the Actor.
	Match *integrationv1.ActorMatch
	// Activity is how its activity lies to the window.
	Activity integrationv1.Activity
	// Outcome is how the attack ended, going by it.
	Outcome *integrationv1.OutcomeAssessment
	// Late is what Late says of it.
	Late bool
}

// JudgedOf puts together what a case needs of an alert that matched.
func JudgedOf(alert *integrationv1.Alert, match *integrationv1.ActorMatch, activity integrationv1.Activity,
	outcome *integrationv1.OutcomeAssessment, late bool,
) Judged {
	return Judged{
		AlertID: alert.GetId(), Created: createdTime(alert), Processed: alert.GetSiem() != nil,
		Match: match, Activity: activity, Outcome: outcome, Late: late,
	}
}

// Proof is what proves that collecting was complete.
type Proof struct {
	// Pair is the read that completed the stream; nil where none did.
	Pair *integrationv1.Pair
	// Incomplete says in words why the proof does not hold, such as that no closing read succeeded, or that history is gone;
	// empty where it holds.
	Incomplete string
}

// gap returns why the proof does not hold for the window, empty where it does: the read must begin no later than the window less
// the tolerance, and must have been made no earlier than its end.
func (p Proof) gap(window Window, tolerance time.Duration) string {
	since, through := timeOf(p.Pair.GetSince()), timeOf(p.Pair.GetThrough())
	switch {
	case p.Incomplete != "":
		return p.Incomplete
	case p.Pair == nil:
		return "no closing read succeeded"
	case window.Start.IsZero() || window.End.IsZero():
		return "the window is open"
	case since.After(window.Start.Add(-tolerance)) || through.Before(window.End):
		return fmt.Sprintf("the closing read covers only what was last updated from %s through %s", clock(since), clock(through))
	}
	return ""
}

// maxCountingIDs is how many alert ids a verdict lists.
const maxCountingIDs = 100

// Judge returns the verdict for an Actor.
//
// Alerts that count (see [Counts]) decide, whether or not collecting is proven complete: the strongest outcome among them,
// among equals the alert created first. PREVENTED and BLOCKED make PREVENTED; everything else makes DETECTED, or DETECTED_LATE
// where every alert that counts is late. Where none counts, the verdict is CANNOT_JUDGE if collecting is not proven complete, if
// ambiguous alerts lie in the window, or if the device was not surely there to be seen; else MISSED.
func Judge(c Case) *integrationv1.ActorVerdict {
	counting, ambiguous := c.sift()
	verdict := &integrationv1.ActorVerdict{ActorId: c.ActorID}
	if len(counting) > 0 {
		c.judgeSeen(verdict, counting)
		return verdict
	}
	verdict.Device = c.Resolution.Preferred
	cannot := func(reason integrationv1.CannotJudgeReason, why string) *integrationv1.ActorVerdict {
		verdict.Verdict = integrationv1.Verdict_VERDICT_CANNOT_JUDGE
		verdict.CannotJudgeReason = reason
		verdict.Explanation = fmt.Sprintf("No alert counts, and it cannot be said that the attack was missed: %s.", why)
		return verdict
	}
	if gap := c.Proof.gap(c.Window, c.Tolerance); gap != "" {
		return cannot(integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE,
			"collecting is not proven complete: "+gap)
	}
	if ambiguous > 0 {
		return cannot(integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS,
			fmt.Sprintf("the Actor or another machine is meant by %s, and nothing tells which", plural(ambiguous, "alert")))
	}
	if reason := cannotSee(c.Resolution, c.Lookup, c.Window); reason != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_UNSPECIFIED {
		return cannot(reason, explainCannotSee(reason, c.Resolution, c.Lookup, c.Window))
	}
	verdict.Verdict = integrationv1.Verdict_VERDICT_MISSED
	verdict.Explanation = c.explainMissed()
	return verdict
}

// sift returns the alerts that count, each once, in the journal's order, and how many lie in the window and are ambiguous.
func (c Case) sift() (counting []Judged, ambiguous int) {
	last := make(map[string]int, len(c.Alerts))
	for i, alert := range c.Alerts {
		last[alert.AlertID] = i
	}
	for i, alert := range c.Alerts {
		switch {
		case last[alert.AlertID] != i:
		case Counts(alert.Match, alert.Activity, c.MinConfidence):
			counting = append(counting, alert)
		case alert.Match.GetAmbiguous() && inside(alert.Activity):
			ambiguous++
		}
	}
	return counting, ambiguous
}

// judgeSeen gives the verdict that the alerts that count make.
func (c Case) judgeSeen(verdict *integrationv1.ActorVerdict, counting []Judged) {
	deciding, allLate := counting[0], true
	for _, alert := range counting {
		if alert.decidesOver(deciding) {
			deciding = alert
		}
		allLate = allLate && alert.Late
		if len(verdict.GetCountingAlertIds()) < maxCountingIDs {
			verdict.CountingAlertIds = append(verdict.CountingAlertIds, alert.AlertID)
		}
	}
	verdict.Outcome = deciding.outcome()
	verdict.DecidingAlertId = deciding.AlertID
	switch verdict.GetOutcome() {
	case integrationv1.Outcome_OUTCOME_PREVENTED, integrationv1.Outcome_OUTCOME_BLOCKED:
		verdict.Verdict = integrationv1.Verdict_VERDICT_PREVENTED
	default:
		verdict.Verdict = integrationv1.Verdict_VERDICT_DETECTED
		if allLate {
			verdict.Verdict = integrationv1.Verdict_VERDICT_DETECTED_LATE
		}
	}
	verdict.Explanation = c.explainSeen(verdict, deciding, len(counting))
}

func (j Judged) outcome() integrationv1.Outcome {
	if outcome := j.Outcome.GetOutcome(); outcome != integrationv1.Outcome_OUTCOME_UNSPECIFIED {
		return outcome
	}
	return integrationv1.Outcome_OUTCOME_UNKNOWN
}

// decidesOver says that the alert's outcome is stronger, or as strong and the alert created earlier.
func (j Judged) decidesOver(other Judged) bool {
	if mine, others := j.outcome(), other.outcome(); mine != others {
		return mine < others // The enumeration lists them from the strongest.
	}
	if !j.Created.Equal(other.Created) {
		return !j.Created.IsZero() && (other.Created.IsZero() || j.Created.Before(other.Created))
	}
	return j.AlertID < other.AlertID
}

func (c Case) explainSeen(verdict *integrationv1.ActorVerdict, deciding Judged, counting int) string {
	how := map[integrationv1.Outcome]string{
		integrationv1.Outcome_OUTCOME_PREVENTED:  "kept the attack from running",
		integrationv1.Outcome_OUTCOME_BLOCKED:    "blocked the attack while it ran",
		integrationv1.Outcome_OUTCOME_REMEDIATED: "detected the attack and cleaned up afterwards",
		integrationv1.Outcome_OUTCOME_DETECTED:   "detected the attack; the deciding evidence does not say that it was stopped",
		integrationv1.Outcome_OUTCOME_UNKNOWN:    "detected the attack; the evidence does not tell how it ended",
	}[verdict.GetOutcome()]
	text := fmt.Sprintf("Defender %s, by alert %q", how, deciding.AlertID)
	if !deciding.Created.IsZero() {
		text += fmt.Sprintf(", %s at %s", deciding.told(), clock(deciding.Created))
	}
	text += "."
	if counting > 1 {
		text += fmt.Sprintf(" Its outcome is the strongest of the %d alerts that count.", counting)
	}
	if verdict.GetVerdict() == integrationv1.Verdict_VERDICT_DETECTED_LATE {
		text += fmt.Sprintf(" No alert that counts was %s within %s after the window's end at %s.",
			deciding.told(), duration(c.OnTime), clock(c.Window.End))
	}
	if gap := c.Proof.gap(c.Window, c.Tolerance); gap != "" {
		text += " Collecting is not proven complete, so there may be more: " + gap + "."
	}
	return text
}

// told says what happened at the time of Created.
func (j Judged) told() string {
	if j.Processed {
		return "processed"
	}
	return "created"
}

func (c Case) explainMissed() string {
	device := c.Resolution.Preferred
	return fmt.Sprintf("Of all alerts last updated since %s, as read at %s, none about this Actor has activity in the window from %s to %s. "+
		"At %s the device source said that %s was onboarded and active; it %s.",
		clock(timeOf(c.Proof.Pair.GetSince())), clock(timeOf(c.Proof.Pair.GetThrough())), clock(c.Window.Start), clock(c.Window.End),
		clock(c.Lookup.Time), describeDevice(device), describeReport(device, c.Window))
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
