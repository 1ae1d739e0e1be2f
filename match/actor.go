package match

import (
	"slices"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Actor is an Actor of a request, in the form that is compared. It never changes, and is safe for concurrent use.
type Actor struct {
	identity
	actorID string
	// deviceID and entraID are as compared, the given ones as they stood.
	deviceID, entraID           string
	givenDeviceID, givenEntraID string
	// alternates are the alternate host names, each one of its own.
	alternates []name
	// traces are those of the attack on it; nil where there are none.
	traces *traces
}

// NewActor reads an Actor and its traces. What cannot be compared (an address that is none, a loopback address, an empty name) is passed
// over.
func NewActor(actor *integrationv1.Actor) *Actor {
	a := machineOfActor(actor)
	a.traces = newTraces(actor.GetTraces())
	return a
}

// machineOfActor reads an Actor, but for its traces.
func machineOfActor(actor *integrationv1.Actor) *Actor {
	a := &Actor{
		actorID:       actor.GetActorId(),
		deviceID:      foldID(actor.GetMdeDeviceId()),
		entraID:       foldID(actor.GetEntraDeviceId()),
		givenDeviceID: actor.GetMdeDeviceId(),
		givenEntraID:  actor.GetEntraDeviceId(),
	}
	a.addName(actor.GetHostName())
	a.addName(actor.GetFqHostName())
	for _, given := range actor.GetAlternateHostNames() {
		if n, ok := parseName(given); ok {
			a.alternates = appendName(a.alternates, n)
		} else {
			a.addAddress(given)
		}
	}
	for _, given := range actor.GetIpAddresses() {
		a.addAddress(given)
	}
	return a
}

// ID returns the Actor's id in the request.
func (a *Actor) ID() string { return a.actorID }

// DeviceID returns the Actor's device id, in the form that is compared; empty where the request gives none.
func (a *Actor) DeviceID() string { return a.deviceID }

// Names returns the Actor's names, in the form that is compared: the fully qualified ones, and those without a domain. A short name that is
// the first label of one of the full ones is left out.
func (a *Actor) Names() (full, short []string) {
	labels := map[string]bool{}
	for _, n := range slices.Concat(a.full, a.alternates) {
		if n.full() {
			full = append(full, n.folded)
			labels[firstLabel(n.folded)] = true
		}
	}
	for _, n := range slices.Concat(a.labels, a.alternates) {
		if !n.full() && !labels[n.folded] {
			short = append(short, n.folded)
		}
	}
	slices.Sort(full)
	slices.Sort(short)
	return slices.Compact(full), slices.Compact(short)
}

// MatchDevice returns by what the Actor and the device are the same machine, the strongest first; nothing where they are not.
//
// Ids are compared exactly. Of host_name and fq_host_name, a full name is compared with the device's full name; only where one of
// the two sides has no full name is the short name compared with the first label of the other. Alternate host names are compared
// alike, each one for itself.
func (a *Actor) MatchDevice(device *integrationv1.Device) []*integrationv1.Match {
	m := machineOfDevice(device)
	return a.match(&m)
}

func (a *Actor) match(m *machine) []*integrationv1.Match {
	var matches []*integrationv1.Match
	add := func(criterion integrationv1.MatchCriterion, actorValue, defenderValue string) {
		matches = append(matches, &integrationv1.Match{Criterion: criterion, ActorValue: actorValue, DefenderValue: defenderValue})
	}
	if a.deviceID != "" && a.deviceID == m.deviceID {
		add(integrationv1.MatchCriterion_MATCH_CRITERION_DEVICE_ID, a.givenDeviceID, m.deviceID)
	}
	if a.entraID != "" && a.entraID == m.entraID {
		add(integrationv1.MatchCriterion_MATCH_CRITERION_ENTRA_DEVICE_ID, a.givenEntraID, m.entraID)
	}
	if len(a.full) > 0 && len(m.full) > 0 {
		for _, n := range a.full {
			if found, ok := findName(m.full, n.folded); ok {
				add(integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME, n.given, found.given)
			}
		}
	} else {
		for _, n := range a.labels {
			if found, ok := findName(m.labels, n.folded); ok {
				add(integrationv1.MatchCriterion_MATCH_CRITERION_SHORT_NAME, n.given, found.given)
			}
		}
	}
	for _, n := range a.alternates {
		if n.full() && len(m.full) > 0 {
			if found, ok := findName(m.full, n.folded); ok {
				add(integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_FULL_NAME, n.given, found.given)
			}
		} else if found, ok := findName(m.labels, n.label().folded); ok {
			add(integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_SHORT_NAME, n.given, found.given)
		}
	}
	for _, mine := range a.addresses {
		for _, other := range m.addresses {
			if mine.addr == other.addr {
				add(integrationv1.MatchCriterion_MATCH_CRITERION_IP_ADDRESS, mine.given, other.given)
				break
			}
		}
	}
	return sortMatches(matches)
}

// bearsAnotherName says that the Actor and the machine have names, and that not even their first labels are the same.
func (a *Actor) bearsAnotherName(m *machine) bool {
	mine := a.firstLabels()
	return len(mine) > 0 && len(m.labels) > 0 && !slices.ContainsFunc(mine, func(label string) bool {
		_, found := findName(m.labels, label)
		return found
	})
}

// sortMatches orders matches, the strongest first, and drops repetitions.
func sortMatches(matches []*integrationv1.Match) []*integrationv1.Match {
	slices.SortStableFunc(matches, func(x, y *integrationv1.Match) int {
		return int(strengthOf(x.GetCriterion()) - strengthOf(y.GetCriterion()))
	})
	kept := matches[:0]
	for _, m := range matches {
		if !slices.ContainsFunc(kept, func(have *integrationv1.Match) bool {
			return have.GetCriterion() == m.GetCriterion() &&
				have.GetActorValue() == m.GetActorValue() && have.GetDefenderValue() == m.GetDefenderValue()
		}) {
			kept = append(kept, m)
		}
	}
	return kept
}
