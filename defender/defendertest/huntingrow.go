package defendertest

import (
	"net/netip"
	"strings"
	"time"
)

const (
	// huntingLookBack is how far back the tables reach: a device that was silent for longer has no row.
	huntingLookBack = 30 * 24 * time.Hour
	// networkLookBack is how far back the look-up reads the table of addresses.
	networkLookBack = 24 * time.Hour
	// oneDeviceLookBack is how far back any one device is looked for.
	oneDeviceLookBack = 24 * time.Hour
	// reportInterval is how often a device makes a row of DeviceInfo.
	reportInterval = time.Hour
)

// huntingRow is what the look-up knows of a device.
type huntingRow struct {
	device Device
	// first and last are of its rows of DeviceInfo within the look-back.
	first, last time.Time
	// addresses is IPAddresses, JSON in a string; empty where no row of DeviceNetworkInfo is new enough.
	addresses string
}

// huntingRows are the rows of the devices that the query is about, as many as the most.
func (t *Tenant) huntingRows(query huntingQuery, lookBack time.Duration, most int, now time.Time) []huntingRow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rows []huntingRow
	for _, d := range t.devices {
		if len(rows) == most {
			break
		}
		if d.fields.ID == "" {
			continue
		}
		row, ok := d.fields.huntingRow(now, lookBack)
		if ok && query.takes(&row) {
			rows = append(rows, row)
		}
	}
	return rows
}

// takes tells whether a device fits one of the clauses, or any is asked for.
func (q *huntingQuery) takes(row *huntingRow) bool {
	if q.one {
		return true
	}
	for _, clause := range q.clauses {
		for _, value := range clause.values {
			if clause.fits(row, value) {
				return true
			}
		}
	}
	return false
}

// huntingRow makes the device's row; false where it made none within the look-back. It reports each hour until it was last seen
// (https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceinfo-table), so that its first row is mostly that of the
// look-back's begin and no sign of a new device.
func (d Device) huntingRow(now time.Time, lookBack time.Duration) (huntingRow, bool) {
	since := now.Add(-lookBack)
	if !d.LastSeen.After(since) {
		return huntingRow{}, false
	}
	row := huntingRow{device: d, first: d.FirstSeen, last: d.LastSeen}
	if !row.first.After(since) {
		// The last report, less all whole hours with which it still lies after since.
		row.first = d.LastSeen.Add(-(d.LastSeen.Sub(since) - 1).Truncate(reportInterval))
	}
	if d.LastSeen.After(now.Add(-networkLookBack)) {
		row.addresses = d.networkAddresses()
	}
	return row, true
}

// networkAddresses writes the device's addresses as DeviceNetworkInfo has them: JSON in a string.
func (d Device) networkAddresses() string {
	w := &jsonWriter{}
	w.list("", len(d.IPs), func(i int) {
		w.object("", func() {
			w.text("IPAddress", d.IPs[i])
			prefix, kind := int64(24), "Private"
			if address, err := netip.ParseAddr(d.IPs[i]); err == nil {
				if address.Is6() {
					prefix = 64
				}
				if !address.IsPrivate() {
					kind = "Public"
				}
			}
			w.number("SubnetPrefix", prefix)
			w.text("AddressType", kind)
		})
	})
	return string(w.b)
}

// render writes the row as Graph does: a text that is not known is empty, a flag is a number with its type beside it, and one that is
// not known an empty object. Vulnerability management, which IsExcluded is from, does not know what is not onboarded.
func (r *huntingRow) render(w *jsonWriter) {
	d := r.device
	w.object("", func() {
		r.renderName(w)
		w.present("AadDeviceId", d.EntraID)
		w.present("PublicIP", d.ExternalIP)
		w.present("OSPlatform", d.OSPlatform)
		w.present("OSVersion", huntingOSVersion(d))
		w.present("MachineGroup", d.RBACGroup)
		w.present("OnboardingStatus", huntingOnboarding(d.Onboarding))
		w.present("SensorHealthState", d.Health)
		switch {
		case !strings.EqualFold(d.Onboarding, "Onboarded"):
			w.raw("IsExcluded", "{}")
		case d.Excluded:
			w.raw("", `"IsExcluded@odata.type":"#SByte","IsExcluded":1`)
		default:
			w.raw("", `"IsExcluded@odata.type":"#SByte","IsExcluded":0`)
		}
		w.present("MergedToDeviceId", d.MergedInto)
		w.time("FirstSeen", r.first)
		w.time("LastSeen", r.last)
		if r.addresses == "" {
			w.raw("IPAddresses", "{}")
			return
		}
		// One text for each network adapter; a device has one here.
		w.raw("", `"IPAddresses@odata.type":"#Collection(String)"`)
		w.list("IPAddresses", 1, func(int) { w.quote(r.addresses) })
	})
}

// renderName writes the first two columns, which are all that is told of any one device.
func (r *huntingRow) renderName(w *jsonWriter) {
	w.present("DeviceId", r.device.ID)
	w.present("DeviceName", r.device.DNSName)
}

// huntingSchema is the schema of the look-up's answer: names and types of the columns.
func huntingSchema() [][2]string {
	return [][2]string{
		{"DeviceId", "String"}, {"DeviceName", "String"}, {"AadDeviceId", "String"}, {"PublicIP", "String"}, {"OSPlatform", "String"},
		{"OSVersion", "String"}, {"MachineGroup", "String"}, {"OnboardingStatus", "String"}, {"SensorHealthState", "String"},
		{"IsExcluded", "SByte"}, {"MergedToDeviceId", "String"}, {"FirstSeen", "DateTime"}, {"LastSeen", "DateTime"}, {"IPAddresses", "Object"},
	}
}

// huntingOSVersion is the version of the system, which for Windows is that of the kernel.
func huntingOSVersion(d Device) string {
	if strings.HasPrefix(d.OSPlatform, "Windows") {
		return "10.0"
	}
	return d.Version
}

// huntingOnboarding is how DeviceInfo spells an onboarding status: as the portal does.
func huntingOnboarding(status string) string {
	switch status {
	case "CanBeOnboarded":
		return "Can be onboarded"
	case "InsufficientInfo":
		return "Insufficient info"
	}
	return status
}
