package machines

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// fields are the properties of a machine that are used, documented ones
// (https://learn.microsoft.com/en-us/defender-endpoint/api/machine) and, marked, others that are on the wire.
func fields() lenient.Fields[*integrationv1.Device] {
	type device = *integrationv1.Device
	text := lenient.Text[device]
	// Addresses are gathered as they come and tidied at the end.
	address := lenient.Fields[device]{
		"ipAddress": func(v lenient.Value, m device) { m.IpAddresses = append(m.IpAddresses, v.Text()) },
	}
	return lenient.Fields[device]{
		"id":               text(func(m device) *string { return &m.MdeDeviceId }),
		"aadDeviceId":      text(func(m device) *string { return &m.EntraDeviceId }),
		"computerDnsName":  text(func(m device) *string { return &m.DeviceDnsName }),
		"firstSeen":        lenient.Time(func(m device) **timestamppb.Timestamp { return &m.FirstSeenTime }),
		"lastSeen":         lenient.Time(func(m device) **timestamppb.Timestamp { return &m.LastSeenTime }),
		"osPlatform":       text(func(m device) *string { return &m.OsPlatform }),
		"version":          text(func(m device) *string { return &m.OsVersion }),
		"healthStatus":     lenient.Enum(lenient.NamesOf[integrationv1.HealthStatus](nil), func(m device) *integrationv1.HealthStatus { return &m.HealthStatus }),
		"onboardingStatus": lenient.Enum(lenient.NamesOf[integrationv1.OnboardingStatus](nil), func(m device) *integrationv1.OnboardingStatus { return &m.OnboardingStatus }),
		"rbacGroupName":    text(func(m device) *string { return &m.RbacGroupName }),
		"lastIpAddress":    func(v lenient.Value, m device) { m.IpAddresses = append(m.IpAddresses, v.Text()) },
		"ipAddresses": func(v lenient.Value, m device) {
			v.Each(func(item lenient.Value) {
				if item.IsObject() {
					lenient.ReadObject(item, address, m, passOver)
				}
			})
		},
		// Not documented, seen in answers.
		"mergedIntoMachineId":    text(func(m device) *string { return &m.MergedIntoDeviceId }),
		"isPotentialDuplication": lenient.Bool(func(m device) *bool { return &m.PotentialDuplicate }),
		"isExcluded":             lenient.Bool(func(m device) *bool { return &m.Excluded }),
	}
}

// passOver knows every property that has no field: a machine has many that are not used.
func passOver(string, lenient.Value) bool { return true }

// Addresses returns the addresses of a device as Microsoft spells them, each once and in their order, without those that are no
// addresses or name no machine. It works in the place of texts.
func Addresses(texts []string) []string {
	kept := texts[:0]
	for _, text := range texts {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Unmap().IsLoopback() || address.Unmap().IsUnspecified() || slices.Contains(kept, text) {
			continue
		}
		kept = append(kept, text)
	}
	return kept
}
