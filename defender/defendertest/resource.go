package defendertest

// Resource is an API that tokens are made for: the audience of a token, and whose roles it carries.
type Resource string

// The resources.
const (
	// Graph is Microsoft Graph.
	Graph Resource = "https://graph.microsoft.com"
	// DefenderForEndpoint is the WindowsDefenderATP application.
	DefenderForEndpoint Resource = "https://api.securitycenter.microsoft.com"
	// SIEM is the audience of the alert exporter's tokens: Azure AD Graph, by its name. No role belongs to it.
	SIEM Resource = "https://graph.windows.net"
)

// The roles (application permissions) that the simulated APIs know.
const (
	RoleSecurityAlertRead         = "SecurityAlert.Read.All"
	RoleSecurityAlertReadWrite    = "SecurityAlert.ReadWrite.All"
	RoleSecurityIncidentRead      = "SecurityIncident.Read.All"
	RoleSecurityIncidentReadWrite = "SecurityIncident.ReadWrite.All"
	RoleMachineRead               = "Machine.Read.All"
	RoleMachineReadWrite          = "Machine.ReadWrite.All"
	RoleAlertRead                 = "Alert.Read.All"
	RoleAlertReadWrite            = "Alert.ReadWrite.All"
	RoleThreatHuntingRead         = "ThreatHunting.Read.All"
)

// resourceNames tells what a scope calls a resource: the application id URIs of all clouds, without `/.default`
// (https://learn.microsoft.com/en-us/graph/deployments,
// https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-create-app-webapp).
func resourceNames(name string) (Resource, bool) {
	switch name {
	case "https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000",
		"https://graph.microsoft.us", "https://dod-graph.microsoft.us":
		return Graph, true
	case "https://api.securitycenter.microsoft.com", "https://api.securitycenter.windows.com",
		"https://securitycenter.onmicrosoft.com/windowsatpservice", "fc780465-2017-40d4-a0c5-307022471b92",
		"https://api-gcc.securitycenter.microsoft.us", "https://api-gov.securitycenter.microsoft.us":
		return DefenderForEndpoint, true
	case "https://graph.windows.net", "https://graph.windows.net/":
		return SIEM, true
	}
	return "", false
}

// roleResource tells which resource defines a role. What is not one of Defender for Endpoint's is taken to be Graph's.
func roleResource(role string) Resource {
	switch role {
	case RoleMachineRead, RoleMachineReadWrite, RoleAlertRead, RoleAlertReadWrite,
		"AdvancedQuery.Read.All", "Vulnerability.Read.All", "Software.Read.All", "SecurityRecommendation.Read.All", "Score.Read.All":
		return DefenderForEndpoint
	}
	return Graph
}
