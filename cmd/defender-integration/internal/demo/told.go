package demo

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// attack tells that an attack begins.
func (n *narrator) attack(a *attack, length time.Duration) {
	n.moment(a.actor.GetActorId(), "ATTACK", bold, fmt.Sprintf("%s on %s, for %s", a.title, named(a.actor), length))
}

// named tells an Actor as the Director knows it.
func named(a *integrationv1.Actor) string {
	name := cmp.Or(a.GetFqHostName(), a.GetHostName(), "the machine at "+strings.Join(a.GetIpAddresses(), ", "))
	if others := a.GetAlternateHostNames(); len(others) > 0 {
		name += " (or " + strings.Join(others, ", ") + ")"
	}
	return name
}

// defender tells what the simulated Defender does. It is the script that says so, not the service.
func (n *narrator) defender(actorID, told string) {
	n.moment(actorID, "Defender", yellow, "(simulated) "+told)
}

// actors tells what is known of the Actor's device when it is another, and which open alerts Defender may add to.
func (n *narrator) actors(a *attack, e *integrationv1.ActorsEvent) {
	for _, s := range e.GetActors() {
		if s.GetKnowledge() == integrationv1.ActorState_KNOWLEDGE_PENDING {
			// What comes of it is told when it is known.
			continue
		}
		n.news(n.devices, a, "device", blue, n.device(s), openAlerts(s)...)
	}
}

// device tells what is known of an Actor's device.
func (n *narrator) device(s *integrationv1.ActorState) string {
	var text string
	switch s.GetKnowledge() {
	case integrationv1.ActorState_KNOWLEDGE_KNOWN:
		d := s.GetDevices()[0]
		text = fmt.Sprintf("Defender knows it, by %s, as %s: %s, seen %s", criterion(d.GetMatches()[0]), d.GetDevice().GetDeviceDnsName(),
			inWords(wordOf(d.GetDevice().GetHealthStatus())), n.day(d.GetDevice().GetLastSeenTime().AsTime()))
	case integrationv1.ActorState_KNOWLEDGE_UNKNOWN:
		text = "Defender knows no such device"
	case integrationv1.ActorState_KNOWLEDGE_NO_DEVICE_SOURCE:
		text = "there is no device source"
		if devices := s.GetDevices(); len(devices) > 0 {
			text += "; an alert shows it as " + devices[0].GetDevice().GetDeviceDnsName()
		}
	case integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS:
		names := make([]string, len(s.GetDevices()))
		for i, d := range s.GetDevices() {
			names[i] = shortName(d.GetDevice().GetDeviceDnsName())
		}
		text = "its device is ambiguous: " + strings.Join(names, " or ")
	default:
		text = "its device is " + inWords(wordOf(s.GetKnowledge()))
	}
	if !s.GetJudgeable() {
		text += ", so silence will prove nothing"
	}
	return text
}

// openAlerts tells of an Actor's alerts that are not resolved.
func openAlerts(s *integrationv1.ActorState) []string {
	if s.GetOpenAlertCount() == 0 {
		return nil
	}
	alerts := make([]string, len(s.GetOpenAlerts()))
	for i, alert := range s.GetOpenAlerts() {
		alerts[i] = fmt.Sprintf("%q (%s)", alert.GetTitle(), inWords(wordOf(alert.GetStatus())))
	}
	return []string{count(int64(s.GetOpenAlertCount()), "open alert") + ", to which Defender may add this attack: " + strings.Join(alerts, ", ")}
}

// criterion tells by what two were found to be the same machine.
func criterion(m *integrationv1.Match) string { return inWords(wordOf(m.GetCriterion())) }

// alert tells of a revision of an alert.
func (n *narrator) alert(a *attack, e *integrationv1.AlertEvent) {
	text := fmt.Sprintf("%s %q: %s", wordOf(e.GetKind()), e.GetAlert().GetTitle(), wordOf(outcomeOf(e).GetOutcome()))
	if e.GetLate() {
		text += ", late"
	}
	if e.GetArrivedLate() {
		text += ", shown late"
	}
	switch e.GetActivity() {
	case integrationv1.Activity_ACTIVITY_REACTIVATED:
		text += ", re-used: it began before the attack"
	case integrationv1.Activity_ACTIVITY_PRE_EXISTING:
		text += ", of before the attack: it does not count"
	case integrationv1.Activity_ACTIVITY_AFTER_WINDOW:
		text += ", of after the attack: it does not count"
	}
	if tooWeak(e) {
		text += ", too weakly about the attack: it does not count"
	}
	var below []string
	if m := matchesOf(e); len(m) > 0 {
		matched := "matched by " + matchText(m)
		if e.GetActors()[0].GetAmbiguous() {
			matched += ", which fits another machine as well: it does not count"
		}
		below = append(below, matched)
	}
	if e.GetNoLongerMatches() {
		below = append(below, "it matches no longer")
	}
	if attribution := attributionOf(e); attribution.GetConfidence() != 0 {
		below = append(below, attributionText(attribution))
	}
	if e.GetKind() == integrationv1.AlertEvent_KIND_UPDATED {
		below = append(below, changesText(e))
	}
	if why := outcomeOf(e).GetExplanation(); why != "" {
		below = append(below, why)
	}
	for _, other := range outcomeOf(e).GetContradictions() {
		below = append(below, "contradiction: "+other)
	}
	n.moment(a.actor.GetActorId(), "alert", cyan, text, below...)
}

// tooWeak says that an alert of the attack's time and machine is not as surely about the attack as the Director asks for.
func tooWeak(e *integrationv1.AlertEvent) bool {
	inside := e.GetActivity() == integrationv1.Activity_ACTIVITY_IN_WINDOW || e.GetActivity() == integrationv1.Activity_ACTIVITY_REACTIVATED
	return inside && len(e.GetActors()) > 0 && !e.GetActors()[0].GetAmbiguous() && !e.GetActors()[0].GetCounts()
}

// outcomeOf returns how the attack ended, going by an alert: for the stream's Actor where it tells that.
func outcomeOf(e *integrationv1.AlertEvent) *integrationv1.OutcomeAssessment {
	if len(e.GetActors()) > 0 && e.GetActors()[0].GetOutcome() != nil {
		return e.GetActors()[0].GetOutcome()
	}
	return e.GetOutcome()
}

// attributionText tells how surely an alert is about the attack: what was met, and what was not, with both values.
func attributionText(a *integrationv1.Attribution) string {
	const columns = 60 // of a value
	var met, others []string
	for _, c := range a.GetComparisons() {
		name := inWords(wordOf(c.GetCriterion()))
		switch c.GetResult() {
		case integrationv1.TraceComparison_RESULT_MET:
			met = append(met, fmt.Sprintf("%s (%s)", name, shorten(c.GetDefenderValue(), columns)))
		case integrationv1.TraceComparison_RESULT_NOT_MET:
			others = append(others, fmt.Sprintf("%s not met (%s; the alert has %s)", name, shorten(c.GetTraceValue(), columns), shorten(c.GetDefenderValue(), columns)))
		default:
			others = append(others, name+" not comparable")
		}
	}
	text := wordOf(a.GetConfidence()) + ": "
	switch {
	case len(met) > 0:
		text += "met " + strings.Join(met, ", ")
	case len(others) > 0:
		text += "met nothing"
	default:
		text += "nothing of the attack is known to compare with"
	}
	return strings.Join(append([]string{text}, others...), "; ")
}

// changesText tells what an update is other in than the revision before.
func changesText(e *integrationv1.AlertEvent) string {
	var parts []string
	before := e.GetPrevious()
	if was, is := before.GetOutcome(), e.GetOutcome().GetOutcome(); was != 0 && was != is {
		parts = append(parts, fmt.Sprintf("was %s, is %s", wordOf(was), wordOf(is)))
	}
	if was, is := before.GetStatus(), e.GetAlert().GetStatus(); was != 0 && was != is {
		parts = append(parts, fmt.Sprintf("was %s, is %s", inWords(wordOf(was)), inWords(wordOf(is))))
	}
	if was := before.GetActivity(); was != 0 && was != e.GetActivity() {
		parts = append(parts, "activity was "+inWords(wordOf(was)))
	}
	if added := e.GetAddedEvidence(); len(added) > 0 {
		parts = append(parts, "evidence added: "+strings.Join(added, ", "))
	}
	return strings.Join(append(parts, "changed: "+strings.Join(e.GetChangedFields().GetPaths(), ", ")), "; ")
}

// matchText tells by what an alert matched, names with their value.
func matchText(matches []*integrationv1.Match) string {
	texts := make([]string, len(matches))
	for i, m := range matches {
		texts[i] = criterion(m)
		if !byDevice(m) {
			texts[i] += " " + m.GetDefenderValue()
		}
	}
	return strings.Join(texts, ", ")
}

// byDevice says that a match is by a device that is known to be the Actor's, or was shown to be: that rests on a name in its turn, and an
// id tells a person nothing.
func byDevice(m *integrationv1.Match) bool {
	return m.GetCriterion() == integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE ||
		m.GetCriterion() == integrationv1.MatchCriterion_MATCH_CRITERION_SHOWN_DEVICE
}

// progress tells of a stream's phase when it is another, with the newest pair, and of what is wrong upstream.
func (n *narrator) progress(a *attack, e *integrationv1.ProgressEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	phase := wordOf(e.GetPhase())
	if problem := e.GetProblem().GetMessage(); problem != "" {
		phase += ": " + problem
	}
	if n.phases[a.actor.GetActorId()] == phase {
		return
	}
	n.phases[a.actor.GetActorId()] = phase
	through := ""
	for _, p := range e.GetPairs() {
		if p.GetDepth() == integrationv1.Pair_DEPTH_POLL {
			through = "; read through " + n.since(p.GetThrough().AsTime())
		}
	}
	var text string
	switch e.GetPhase() {
	case integrationv1.ProgressEvent_PHASE_CATCHING_UP, integrationv1.ProgressEvent_PHASE_FOLLOWING, integrationv1.ProgressEvent_PHASE_CLOSING:
		if e.GetProblem() == nil {
			// What is to be expected is not told; the closing read is with the verdict.
			return
		}
		text = inWords(wordOf(e.GetPhase()))
	case integrationv1.ProgressEvent_PHASE_WAITING:
		text = "over; waits for late alerts until " + n.since(e.GetClosingDueTime().AsTime()) + through
	case integrationv1.ProgressEvent_PHASE_HUNTING:
		text = "no alert counts; asks what telemetry holds of the attack"
	default:
		text = inWords(wordOf(e.GetPhase()))
	}
	if e.GetProblem() != nil {
		text += ". " + e.GetProblem().GetMessage() + " " + e.GetProblem().GetRemedy()
	}
	n.momentLocked(a.actor.GetActorId(), "stream", dim, text)
}

// gap tells of history that is gone.
func (n *narrator) gap(a *attack, e *integrationv1.GapEvent) {
	n.moment(a.actor.GetActorId(), "GAP", red, e.GetExplanation())
}

// cut tells that the Director's connection is cut.
func (n *narrator) cut(a *attack, token string) {
	n.moment(a.actor.GetActorId(), "CUT", red, fmt.Sprintf("the Director's connection breaks, for %s; it has the last event's token %s", a.cutFor, ending(token)))
}

// resumed tells that the stream goes on behind the token.
func (n *narrator) resumed(a *attack) {
	n.moment(a.actor.GetActorId(), "resumed", green, "the stream goes on behind that token: what came before does not come again")
}

// again tells that a stream that was completed is resumed.
func (n *narrator) again(a *attack, token string) {
	n.moment(a.actor.GetActorId(), "resumed", green, fmt.Sprintf("the Director asks again, with the token of that verdict, %s: another closing read, and a verdict that says what changed", ending(token)))
}

// ending is the end of a token, by which a person recognises it.
func ending(token string) string {
	const shown = 8
	return "…" + token[max(len(token)-shown, 0):]
}

// completed tells the verdict, what it was before, what telemetry holds, and what did not count.
func (n *narrator) completed(r *result) {
	v := r.verdict()
	text := saying(v.GetVerdict(), v.GetOutcome())
	if reason := v.GetCannotJudgeReason(); reason != 0 {
		text += ": " + inWords(wordOf(reason))
	}
	if confidence := v.GetConfidence(); confidence != 0 {
		text += ", " + wordOf(confidence)
	}
	kind := "VERDICT"
	var below []string
	if before := v.GetAmendment(); before != nil {
		kind = "AMENDED"
		below = append(below, before.GetExplanation())
	}
	below = append(below, v.GetExplanation())
	below = append(below, n.telemetryText(v)...)
	below = append(below, proof(n, r.completed))
	below = append(below, missesText(v)...)
	// An attack that something comes after is compared when all of it has come.
	if len(r.attack.afterwards) == 0 || r.first != nil {
		if differs := r.attack.want.differs(r); differs != "" {
			below = append(below, "NOT AS SCRIPTED: "+differs)
		}
	}
	n.moment(r.attack.actor.GetActorId(), kind, verdictColour(v.GetVerdict()), text, below...)
}

// missesText tells of the alerts that do not count, and why, with both values. Those about other machines, which are most, are only
// counted.
func missesText(v *integrationv1.ActorVerdict) []string {
	var texts []string
	elsewhere := int64(0)
	for _, miss := range v.GetNearMisses() {
		if miss.GetCriterion() == integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE {
			elsewhere++
			continue
		}
		texts = append(texts, fmt.Sprintf("Near miss, by its %s: %q. %s Wanted is %s; it has %s.",
			failing(miss.GetCriterion()), miss.GetTitle(), miss.GetExplanation(), miss.GetWantedValue(), cmp.Or(miss.GetAlertValue(), "none")))
	}
	for _, rest := range v.GetUncounted() {
		if rest.GetCriterion() == integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE {
			elsewhere += rest.GetAlerts()
			continue
		}
		texts = append(texts, fmt.Sprintf("Beyond these, by their %s: %s.", failing(rest.GetCriterion()), count(rest.GetAlerts(), "alert")))
	}
	if elsewhere > 0 {
		texts = append(texts, "About other machines: "+count(elsewhere, "alert")+".")
	}
	return texts
}

// failing names what of an alert fails by a criterion.
func failing(c integrationv1.CountingCriterion) string {
	if c == integrationv1.CountingCriterion_COUNTING_CRITERION_UNAMBIGUOUS {
		return "ambiguity"
	}
	return inWords(wordOf(c))
}

// proof tells what proves that collecting was complete.
func proof(n *narrator, e *integrationv1.CompletedEvent) string {
	if failed := e.GetFailedClosing(); failed != nil {
		return "No proof: " + failed.GetMessage() + " " + failed.GetRemedy()
	}
	p := e.GetPair()
	return fmt.Sprintf("Proof: a %s read of everything last updated since %s, begun at %s by Microsoft's clock: %s.",
		inWords(wordOf(p.GetDepth())), n.since(p.GetSince().AsTime()), n.since(p.GetThrough().AsTime()), count(p.GetElements(), "alert"))
}

func count(number int64, noun string) string {
	if number == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", number, noun)
}
