package defendertest

import (
	"cmp"
	"time"
)

// Evidence is one item of an alert's evidence: a [DeviceEvidence], [ProcessEvidence], [FileEvidence], [UserEvidence],
// [IPEvidence], [URLEvidence], [RegistryEvidence] or [RawEvidence]
// (https://learn.microsoft.com/en-us/graph/api/resources/security-alertevidence).
type Evidence interface {
	// render writes the item as Graph shows it.
	render(w *jsonWriter, alertCreated time.Time)
	// flat is the item as Defender for Endpoint shows it; false where it shows none.
	flat() (flatEvidence, bool)
}

// EvidenceBase is what every kind of evidence has.
type EvidenceBase struct {
	// Created is when the item was added to the alert. Default: when the alert was created.
	Created time.Time
	// Verdict and RemediationStatus are enum values. Default: unknown; none.
	Verdict, RemediationStatus string
	// RemediationDetails says more of the remediation.
	RemediationDetails string
	// Roles are enum values; DetailedRoles are free text, such as "Main device"; Tags are the customer's.
	Roles, DetailedRoles, Tags []string
}

func (e EvidenceBase) begin(w *jsonWriter, kind string, alertCreated time.Time) {
	if e.Created.IsZero() {
		e.Created = alertCreated
	}
	w.text("@odata.type", "#microsoft.graph.security."+kind)
	w.time("createdDateTime", e.Created)
	w.text("verdict", cmp.Or(e.Verdict, "unknown"))
	w.text("remediationStatus", cmp.Or(e.RemediationStatus, "none"))
	w.text("remediationStatusDetails", e.RemediationDetails)
	w.texts("roles", e.Roles)
	w.texts("detailedRoles", e.DetailedRoles)
	w.texts("tags", e.Tags)
}

// DeviceEvidence is the device that an alert is about.
type DeviceEvidence struct {
	EvidenceBase
	Device Device
}

func (e DeviceEvidence) render(w *jsonWriter, alertCreated time.Time) {
	d := e.Device.withDefaults(alertCreated)
	w.object("", func() {
		e.begin(w, "deviceEvidence", alertCreated)
		w.time("firstSeenDateTime", d.FirstSeen)
		w.text("mdeDeviceId", d.ID)
		w.text("azureAdDeviceId", d.EntraID)
		w.text("deviceDnsName", d.DNSName)
		w.text("hostName", firstLabel(d.DNSName))
		w.text("ntDomain", d.NTDomain)
		w.text("dnsDomain", afterFirstLabel(d.DNSName))
		w.text("osPlatform", d.OSPlatform)
		w.count("osBuild", d.OSBuild)
		w.text("version", d.Version)
		w.text("healthStatus", lowerFirst(d.Health))
		w.text("riskScore", lowerFirst(d.RiskScore))
		w.number("rbacGroupId", d.RBACGroupID)
		w.text("rbacGroupName", d.RBACGroup)
		w.text("onboardingStatus", lowerFirst(d.Onboarding))
		w.text("defenderAvStatus", "unknown")
		w.text("lastIpAddress", d.LastIP)
		w.text("lastExternalIpAddress", d.ExternalIP)
		w.texts("ipInterfaces", d.IPs)
		w.list("loggedOnUsers", len(d.LoggedOn), func(i int) {
			w.object("", func() {
				w.text("accountName", d.LoggedOn[i].Account)
				w.text("domainName", d.LoggedOn[i].Domain)
			})
		})
		w.texts("resourceAccessEvents", nil)
		w.null("vmMetadata")
	})
}

// File is a file on a disk.
type File struct {
	// Name and Path are the file's name, and its folder.
	Name, Path string
	// SHA1, SHA256 and MD5 are hexadecimal.
	SHA1, SHA256, MD5 string
	// Size is in bytes.
	Size int64
	// Publisher, Signer and Issuer are of its signature.
	Publisher, Signer, Issuer string
}

func (f File) render(w *jsonWriter, name string) {
	if f == (File{}) {
		w.null(name)
		return
	}
	w.object(name, func() {
		w.text("sha1", f.SHA1)
		w.text("sha256", f.SHA256)
		w.text("sha256Ac", "")
		w.text("md5", f.MD5)
		w.text("fileName", f.Name)
		w.text("filePath", f.Path)
		w.count("fileSize", f.Size)
		w.text("filePublisher", f.Publisher)
		w.text("signer", f.Signer)
		w.text("issuer", f.Issuer)
	})
}

// User is an account.
type User struct {
	// Account and Domain are the account's name and its Windows domain.
	Account, Domain string
	// SID is the security identifier, EntraID the id in Entra.
	SID, EntraID string
	// Principal is the user principal name, Display the name for people.
	Principal, Display string
}

func (u User) render(w *jsonWriter, name string) {
	if u == (User{}) {
		w.null(name)
		return
	}
	w.object(name, func() {
		w.text("accountName", u.Account)
		w.text("domainName", u.Domain)
		w.text("userSid", u.SID)
		w.text("azureAdUserId", u.EntraID)
		w.text("userPrincipalName", u.Principal)
		w.text("displayName", u.Display)
	})
}

// ProcessEvidence is a process.
type ProcessEvidence struct {
	EvidenceBase
	// DetectionStatus is detected, blocked or prevented; null where empty.
	DetectionStatus string
	// DeviceID is the Defender for Endpoint id of the device.
	DeviceID string
	// ID and ParentID are process ids; Started and ParentStarted when the processes began.
	ID, ParentID           int64
	Started, ParentStarted time.Time
	// CommandLine is the process's.
	CommandLine string
	// Image and ParentImage are the executables.
	Image, ParentImage File
	// User is the account that it ran as.
	User User
}

func (e ProcessEvidence) render(w *jsonWriter, alertCreated time.Time) {
	w.object("", func() {
		e.begin(w, "processEvidence", alertCreated)
		w.count("processId", e.ID)
		w.count("parentProcessId", e.ParentID)
		w.text("processCommandLine", e.CommandLine)
		w.time("processCreationDateTime", e.Started)
		w.time("parentProcessCreationDateTime", e.ParentStarted)
		w.text("detectionStatus", e.DetectionStatus)
		w.text("mdeDeviceId", e.DeviceID)
		e.Image.render(w, "imageFile")
		e.ParentImage.render(w, "parentProcessImageFile")
		e.User.render(w, "userAccount")
	})
}

// FileEvidence is a file.
type FileEvidence struct {
	EvidenceBase
	// DetectionStatus is detected, blocked or prevented; null where empty.
	DetectionStatus string
	// DeviceID is the Defender for Endpoint id of the device.
	DeviceID string
	// File is the file.
	File File
}

func (e FileEvidence) render(w *jsonWriter, alertCreated time.Time) {
	w.object("", func() {
		e.begin(w, "fileEvidence", alertCreated)
		w.text("detectionStatus", e.DetectionStatus)
		w.text("mdeDeviceId", e.DeviceID)
		e.File.render(w, "fileDetails")
	})
}

// UserEvidence is an account.
type UserEvidence struct {
	EvidenceBase
	User User
}

func (e UserEvidence) render(w *jsonWriter, alertCreated time.Time) {
	w.object("", func() {
		e.begin(w, "userEvidence", alertCreated)
		w.null("stream")
		e.User.render(w, "userAccount")
	})
}

// IPEvidence is an address, mostly of the far end.
type IPEvidence struct {
	EvidenceBase
	// Address is the address, Country two letters.
	Address, Country string
}

func (e IPEvidence) render(w *jsonWriter, alertCreated time.Time) {
	w.object("", func() {
		e.begin(w, "ipEvidence", alertCreated)
		w.text("ipAddress", e.Address)
		w.text("countryLetterCode", e.Country)
		w.null("location", "stream")
	})
}

// URLEvidence is an address on the web.
type URLEvidence struct {
	EvidenceBase
	URL string
}

func (e URLEvidence) render(w *jsonWriter, alertCreated time.Time) {
	w.object("", func() {
		e.begin(w, "urlEvidence", alertCreated)
		w.text("url", e.URL)
	})
}

// RegistryEvidence is a value in the registry of Windows.
type RegistryEvidence struct {
	EvidenceBase
	// DeviceID is the Defender for Endpoint id of the device.
	DeviceID string
	// Hive is such as HKEY_LOCAL_MACHINE.
	Hive, Key, ValueName, ValueType, Value string
}

func (e RegistryEvidence) render(w *jsonWriter, alertCreated time.Time) {
	w.object("", func() {
		e.begin(w, "registryValueEvidence", alertCreated)
		w.text("registryKey", e.Key)
		w.text("registryHive", e.Hive)
		w.text("registryValue", e.Value)
		w.text("registryValueName", e.ValueName)
		w.text("registryValueType", e.ValueType)
		w.text("mdeDeviceId", e.DeviceID)
	})
}

// RawEvidence is an item of evidence in JSON, written as it is. Graph alone shows it.
type RawEvidence string

func (e RawEvidence) render(w *jsonWriter, _ time.Time) { w.raw("", string(e)) }
