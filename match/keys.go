package match

import (
	"net/netip"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Key is one thing by which an Actor and a machine can be found to be the same. It is comparable, for use as the key of an index:
// whatever matches has a key in common, so looking up the keys of an alert or device in an index of Actors (or the other way
// round) finds all that can match, and few that do not.
type Key struct {
	kind  keyKind
	value string
}

type keyKind byte

const (
	keyDeviceID keyKind = iota + 1
	keyEntraID
	// keyFullName is a full name, of an Actor or a machine.
	keyFullName
	// keyLabel is the first label of any machine: what an Actor without a full name looks for.
	keyLabel
	// keyShortName is the label of a machine without a full name: what an Actor with a full name looks for. So Actors and
	// machines that share only the first label of their full names, which are many in some networks, do not meet.
	keyShortName
	keyAddress
)

// What a key's text begins with, by its kind. Behind it stand a colon and the value, folded as it is compared.
const (
	DeviceIDPrefix  = "device"
	EntraIDPrefix   = "entra"
	FullNamePrefix  = "full name"
	LabelPrefix     = "label"
	ShortNamePrefix = "short name"
	AddressPrefix   = "address"
)

// String returns the key as text: the prefix of its kind, a colon, and the value.
func (k Key) String() string {
	prefix := map[keyKind]string{
		keyDeviceID: DeviceIDPrefix, keyEntraID: EntraIDPrefix, keyFullName: FullNamePrefix,
		keyLabel: LabelPrefix, keyShortName: ShortNamePrefix, keyAddress: AddressPrefix,
	}[k.kind]
	return prefix + ":" + k.value
}

// DeviceIDKey returns the key of a device's id in Defender for Endpoint; the zero Key, which nothing else has, for the empty id.
func DeviceIDKey(id string) Key {
	if folded := foldID(id); folded != "" {
		return Key{keyDeviceID, folded}
	}
	return Key{}
}

// ActorKeys returns the keys of an Actor, each once.
func ActorKeys(actor *integrationv1.Actor) []Key { return machineOfActor(actor).Keys() }

// DeviceKeys returns the keys of a device of the device source, each once.
func DeviceKeys(device *integrationv1.Device) []Key {
	m := machineOfDevice(device)
	var keys keySet
	keys.addMachine(&m)
	return keys.list
}

// AlertKeys returns the keys of an alert's devices, each once.
func AlertKeys(alert *integrationv1.Alert) []Key { return DevicesOf(alert).Keys() }

// Keys returns the Actor's keys, each once.
func (a *Actor) Keys() []Key {
	var keys keySet
	keys.add(keyDeviceID, a.deviceID)
	keys.add(keyEntraID, a.entraID)
	for _, n := range a.full {
		keys.add(keyFullName, n.folded)
	}
	for _, n := range a.labels {
		if len(a.full) > 0 {
			keys.add(keyShortName, n.folded)
		} else {
			keys.add(keyLabel, n.folded)
		}
	}
	for _, n := range a.alternates {
		if n.full() {
			keys.add(keyFullName, n.folded)
			keys.add(keyShortName, n.label().folded)
		} else {
			keys.add(keyLabel, n.folded)
		}
	}
	keys.addAddresses(a.addresses)
	return keys.list
}

// keySet gathers keys, each once, in the order in which they came.
type keySet struct {
	list []Key
	seen map[Key]bool
}

func (s *keySet) add(kind keyKind, value string) {
	key := Key{kind, value}
	if value == "" || s.seen[key] {
		return
	}
	if s.seen == nil {
		s.seen = make(map[Key]bool)
	}
	s.seen[key] = true
	s.list = append(s.list, key)
}

func (s *keySet) addMachine(m *machine) {
	s.add(keyDeviceID, m.deviceID)
	s.add(keyEntraID, m.entraID)
	for _, n := range m.full {
		s.add(keyFullName, n.folded)
	}
	for _, n := range m.labels {
		s.add(keyLabel, n.folded)
		if len(m.full) == 0 {
			s.add(keyShortName, n.folded)
		}
	}
	s.addAddresses(m.addresses)
}

func (s *keySet) addAddresses(addresses []address) {
	for _, a := range addresses {
		s.add(keyAddress, addressKey(a.addr))
	}
}

// addressKey returns an address as the value of a key.
func addressKey(addr netip.Addr) string {
	return addr.String()
}
