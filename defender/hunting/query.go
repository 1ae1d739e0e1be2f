package hunting

import (
	"cmp"
	"slices"
	"strings"

	"defender-integration/defender"
)

// The bounds of one query. Microsoft documents none of a query's text; `in` takes a million values and `has_any` ten thousand
// (https://learn.microsoft.com/en-us/kusto/query/in-operator, https://learn.microsoft.com/en-us/kusto/query/has-any-operator).
const (
	// maxValues is how many values one query asks for: all that a stream of a thousand Actors names, at five each.
	maxValues = 5000
	// maxText bounds the values' own text, in bytes: so many values of the length that names have.
	maxText = 128 << 10
)

// permissionQuery needs no table.
const permissionQuery = "print ok = 1"

// probeQuery asks for one device of the last day, whichever. It reads the look-up's table and little of it, and sorts and joins
// nothing: that devices can be read is tested often, and processor time is the tenant's.
const probeQuery = `DeviceInfo
| where Timestamp > ago(1d)
| take 1
| project DeviceId, DeviceName`

// The lines of a look-up, but for the one that says which devices are looked for. A row of DeviceInfo may be filled in part, until
// the day's rows are put together (https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-overview): one without the operating
// system is passed over, as Microsoft's own examples do.
const (
	lookUpBefore = `DeviceInfo
| where Timestamp > ago(30d)
| where isnotempty(OSPlatform)
`
	lookUpAfter = `| summarize arg_max(Timestamp, DeviceName, AadDeviceId, PublicIP, OSPlatform, OSVersion, MachineGroup, OnboardingStatus, SensorHealthState, IsExcluded, MergedToDeviceId), FirstSeen = min(Timestamp) by DeviceId
| join kind=leftouter (DeviceNetworkInfo | where Timestamp > ago(1d) | summarize IPAddresses = make_set(IPAddresses, 64) by DeviceId) on DeviceId
| project DeviceId, DeviceName, AadDeviceId, PublicIP, OSPlatform, OSVersion, MachineGroup, OnboardingStatus, SensorHealthState, IsExcluded, MergedToDeviceId, FirstSeen, LastSeen = Timestamp, IPAddresses`
)

// kind is what a value is of a device, in the order in which a query asks.
type kind int

const (
	deviceID kind = iota
	entraID
	// fullOrShort is a device's whole name, with a domain or without.
	fullOrShort
	// label is the first label of a name.
	label
	address
)

// condition returns what a row must fulfil to be of a device that has one of the values of that kind, which stand in list.
func (k kind) condition(list string) string {
	switch k {
	case deviceID:
		return "DeviceId in (" + list + ")"
	case entraID:
		return "AadDeviceId in~ (" + list + ")"
	case fullOrShort:
		return "DeviceName in~ (" + list + ")"
	case label:
		return `tolower(tostring(split(DeviceName, ".")[0])) in (` + list + ")"
	default:
		return "DeviceId in ((DeviceNetworkInfo | where Timestamp > ago(1d) | where IPAddresses has_any (" + list + ") | distinct DeviceId))"
	}
}

// value is one value by which devices are looked for. Its text is one that quote takes.
type value struct {
	kind kind
	text string
}

// valuesOf returns what is wanted as values, sorted, each once. What no device can have is left out.
func valuesOf(wanted defender.Wanted) []value {
	var values []value
	add := func(kind kind, parse func(string) (string, bool), given ...[]string) {
		for _, text := range slices.Concat(given...) {
			if parsed, ok := parse(text); ok {
				values = append(values, value{kind, parsed})
			}
		}
	}
	add(deviceID, parseID, wanted.DeviceIDs)
	add(entraID, parseID, wanted.EntraIDs)
	add(fullOrShort, parseName, wanted.FullNames, wanted.ShortNames)
	add(label, parseLabel, wanted.Labels)
	// `in~` is without case for ASCII alone (https://learn.microsoft.com/en-us/kusto/query/datatypes-string-operators). By its first
	// label any other name is found too, and with it what only begins alike.
	add(label, parseForeign, wanted.FullNames, wanted.ShortNames)
	add(address, parseAddress, wanted.Addresses)
	return sortedOnce(values)
}

// sortedOnce sorts values in place, and returns each once.
func sortedOnce(values []value) []value {
	slices.SortFunc(values, compareValues)
	return slices.Compact(values)
}

// compareValues orders values as a query names them.
func compareValues(x, y value) int {
	return cmp.Or(cmp.Compare(x.kind, y.kind), cmp.Compare(x.text, y.text))
}

// oneQuery returns how many of the values, at least one and at most so many, go into one query.
func oneQuery(values []value, most int) int {
	text := 0
	for i, v := range values {
		if text += len(v.text); i > 0 && (i == most || text > maxText) {
			return i
		}
	}
	return len(values)
}

// lookUp returns the query for the devices that have any one of the values, of which there is at least one. They are sorted.
func lookUp(values []value) string {
	var conditions []string
	for len(values) > 0 {
		kind := values[0].kind
		var literals []string
		for len(values) > 0 && values[0].kind == kind {
			literals = append(literals, quote(values[0].text))
			values = values[1:]
		}
		conditions = append(conditions, kind.condition(strings.Join(literals, ", ")))
	}
	return lookUpBefore + "| where " + strings.Join(conditions, " or ") + "\n" + lookUpAfter
}
