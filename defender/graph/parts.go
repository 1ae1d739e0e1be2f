package graph

import (
	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// deviceDetails are the properties of a deviceEvidence
// (https://learn.microsoft.com/en-us/graph/api/resources/security-deviceevidence).
func deviceDetails() lenient.Fields[*integrationv1.DeviceEvidence] {
	type device = *integrationv1.DeviceEvidence
	users := lenient.Fields[*integrationv1.LoggedOnUser]{
		"accountName": lenient.Text(func(m *integrationv1.LoggedOnUser) text { return &m.AccountName }),
		"domainName":  lenient.Text(func(m *integrationv1.LoggedOnUser) text { return &m.DomainName }),
	}
	machine := lenient.Fields[*integrationv1.VmMetadata]{
		"vmId":           lenient.Text(func(m *integrationv1.VmMetadata) text { return &m.VmId }),
		"cloudProvider":  lenient.Text(func(m *integrationv1.VmMetadata) text { return &m.CloudProvider }),
		"resourceId":     lenient.Text(func(m *integrationv1.VmMetadata) text { return &m.ResourceId }),
		"subscriptionId": lenient.Text(func(m *integrationv1.VmMetadata) text { return &m.SubscriptionId }),
	}
	return lenient.Fields[device]{
		"mdeDeviceId":           lenient.Text(func(m device) text { return &m.MdeDeviceId }),
		"azureAdDeviceId":       lenient.Text(func(m device) text { return &m.EntraDeviceId }),
		"deviceDnsName":         lenient.Text(func(m device) text { return &m.DeviceDnsName }),
		"hostName":              lenient.Text(func(m device) text { return &m.HostName }),
		"dnsDomain":             lenient.Text(func(m device) text { return &m.DnsDomain }),
		"ntDomain":              lenient.Text(func(m device) text { return &m.NtDomain }),
		"firstSeenDateTime":     lenient.Time(func(m device) moment { return &m.FirstSeenTime }),
		"healthStatus":          lenient.Enum(lenient.NamesOf[integrationv1.HealthStatus](nil), func(m device) *integrationv1.HealthStatus { return &m.HealthStatus }),
		"onboardingStatus":      lenient.Enum(lenient.NamesOf[integrationv1.OnboardingStatus](nil), func(m device) *integrationv1.OnboardingStatus { return &m.OnboardingStatus }),
		"defenderAvStatus":      lenient.Enum(lenient.NamesOf[integrationv1.AntivirusStatus](nil), func(m device) *integrationv1.AntivirusStatus { return &m.DefenderAvStatus }),
		"riskScore":             lenient.Enum(lenient.NamesOf[integrationv1.RiskScore](nil), func(m device) *integrationv1.RiskScore { return &m.RiskScore }),
		"osPlatform":            lenient.Text(func(m device) text { return &m.OsPlatform }),
		"osBuild":               lenient.Int(func(m device) *int64 { return &m.OsBuild }),
		"version":               lenient.Text(func(m device) text { return &m.Version }),
		"rbacGroupId":           lenient.Int(func(m device) *int64 { return &m.RbacGroupId }),
		"rbacGroupName":         lenient.Text(func(m device) text { return &m.RbacGroupName }),
		"ipInterfaces":          lenient.Texts(func(m device) *[]string { return &m.IpInterfaces }),
		"lastIpAddress":         lenient.Text(func(m device) text { return &m.LastIpAddress }),
		"lastExternalIpAddress": lenient.Text(func(m device) text { return &m.LastExternalIpAddress }),
		"loggedOnUsers":         lenient.Objects(users, func(m device) *[]*integrationv1.LoggedOnUser { return &m.LoggedOnUsers }),
		"resourceAccessEvents":  lenient.Objects(accessEvent(), func(m device) *[]*integrationv1.ResourceAccessEvent { return &m.ResourceAccessEvents }),
		"vmMetadata":            lenient.Object(machine, func(m device) **integrationv1.VmMetadata { return &m.VmMetadata }),
	}
}

func fileDetails() lenient.Fields[*integrationv1.FileDetails] {
	type file = *integrationv1.FileDetails
	return lenient.Fields[file]{
		"fileName":      lenient.Text(func(m file) text { return &m.FileName }),
		"filePath":      lenient.Text(func(m file) text { return &m.FilePath }),
		"filePublisher": lenient.Text(func(m file) text { return &m.FilePublisher }),
		"fileSize":      lenient.Int(func(m file) *int64 { return &m.FileSize }),
		"issuer":        lenient.Text(func(m file) text { return &m.Issuer }),
		"signer":        lenient.Text(func(m file) text { return &m.Signer }),
		"md5":           lenient.Text(func(m file) text { return &m.Md5 }),
		"sha1":          lenient.Text(func(m file) text { return &m.Sha1 }),
		"sha256":        lenient.Text(func(m file) text { return &m.Sha256 }),
		"sha256Ac":      lenient.Text(func(m file) text { return &m.Sha256Ac }),
	}
}

func userAccount() lenient.Fields[*integrationv1.UserAccount] {
	type account = *integrationv1.UserAccount
	return lenient.Fields[account]{
		"accountName":               lenient.Text(func(m account) text { return &m.AccountName }),
		"domainName":                lenient.Text(func(m account) text { return &m.DomainName }),
		"displayName":               lenient.Text(func(m account) text { return &m.DisplayName }),
		"userPrincipalName":         lenient.Text(func(m account) text { return &m.UserPrincipalName }),
		"userSid":                   lenient.Text(func(m account) text { return &m.UserSid }),
		"azureAdUserId":             lenient.Text(func(m account) text { return &m.EntraUserId }),
		"activeDirectoryObjectGuid": lenient.Text(func(m account) text { return &m.ActiveDirectoryObjectGuid }),
		"tenantId":                  lenient.Text(func(m account) text { return &m.TenantId }),
		"resourceAccessEvents":      lenient.Objects(accessEvent(), func(m account) *[]*integrationv1.ResourceAccessEvent { return &m.ResourceAccessEvents }),
	}
}

func accessEvent() lenient.Fields[*integrationv1.ResourceAccessEvent] {
	type event = *integrationv1.ResourceAccessEvent
	return lenient.Fields[event]{
		"accessDateTime":     lenient.Time(func(m event) moment { return &m.AccessTime }),
		"accountId":          lenient.Text(func(m event) text { return &m.AccountId }),
		"ipAddress":          lenient.Text(func(m event) text { return &m.IpAddress }),
		"resourceIdentifier": lenient.Text(func(m event) text { return &m.ResourceIdentifier }),
	}
}

func geoLocation() lenient.Fields[*integrationv1.GeoLocation] {
	type location = *integrationv1.GeoLocation
	return lenient.Fields[location]{
		"city":        lenient.Text(func(m location) text { return &m.City }),
		"countryName": lenient.Text(func(m location) text { return &m.CountryName }),
		"latitude":    lenient.Float(func(m location) *float64 { return &m.Latitude }),
		"longitude":   lenient.Float(func(m location) *float64 { return &m.Longitude }),
		"state":       lenient.Text(func(m location) text { return &m.State }),
	}
}

// stream is the field of a data stream, an object that has only a name.
func stream[M any](at func(M) text) lenient.Field[M] {
	fields := lenient.Fields[text]{"name": func(v lenient.Value, name text) { *name = v.Text() }}
	return func(v lenient.Value, message M) {
		switch {
		case v.Empty():
		case v.IsObject():
			lenient.ReadObject(v, fields, at(message), nil)
		default:
			v.Odd(integrationv1.Oddity_KIND_WRONG_TYPE)
		}
	}
}
