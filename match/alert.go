package match

import (
	"net/netip"
	"slices"
	"sync"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// AlertDevices are the devices that an alert is about, in the form that is compared: read once for each revision, then matched
// with any number of Actors. They never change.
type AlertDevices struct {
	alert    *integrationv1.Alert
	machines []*machine
	// shared are the addresses that more than one of these machines has.
	shared map[netip.Addr]bool
	// attack returns what the alert tells of an attack, read when it is first asked for: most alerts concern no Actor.
	attack func() *attack
}

// DevicesOf reads the devices of an alert: its device evidence, the host of a logon session, and the bare device ids of
// processes, files and registry values, of those inside of malware too. Evidence with one device id is one device.
func DevicesOf(alert *integrationv1.Alert) *AlertDevices {
	d := &AlertDevices{alert: alert, attack: sync.OnceValue(func() *attack { return readAttack(alert) })}
	byID := make(map[string]*machine)
	machineFor := func(id string) *machine {
		folded := foldID(id)
		if m := byID[folded]; m != nil {
			return m
		}
		m := &machine{deviceID: folded}
		if folded != "" {
			byID[folded] = m
		}
		d.machines = append(d.machines, m)
		return m
	}
	bare := func(id string) {
		if foldID(id) != "" {
			machineFor(id)
		}
	}
	for located := range eachEvidence(alert) {
		switch detail := located.evidence.GetDetail().(type) {
		case *integrationv1.Evidence_Device:
			machineFor(detail.Device.GetMdeDeviceId()).addEvidence(detail.Device)
		case *integrationv1.Evidence_Process:
			bare(detail.Process.GetMdeDeviceId())
		case *integrationv1.Evidence_File:
			bare(detail.File.GetMdeDeviceId())
		case *integrationv1.Evidence_RegistryValue:
			bare(detail.RegistryValue.GetMdeDeviceId())
		}
	}
	d.shared = addressesOfSeveral(d.machines)
	return d
}

// ShownDevices returns the devices that the device evidence of an alert shows, those that have an id, as a device source would tell of
// them: the id, the Entra id, the name and the addresses. The last external address is left out: it is the gateway's.
func ShownDevices(alert *integrationv1.Alert) []*integrationv1.Device {
	var devices []*integrationv1.Device
	for located := range eachEvidence(alert) {
		d := located.evidence.GetDevice()
		if foldID(d.GetMdeDeviceId()) == "" {
			continue
		}
		m := machine{}
		m.addEvidence(d)
		shown := &integrationv1.Device{
			MdeDeviceId: d.GetMdeDeviceId(), EntraDeviceId: d.GetEntraDeviceId(), RbacGroupName: d.GetRbacGroupName(),
			HealthStatus: d.GetHealthStatus(), OnboardingStatus: d.GetOnboardingStatus(), FirstSeenTime: d.GetFirstSeenTime(),
			OsPlatform: d.GetOsPlatform(), OsVersion: d.GetVersion(),
		}
		switch {
		case len(m.full) > 0:
			shown.DeviceDnsName = m.full[0].given
		case len(m.labels) > 0:
			shown.DeviceDnsName = m.labels[0].given
		}
		for _, a := range m.addresses {
			shown.IpAddresses = append(shown.IpAddresses, a.given)
		}
		devices = append(devices, shown)
	}
	return devices
}

// addressesOfSeveral returns the addresses that more than one of the machines has.
func addressesOfSeveral(machines []*machine) map[netip.Addr]bool {
	if len(machines) < 2 {
		return nil
	}
	holders := make(map[netip.Addr][]*machine)
	for _, m := range machines {
		for _, a := range m.addresses {
			holders[a.addr] = append(holders[a.addr], m)
		}
	}
	shared := make(map[netip.Addr]bool)
	for addr, having := range holders {
		if severalMachines(having, byAddress) {
			shared[addr] = true
		}
	}
	return shared
}

// Keys returns the keys of the devices, each once.
func (d *AlertDevices) Keys() []Key {
	var keys keySet
	for _, m := range d.machines {
		keys.addMachine(m)
	}
	return keys.list
}

// MatchAlert returns how an alert matches an Actor, nil where it does not. See [AlertDevices.Match], which does the same without
// reading the alert again for each Actor.
func MatchAlert(actor *Actor, resolution Resolution, alert *integrationv1.Alert) *integrationv1.ActorMatch { //nolint:revive // match.Alert would read as the message.
	return DevicesOf(alert).Match(actor, resolution)
}

// Match returns how the alert matches the Actor, nil where it does not. Its attribution, outcome and `counts` are not set; see
// [AlertDevices.MatchAttack].
//
// The alert matches by what its devices share with the Actor, and by KNOWN_DEVICE where the device source says that one of its
// device ids is the Actor's, or SHOWN_DEVICE where only the evidence of alerts does. Where it has several devices, those that fit most strongly decide.
//
// It is ambiguous, so that it is sent and does not count, where all that fits may as well be another machine:
//   - the resolution is AMBIGUOUS, and the alert's device fits by nothing stronger than what that rests on;
//   - several machines in the alert fit by one short name, or have the one address that fits; so have several known devices;
//   - it fits by an address alone, and bears another name than the Actor;
//   - it fits by a short name or an address alone, the Actor's device is known, and the alert's device has another id: the Actor
//     may have been onboarded again since, or it is another machine.
//
// In the last case names tell more. The full name of one of the Actor's devices makes it a match without doubt (it was onboarded
// again); so does any name of theirs where the Actor is known by nothing stronger itself. And where only the address fits, and
// the names differ, it is another machine that has the address now: no match.
func (d *AlertDevices) Match(actor *Actor, resolution Resolution) *integrationv1.ActorMatch {
	matched, _ := d.matchMachines(actor, resolution)
	return matched
}

// matchMachines returns how the alert matches the Actor, as Match does, and the devices by which it does.
func (d *AlertDevices) matchMachines(actor *Actor, resolution Resolution) (*integrationv1.ActorMatch, []*machine) {
	var certain, doubtful []*deviceMatch
	for _, m := range d.machines {
		switch dm := d.matchMachine(actor, resolution, m); {
		case dm == nil:
		case dm.ambiguous:
			doubtful = append(doubtful, dm)
		default:
			certain = append(certain, dm)
		}
	}
	ambiguous := len(certain) == 0
	if ambiguous {
		certain = doubtful
	}
	if len(certain) == 0 {
		return nil, nil
	}

	best := byNothing
	for _, dm := range certain {
		best = min(best, dm.by)
	}
	var matches []*integrationv1.Match
	var machines []*machine
	for _, dm := range certain {
		if dm.by == best || dm.by.namesOneMachine() {
			matches = append(matches, dm.matches...)
			machines = append(machines, dm.machine)
		}
	}
	// Several machines of one alert that fit by chance alike cannot all be the Actor.
	if !best.namesOneMachine() && severalMachines(machines, best) {
		ambiguous = true
	}
	return &integrationv1.ActorMatch{ActorId: actor.actorID, Matches: sortMatches(matches), Ambiguous: ambiguous}, machines
}

// deviceMatch is how one device of an alert fits an Actor.
type deviceMatch struct {
	machine   *machine
	matches   []*integrationv1.Match
	by        strength
	ambiguous bool
}

func (d *AlertDevices) matchMachine(actor *Actor, r Resolution, m *machine) *deviceMatch {
	direct := actor.match(m)
	by := strongest(direct)
	matches := direct
	actorValue, known := r.known[m.deviceID]
	if known {
		matches = sortMatches(append(slices.Clip(direct), &integrationv1.Match{
			Criterion:     r.criterion(),
			ActorValue:    actorValue,
			DefenderValue: m.deviceID,
		}))
	}
	if len(matches) == 0 {
		return nil
	}
	dm := &deviceMatch{machine: m, matches: matches, by: strongest(matches)}

	switch r.Knowledge {
	case integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS:
		dm.ambiguous = by >= r.by
	case integrationv1.ActorState_KNOWLEDGE_KNOWN:
		if known || by.namesOneMachine() || m.deviceID == "" {
			break
		}
		// It fits by what can be shared by chance, and has an id that is not the Actor's.
		sameName := m.sameName(&r.names)
		switch {
		case by < r.by, by == r.by && sameName, m.sameFullName(&r.names):
		case by == byAddress && r.by < byAddress && !sameName && len(m.labels) > 0 && len(r.names.labels) > 0:
			return nil
		default:
			dm.ambiguous = true
		}
	}
	if !known && by == byAddress && (d.onlySharedAddresses(actor, r, m) || actor.bearsAnotherName(m)) {
		dm.ambiguous = true
	}
	return dm
}

// criterion returns by what an alert matches that has the id of one of the devices.
func (r Resolution) criterion() integrationv1.MatchCriterion {
	if r.shown {
		return integrationv1.MatchCriterion_MATCH_CRITERION_SHOWN_DEVICE
	}
	return integrationv1.MatchCriterion_MATCH_CRITERION_KNOWN_DEVICE
}

// onlySharedAddresses says that each address that the Actor and the machine have in common is one that several machines have.
func (d *AlertDevices) onlySharedAddresses(actor *Actor, r Resolution, m *machine) bool {
	for _, mine := range actor.addresses {
		if m.hasAddress(mine.addr) && !d.shared[mine.addr] && !r.shared[mine.addr] {
			return false
		}
	}
	return true
}
