package defendertest

import "time"

// flatEvidence is an item of evidence as Defender for Endpoint shows it: one object for all kinds, with null for what a kind does
// not have (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts).
type flatEvidence struct {
	entityType       string // Process, File, User, Ip, Url or Registry
	created          time.Time
	file, parent     File
	id, parentID     int64
	started          time.Time
	parentStarted    time.Time
	commandLine      string
	address, url     string
	hive, key        string
	valueType, value string
	user             User
	status, deviceID string // status is detected, blocked or prevented
}

// flatBase has what every kind of evidence has.
func (e EvidenceBase) flatBase(entityType string) flatEvidence {
	return flatEvidence{entityType: entityType, created: e.Created}
}

// render writes the item. What the alert was created at stands in where the item's own time is not given.
func (e *flatEvidence) render(w *jsonWriter, alertCreated time.Time) {
	created := e.created
	if created.IsZero() {
		created = alertCreated
	}
	w.object("", func() {
		w.text("entityType", e.entityType)
		w.time("evidenceCreationTime", created)
		w.text("sha1", e.file.SHA1)
		w.text("sha256", e.file.SHA256)
		w.text("fileName", e.file.Name)
		w.text("filePath", e.file.Path)
		w.count("processId", e.id)
		w.text("processCommandLine", e.commandLine)
		w.time("processCreationTime", e.started)
		w.count("parentProcessId", e.parentID)
		w.time("parentProcessCreationTime", e.parentStarted)
		w.text("parentProcessFileName", e.parent.Name)
		w.text("parentProcessFilePath", e.parent.Path)
		w.text("ipAddress", e.address)
		w.text("url", e.url)
		w.text("registryKey", e.key)
		w.text("registryHive", e.hive)
		w.text("registryValueType", e.valueType)
		w.text("registryValue", e.value)
		w.text("accountName", e.user.Account)
		w.text("domainName", e.user.Domain)
		w.text("userSid", e.user.SID)
		w.text("aadUserId", e.user.EntraID)
		w.text("userPrincipalName", e.user.Principal)
		w.text("detectionStatus", upperFirst(e.status))
	})
}

// flat of a device is nothing: there an alert has one machine, and it is no evidence.
func (e DeviceEvidence) flat() (flatEvidence, bool) { return flatEvidence{}, false }

func (e ProcessEvidence) flat() (flatEvidence, bool) {
	f := e.flatBase("Process")
	f.file, f.parent, f.user = e.Image, e.ParentImage, e.User
	f.id, f.started, f.parentID, f.parentStarted = e.ID, e.Started, e.ParentID, e.ParentStarted
	f.commandLine, f.status, f.deviceID = e.CommandLine, e.DetectionStatus, e.DeviceID
	return f, true
}

func (e FileEvidence) flat() (flatEvidence, bool) {
	f := e.flatBase("File")
	f.file, f.status, f.deviceID = e.File, e.DetectionStatus, e.DeviceID
	return f, true
}

func (e UserEvidence) flat() (flatEvidence, bool) {
	f := e.flatBase("User")
	f.user = e.User
	return f, true
}

func (e IPEvidence) flat() (flatEvidence, bool) {
	f := e.flatBase("Ip")
	f.address = e.Address
	return f, true
}

func (e URLEvidence) flat() (flatEvidence, bool) {
	f := e.flatBase("Url")
	f.url = e.URL
	return f, true
}

func (e RegistryEvidence) flat() (flatEvidence, bool) {
	f := e.flatBase("Registry")
	f.hive, f.key, f.valueType, f.value, f.deviceID = e.Hive, e.Key, e.ValueType, e.Value, e.DeviceID
	return f, true
}

// flat of raw evidence is nothing: its JSON is Graph's.
func (e RawEvidence) flat() (flatEvidence, bool) { return flatEvidence{}, false }
