package siem

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
	"defender-integration/defender/reading"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Names of members that are used outside the table.
const (
	memberFullID    = "FullId"
	memberAlertID   = "AlertId"
	memberProcessed = "LastProcessedTimeUtc"
)

// serviceSource is what every detection of this API is from, in Graph's words. The API itself does not say it; it is how Microsoft
// maps its rows to Graph's alerts (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem).
const serviceSource = "microsoftDefenderForEndpoint"

// Decoder reads the elements of the SIEM API. It is not safe for concurrent use.
type Decoder struct {
	document lenient.Document
	fields   lenient.Fields[*row]
}

// NewDecoder returns a decoder.
func NewDecoder() *Decoder {
	// Microsoft's own pages spell members in several ways (InternalIPv4List and InternalIPV4List, ReportID and ReportId).
	return &Decoder{document: lenient.Document{IgnoreCase: true}, fields: lenient.IgnoringCase(fields())}
}

// Decode reads one element. The only error is of its syntax: whatever JSON it is, it goes through, and what is odd about it is
// among the alert's oddities.
//
// The alert's id is the FullId, or, where that is not there, what it is made of: the AlertId and the IocUniqueId. Its creation is
// not set, since the API does not tell it. Null, an empty string and no member at all are the same. In the content's hash neither the
// order of members counts nor the case of their names.
func (d *Decoder) Decode(raw []byte) (reading.Decoded, error) {
	if err := d.document.Parse(raw); err != nil {
		return reading.Decoded{}, err
	}
	r := newRow()
	r.alert.Oddities = lenient.Read(&d.document, d.fields, r, memberFullID, memberProcessed)
	// No member is a list whose order does not count.
	return reading.NewDecoded(r.finish(), d.document.ContentHash("")), nil
}

// isDetection says whether an object that stands in the place of the whole answer is a detection, as Microsoft's page of 2017 had
// it: it has an id, and is neither a list in an envelope nor an error.
func (d *Decoder) isDetection(raw []byte) bool {
	if d.document.Parse(raw) != nil {
		return false
	}
	root := d.document.Root()
	for _, foreign := range []string{"value", "error"} {
		if _, ok := root.Member(foreign); ok {
			return false
		}
	}
	for _, name := range []string{memberFullID, memberAlertID} {
		if id, ok := root.Member(name); ok && id.Text() != "" {
			return true
		}
	}
	return false
}

// row is a detection while it is read: the alert, and what its evidence will be made of.
type row struct {
	alert  *integrationv1.Alert
	siem   *integrationv1.SiemDetection
	device *integrationv1.DeviceEvidence
	file   *integrationv1.FileDetails
	user   *integrationv1.UserAccount
	// What follows has no place of its own in the alert.
	ipv4, ipv6, cloudTags     []string
	commandLine, address, url string
}

func newRow() *row {
	siem := &integrationv1.SiemDetection{}
	return &row{
		alert: &integrationv1.Alert{ServiceSource: serviceSource, Siem: siem}, siem: siem,
		device: &integrationv1.DeviceEvidence{}, file: &integrationv1.FileDetails{}, user: &integrationv1.UserAccount{},
	}
}

// finish works out what follows from several members, and returns the alert.
func (r *row) finish() *integrationv1.Alert {
	a := r.alert
	if a.GetId() == "" && a.GetProviderAlertId() != "" && r.siem.GetIocUniqueId() != "" {
		a.Id = a.GetProviderAlertId() + ":" + r.siem.GetIocUniqueId()
	}
	if at := r.siem.GetAlertTime(); at != nil {
		a.FirstActivityTime, a.LastActivityTime = proto.CloneOf(at), proto.CloneOf(at)
	}
	if a.GetAlertWebUrl() == "" {
		a.AlertWebUrl = r.siem.GetLinkToWdatp()
	}
	if a.GetIncidentWebUrl() == "" {
		a.IncidentWebUrl = r.siem.GetIncidentLinkToWdatp()
	}
	a.Evidence = r.evidence()
	return a
}

// text and moment are where a string and a time go.
type (
	text   = *string
	moment = **timestamppb.Timestamp
)

// fields are the members of a detection, all that Microsoft's samples of 2017 and 2020 and its tables have
// (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem and the pages on pulling alerts and on their fields that
// it followed).
func fields() lenient.Fields[*row] {
	severities := lenient.NamesOf(lenient.Names[integrationv1.Severity]{"UnSpecified": integrationv1.Severity_SEVERITY_UNKNOWN})
	return lenient.Fields[*row]{
		memberFullID:                lenient.Text(func(r *row) text { return &r.alert.Id }),
		memberAlertID:               lenient.Text(func(r *row) text { return &r.alert.ProviderAlertId }),
		memberProcessed:             lenient.Time(func(r *row) moment { return &r.alert.LastUpdateTime }),
		"AlertTitle":                lenient.Text(func(r *row) text { return &r.alert.Title }),
		"Category":                  lenient.Text(func(r *row) text { return &r.alert.Category }),
		"Severity":                  lenient.Enum(severities, func(r *row) *integrationv1.Severity { return &r.alert.Severity }),
		"Description":               lenient.Text(func(r *row) text { return &r.alert.Description }),
		"Source":                    lenient.Text(func(r *row) text { return &r.alert.DetectionSource }),
		"Actor":                     lenient.Text(func(r *row) text { return &r.alert.ActorDisplayName }),
		"ThreatName":                lenient.Text(func(r *row) text { return &r.alert.ThreatDisplayName }),
		"LinkToMTP":                 lenient.Text(func(r *row) text { return &r.alert.AlertWebUrl }),
		"IncidentLinkToMTP":         lenient.Text(func(r *row) text { return &r.alert.IncidentWebUrl }),
		"IoaDefinitionId":           eitherText(func(r *row) text { return &r.alert.DetectorId }),
		"IoaDefinitiondId":          eitherText(func(r *row) text { return &r.alert.DetectorId }), // as the format of 2017 spells it
		"ThreatFamily":              eitherText(func(r *row) text { return &r.alert.ThreatFamilyName }),
		"ThreatFamilyName":          eitherText(func(r *row) text { return &r.alert.ThreatFamilyName }), // as the mapping to Graph has it
		"ComputerDnsName":           lenient.Text(func(r *row) text { return &r.device.DeviceDnsName }),
		"MachineName":               lenient.Text(func(r *row) text { return &r.device.HostName }),
		"MachineDomain":             machineDomain,
		"MachineGroup":              lenient.Text(func(r *row) text { return &r.device.RbacGroupName }),
		"DeviceID":                  lenient.Text(func(r *row) text { return &r.device.MdeDeviceId }),
		"InternalIPv4List":          list(func(r *row) *[]string { return &r.ipv4 }),
		"InternalIPv6List":          list(func(r *row) *[]string { return &r.ipv6 }),
		"LogOnUsers":                logOnUsers,
		"FileName":                  lenient.Text(func(r *row) text { return &r.file.FileName }),
		"FilePath":                  lenient.Text(func(r *row) text { return &r.file.FilePath }),
		"Sha1":                      lenient.Text(func(r *row) text { return &r.file.Sha1 }),
		"Sha256":                    lenient.Text(func(r *row) text { return &r.file.Sha256 }),
		"Md5":                       lenient.Text(func(r *row) text { return &r.file.Md5 }),
		"CommandLine":               lenient.Text(func(r *row) text { return &r.commandLine }),
		"IpAddress":                 lenient.Text(func(r *row) text { return &r.address }),
		"Url":                       lenient.Text(func(r *row) text { return &r.url }),
		"UserName":                  lenient.Text(func(r *row) text { return &r.user.AccountName }),
		"UserDomain":                lenient.Text(func(r *row) text { return &r.user.DomainName }),
		"AlertTime":                 lenient.Time(func(r *row) moment { return &r.siem.AlertTime }),
		"AlertPart":                 lenient.Int(func(r *row) *int64 { return &r.siem.AlertPart }),
		"ReportID":                  lenient.Int(func(r *row) *int64 { return &r.siem.ReportId }),
		"ExternalId":                lenient.Text(func(r *row) text { return &r.siem.ExternalId }),
		"IocUniqueId":               lenient.Text(func(r *row) text { return &r.siem.IocUniqueId }),
		"IocName":                   lenient.Text(func(r *row) text { return &r.siem.IocName }),
		"IocValue":                  lenient.Text(func(r *row) text { return &r.siem.IocValue }),
		"CreatorIocName":            lenient.Text(func(r *row) text { return &r.siem.CreatorIocName }),
		"CreatorIocValue":           lenient.Text(func(r *row) text { return &r.siem.CreatorIocValue }),
		"FileHash":                  lenient.Text(func(r *row) text { return &r.siem.FileHash }),
		"ThreatCategory":            lenient.Text(func(r *row) text { return &r.siem.ThreatCategory }),
		"RemediationAction":         lenient.Text(func(r *row) text { return &r.siem.RemediationAction }),
		"LinkToWDATP":               lenient.Text(func(r *row) text { return &r.siem.LinkToWdatp }),
		"IncidentLinkToWDATP":       lenient.Text(func(r *row) text { return &r.siem.IncidentLinkToWdatp }),
		"RemediationIsSuccess":      lenient.OptionalBool(func(r *row) **bool { return &r.siem.RemediationIsSuccess }),
		"WasExecutingWhileDetected": lenient.OptionalBool(func(r *row) **bool { return &r.siem.WasExecutingWhileDetected }),
		"DeviceCreatedMachineTags":  lenient.Text(func(r *row) text { return &r.siem.DeviceCreatedMachineTags }),
		"CloudCreatedMachineTags":   cloudTags,
	}
}
