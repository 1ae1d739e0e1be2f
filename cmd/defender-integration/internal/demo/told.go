package demo

import (
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
	name := a.GetFqHostName()
	if name == "" {
		name = a.GetHostName()
	}
	if others := a.GetAlternateHostNames(); len(others) > 0 {
		name += " (or " + strings.Join(others, ", ") + ")"
	}
	return name
}

// defender tells what the simulated Defender does. It is the script that says so, not the service.
func (n *narrator) defender(actorID, told string) {
	n.moment(actorID, "Defender", yellow, "(simulated) "+told)
}

// actors tells what is known of the Actor's device.
func (n *narrator) actors(a *attack, e *integrationv1.ActorsEvent) {
	for _, s := range e.GetActors() {
		var text string
		switch s.GetKnowledge() {
		case integrationv1.ActorState_KNOWLEDGE_PENDING:
			// What comes of it is told when it is known.
			return
		case integrationv1.ActorState_KNOWLEDGE_KNOWN:
			d := s.GetDevices()[0]
			text = fmt.Sprintf("Defender knows it, by %s, as %s: %s, seen %s", criterion(d.GetMatches()[0]), d.GetDevice().GetDeviceDnsName(),
				inWords(wordOf(d.GetDevice().GetHealthStatus())), clock(d.GetDevice().GetLastSeenTime().AsTime()))
		case integrationv1.ActorState_KNOWLEDGE_UNKNOWN:
			text = "Defender knows no such device"
		default:
			text = "its device is " + inWords(wordOf(s.GetKnowledge()))
		}
		if !s.GetJudgeable() {
			text += ", so silence will prove nothing"
		}
		n.moment(a.actor.GetActorId(), "device", blue, text)
	}
}

// criterion tells by what two were found to be the same machine.
func criterion(m *integrationv1.Match) string { return inWords(wordOf(m.GetCriterion())) }

// alert tells of a revision of an alert.
func (n *narrator) alert(a *attack, e *integrationv1.AlertEvent) {
	text := fmt.Sprintf("%s %q: %s", wordOf(e.GetKind()), e.GetAlert().GetTitle(), wordOf(e.GetOutcome().GetOutcome()))
	if e.GetLate() {
		text += ", late"
	}
	switch e.GetActivity() {
	case integrationv1.Activity_ACTIVITY_PRE_EXISTING:
		text += ", of before the attack: it does not count"
	case integrationv1.Activity_ACTIVITY_AFTER_WINDOW:
		text += ", of after the attack: it does not count"
	}
	var below []string
	if m := matchesOf(e); len(m) > 0 {
		below = append(below, "matched by "+matchText(m))
	}
	if e.GetKind() == integrationv1.AlertEvent_KIND_UPDATED {
		below = append(below, "changed: "+strings.Join(e.GetChangedFields().GetPaths(), ", "))
	}
	if why := e.GetOutcome().GetExplanation(); why != "" {
		below = append(below, why)
	}
	n.moment(a.actor.GetActorId(), "alert", cyan, text, below...)
}

// matchText tells by what an alert matched, names with their value.
func matchText(matches []*integrationv1.Match) string {
	texts := make([]string, len(matches))
	for i, m := range matches {
		texts[i] = criterion(m)
		if m.GetCriterion() != integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE {
			texts[i] += " " + m.GetDefenderValue()
		}
	}
	return strings.Join(texts, ", ")
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
	text := ""
	switch e.GetPhase() {
	case integrationv1.ProgressEvent_PHASE_CATCHING_UP, integrationv1.ProgressEvent_PHASE_FOLLOWING:
		if e.GetProblem() == nil {
			// What is to be expected is not told.
			return
		}
	case integrationv1.ProgressEvent_PHASE_WAITING:
		text = "the attack is over; waits for late alerts until " + n.since(e.GetClosingDueTime().AsTime()) + through
	case integrationv1.ProgressEvent_PHASE_CLOSING:
		text = "the wait is over; the next closing read is the proof"
	default:
		text = inWords(phase)
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

// ending is the end of a token, by which a person recognises it.
func ending(token string) string {
	const shown = 8
	return "…" + token[max(len(token)-shown, 0):]
}

// completed tells the verdict.
func (n *narrator) completed(r *result) {
	v := r.verdict()
	text := saying(v.GetVerdict(), v.GetOutcome())
	if reason := v.GetCannotJudgeReason(); reason != 0 {
		text += ": " + inWords(wordOf(reason))
	}
	below := []string{v.GetExplanation(), proof(n, r.completed)}
	if differs := r.attack.want.differs(r); differs != "" {
		below = append(below, "NOT AS SCRIPTED: "+differs)
	}
	n.moment(r.attack.actor.GetActorId(), "VERDICT", verdictColour(v.GetVerdict()), text, below...)
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
