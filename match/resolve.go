package match

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Resolution is what the device source makes of an Actor: which devices it is. The zero Resolution is that of an Actor of which
// nothing is known, and matches by what the alerts themselves tell.
type Resolution struct {
	// Knowledge is KNOWN, UNKNOWN or AMBIGUOUS.
	Knowledge integrationv1.ActorState_Knowledge
	// Devices are all devices that fit, the preferred one first.
	Devices []*integrationv1.ActorDevice
	// Preferred is the device that is gone by; nil unless Knowledge is KNOWN.
	Preferred *integrationv1.Device

	// shown says that alerts' evidence tells of the devices, and not the device source.
	shown bool
	// renamed says that nothing fits but an address, and that what has it bears another name than the Actor.
	renamed bool
	// by is the strength of what decided.
	by strength
	// known maps the ids of the Actor's devices, those that were merged into one of them too, to the Actor's value by which it
	// was found.
	known map[string]string
	// names are the names of these devices.
	names identity
	// shared are the Actor's addresses that more than one machine has.
	shared map[netip.Addr]bool
}

// Keys returns the keys by which alerts of the Actor's devices are found, beyond the Actor's own keys. The order is not defined.
func (r Resolution) Keys() []Key {
	keys := make([]Key, 0, len(r.known))
	for id := range r.known {
		keys = append(keys, Key{keyDeviceID, id})
	}
	return keys
}

// DeviceIDs returns the ids, in the form that is compared, of the devices whose alerts are the Actor's, ascending. A device that fits it more
// weakly than what decided, as by an address that it may have had before, is not among them.
func (r Resolution) DeviceIDs() []string { return slices.Sorted(maps.Keys(r.known)) }

// fit is a device that fits the Actor.
type fit struct {
	device  *integrationv1.Device
	machine machine
	matches []*integrationv1.Match
	// end is the device that this one was merged into, in the end; itself where it was not.
	end *fit
}

func (f *fit) by() strength { return strongest(f.matches) }

// Resolve finds the devices of an Actor among those that the device source told of. Devices that share no key with the Actor do
// not matter, except those that one that does was merged into: give all devices, or those by key and, by DeviceIDKey, what their
// merged_into_device_id names. Their order does not matter; of two with one id, the one seen last counts.
//
// What fits more strongly wins: device id, Entra id, full name, alternate full name, short name, alternate short name, address.
// Among several of the winning strength that are one machine (records of one full name: it was onboarded again), the active one
// that was seen last is preferred; what was merged away, is excluded or not onboarded comes last. Several machines are
// AMBIGUOUS: several full names behind one short name, or one address. So is a device that fits by an address alone and bears another
// name than the Actor: machines are given each other's addresses, and some addresses are on many machines.
//
// The devices of which alerts count as the Actor's own are those of the winning strength, and all that fit by an id or a full
// name.
func Resolve(actor *Actor, devices []*integrationv1.Device) Resolution {
	all := readDevices(devices)
	for _, f := range all {
		f.matches = actor.match(&f.machine)
	}
	// What a device that was merged away fits by, the one that it was merged into fits by too.
	for _, f := range all {
		if f.end != f && len(f.matches) > 0 {
			f.end.matches = sortMatches(slices.Concat(f.end.matches, f.matches))
		}
	}

	r := Resolution{Knowledge: integrationv1.ActorState_KNOWLEDGE_UNKNOWN, by: byNothing, shared: sharedAddresses(actor, all)}
	var fits []*fit
	for _, f := range all {
		if len(f.matches) == 0 {
			continue
		}
		fits = append(fits, f)
		r.by = min(r.by, f.by())
	}
	if len(fits) == 0 {
		return r
	}
	slices.SortFunc(fits, byPreference)

	var winning []*machine
	for _, f := range fits {
		if f.end == f && f.by() == r.by {
			winning = append(winning, &f.machine)
		}
	}
	r.Knowledge = integrationv1.ActorState_KNOWLEDGE_KNOWN
	// A device id names one device, and an Entra id one machine, however often it was onboarded.
	r.renamed = r.by == byAddress && slices.ContainsFunc(winning, actor.bearsAnotherName)
	if r.by > byEntraID && severalMachines(winning, r.by) || r.renamed {
		r.Knowledge = integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS
	}
	for i, f := range fits {
		preferred := i == 0 && r.Knowledge == integrationv1.ActorState_KNOWLEDGE_KNOWN
		if preferred {
			r.Preferred = f.device
		}
		r.Devices = append(r.Devices, &integrationv1.ActorDevice{Device: f.device, Matches: f.matches, Preferred: preferred})
	}
	rememberDevices(&r, all)
	return r
}

// ResolveShown finds the devices of an Actor among those that alerts' evidence has shown (see [ShownDevices]), where no device source
// tells of one. It serves to match alerts that tell less of their device than others; no verdict rests on it.
func ResolveShown(actor *Actor, devices []*integrationv1.Device) Resolution {
	r := Resolve(actor, devices)
	r.shown = true
	return r
}

// rememberDevices keeps the ids and names of the devices whose alerts are the Actor's.
func rememberDevices(r *Resolution, all []*fit) {
	r.known = make(map[string]string)
	for _, f := range all {
		by := f.end.by()
		if by == byNothing || (by != r.by && !by.namesOneMachine()) {
			continue
		}
		if f.machine.deviceID != "" {
			r.known[f.machine.deviceID] = f.end.matches[0].GetActorValue()
		}
		for _, n := range f.machine.full {
			r.names.full = appendName(r.names.full, n)
		}
		for _, n := range f.machine.labels {
			r.names.labels = appendName(r.names.labels, n)
		}
	}
}

// readDevices reads the devices, each id once, and follows their merges.
func readDevices(devices []*integrationv1.Device) []*fit {
	all := make([]*fit, 0, len(devices))
	byID := make(map[string]*fit, len(devices))
	for _, device := range devices {
		f := &fit{device: device, machine: machineOfDevice(device)}
		id := f.machine.deviceID
		if have := byID[id]; have != nil {
			if lastSeen(device).After(lastSeen(have.device)) {
				*have = *f
			}
			continue
		}
		if id != "" {
			byID[id] = f
		}
		all = append(all, f)
	}
	for _, f := range all {
		f.end = mergeEnd(f, byID)
	}
	return all
}

// maxMerges is how many merges are followed from one device. More is a circle.
const maxMerges = 32

// mergeEnd follows the merges from a device to the last one that is there. Where they lead round in a circle, nothing was merged.
func mergeEnd(f *fit, byID map[string]*fit) *fit {
	end := f
	for range maxMerges {
		next := byID[foldID(end.device.GetMergedIntoDeviceId())]
		if next == nil || next == end {
			return end
		}
		end = next
	}
	return f
}

// sharedAddresses returns the Actor's addresses that more than one machine has.
func sharedAddresses(actor *Actor, all []*fit) map[netip.Addr]bool {
	var shared map[netip.Addr]bool
	for _, mine := range actor.addresses {
		var holders []*machine
		for _, f := range all {
			if f.end == f && f.machine.hasAddress(mine.addr) {
				holders = append(holders, &f.machine)
			}
		}
		if severalMachines(holders, byAddress) {
			if shared == nil {
				shared = make(map[netip.Addr]bool)
			}
			shared[mine.addr] = true
		}
	}
	return shared
}

// byPreference orders devices that fit, the preferred one first.
func byPreference(x, y *fit) int {
	first := func(xIs, yIs bool) int {
		switch {
		case xIs == yIs:
			return 0
		case xIs:
			return -1
		default:
			return 1
		}
	}
	return cmp.Or(
		first(x.end == x, y.end == y),
		cmp.Compare(x.by(), y.by()),
		first(!x.device.GetExcluded(), !y.device.GetExcluded()),
		first(onboarded(x.device), onboarded(y.device)),
		first(active(x.device), active(y.device)),
		lastSeen(y.device).Compare(lastSeen(x.device)),
		first(!x.device.GetPotentialDuplicate(), !y.device.GetPotentialDuplicate()),
		cmp.Compare(x.machine.deviceID, y.machine.deviceID),
	)
}
