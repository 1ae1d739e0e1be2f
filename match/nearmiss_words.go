package match

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// tell returns a miss as an answer tells it: what was wanted, what the alert has, and why it does not count.
func (n *NearMisses) tell(a *nearActor, m miss) *integrationv1.NearMiss {
	told := &integrationv1.NearMiss{AlertId: m.id, Title: m.title, Criterion: m.criterion}
	if !m.created.IsZero() {
		told.CreatedTime = timestamppb.New(m.created)
	}
	switch m.criterion {
	case integrationv1.CountingCriterion_COUNTING_CRITERION_UNAMBIGUOUS:
		tellAmbiguity(told, m.match)
	case integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY:
		n.tellActivity(told, m)
	case integrationv1.CountingCriterion_COUNTING_CRITERION_CONFIDENCE:
		n.tellConfidence(told, m.match)
	default:
		tellDevice(told, a.Actor, m.machines)
	}
	return told
}

func tellAmbiguity(told *integrationv1.NearMiss, match *integrationv1.ActorMatch) {
	if len(match.GetMatches()) == 0 {
		return
	}
	// That the device is known rests on something in its turn, which is what several machines share.
	by := match.GetMatches()[0]
	for _, m := range match.GetMatches() {
		if strengthOf(m.GetCriterion()) > byKnownDevice {
			by = m
			break
		}
	}
	told.WantedValue, told.AlertValue = cutText(by.GetActorValue()), cutText(by.GetDefenderValue())
	told.Explanation = fmt.Sprintf("Its device fits the Actor by nothing stronger than its %s, and nothing tells whether the Actor or another machine is meant.",
		spell(by.GetCriterion().String(), "MATCH_CRITERION_"))
}

func (n *NearMisses) tellActivity(told *integrationv1.NearMiss, m miss) {
	told.WantedValue = fmt.Sprintf("%s, with a tolerance of %s", fromTo(n.window.Start, n.window.End), duration(n.tolerance))
	switch {
	case m.span.first.IsZero():
		told.Explanation = "It tells no time, so nothing says that it is about the window."
		return
	case m.span.byCreation:
		told.AlertValue = clock(m.span.first)
	default:
		told.AlertValue = fromTo(m.span.first, m.span.last)
	}
	switch {
	case m.activity == integrationv1.Activity_ACTIVITY_AFTER_WINDOW:
		told.Explanation = fmt.Sprintf("Its activity began %s after the window.", duration(m.span.first.Sub(n.window.End)))
	case m.distance > 0:
		told.Explanation = fmt.Sprintf("Its activity ended %s before the window.", duration(m.distance))
	default:
		told.Explanation = fmt.Sprintf("Its activity began %s before the window, and none of its evidence about the Actor's device is from inside.",
			duration(n.window.Start.Sub(m.span.first)))
	}
	if m.span.byCreation {
		told.Explanation += " It tells no activity, so that its creation was gone by."
	}
}

func (n *NearMisses) tellConfidence(told *integrationv1.NearMiss, match *integrationv1.ActorMatch) {
	told.WantedValue = nameOfConfidence(n.minConfidence)
	told.AlertValue = nameOfConfidence(match.GetAttribution().GetConfidence())
	told.Explanation = "It is less surely about the attack than min_confidence asks. " + explainTraces(match.GetAttribution())
}

// tellDevice tells of the device that shares most with the Actor: an address, the first label of a name, or nothing.
func tellDevice(told *integrationv1.NearMiss, a *Actor, machines []*machine) {
	told.WantedValue = cutText(a.value())
	if len(machines) == 0 {
		told.Explanation = "It is about no device."
		return
	}
	nearest, label, address := machines[0], "", ""
	for _, m := range machines {
		l, shared := a.common(m)
		if address == "" && shared != "" || address == "" && label == "" && l != "" {
			nearest, label, address = m, l, shared
		}
	}
	told.AlertValue = cutText(nearest.value())
	switch {
	case address != "":
		told.Explanation = fmt.Sprintf("Its device has the Actor's address %s, and another name or id.", address)
	case label != "":
		told.Explanation = fmt.Sprintf("Its device shares only the first label %s of its name with the Actor.", quote(label))
	case len(machines) == 1:
		told.Explanation = "Its device shares no id, name or address with the Actor."
	default:
		told.Explanation = fmt.Sprintf("None of its %d devices shares an id, a name or an address with the Actor.", len(machines))
	}
}

// value returns what the Actor is told as in one value: its name, else its id, else an address.
func (a *Actor) value() string {
	switch {
	case len(a.full) > 0:
		return a.full[0].given
	case len(a.labels) > 0:
		return a.labels[0].given
	case len(a.alternates) > 0:
		return a.alternates[0].given
	case a.givenDeviceID != "":
		return a.givenDeviceID
	case a.givenEntraID != "":
		return a.givenEntraID
	case len(a.addresses) > 0:
		return a.addresses[0].given
	}
	return ""
}

// value returns what a machine is told as in one value: its name and its ids, and where it has none of them an address.
func (m *machine) value() string {
	var parts []string
	switch {
	case len(m.full) > 0:
		parts = append(parts, m.full[0].given)
	case len(m.labels) > 0:
		parts = append(parts, m.labels[0].given)
	}
	for _, id := range []string{m.deviceID, m.entraID} {
		if id != "" {
			parts = append(parts, id)
			break
		}
	}
	if len(parts) == 0 && len(m.addresses) > 0 {
		parts = append(parts, m.addresses[0].given)
	}
	return strings.Join(parts, " ")
}

// fromTo writes a time and a later one.
func fromTo(from, to time.Time) string { return clock(from) + " to " + clock(to) }
