package endpoint

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
	"defender-integration/defender/reading"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Names of properties that are used outside the tables.
const (
	propertyID       = "id"
	propertyCreated  = "alertCreationTime"
	propertyUpdated  = "lastUpdateTime"
	propertyEvidence = "evidence"
)

// serviceSource is what every alert of this API is from, in Graph's words. The API itself does not say it.
const serviceSource = "microsoftDefenderForEndpoint"

// Decoder reads the elements of Defender for Endpoint's list of alerts. It is not safe for concurrent use.
type Decoder struct {
	document lenient.Document
	fields   lenient.Fields[*row]
}

// NewDecoder returns a decoder.
func NewDecoder() *Decoder {
	return &Decoder{fields: alertFields()}
}

// Decode reads one element. The only error is of its syntax: whatever JSON it is, it goes through, and what is odd about it is
// among the alert's oddities. One without `evidence` was not expanded, which is odd too: it does not tell how the alert ended.
//
// The alert's evidence is the element's, in its order, and then the machine.
func (d *Decoder) Decode(raw []byte) (reading.Decoded, error) {
	if err := d.document.Parse(raw); err != nil {
		return reading.Decoded{}, err
	}
	r := &row{alert: &integrationv1.Alert{ServiceSource: serviceSource}, device: &integrationv1.DeviceEvidence{}}
	r.alert.Oddities = lenient.Read(&d.document, d.fields, r, propertyID, propertyUpdated, propertyEvidence)
	decoded := reading.NewDecoded(r.finish(), d.document.ContentHash(propertyEvidence))
	decoded.WithoutEvidence = reading.LacksEvidence(&d.document, r.alert, propertyEvidence)
	return decoded, nil
}

// row is an alert while it is read: what its evidence will be made of stands beside it.
type row struct {
	alert    *integrationv1.Alert
	device   *integrationv1.DeviceEvidence
	entities []*entity
}

// finish makes the alert's evidence, and returns the alert.
func (r *row) finish() *integrationv1.Alert {
	for _, e := range r.entities {
		r.alert.Evidence = append(r.alert.Evidence, e.evidence(r.device.GetMdeDeviceId()))
	}
	// Behind the rest, so that each stands where it stood in the element.
	if filled(r.device) {
		r.alert.Evidence = append(r.alert.Evidence, &integrationv1.Evidence{
			Type: "deviceEvidence", Detail: &integrationv1.Evidence_Device{Device: r.device},
		})
	}
	return r.alert
}

// filled says whether anything is set in a message.
func filled(m proto.Message) bool { return proto.Size(m) > 0 }

// text and moment are where a string and a time go.
type (
	text   = *string
	moment = **timestamppb.Timestamp
)

// alertFields are the properties of an alert: the documented ones (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts),
// and those that are served besides, loggedOnUsers, domains and recommendedAction.
func alertFields() lenient.Fields[*row] {
	comments := lenient.Fields[*integrationv1.AlertComment]{
		"comment":     lenient.Text(func(m *integrationv1.AlertComment) text { return &m.Comment }),
		"createdBy":   lenient.Text(func(m *integrationv1.AlertComment) text { return &m.CreatedBy }),
		"createdTime": lenient.Time(func(m *integrationv1.AlertComment) moment { return &m.CreatedTime }),
		"createTime":  lenient.Time(func(m *integrationv1.AlertComment) moment { return &m.CreatedTime }), // as the documentation's text has it
	}
	users := lenient.Fields[*integrationv1.LoggedOnUser]{
		"accountName": lenient.Text(func(m *integrationv1.LoggedOnUser) text { return &m.AccountName }),
		"domainName":  lenient.Text(func(m *integrationv1.LoggedOnUser) text { return &m.DomainName }),
	}
	return lenient.Fields[*row]{
		propertyID:           lenient.Text(func(r *row) text { return &r.alert.Id }),
		"incidentId":         lenient.Text(func(r *row) text { return &r.alert.IncidentId }),
		"investigationId":    inRawBytes[*row], // it leads to nothing that this service can read
		"investigationState": word(investigationStates(), func(r *row) text { return &r.alert.InvestigationState }),
		"assignedTo":         lenient.Text(func(r *row) text { return &r.alert.AssignedTo }),
		"severity":           lenient.Enum(severities(), func(r *row) *integrationv1.Severity { return &r.alert.Severity }),
		"status":             lenient.Enum(lenient.NamesOf[integrationv1.AlertStatus](nil), func(r *row) *integrationv1.AlertStatus { return &r.alert.Status }),
		"classification":     lenient.Enum(lenient.NamesOf[integrationv1.Classification](nil), func(r *row) *integrationv1.Classification { return &r.alert.Classification }),
		"determination":      lenient.Enum(determinations(), func(r *row) *integrationv1.Determination { return &r.alert.Determination }),
		"detectionSource":    word(detectionSources(), func(r *row) text { return &r.alert.DetectionSource }),
		"detectorId":         lenient.Text(func(r *row) text { return &r.alert.DetectorId }),
		"category":           lenient.Text(func(r *row) text { return &r.alert.Category }),
		"threatFamilyName":   lenient.Text(func(r *row) text { return &r.alert.ThreatFamilyName }),
		"threatName":         lenient.Text(func(r *row) text { return &r.alert.ThreatDisplayName }),
		"title":              lenient.Text(func(r *row) text { return &r.alert.Title }),
		"description":        lenient.Text(func(r *row) text { return &r.alert.Description }),
		"recommendedAction":  lenient.Text(func(r *row) text { return &r.alert.RecommendedActions }),
		propertyCreated:      lenient.Time(func(r *row) moment { return &r.alert.CreatedTime }),
		"firstEventTime":     lenient.Time(func(r *row) moment { return &r.alert.FirstActivityTime }),
		"lastEventTime":      lenient.Time(func(r *row) moment { return &r.alert.LastActivityTime }),
		propertyUpdated:      lenient.Time(func(r *row) moment { return &r.alert.LastUpdateTime }),
		"resolvedTime":       lenient.Time(func(r *row) moment { return &r.alert.ResolvedTime }),
		"machineId":          lenient.Text(func(r *row) text { return &r.device.MdeDeviceId }),
		"computerDnsName":    lenient.Text(func(r *row) text { return &r.device.DeviceDnsName }),
		"rbacGroupName":      lenient.Text(func(r *row) text { return &r.device.RbacGroupName }),
		"loggedOnUsers":      lenient.Objects(users, func(r *row) *[]*integrationv1.LoggedOnUser { return &r.device.LoggedOnUsers }),
		"aadTenantId":        lenient.Text(func(r *row) text { return &r.alert.TenantId }),
		"mitreTechniques":    lenient.Texts(func(r *row) *[]string { return &r.alert.MitreTechniques }),
		"domains":            lenient.Texts(func(r *row) *[]string { return &r.alert.Domains }),
		"relatedUser":        relatedUser(),
		"comments":           lenient.Objects(comments, func(r *row) *[]*integrationv1.AlertComment { return &r.alert.Comments }),
		propertyEvidence:     entities(),
	}
}

// inRawBytes is the field of a property that is known and has no place in the alert.
func inRawBytes[M any](lenient.Value, M) {}

// relatedUser is the field of the user that the alert is about. It is documented as a string, and served as an object.
func relatedUser() lenient.Field[*row] {
	fields := lenient.Fields[*integrationv1.LoggedOnUser]{
		"userName":   lenient.Text(func(m *integrationv1.LoggedOnUser) text { return &m.AccountName }),
		"domainName": lenient.Text(func(m *integrationv1.LoggedOnUser) text { return &m.DomainName }),
	}
	return func(v lenient.Value, r *row) {
		user := &integrationv1.LoggedOnUser{}
		if v.IsObject() {
			lenient.ReadObject(v, fields, user, nil)
		} else if domain, account, ok := strings.Cut(v.Text(), `\`); ok {
			user.DomainName, user.AccountName = domain, account
		} else {
			user.AccountName = domain
		}
		if filled(user) {
			r.alert.RelatedUser = user
		}
	}
}
