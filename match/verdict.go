package match

import (
	"fmt"
	"slices"
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
	// Telemetry is what telemetry holds of the attack; nil where it was not asked.
	Telemetry *integrationv1.Telemetry
}

// Judged is an alert that matches an Actor, with what was found about its last revision.
type Judged struct {
	// AlertID is the alert's id.
	AlertID string
	// Created is when Defender created it; zero where that is not known.
	Created time.Time
	// Processed says that Created is when Defender's back end processed it: a detection of the SIEM API tells no other time of its own.
	Processed bool
	// Match is how it matched the Actor, with its attribution to the attack and its outcome for the Actor, as far as a verdict tells them.
	Match *integrationv1.ActorMatch
	// Activity is how its activity lies to the window.
	Activity integrationv1.Activity
	// Late is what Late says of it.
	Late bool
}

// JudgedOf puts together what a case needs of an alert that matched.
func JudgedOf(alert *integrationv1.Alert, match *integrationv1.ActorMatch, activity integrationv1.Activity, late bool) Judged {
	return Judged{
		AlertID: alert.GetId(), Created: createdTime(alert), Processed: alert.GetSiem() != nil,
		Match: bearing(match), Activity: activity, Late: late,
	}
}

// bearing returns of a match what a verdict rests on. There may be as many as alerts, and what else they tell holds on to the alert's text.
func bearing(match *integrationv1.ActorMatch) *integrationv1.ActorMatch {
	attribution := &integrationv1.Attribution{Confidence: match.GetAttribution().GetConfidence()}
	for _, c := range match.GetAttribution().GetComparisons() {
		if len(attribution.GetComparisons()) > 0 && c.GetResult() != met {
			continue // The first one says that there are any.
		}
		attribution.Comparisons = append(attribution.Comparisons, &integrationv1.TraceComparison{
			Criterion: c.GetCriterion(), Result: c.GetResult(), TraceValue: c.GetTraceValue(),
		})
	}
	return &integrationv1.ActorMatch{
		ActorId: match.GetActorId(), Ambiguous: match.GetAmbiguous(), Counts: match.GetCounts(), Attribution: attribution,
		Outcome: &integrationv1.OutcomeAssessment{Outcome: match.GetOutcome().GetOutcome()},
	}
}

// maxCountingIDs is how many alert ids a verdict lists.
const maxCountingIDs = 100

// Judge returns the verdict for an Actor.
//
// Alerts that count (see [Counts]) decide, whether or not collecting is proven complete: the one that is most surely about the attack,
// among equals the one with the strongest outcome, among equals the one created first. Its outcome PREVENTED or BLOCKED makes
// PREVENTED; everything else makes DETECTED, or DETECTED_LATE where every alert that counts is late.
//
// Where none counts, the verdict is CANNOT_JUDGE if collecting is not proven complete, if alerts lie in the window that would count were
// they not ambiguous, or if the device was not surely there to be seen; else MISSED. Before any of these comes what telemetry holds of the
// attack, as surely as an alert would have to be about it: a block that fits its traces makes PREVENTED, and else a row that does LOGGED. That
// it holds nothing changes no verdict.
func Judge(c Case) *integrationv1.ActorVerdict {
	s := c.sift()
	verdict := &integrationv1.ActorVerdict{ActorId: c.ActorID, Telemetry: c.Telemetry}
	if len(s.counting) > 0 {
		c.judgeSeen(verdict, s.counting)
		return verdict
	}
	verdict.Device = c.Resolution.Preferred
	if row := c.decidingRow(); row != nil {
		c.judgeLogged(verdict, row)
		return verdict
	}
	if reason, why := c.cannotJudge(s); reason != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_UNSPECIFIED {
		verdict.Verdict = integrationv1.Verdict_VERDICT_CANNOT_JUDGE
		verdict.CannotJudgeReason = reason
		verdict.Explanation = c.explainCannotJudge(s, why) + explainNoRows(c.Telemetry)
		return verdict
	}
	verdict.Verdict = integrationv1.Verdict_VERDICT_MISSED
	verdict.Explanation = c.explainMissed(s) + explainNoRows(c.Telemetry)
	return verdict
}

// cannotJudge returns why it cannot be said that the attack was missed, where no alert counts.
func (c Case) cannotJudge(s sifted) (integrationv1.CannotJudgeReason, obstacle) {
	if gap := c.Proof.gap(c.Window, c.Tolerance); gap != nil {
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE,
			obstacle{"collecting is not proven complete: " + gap.why, gap.remedy}
	}
	if len(s.ambiguous) > 0 {
		return integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS, obstacle{
			fmt.Sprintf("the Actor or another machine is meant by %s, and nothing tells which", listed(s.ambiguous)), tellApart,
		}
	}
	reason := cannotSee(c.Resolution, c.Lookup, c.Window)
	return reason, explainCannotSee(reason, c.Resolution, c.Lookup, c.Window)
}

// sifted are the alerts of a case, each once.
type sifted struct {
	// counting are those that count, in the journal's order.
	counting []Judged
	// ambiguous are the ids of those that lie in the window and would count were they not ambiguous, ascending.
	ambiguous []string
	// unsure is how many lie in the window and are less surely about the attack than is asked for.
	unsure int
}

// sift parts the alerts by whether they count.
func (c Case) sift() sifted {
	last := make(map[string]int, len(c.Alerts))
	for i, alert := range c.Alerts {
		last[alert.AlertID] = i
	}
	var s sifted
	for i, alert := range c.Alerts {
		switch {
		case last[alert.AlertID] != i:
		case Counts(alert.Match, alert.Activity, c.MinConfidence):
			s.counting = append(s.counting, alert)
		case !inside(alert.Activity):
		case !reaches(alert.Match, c.MinConfidence):
			s.unsure++
		default:
			s.ambiguous = append(s.ambiguous, alert.AlertID)
		}
	}
	slices.Sort(s.ambiguous) // What is said does not depend on the order.
	return s
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
	verdict.Confidence = deciding.confidence()
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
	verdict.Explanation = c.explainSeen(verdict, deciding, counting)
}

func (j Judged) outcome() integrationv1.Outcome {
	if outcome := j.Match.GetOutcome().GetOutcome(); outcome != integrationv1.Outcome_OUTCOME_UNSPECIFIED {
		return outcome
	}
	return integrationv1.Outcome_OUTCOME_UNKNOWN
}

// confidence returns how surely the alert is about the attack. One without an attribution is about the device.
func (j Judged) confidence() integrationv1.Confidence {
	return max(j.Match.GetAttribution().GetConfidence(), integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY)
}

// decidesOver says that the alert is more surely about the attack; or as surely, and its outcome stronger; or as strong, and the alert
// created earlier.
func (j Judged) decidesOver(other Judged) bool {
	if mine, others := j.confidence(), other.confidence(); mine != others {
		return mine > others // The enumeration lists them from the weakest.
	}
	if mine, others := j.outcome(), other.outcome(); mine != others {
		return mine < others // The enumeration lists them from the strongest.
	}
	if !j.Created.Equal(other.Created) {
		return !j.Created.IsZero() && (other.Created.IsZero() || j.Created.Before(other.Created))
	}
	return j.AlertID < other.AlertID
}
