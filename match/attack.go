package match

import integrationv1 "defender-integration/gen/defender/integration/v1"

// attack is what an alert tells of an attack, in the form that is compared. It never changes.
type attack struct {
	clues  *clues
	things []*thing
}

func readAttack(alert *integrationv1.Alert) *attack {
	a := &attack{clues: readClues(alert)}
	if alert.GetSiem() == nil {
		a.things = thingsOf(alert)
	}
	return a
}

// MatchAttack returns all that is to be said of the alert and the Actor, nil where the alert does not match it: by what it matches and
// whether that is ambiguous, as [AlertDevices.Match] does; how surely it is about the attack on the Actor, going by the Actor's traces;
// how that attack ended; and whether it counts, with this activity and the confidence that the request asks for.
//
// Evidence that bears the id of a device that is not the Actor's is left out of both the attribution and the outcome. Where the attack's
// own processes tell an outcome, they alone decide it; else it is worked out as [OutcomeOf] does.
func (d *AlertDevices) MatchAttack(actor *Actor, resolution Resolution, activity integrationv1.Activity,
	minConfidence integrationv1.Confidence,
) *integrationv1.ActorMatch {
	matched, machines := d.matchMachines(actor, resolution)
	if matched == nil {
		return nil
	}
	foreign := d.foreignTo(actor, resolution, machines)
	matched.Attribution = attribute(actor.traces, d.attack().clues, foreign)
	matched.Outcome = d.outcomeFor(actor.traces, foreign)
	matched.Counts = Counts(matched, activity, minConfidence)
	return matched
}

// outcomeFor returns how the attack that left the traces ended.
func (d *AlertDevices) outcomeFor(t *traces, foreign func(device string) bool) *integrationv1.OutcomeAssessment {
	if d.alert.GetSiem() != nil {
		return outcomeOfDetection(d.alert)
	}
	things := make([]*thing, 0, len(d.attack().things))
	for _, one := range d.attack().things {
		if !foreign(one.device) {
			things = append(things, one)
		}
	}
	assessed := outcomeOfThings(d.alert, things, t.ownProcess)
	if len(things) == 0 && len(d.attack().things) > 0 {
		assessed.Explanation = "All evidence of files and processes is about other devices, so nothing tells how it ended."
	}
	return assessed
}

// ownProcess says that a thing is one of the attack's processes.
func (t *traces) ownProcess(one *thing) bool {
	if t == nil || !one.process().told() {
		return false
	}
	for _, p := range t.processes {
		if sameProcess(p.value, one.process()) == met {
			return true
		}
	}
	return false
}

// foreignTo returns what says of a device's id, as compared, that it is not the Actor's. The Actor's are its own, those that the device
// source knows, and those of the alert's devices by which it matched. Where there are none, nothing is known of the ids that stand alone,
// and only a device of which the alert tells more, and which did not match by that, is another.
func (d *AlertDevices) foreignTo(actor *Actor, resolution Resolution, matched []*machine) func(device string) bool {
	own := make(map[string]bool)
	if actor.deviceID != "" {
		own[actor.deviceID] = true
	}
	for id := range resolution.known {
		own[id] = true
	}
	for _, m := range matched {
		if m.deviceID != "" {
			own[m.deviceID] = true
		}
	}
	others := make(map[string]bool)
	for _, m := range d.machines {
		if m.deviceID != "" && !own[m.deviceID] && (len(own) > 0 || m.described()) {
			others[m.deviceID] = true
		}
	}
	return func(device string) bool { return others[device] }
}
