package graph

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// text and moment are where a string and a time go.
type (
	text   = *string
	moment = **timestamppb.Timestamp
)

// endpointDetails are the types of evidence that concern an endpoint, each with all properties that the metadata of v1.0
// declares (microsoftgraph/msgraph-metadata, August 2026;
// https://learn.microsoft.com/en-us/graph/api/resources/security-alertevidence).
func (r *evidenceReader) endpointDetails() map[string]detail {
	type evidence = integrationv1.Evidence
	detections := lenient.NamesOf[integrationv1.DetectionStatus](nil)
	file, account := fileDetails(), userAccount()

	process := lenient.Fields[*integrationv1.ProcessEvidence]{
		"processId":                     lenient.Int(func(m *integrationv1.ProcessEvidence) *int64 { return &m.ProcessId }),
		"parentProcessId":               lenient.Int(func(m *integrationv1.ProcessEvidence) *int64 { return &m.ParentProcessId }),
		"processCommandLine":            lenient.Text(func(m *integrationv1.ProcessEvidence) text { return &m.ProcessCommandLine }),
		"processCreationDateTime":       lenient.Time(func(m *integrationv1.ProcessEvidence) moment { return &m.ProcessCreationTime }),
		"parentProcessCreationDateTime": lenient.Time(func(m *integrationv1.ProcessEvidence) moment { return &m.ParentProcessCreationTime }),
		"detectionStatus":               lenient.Enum(detections, func(m *integrationv1.ProcessEvidence) *integrationv1.DetectionStatus { return &m.DetectionStatus }),
		"mdeDeviceId":                   lenient.Text(func(m *integrationv1.ProcessEvidence) text { return &m.MdeDeviceId }),
		"imageFile":                     lenient.Object(file, func(m *integrationv1.ProcessEvidence) **integrationv1.FileDetails { return &m.ImageFile }),
		"parentProcessImageFile":        lenient.Object(file, func(m *integrationv1.ProcessEvidence) **integrationv1.FileDetails { return &m.ParentProcessImageFile }),
		"userAccount":                   lenient.Object(account, func(m *integrationv1.ProcessEvidence) **integrationv1.UserAccount { return &m.UserAccount }),
	}
	files := lenient.Fields[*integrationv1.FileEvidence]{
		"detectionStatus": lenient.Enum(detections, func(m *integrationv1.FileEvidence) *integrationv1.DetectionStatus { return &m.DetectionStatus }),
		"fileDetails":     lenient.Object(file, func(m *integrationv1.FileEvidence) **integrationv1.FileDetails { return &m.FileDetails }),
		"mdeDeviceId":     lenient.Text(func(m *integrationv1.FileEvidence) text { return &m.MdeDeviceId }),
	}
	user := lenient.Fields[*integrationv1.UserEvidence]{
		"userAccount": lenient.Object(account, func(m *integrationv1.UserEvidence) **integrationv1.UserAccount { return &m.UserAccount }),
		"stream":      stream(func(m *integrationv1.UserEvidence) text { return &m.StreamName }),
	}
	ip := lenient.Fields[*integrationv1.IpEvidence]{
		"ipAddress":         lenient.Text(func(m *integrationv1.IpEvidence) text { return &m.IpAddress }),
		"countryLetterCode": lenient.Text(func(m *integrationv1.IpEvidence) text { return &m.CountryLetterCode }),
		"location":          lenient.Object(geoLocation(), func(m *integrationv1.IpEvidence) **integrationv1.GeoLocation { return &m.Location }),
		"stream":            stream(func(m *integrationv1.IpEvidence) text { return &m.StreamName }),
	}
	url := lenient.Fields[*integrationv1.UrlEvidence]{
		"url": lenient.Text(func(m *integrationv1.UrlEvidence) text { return &m.Url }),
	}
	registryKey := lenient.Fields[*integrationv1.RegistryKeyEvidence]{
		"registryHive": lenient.Text(func(m *integrationv1.RegistryKeyEvidence) text { return &m.RegistryHive }),
		"registryKey":  lenient.Text(func(m *integrationv1.RegistryKeyEvidence) text { return &m.RegistryKey }),
	}
	registryValue := lenient.Fields[*integrationv1.RegistryValueEvidence]{
		"registryHive":      lenient.Text(func(m *integrationv1.RegistryValueEvidence) text { return &m.RegistryHive }),
		"registryKey":       lenient.Text(func(m *integrationv1.RegistryValueEvidence) text { return &m.RegistryKey }),
		"registryValue":     lenient.Text(func(m *integrationv1.RegistryValueEvidence) text { return &m.RegistryValue }),
		"registryValueName": lenient.Text(func(m *integrationv1.RegistryValueEvidence) text { return &m.RegistryValueName }),
		"registryValueType": lenient.Text(func(m *integrationv1.RegistryValueEvidence) text { return &m.RegistryValueType }),
		"mdeDeviceId":       lenient.Text(func(m *integrationv1.RegistryValueEvidence) text { return &m.MdeDeviceId }),
	}
	malware := lenient.Fields[*integrationv1.MalwareEvidence]{
		"name":      lenient.Text(func(m *integrationv1.MalwareEvidence) text { return &m.Name }),
		"category":  lenient.Text(func(m *integrationv1.MalwareEvidence) text { return &m.Category }),
		"files":     evidenceList(r, "fileEvidence", func(m *integrationv1.MalwareEvidence) *[]*evidence { return &m.Files }),
		"processes": evidenceList(r, "processEvidence", func(m *integrationv1.MalwareEvidence) *[]*evidence { return &m.Processes }),
	}
	session := lenient.Fields[*integrationv1.HostLogonSessionEvidence]{
		"account":          oneEvidence(r, "userEvidence", func(m *integrationv1.HostLogonSessionEvidence) **evidence { return &m.Account }),
		"host":             oneEvidence(r, "deviceEvidence", func(m *integrationv1.HostLogonSessionEvidence) **evidence { return &m.Host }),
		"sessionId":        lenient.Text(func(m *integrationv1.HostLogonSessionEvidence) text { return &m.SessionId }),
		"startUtcDateTime": lenient.Time(func(m *integrationv1.HostLogonSessionEvidence) moment { return &m.StartTime }),
		"endUtcDateTime":   lenient.Time(func(m *integrationv1.HostLogonSessionEvidence) moment { return &m.EndTime }),
	}
	connection := lenient.Fields[*integrationv1.NetworkConnectionEvidence]{
		"sourceAddress":      oneEvidence(r, "ipEvidence", func(m *integrationv1.NetworkConnectionEvidence) **evidence { return &m.SourceAddress }),
		"sourcePort":         lenient.Int(func(m *integrationv1.NetworkConnectionEvidence) *int64 { return &m.SourcePort }),
		"destinationAddress": oneEvidence(r, "ipEvidence", func(m *integrationv1.NetworkConnectionEvidence) **evidence { return &m.DestinationAddress }),
		"destinationPort":    lenient.Int(func(m *integrationv1.NetworkConnectionEvidence) *int64 { return &m.DestinationPort }),
		"protocol":           lenient.Text(func(m *integrationv1.NetworkConnectionEvidence) text { return &m.Protocol }),
	}
	dns := lenient.Fields[*integrationv1.DnsEvidence]{
		"domainName":    lenient.Text(func(m *integrationv1.DnsEvidence) text { return &m.DomainName }),
		"dnsServerIp":   oneEvidence(r, "ipEvidence", func(m *integrationv1.DnsEvidence) **evidence { return &m.DnsServerIp }),
		"hostIpAddress": oneEvidence(r, "ipEvidence", func(m *integrationv1.DnsEvidence) **evidence { return &m.HostIpAddress }),
		"ipAddresses":   evidenceList(r, "ipEvidence", func(m *integrationv1.DnsEvidence) *[]*evidence { return &m.IpAddresses }),
	}
	fileHash := lenient.Fields[*integrationv1.FileHashEvidence]{
		"algorithm": lenient.Text(func(m *integrationv1.FileHashEvidence) text { return &m.Algorithm }),
		"value":     lenient.Text(func(m *integrationv1.FileHashEvidence) text { return &m.Value }),
	}
	group := lenient.Fields[*integrationv1.SecurityGroupEvidence]{
		"displayName":               lenient.Text(func(m *integrationv1.SecurityGroupEvidence) text { return &m.DisplayName }),
		"securityGroupId":           lenient.Text(func(m *integrationv1.SecurityGroupEvidence) text { return &m.SecurityGroupId }),
		"sid":                       lenient.Text(func(m *integrationv1.SecurityGroupEvidence) text { return &m.Sid }),
		"distinguishedName":         lenient.Text(func(m *integrationv1.SecurityGroupEvidence) text { return &m.DistinguishedName }),
		"friendlyName":              lenient.Text(func(m *integrationv1.SecurityGroupEvidence) text { return &m.FriendlyName }),
		"activeDirectoryObjectGuid": lenient.Text(func(m *integrationv1.SecurityGroupEvidence) text { return &m.ActiveDirectoryObjectGuid }),
	}

	return map[string]detail{
		"deviceEvidence": detailOf(deviceDetails(), func(e *evidence, d *integrationv1.DeviceEvidence) {
			e.Detail = &integrationv1.Evidence_Device{Device: d}
		}),
		"processEvidence": detailOf(process, func(e *evidence, d *integrationv1.ProcessEvidence) {
			e.Detail = &integrationv1.Evidence_Process{Process: d}
		}),
		"fileEvidence": detailOf(files, func(e *evidence, d *integrationv1.FileEvidence) {
			e.Detail = &integrationv1.Evidence_File{File: d}
		}),
		"userEvidence": detailOf(user, func(e *evidence, d *integrationv1.UserEvidence) {
			e.Detail = &integrationv1.Evidence_User{User: d}
		}),
		"ipEvidence": detailOf(ip, func(e *evidence, d *integrationv1.IpEvidence) {
			e.Detail = &integrationv1.Evidence_Ip{Ip: d}
		}),
		"urlEvidence": detailOf(url, func(e *evidence, d *integrationv1.UrlEvidence) {
			e.Detail = &integrationv1.Evidence_Url{Url: d}
		}),
		"registryKeyEvidence": detailOf(registryKey, func(e *evidence, d *integrationv1.RegistryKeyEvidence) {
			e.Detail = &integrationv1.Evidence_RegistryKey{RegistryKey: d}
		}),
		"registryValueEvidence": detailOf(registryValue, func(e *evidence, d *integrationv1.RegistryValueEvidence) {
			e.Detail = &integrationv1.Evidence_RegistryValue{RegistryValue: d}
		}),
		"malwareEvidence": detailOf(malware, func(e *evidence, d *integrationv1.MalwareEvidence) {
			e.Detail = &integrationv1.Evidence_Malware{Malware: d}
		}),
		"hostLogonSessionEvidence": detailOf(session, func(e *evidence, d *integrationv1.HostLogonSessionEvidence) {
			e.Detail = &integrationv1.Evidence_HostLogonSession{HostLogonSession: d}
		}),
		"networkConnectionEvidence": detailOf(connection, func(e *evidence, d *integrationv1.NetworkConnectionEvidence) {
			e.Detail = &integrationv1.Evidence_NetworkConnection{NetworkConnection: d}
		}),
		"dnsEvidence": detailOf(dns, func(e *evidence, d *integrationv1.DnsEvidence) {
			e.Detail = &integrationv1.Evidence_Dns{Dns: d}
		}),
		"fileHashEvidence": detailOf(fileHash, func(e *evidence, d *integrationv1.FileHashEvidence) {
			e.Detail = &integrationv1.Evidence_FileHash{FileHash: d}
		}),
		"securityGroupEvidence": detailOf(group, func(e *evidence, d *integrationv1.SecurityGroupEvidence) {
			e.Detail = &integrationv1.Evidence_SecurityGroup{SecurityGroup: d}
		}),
	}
}
