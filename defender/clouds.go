package defender

import integrationv1 "defender-integration/gen/defender/integration/v1"

// cloudFacts are what differs from cloud to cloud.
type cloudFacts struct {
	cloud integrationv1.Cloud
	// login is Entra's host; loginAliases are other names of it.
	login        string
	loginAliases []string
	// graph is Microsoft Graph's host (https://learn.microsoft.com/en-us/graph/deployments).
	graph string
	// alertReadRole, incidentReadRole and huntingReadRole are the ids of app roles of Graph's; empty where they are not known.
	alertReadRole, incidentReadRole, huntingReadRole string
	// endpoint is Defender for Endpoint's host, endpointHosts are others of it; its tokens are for endpointResource.
	endpoint         string
	endpointHosts    []alternative
	endpointResource string
	// siem is the SIEM API's host, siemHosts are others of it.
	siem      string
	siemHosts []alternative
}

// alternative is a host that can be set instead of a cloud's default one.
type alternative struct{ host, note string }

// App roles of Graph's in the worldwide cloud.
const (
	// https://graphpermissions.merill.net/permission/SecurityAlert.Read.All
	alertReadRole = "472e4a4d-bb4a-4026-98d1-0b0d74cb74a5"
	// https://graphpermissions.merill.net/permission/SecurityIncident.Read.All
	incidentReadRole = "45cc0394-e837-488b-a098-1918f48d186c"
	// https://graphpermissions.merill.net/permission/ThreatHunting.Read.All
	huntingReadRole = "dd98c7f5-2d42-42d3-a0e4-633161547251"
)

// What GCC High and DoD share.
const (
	// The app role's id differs from the worldwide cloud's: agreed on by public code, not documented by Microsoft.
	govAlertReadRole = "64c33fcb-e6aa-490d-bed5-6016a9ef8f6d"
	// https://learn.microsoft.com/en-us/defender-endpoint/gov
	govEndpoint = "api-gov.securitycenter.microsoft.us"
	// Not documented by Microsoft: the host's root, as in the worldwide cloud. Its scope can be set in the integration.
	govEndpointResource = "https://api-gov.securitycenter.microsoft.us"
	// An older revision of https://learn.microsoft.com/en-us/defender-endpoint/gov; the page no longer names it.
	govSIEM = "wdatp-alertexporter-us.securitycenter.windows.us"
)

// clouds returns the facts of each cloud, the default first. China is not among them: Graph has no security alerts there
// (https://learn.microsoft.com/en-us/graph/api/security-list-alerts_v2), and no host of the others is published.
func clouds() []cloudFacts {
	return []cloudFacts{
		{
			cloud: integrationv1.Cloud_CLOUD_GLOBAL,
			login: "login.microsoftonline.com",
			// The alias in the SIEM API's samples.
			loginAliases:     []string{"login.windows.net"},
			graph:            "graph.microsoft.com",
			alertReadRole:    alertReadRole,
			incidentReadRole: incidentReadRole,
			huntingReadRole:  huntingReadRole,
			// https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-list
			endpoint: "api.security.microsoft.com",
			endpointHosts: []alternative{
				// The name in most of Microsoft's samples (https://learn.microsoft.com/en-us/defender-endpoint/api/get-alerts).
				{"api.securitycenter.microsoft.com", "the older name"},
				// Nearer hosts (https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-odata-samples).
				{"us.api.security.microsoft.com", "United States"},
				{"eu.api.security.microsoft.com", "Europe"},
				{"uk.api.security.microsoft.com", "United Kingdom"},
				{"au.api.security.microsoft.com", "Australia"},
				{"swa.api.security.microsoft.com", "Switzerland"},
				{"ina.api.security.microsoft.com", "India"},
				{"aea.api.security.microsoft.com", "United Arab Emirates"},
				// Older forms, not documented any more and still answered in 2026.
				{"api-us.securitycenter.microsoft.com", "United States, the older name"},
				{"api-eu.securitycenter.microsoft.com", "Europe, the older name"},
				{"api-uk.securitycenter.microsoft.com", "United Kingdom, the older name"},
				{"api-au.securitycenter.microsoft.com", "Australia, the older name"},
				// Oldest forms, not documented any more: seen in public configurations that quote Microsoft's tips of that time.
				{"api.securitycenter.windows.com", "the oldest name"},
				{"api-us.securitycenter.windows.com", "United States, the oldest name"},
				{"api-eu.securitycenter.windows.com", "Europe, the oldest name"},
				{"api-uk.securitycenter.windows.com", "United Kingdom, the oldest name"},
				{"api-au.securitycenter.windows.com", "Australia, the oldest name"},
			},
			// https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-create-app-webapp; its tokens hold on every host of
			// this cloud.
			endpointResource: "https://api.securitycenter.microsoft.com",
			// https://learn.microsoft.com/en-us/defender-endpoint/configure-siem and the page on pulling alerts that it followed.
			siem: "wdatp-alertexporter-us.windows.com",
			siemHosts: []alternative{
				{"wdatp-alertexporter-eu.windows.com", "Europe"},
				{"wdatp-alertexporter-uk.windows.com", "United Kingdom"},
				{"wdatp-alertexporter-eu.securitycenter.windows.com", "Europe, as one of Microsoft's samples spells it"},
			},
		},
		{
			cloud: integrationv1.Cloud_CLOUD_US_GOV_HIGH, login: "login.microsoftonline.us", graph: "graph.microsoft.us",
			alertReadRole: govAlertReadRole, endpoint: govEndpoint, endpointResource: govEndpointResource, siem: govSIEM,
		},
		{
			cloud: integrationv1.Cloud_CLOUD_US_GOV_DOD, login: "login.microsoftonline.us", graph: "dod-graph.microsoft.us",
			alertReadRole: govAlertReadRole, endpoint: govEndpoint, endpointResource: govEndpointResource, siem: govSIEM,
		},
		{
			// Entra and Graph are the worldwide ones (https://learn.microsoft.com/en-us/graph/deployments).
			cloud: integrationv1.Cloud_CLOUD_US_GOV_GCC, login: "login.microsoftonline.com", graph: "graph.microsoft.com",
			alertReadRole: alertReadRole, incidentReadRole: incidentReadRole, huntingReadRole: huntingReadRole,
			// https://learn.microsoft.com/en-us/defender-endpoint/gov; the scope is seen in public scripts.
			endpoint: "api-gcc.securitycenter.microsoft.us", endpointResource: "https://api-gcc.securitycenter.microsoft.us",
			siem: "wdatp-alertexporter-us.gcc.securitycenter.windows.us",
		},
	}
}
