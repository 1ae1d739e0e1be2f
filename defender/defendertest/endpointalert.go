package defendertest

import (
	"strconv"
	"time"
)

// endpointSource is the service source of the alerts that Defender for Endpoint's own APIs have: no others are in them.
const endpointSource = "microsoftDefenderForEndpoint"

// renderEndpoint writes the alert as Defender for Endpoint's list of alerts serves it
// (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts), in the types that real answers have where the page says
// otherwise: incidentId is a number, mitreTechniques an array, relatedUser an object. loggedOnUsers and domains are not documented
// and are sent. Unless it is asked for, the evidence is an empty list.
func (a Alert) renderEndpoint(tenantID string, expand bool) []byte {
	device, user := a.device(), a.user()
	items := a.flatEvidence()
	if !expand {
		items = nil
	}
	w := &jsonWriter{b: make([]byte, 0, 6<<10)}
	w.object("", func() {
		w.text("id", a.ID)
		incident, _ := strconv.ParseInt(a.IncidentID, 10, 64) // not a number: none
		w.count("incidentId", incident)
		w.null("investigationId")
		w.text("assignedTo", a.AssignedTo)
		w.text("severity", endpointSeverity(a.Severity))
		w.text("status", upperFirst(a.Status))
		w.text("classification", upperFirst(a.Classification))
		w.text("determination", upperFirst(a.Determination))
		w.text("investigationState", upperFirst(a.InvestigationState))
		w.text("detectionSource", endpointDetectionSource(a.DetectionSource))
		w.text("detectorId", a.DetectorID)
		w.text("category", a.Category)
		w.text("threatFamilyName", a.ThreatFamily)
		w.text("title", a.Title)
		w.text("description", a.Description)
		w.time("alertCreationTime", a.Created)
		w.time("firstEventTime", a.FirstActivity)
		w.time("lastEventTime", a.LastActivity)
		w.time("lastUpdateTime", a.LastUpdate)
		w.time("resolvedTime", a.Resolved)
		w.text("machineId", device.ID)
		w.text("computerDnsName", device.DNSName)
		w.text("rbacGroupName", device.RBACGroup)
		w.text("aadTenantId", tenantID)
		w.text("threatName", a.ThreatName)
		w.texts("mitreTechniques", a.Techniques)
		if user == (User{}) {
			w.null("relatedUser")
		} else {
			w.object("relatedUser", func() {
				w.text("userName", user.Account)
				w.text("domainName", user.Domain)
			})
		}
		w.list("loggedOnUsers", len(device.LoggedOn), func(i int) {
			w.object("", func() {
				w.text("accountName", device.LoggedOn[i].Account)
				w.text("domainName", device.LoggedOn[i].Domain)
			})
		})
		w.list("comments", len(a.Comments), func(i int) {
			w.object("", func() {
				w.text("comment", a.Comments[i].Text)
				w.text("createdBy", a.Comments[i].By)
				w.time("createdTime", a.Comments[i].Time)
			})
		})
		w.list("evidence", len(items), func(i int) { items[i].render(w, a.Created) })
		w.texts("domains", nil)
		a.extra(w)
	})
	return w.b
}

// device is the alert's one device: that of its first device evidence, with all filled in; the zero value where it has none.
func (a Alert) device() Device {
	for _, item := range a.Evidence {
		if e, ok := item.(DeviceEvidence); ok {
			return e.Device.withDefaults(a.Created)
		}
	}
	return Device{}
}

// user is the account that the alert is about: that of the first evidence which has one.
func (a Alert) user() User {
	for _, item := range a.flatEvidence() {
		if item.user != (User{}) {
			return item.user
		}
	}
	return User{}
}

// flatEvidence is the alert's evidence as Defender for Endpoint shows it.
func (a Alert) flatEvidence() []flatEvidence {
	items := make([]flatEvidence, 0, len(a.Evidence))
	for _, item := range a.Evidence {
		if e, ok := item.flat(); ok {
			items = append(items, e)
		}
	}
	return items
}

// endpointSeverity is Defender for Endpoint's spelling of a severity.
func endpointSeverity(severity string) string {
	if severity == "unknown" {
		return "UnSpecified"
	}
	return upperFirst(severity)
}

// endpointDetectionSource is what Defender for Endpoint calls a detection source of Graph's
// (https://learn.microsoft.com/en-us/defender-endpoint/alerts-queue, table of the API's values).
func endpointDetectionSource(source string) string {
	switch source {
	case endpointSource:
		return "WindowsDefenderAtp"
	case "antivirus":
		return "WindowsDefenderAv"
	case "smartScreen":
		return "WindowsDefenderSmartScreen"
	case "customTi":
		return "CustomerTI"
	case "microsoft365Defender":
		return "MTP"
	case "microsoftDefenderForOffice365":
		return "OfficeATP"
	case "microsoftThreatExperts":
		return "ThreatExperts"
	}
	return upperFirst(source)
}

// endpointBytes are what Defender for Endpoint serves of a revision. Raw ones are the same with evidence and without.
func (r *revision) endpointBytes(expand bool) []byte {
	if r.alert == nil {
		return r.raw
	}
	form := &r.endpointPlain
	if expand {
		form = &r.endpoint
	}
	form.once.Do(func() { form.bytes = r.alert.renderEndpoint(r.tenant.id, expand) })
	return form.bytes
}

// rawEndpointRevision reads of an element's bytes what it is filtered and sorted by. What cannot be read stays empty.
func rawEndpointRevision(raw []byte) *revision {
	members := membersOf(raw)
	severity := members.text("severity")
	if severity == "UnSpecified" {
		severity = "unknown"
	}
	return &revision{
		api: DefenderForEndpoint, raw: raw, key: members.text("id"),
		updated: members.time("lastUpdateTime", time.RFC3339Nano), created: members.time("alertCreationTime", time.RFC3339Nano),
		status: lowerFirst(members.text("status")), severity: lowerFirst(severity), serviceSource: endpointSource,
	}
}
