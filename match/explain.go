package match

import (
	"fmt"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// explainSeen says in words how the alert that decides makes the verdict.
func (c Case) explainSeen(verdict *integrationv1.ActorVerdict, deciding Judged, counting []Judged) string {
	how := map[integrationv1.Outcome]string{
		integrationv1.Outcome_OUTCOME_PREVENTED:  "kept the attack from running",
		integrationv1.Outcome_OUTCOME_BLOCKED:    "blocked the attack while it ran",
		integrationv1.Outcome_OUTCOME_REMEDIATED: "detected the attack and cleaned up afterwards",
		integrationv1.Outcome_OUTCOME_DETECTED:   "detected the attack; the deciding evidence does not say that it was stopped",
		integrationv1.Outcome_OUTCOME_UNKNOWN:    "detected the attack; the evidence does not tell how it ended",
	}[verdict.GetOutcome()]
	text := fmt.Sprintf("Defender %s, by alert %s", how, quote(deciding.AlertID))
	if !deciding.Created.IsZero() {
		text += fmt.Sprintf(", %s at %s", deciding.told(), clock(deciding.Created))
	}
	text += ". " + explainTraces(deciding.Match.GetAttribution()) + explainChoice(deciding, counting)
	if verdict.GetVerdict() == integrationv1.Verdict_VERDICT_DETECTED_LATE {
		text += fmt.Sprintf(" No alert that counts was %s within %s after the window's end at %s.",
			deciding.told(), duration(c.OnTime), clock(c.Window.End))
	}
	if gap := c.Proof.gap(c.Window, c.Tolerance); gap != nil {
		text += " Collecting is not proven complete, so there may be more: " + sentence(gap.why)
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

// maxTraces is how many of the traces that were found are named in an explanation.
const maxTraces = 2

// explainTraces says in words by which of the attack's traces an alert is attributed to it.
func explainTraces(attribution *integrationv1.Attribution) string {
	var met []string
	for _, comparison := range attribution.GetComparisons() {
		if comparison.GetResult() == integrationv1.TraceComparison_RESULT_MET {
			met = append(met, "the "+spell(comparison.GetCriterion().String(), "TRACE_CRITERION_")+" "+quote(comparison.GetTraceValue()))
		}
	}
	switch {
	case len(met) > 0:
		if more := len(met) - maxTraces; more > 0 {
			met = append(met[:maxTraces:maxTraces], fmt.Sprintf("%d more traces", more))
		}
		return fmt.Sprintf("Of the attack it has %s: its attribution is %s.", enumerated(met), nameOfConfidence(attribution.GetConfidence()))
	case len(attribution.GetComparisons()) > 0:
		return "It has none of the attack's traces, and is attributed by the device alone."
	default:
		return "No traces of the attack were given, and it is attributed by the device alone."
	}
}

// nameOfConfidence writes a confidence as the contract names it. One that is not set is that of the device.
func nameOfConfidence(confidence integrationv1.Confidence) string {
	return strings.TrimPrefix(max(confidence, DefaultMinConfidence).String(), "CONFIDENCE_")
}

// explainChoice says why the alert decides among those that count, with a space before it; empty where it is the only one.
func explainChoice(deciding Judged, counting []Judged) string {
	same, stronger := 0, false
	for _, alert := range counting {
		if alert.confidence() == deciding.confidence() {
			same++
		}
		stronger = stronger || alert.outcome() < deciding.outcome()
	}
	var text string
	switch {
	case len(counting) == 1:
		return ""
	case same == len(counting):
		return fmt.Sprintf(" Its outcome is the strongest of the %d alerts that count.", len(counting))
	case same == 1:
		text = fmt.Sprintf(" Of the %d alerts that count it is the most surely about the attack.", len(counting))
	default:
		text = fmt.Sprintf(" Of the %d alerts that count, %d are the most surely about the attack, and its outcome is the strongest of theirs.",
			len(counting), same)
	}
	if stronger {
		text += " One that is less surely about it has a stronger outcome."
	}
	return text
}

// explainCannotJudge says in words why it cannot be said that the attack was missed, and what to do about it.
func (c Case) explainCannotJudge(s sifted, why obstacle) string {
	text := "No alert counts, and it cannot be said that the attack was missed: " + sentence(why.why)
	if s.unsure > 0 {
		text += fmt.Sprintf(" In the window, %s less surely about the attack than min_confidence asks (%s).",
			areAlerts(s.unsure), nameOfConfidence(c.MinConfidence))
	}
	if why.remedy != "" {
		text += " " + sentence(why.remedy)
	}
	return text
}

// explainMissed says in words what a miss rests on.
func (c Case) explainMissed(s sifted) string {
	span := fmt.Sprintf("activity in the window from %s to %s", clock(c.Window.Start), clock(c.Window.End))
	none := "none about this Actor has " + span + "."
	if s.unsure > 0 {
		none = fmt.Sprintf("none about this Actor with %s is as surely about the attack as min_confidence asks (%s); %s less surely so.",
			span, nameOfConfidence(c.MinConfidence), areAlerts(s.unsure))
	}
	return fmt.Sprintf("Of all alerts last updated since %s, as read at %s, %s At %s the device source said that %s was onboarded and active; it %s.",
		clock(timeOf(c.Proof.Pair.GetSince())), clock(timeOf(c.Proof.Pair.GetThrough())), none,
		clock(c.Lookup.Time), describeDevice(c.Resolution.Preferred), describeReport(c.Resolution.Preferred, c.Window))
}

// areAlerts says that there are n alerts.
func areAlerts(n int) string {
	if n == 1 {
		return "1 alert is"
	}
	return fmt.Sprintf("%d alerts are", n)
}

// maxListed is how many ids, or devices, are named in an explanation.
const maxListed = 3

// listed names alerts by their ids.
func listed(ids []string) string {
	if len(ids) == 1 {
		return "alert " + quote(ids[0])
	}
	quoted := make([]string, 0, maxListed+1)
	for _, id := range ids[:min(len(ids), maxListed)] {
		quoted = append(quoted, quote(id))
	}
	if more := len(ids) - maxListed; more > 0 {
		quoted = append(quoted, fmt.Sprintf("%d more", more))
	}
	return "the alerts " + enumerated(quoted)
}

// enumerated writes a list: a, b and c.
func enumerated(items []string) string {
	if len(items) < 2 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:len(items)-1], ", ") + " and " + items[len(items)-1]
}

// sentence ends a text with one full stop.
func sentence(text string) string { return strings.TrimRight(text, ". ") + "." }

// quote writes a text that a machine or a person chose, cut to maxQuoted characters.
func quote(text string) string { return fmt.Sprintf("%q", cutText(text)) }

// cutText cuts a text to maxQuoted characters.
func cutText(text string) string {
	if len(text) <= maxQuoted {
		return text
	}
	if runes := []rune(text); len(runes) > maxQuoted {
		return string(runes[:maxQuoted]) + "…"
	}
	return text
}
