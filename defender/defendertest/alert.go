package defendertest

import (
	"cmp"
	"time"
)

// Alert is an alert as a test describes it. What is left out gets a sensible value when it is added, or is null on the wire.
// Members and enum values are written as Graph's alert resource has them
// (https://learn.microsoft.com/en-us/graph/api/resources/security-alert); the other APIs show the same alert in their own shape,
// where ServiceSource is Defender for Endpoint.
type Alert struct {
	// ID is the alert's id. Default: "da", a new GUID and "_1", as Defender for Endpoint's look.
	ID string
	// IncidentID is the incident's number, in text.
	IncidentID string
	// Title, Description, RecommendedActions and Category are texts for people.
	Title, Description, RecommendedActions, Category string
	// Severity, Status, ServiceSource and DetectionSource are enum values. Default: medium, new, microsoftDefenderForEndpoint.
	Severity, Status, ServiceSource, DetectionSource string
	// Classification, Determination and InvestigationState are enum values; null where empty.
	Classification, Determination, InvestigationState string
	// DetectorID names the detector.
	DetectorID string
	// ThreatName and ThreatFamily name the threat; Actor the activity group behind it.
	ThreatName, ThreatFamily, Actor string
	// AssignedTo is the analyst, or "Automation".
	AssignedTo string
	// Techniques are MITRE's, such as T1059.001.
	Techniques []string
	// LastUpdate is when the alert last changed. Default: the server's time.
	LastUpdate time.Time
	// Created is when Defender raised it. Default: LastUpdate.
	Created time.Time
	// FirstActivity and LastActivity are when what it is about happened. Default: 90 seconds before Created; FirstActivity.
	FirstActivity, LastActivity time.Time
	// NoActivity leaves both out: they are null, an empty string at the alert exporter.
	NoActivity bool
	// Resolved is when its status became resolved.
	Resolved time.Time
	// Comments are analysts' comments.
	Comments []Comment
	// SystemTags are tags such as "Defender Experts".
	SystemTags []string
	// Evidence is what it rests on.
	Evidence []Evidence
	// Extra are further members, each complete JSON such as `"new":{"a":1}`, after all others, in whatever API's shape.
	Extra []string
}

// Comment is an analyst's comment.
type Comment struct {
	Text, By string
	Time     time.Time
}

// withDefaults fills in what was left out.
func (a Alert) withDefaults(now time.Time) Alert {
	if a.ID == "" {
		a.ID = "da" + newGUID() + "_1"
	}
	a.Title = cmp.Or(a.Title, "Suspicious activity")
	a.Severity = cmp.Or(a.Severity, "medium")
	a.Status = cmp.Or(a.Status, "new")
	a.ServiceSource = cmp.Or(a.ServiceSource, endpointSource)
	a.DetectionSource = cmp.Or(a.DetectionSource, endpointSource)
	if a.LastUpdate.IsZero() {
		a.LastUpdate = now
	}
	if a.Created.IsZero() {
		a.Created = a.LastUpdate
	}
	if a.FirstActivity.IsZero() {
		a.FirstActivity = a.Created.Add(-90 * time.Second)
	}
	if a.LastActivity.IsZero() {
		a.LastActivity = a.FirstActivity
	}
	if a.NoActivity {
		a.FirstActivity, a.LastActivity = time.Time{}, time.Time{}
	}
	a.LastUpdate, a.Created = ticks(a.LastUpdate), ticks(a.Created)
	return a
}

// productNames are the products as `productName` shows them, by service source.
func productName(serviceSource string) string {
	if serviceSource == endpointSource {
		return "Microsoft Defender for Endpoint"
	}
	return ""
}

// render writes the alert as Graph serves it.
func (a Alert) render(tenantID string) []byte {
	w := &jsonWriter{b: make([]byte, 0, 6<<10)}
	w.object("", func() {
		w.text("id", a.ID)
		w.text("providerAlertId", a.ID)
		w.text("incidentId", a.IncidentID)
		w.text("status", a.Status)
		w.text("severity", a.Severity)
		w.text("classification", a.Classification)
		w.text("determination", a.Determination)
		w.text("serviceSource", a.ServiceSource)
		w.text("detectionSource", a.DetectionSource)
		w.text("productName", productName(a.ServiceSource))
		w.text("detectorId", a.DetectorID)
		w.text("tenantId", tenantID)
		w.text("title", a.Title)
		w.text("description", a.Description)
		w.text("recommendedActions", a.RecommendedActions)
		w.text("category", a.Category)
		w.text("assignedTo", a.AssignedTo)
		w.text("alertWebUrl", "https://security.microsoft.com/alerts/"+a.ID+"?tid="+tenantID+"&source=simulated")
		if a.IncidentID == "" {
			w.null("incidentWebUrl")
		} else {
			w.text("incidentWebUrl", "https://security.microsoft.com/incident2/"+a.IncidentID+"/overview?tid="+tenantID)
		}
		w.text("actorDisplayName", a.Actor)
		w.text("threatDisplayName", a.ThreatName)
		w.text("threatFamilyName", a.ThreatFamily)
		w.texts("mitreTechniques", a.Techniques)
		w.time("createdDateTime", a.Created)
		w.time("lastUpdateDateTime", a.LastUpdate)
		w.time("resolvedDateTime", a.Resolved)
		w.time("firstActivityDateTime", a.FirstActivity)
		w.time("lastActivityDateTime", a.LastActivity)
		w.texts("systemTags", a.SystemTags)
		w.null("alertPolicyId")
		w.text("investigationState", a.InvestigationState)
		w.list("comments", len(a.Comments), func(i int) {
			w.object("", func() {
				w.text("comment", a.Comments[i].Text)
				w.text("createdByDisplayName", a.Comments[i].By)
				w.time("createdDateTime", a.Comments[i].Time)
			})
		})
		w.list("evidence", len(a.Evidence), func(i int) { a.Evidence[i].render(w, a.Created) })
		w.raw("additionalData", "{}")
		w.raw("customDetails", "{}")
		a.extra(w)
	})
	return w.b
}

// extra writes the members that the test adds.
func (a Alert) extra(w *jsonWriter) {
	for _, member := range a.Extra {
		w.key("")
		w.b = append(w.b, member...)
	}
}
