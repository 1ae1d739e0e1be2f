package hunting

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
	"defender-integration/defender/machines"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// certainlyFirst is how far back the first row of a device is believed to be its first: rows reach 30 days back, so one at that edge
// is only the first that is left.
const certainlyFirst = 29 * 24 * time.Hour

// decoder reads rows of a look-up. It is not safe for concurrent use.
type decoder struct {
	fields lenient.Fields[*integrationv1.Device]
	row    lenient.Document
	// inner is the JSON inside a cell of text.
	inner lenient.Document
}

// newDecoder returns a decoder. Columns come in the case in which the query names them, and are taken in any.
func newDecoder() *decoder {
	d := &decoder{row: lenient.Document{IgnoreCase: true}, inner: lenient.Document{IgnoreCase: true}}
	d.fields = lenient.IgnoringCase(d.columns())
	return d
}

// decode reads a row; now is the time of the answer that it came in. The error is of its syntax: what cannot be read leaves its field
// empty, since oddities have no place in a device. It shares nothing with raw.
func (d *decoder) decode(raw []byte, now time.Time) (*integrationv1.Device, error) {
	if err := d.row.Parse(raw); err != nil {
		return nil, err
	}
	device := &integrationv1.Device{}
	if row := d.row.Root(); row.IsObject() {
		lenient.ReadObject(row, d.fields, device, passOver)
	}
	device.IpAddresses = machines.Addresses(device.GetIpAddresses())
	if device.GetFirstSeenTime() != nil && device.GetFirstSeenTime().AsTime().Before(now.Add(-certainlyFirst)) {
		device.FirstSeenTime = nil
	}
	return device, nil
}

// columns are the columns of a look-up that a device has a field for. An answer writes null as null or, where the column is no text, as
// an empty object, which reads as nothing; and beside some cells their type, under `@odata.type`, which tells nothing. None of that
// is documented; it is seen in answers.
func (d *decoder) columns() lenient.Fields[*integrationv1.Device] {
	type device = *integrationv1.Device
	text := lenient.Text[device]
	return lenient.Fields[device]{
		"DeviceId":          text(func(m device) *string { return &m.MdeDeviceId }),
		"DeviceName":        text(func(m device) *string { return &m.DeviceDnsName }),
		"AadDeviceId":       text(func(m device) *string { return &m.EntraDeviceId }),
		"OSPlatform":        text(func(m device) *string { return &m.OsPlatform }),
		"OSVersion":         text(func(m device) *string { return &m.OsVersion }),
		"MachineGroup":      text(func(m device) *string { return &m.RbacGroupName }),
		"OnboardingStatus":  lenient.Enum(onboardingNames(), func(m device) *integrationv1.OnboardingStatus { return &m.OnboardingStatus }),
		"SensorHealthState": lenient.Enum(healthNames(), func(m device) *integrationv1.HealthStatus { return &m.HealthStatus }),
		"MergedToDeviceId":  text(func(m device) *string { return &m.MergedIntoDeviceId }),
		"FirstSeen":         lenient.Time(func(m device) **timestamppb.Timestamp { return &m.FirstSeenTime }),
		"LastSeen":          lenient.Time(func(m device) **timestamppb.Timestamp { return &m.LastSeenTime }),
		"IPAddresses":       d.addresses(),
		"IsExcluded":        truth(func(m device) *bool { return &m.Excluded }),
		// The address on the Internet is the gateway's, and that of all behind it.
		"PublicIP": func(lenient.Value, device) {},
	}
}

// passOver knows every member that has no field: an adapter's address has others, which are not used.
func passOver(string, lenient.Value) bool { return true }

// truth is the field of a truth value, which comes as a number of one byte.
func truth(at func(*integrationv1.Device) *bool) lenient.Field[*integrationv1.Device] {
	return func(v lenient.Value, m *integrationv1.Device) {
		switch v.Text() {
		case "1":
			*at(m) = true
		case "0":
			*at(m) = false
		default:
			*at(m) = v.Bool()
		}
	}
}

// addresses reads the addresses of a device's network adapters: a list of objects, each with an IPAddress. The table keeps it as text
// in JSON (https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-devicenetworkinfo-table), so it is decoded twice. A
// list that is no text is read too, of objects or of such texts.
func (d *decoder) addresses() lenient.Field[*integrationv1.Device] {
	type device = *integrationv1.Device
	one := lenient.IgnoringCase(lenient.Fields[device]{
		"IPAddress": func(v lenient.Value, m device) { m.IpAddresses = append(m.IpAddresses, v.Text()) },
	})
	object := func(v lenient.Value, m device) {
		if v.IsObject() {
			lenient.ReadObject(v, one, m, passOver)
		}
	}
	text := func(v lenient.Value, m device) (read bool) {
		cell := v.Text()
		if cell != "" && d.inner.Parse([]byte(cell)) == nil {
			d.inner.Root().Each(func(item lenient.Value) { object(item, m) })
		}
		return cell != ""
	}
	return func(v lenient.Value, m device) {
		if v.IsObject() || text(v, m) {
			return
		}
		v.Each(func(item lenient.Value) {
			if item.IsObject() {
				object(item, m)
			} else {
				text(item, m)
			}
		})
	}
}

// onboardingNames are the words of OnboardingStatus. Microsoft documents no list; public queries spell them with blanks.
func onboardingNames() lenient.Names[integrationv1.OnboardingStatus] {
	return lenient.NamesOf(lenient.Names[integrationv1.OnboardingStatus]{
		"can be onboarded":  integrationv1.OnboardingStatus_ONBOARDING_STATUS_CAN_BE_ONBOARDED,
		"insufficient info": integrationv1.OnboardingStatus_ONBOARDING_STATUS_INSUFFICIENT_INFO,
	})
}

// healthNames are the words of SensorHealthState. Microsoft documents no list; those with blanks are the portal's
// (https://learn.microsoft.com/en-us/defender-endpoint/fix-unhealthy-sensors).
func healthNames() lenient.Names[integrationv1.HealthStatus] {
	return lenient.NamesOf(lenient.Names[integrationv1.HealthStatus]{
		"impaired communication":  integrationv1.HealthStatus_HEALTH_STATUS_IMPAIRED_COMMUNICATION,
		"impaired communications": integrationv1.HealthStatus_HEALTH_STATUS_IMPAIRED_COMMUNICATION,
		"impairedcommunications":  integrationv1.HealthStatus_HEALTH_STATUS_IMPAIRED_COMMUNICATION,
		"no sensor data":          integrationv1.HealthStatus_HEALTH_STATUS_NO_SENSOR_DATA,
	})
}
