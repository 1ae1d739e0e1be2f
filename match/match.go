// Package match decides: is this alert about this Actor, how did it end, and what is the verdict.
//
// Everything here is a function of what goes in: no clock, no input or output, no state that is shared. The same alerts, the same
// device facts and the same request give the same answer on any replica and at any time, which is what lets a stream resume
// anywhere and say the same.
//
// The way of an alert through the package:
//
//	devices := match.DevicesOf(alert)              // once for each revision
//	for _, key := range devices.Keys() { … }       // which Actors may it concern? (an index over Actor.Keys and Resolution.Keys)
//	activity := match.ActivityOf(alert, window, tolerance)
//	activity = devices.ActivityFor(actor, resolution, activity, window, tolerance)
//	m := devices.MatchAttack(actor, resolution, activity, minConfidence)
//	outcome := match.OutcomeOf(alert)              // whoever it is about
//	verdict := match.Judge(match.Case{…})          // at the end, over all that matched
//
// MatchAttack tells all of one alert and one Actor: is it about the Actor, by what, and is that ambiguous ([AlertDevices.Match]); how
// surely is it about the attack on it, criterion by criterion (attribution.go); how did that attack end, and what contradicts it
// (outcome.go, things.go); does it count ([Counts]).
//
// An Actor is compared with what Defender tells of a machine: device ids exactly, names without case, addresses parsed. A
// [Resolution] is what the device source makes of an Actor: which devices it is, which of them is preferred, or that nothing tells.
// The traces of the attack on it are compiled once (traces.go), what an alert tells of an attack is read once for all Actors (clues.go).
package match

import integrationv1 "defender-integration/gen/defender/integration/v1"

// strength orders the ways in which two were found to be the same machine: the smaller, the stronger. Ids name one device and
// full names one machine; the rest can be shared by chance.
type strength int

const (
	byDeviceID strength = iota + 1
	byEntraID
	byKnownDevice
	byFullName
	byAlternateFullName
	byShortName
	byAlternateShortName
	byAddress
	byNothing
)

// strengthOf returns a criterion's strength.
func strengthOf(criterion integrationv1.MatchCriterion) strength {
	switch criterion {
	case integrationv1.MatchCriterion_MATCH_CRITERION_DEVICE_ID:
		return byDeviceID
	case integrationv1.MatchCriterion_MATCH_CRITERION_ENTRA_DEVICE_ID:
		return byEntraID
	case integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE, integrationv1.MatchCriterion_MATCH_CRITERION_SHOWN_DEVICE:
		return byKnownDevice
	case integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME:
		return byFullName
	case integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_FULL_NAME:
		return byAlternateFullName
	case integrationv1.MatchCriterion_MATCH_CRITERION_SHORT_NAME:
		return byShortName
	case integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_SHORT_NAME:
		return byAlternateShortName
	case integrationv1.MatchCriterion_MATCH_CRITERION_IP_ADDRESS:
		return byAddress
	default:
		return byNothing
	}
}

// namesOneMachine says that it is a full name or more: that one machine is meant, not one of several that share it by chance.
func (s strength) namesOneMachine() bool { return s <= byAlternateFullName }

// strongest returns the strength of the first of the matches, which are ordered; byNothing where there is none.
func strongest(matches []*integrationv1.Match) strength {
	if len(matches) == 0 {
		return byNothing
	}
	return strengthOf(matches[0].GetCriterion())
}
