package defendertest

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// Device is a machine as Defender for Endpoint knows it. The same value serves the list of machines, advanced hunting and an alert's
// evidence (https://learn.microsoft.com/en-us/defender-endpoint/api/machine). Enum values are written as in the list of machines;
// evidence shows them with a small first letter, as Graph does.
type Device struct {
	// ID is the device id, 40 hexadecimal digits. Default: made of DNSName, the same each time.
	ID string
	// EntraID is the id in Entra, a GUID; null where empty.
	EntraID string
	// DNSName is the full name, sometimes the short one.
	DNSName string
	// NTDomain is the Windows domain.
	NTDomain string
	// OSPlatform, Version and OSBuild say which system runs. Default: Windows11, 24H2, 26100.
	OSPlatform, Version string
	OSBuild             int64
	// Health is such as Active or Inactive; Onboarding such as Onboarded or CanBeOnboarded. Default: Active, Onboarded.
	Health, Onboarding string
	// RiskScore and Exposure are None, Low, Medium or High. Default: None; Low.
	RiskScore, Exposure string
	// RBACGroupID and RBACGroup are the device group.
	RBACGroupID int64
	RBACGroup   string
	// FirstSeen is when it was first seen, LastSeen when its last full report came. Default: 90 days ago; an hour ago.
	FirstSeen, LastSeen time.Time
	// IPs are the addresses of its interfaces, LastIP the one last used, ExternalIP as seen from outside. Default of LastIP: the
	// first of IPs.
	IPs                []string
	LastIP, ExternalIP string
	// LoggedOn are the accounts logged on, in evidence only.
	LoggedOn []User
	// Tags are the machine's tags.
	Tags []string
	// MergedInto is the id of the device that this one was merged into; null where empty.
	MergedInto string
	// PotentialDuplicate and Excluded are flags that the list of machines shows.
	PotentialDuplicate, Excluded bool
}

// DeviceID makes the id that a device of that name gets by default.
func DeviceID(dnsName string) string {
	sum := sha1.Sum([]byte(strings.ToLower(dnsName)))
	return hex.EncodeToString(sum[:])
}

func (d Device) withDefaults(now time.Time) Device {
	if d.ID == "" {
		d.ID = DeviceID(d.DNSName)
	}
	d.OSPlatform = cmp.Or(d.OSPlatform, "Windows11")
	if d.OSPlatform == "Windows11" {
		d.Version = cmp.Or(d.Version, "24H2")
		d.OSBuild = cmp.Or(d.OSBuild, 26100)
	}
	d.Health = cmp.Or(d.Health, "Active")
	d.Onboarding = cmp.Or(d.Onboarding, "Onboarded")
	d.RiskScore = cmp.Or(d.RiskScore, "None")
	d.Exposure = cmp.Or(d.Exposure, "Low")
	if d.FirstSeen.IsZero() {
		d.FirstSeen = now.AddDate(0, 0, -90)
	}
	if d.LastSeen.IsZero() {
		d.LastSeen = now.Add(-time.Hour)
	}
	if d.LastIP == "" && len(d.IPs) > 0 {
		d.LastIP = d.IPs[0]
	}
	return d
}

// renderMachine writes the device as the list of machines serves it, with the undocumented members that real answers have.
func (d Device) renderMachine() []byte {
	w := &jsonWriter{b: make([]byte, 0, 2<<10)}
	w.object("", func() {
		w.text("id", d.ID)
		w.text("mergedIntoMachineId", d.MergedInto)
		w.bool("isPotentialDuplication", d.PotentialDuplicate)
		w.bool("isExcluded", d.Excluded)
		w.null("exclusionReason")
		w.text("computerDnsName", d.DNSName)
		w.time("firstSeen", d.FirstSeen)
		w.time("lastSeen", d.LastSeen)
		w.text("osPlatform", d.OSPlatform)
		w.null("osVersion")
		w.text("osProcessor", "x64")
		w.text("version", d.Version)
		w.text("lastIpAddress", d.LastIP)
		w.text("lastExternalIpAddress", d.ExternalIP)
		w.text("agentVersion", "10.8805.26100.4061")
		w.count("osBuild", d.OSBuild)
		w.text("healthStatus", d.Health)
		w.text("deviceValue", "Normal")
		w.number("rbacGroupId", d.RBACGroupID)
		w.text("rbacGroupName", d.RBACGroup)
		w.text("riskScore", d.RiskScore)
		w.text("exposureLevel", d.Exposure)
		w.bool("isAadJoined", d.EntraID != "")
		w.text("aadDeviceId", d.EntraID)
		w.texts("machineTags", d.Tags)
		w.text("onboardingStatus", d.Onboarding)
		w.text("osArchitecture", "64-bit")
		w.text("managedBy", "Unknown")
		w.text("managedByStatus", "Unknown")
		w.list("ipAddresses", len(d.IPs), func(i int) {
			w.object("", func() {
				w.text("ipAddress", d.IPs[i])
				w.null("macAddress")
				w.text("type", "Ethernet")
				w.text("operationalStatus", "Up")
			})
		})
		w.null("vmMetadata")
	})
	return w.b
}

// device is a machine in the list; its fields are the zero value where its bytes were given.
type device struct {
	id     string
	raw    []byte
	fields Device
}

// AddDevice adds a device to the list of machines and to advanced hunting's tables, or replaces the one of its id, and returns it with
// everything filled in.
func (t *Tenant) AddDevice(d Device) Device {
	d = d.withDefaults(t.server.Now())
	t.putDevice(device{id: d.ID, raw: d.renderMachine(), fields: d})
	return d
}

// AddRawDevice adds an element to the list of machines that is served byte for byte. It replaces one of the same id. Advanced hunting
// does not know it.
func (t *Tenant) AddRawDevice(id string, json []byte) {
	t.putDevice(device{id: id, raw: slices.Clone(json)})
}

func (t *Tenant) putDevice(d device) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.IndexFunc(t.devices, func(other device) bool { return other.id == d.id }); i >= 0 {
		t.devices[i] = d
		return
	}
	t.devices = append(t.devices, d)
}

// RemoveDevice takes a device out of the list of machines and the tables.
func (t *Tenant) RemoveDevice(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.devices = slices.DeleteFunc(t.devices, func(d device) bool { return d.id == id })
}

// firstLabel is a DNS name up to its first dot.
func firstLabel(name string) string {
	label, _, _ := strings.Cut(name, ".")
	return label
}

// afterFirstLabel is the rest of a DNS name.
func afterFirstLabel(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// upperFirst makes Defender for Endpoint's spelling of an enum value of Graph's.
func upperFirst(value string) string {
	if value == "" {
		return ""
	}
	return strings.ToUpper(value[:1]) + value[1:]
}

// lowerFirst makes Graph's spelling of an enum value of Defender for Endpoint's.
func lowerFirst(value string) string {
	if value == "" {
		return ""
	}
	return strings.ToLower(value[:1]) + value[1:]
}
