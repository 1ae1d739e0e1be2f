package graph

import (
	"defender-integration/defender/lenient"
	"defender-integration/defender/reading"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Names of properties that are used outside the tables.
const (
	propertyID       = "id"
	propertyCreated  = "createdDateTime"
	propertyUpdated  = "lastUpdateDateTime"
	propertyEvidence = "evidence"
)

// Decoder reads the elements of alerts_v2. It is not safe for concurrent use.
type Decoder struct {
	document lenient.Document
	fields   lenient.Fields[*integrationv1.Alert]
}

// NewDecoder returns a decoder.
func NewDecoder() *Decoder {
	return &Decoder{fields: alertFields()}
}

// Decode reads one element. The only error is of its syntax: whatever JSON it is, it goes through, and what is odd about it is
// among the alert's oddities.
func (d *Decoder) Decode(raw []byte) (reading.Decoded, error) {
	if err := d.document.Parse(raw); err != nil {
		return reading.Decoded{}, err
	}
	alert := &integrationv1.Alert{}
	alert.Oddities = lenient.Read(&d.document, d.fields, alert, propertyID, propertyUpdated)
	decoded := reading.NewDecoded(alert, d.document.ContentHash(propertyEvidence))
	if decoded.WithoutEvidence = reading.LacksEvidence(&d.document, alert, propertyEvidence); decoded.WithoutEvidence {
		alert.Oddities = append(alert.Oddities, &integrationv1.Oddity{Kind: integrationv1.Oddity_KIND_MISSING_FIELD, Path: "/" + propertyEvidence})
	}
	return decoded, nil
}

// alertFields are the properties of an alert, all that the metadata of v1.0 declares
// (https://learn.microsoft.com/en-us/graph/api/resources/security-alert).
func alertFields() lenient.Fields[*integrationv1.Alert] {
	type alert = *integrationv1.Alert
	comments := lenient.Fields[*integrationv1.AlertComment]{
		"comment": lenient.Text(func(m *integrationv1.AlertComment) text { return &m.Comment }),
		// The metadata says createdByDisplayName and createdDateTime, the documentation's samples createdBy and createdTime.
		"createdByDisplayName": lenient.Text(func(m *integrationv1.AlertComment) text { return &m.CreatedBy }),
		"createdBy":            lenient.Text(func(m *integrationv1.AlertComment) text { return &m.CreatedBy }),
		"createdDateTime":      lenient.Time(func(m *integrationv1.AlertComment) moment { return &m.CreatedTime }),
		"createdTime":          lenient.Time(func(m *integrationv1.AlertComment) moment { return &m.CreatedTime }),
	}
	determinations := lenient.NamesOf(lenient.Names[integrationv1.Determination]{
		// The spellings of the documentation's table of properties, where the metadata has others.
		"compromisedUser":       integrationv1.Determination_DETERMINATION_COMPROMISED_ACCOUNT,
		"clean":                 integrationv1.Determination_DETERMINATION_NOT_MALICIOUS,
		"insufficientData":      integrationv1.Determination_DETERMINATION_NOT_ENOUGH_DATA_TO_VALIDATE,
		"confirmedUserActivity": integrationv1.Determination_DETERMINATION_CONFIRMED_ACTIVITY,
	})
	return lenient.Fields[alert]{
		propertyID:              lenient.Text(func(m alert) text { return &m.Id }),
		"providerAlertId":       lenient.Text(func(m alert) text { return &m.ProviderAlertId }),
		"incidentId":            lenient.Text(func(m alert) text { return &m.IncidentId }),
		"tenantId":              lenient.Text(func(m alert) text { return &m.TenantId }),
		"title":                 lenient.Text(func(m alert) text { return &m.Title }),
		"description":           lenient.Text(func(m alert) text { return &m.Description }),
		"recommendedActions":    lenient.Text(func(m alert) text { return &m.RecommendedActions }),
		"category":              lenient.Text(func(m alert) text { return &m.Category }),
		"categories":            lenient.Texts(func(m alert) *[]string { return &m.Categories }),
		"severity":              lenient.Enum(lenient.NamesOf[integrationv1.Severity](nil), func(m alert) *integrationv1.Severity { return &m.Severity }),
		"status":                lenient.Enum(lenient.NamesOf[integrationv1.AlertStatus](nil), func(m alert) *integrationv1.AlertStatus { return &m.Status }),
		"classification":        lenient.Enum(lenient.NamesOf[integrationv1.Classification](nil), func(m alert) *integrationv1.Classification { return &m.Classification }),
		"determination":         lenient.Enum(determinations, func(m alert) *integrationv1.Determination { return &m.Determination }),
		"serviceSource":         lenient.Text(func(m alert) text { return &m.ServiceSource }),
		"detectionSource":       lenient.Text(func(m alert) text { return &m.DetectionSource }),
		"productName":           lenient.Text(func(m alert) text { return &m.ProductName }),
		"detectorId":            lenient.Text(func(m alert) text { return &m.DetectorId }),
		"alertPolicyId":         lenient.Text(func(m alert) text { return &m.AlertPolicyId }),
		"investigationState":    lenient.Text(func(m alert) text { return &m.InvestigationState }),
		"assignedTo":            lenient.Text(func(m alert) text { return &m.AssignedTo }),
		"actorDisplayName":      lenient.Text(func(m alert) text { return &m.ActorDisplayName }),
		"threatDisplayName":     lenient.Text(func(m alert) text { return &m.ThreatDisplayName }),
		"threatFamilyName":      lenient.Text(func(m alert) text { return &m.ThreatFamilyName }),
		"mitreTechniques":       lenient.Texts(func(m alert) *[]string { return &m.MitreTechniques }),
		propertyCreated:         lenient.Time(func(m alert) moment { return &m.CreatedTime }),
		propertyUpdated:         lenient.Time(func(m alert) moment { return &m.LastUpdateTime }),
		"resolvedDateTime":      lenient.Time(func(m alert) moment { return &m.ResolvedTime }),
		"firstActivityDateTime": lenient.Time(func(m alert) moment { return &m.FirstActivityTime }),
		"lastActivityDateTime":  lenient.Time(func(m alert) moment { return &m.LastActivityTime }),
		"alertWebUrl":           lenient.Text(func(m alert) text { return &m.AlertWebUrl }),
		"incidentWebUrl":        lenient.Text(func(m alert) text { return &m.IncidentWebUrl }),
		"comments":              lenient.Objects(comments, func(m alert) *[]*integrationv1.AlertComment { return &m.Comments }),
		"systemTags":            lenient.Texts(func(m alert) *[]string { return &m.SystemTags }),
		"additionalData":        lenient.JSON(func(m alert) text { return &m.AdditionalDataJson }),
		"customDetails":         lenient.JSON(func(m alert) text { return &m.CustomDetailsJson }),
		propertyEvidence:        newEvidenceReader().list(func(m alert) *[]*integrationv1.Evidence { return &m.Evidence }),
	}
}
