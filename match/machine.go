package match

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// machine is what Defender tells of a machine, in the form that is compared.
type machine struct {
	identity
	// deviceID and entraID are as compared; empty where there is none.
	deviceID, entraID string
}

// machineOfDevice reads a device of the device source.
func machineOfDevice(device *integrationv1.Device) machine {
	m := machine{deviceID: foldID(device.GetMdeDeviceId()), entraID: foldID(device.GetEntraDeviceId())}
	m.addName(device.GetDeviceDnsName())
	for _, given := range device.GetIpAddresses() {
		m.addAddress(given)
	}
	return m
}

// addEvidence adds what a device evidence tells. The last external address is left out: it is the gateway's, which all behind it
// share.
func (m *machine) addEvidence(device *integrationv1.DeviceEvidence) {
	m.deviceID = foldID(device.GetMdeDeviceId())
	if m.entraID == "" {
		m.entraID = foldID(device.GetEntraDeviceId())
	}
	m.addName(device.GetDeviceDnsName())
	m.addName(device.GetHostName())
	// Without a full name, the host's name and its domain make one.
	host, hasHost := parseName(device.GetHostName())
	domain, hasDomain := parseName(strings.TrimLeft(device.GetDnsDomain(), "."))
	if len(m.full) == 0 && hasHost && hasDomain {
		m.addName(host.folded + "." + domain.folded)
	}
	for _, given := range device.GetIpInterfaces() {
		m.addAddress(given)
	}
	m.addAddress(device.GetLastIpAddress())
}

// described says that more is told of the machine than its id in Defender for Endpoint.
func (m *machine) described() bool {
	return m.entraID != "" || len(m.labels) > 0 || len(m.addresses) > 0
}

// severalMachines says that these, which all fit an Actor by the same criterion, are more than one machine. Records of one name
// are one machine that was onboarded again. By a name, a record without a full name is taken for any of the others; by an address
// alone it is one of its own.
func severalMachines(machines []*machine, by strength) bool {
	seen := make(map[string]bool, len(machines))
	unnamed := 0
	for _, m := range machines {
		switch {
		case len(m.full) > 0:
			seen["name:"+m.full[0].folded] = true
		case by != byAddress:
		case m.deviceID != "":
			seen["id:"+m.deviceID] = true
		default:
			unnamed++
		}
	}
	return len(seen)+unnamed > 1
}

func onboarded(device *integrationv1.Device) bool {
	return device.GetOnboardingStatus() == integrationv1.OnboardingStatus_ONBOARDING_STATUS_ONBOARDED
}

func active(device *integrationv1.Device) bool {
	return device.GetHealthStatus() == integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE
}

// lastSeen returns when the device last reported; the zero time where that is not known.
func lastSeen(device *integrationv1.Device) time.Time { return timeOf(device.GetLastSeenTime()) }

// timeOf returns a timestamp as a time; the zero time where there is none.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
