package defender

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Resource applications in Entra whose permissions are needed, by the ids that they have in every tenant
// (https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-create-app-webapp).
const (
	graphApp      = "Microsoft Graph"
	graphAppID    = "00000003-0000-0000-c000-000000000000"
	endpointApp   = "WindowsDefenderATP"
	endpointAppID = "fc780465-2017-40d4-a0c5-307022471b92"
)

// anyScope is what a scope of client credentials ends in: they take no other
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow).
const anyScope = "/.default"

// graphSecurity is Microsoft Graph's alerts_v2 (https://learn.microsoft.com/en-us/graph/api/security-list-alerts_v2).
func graphSecurity(c cloudFacts) *integrationv1.ApiEndpoint {
	return &integrationv1.ApiEndpoint{
		Api:              integrationv1.Api_API_GRAPH_SECURITY,
		Cloud:            c.cloud,
		Endpoint:         https(c.graph, "v1.0"),
		AuthorizationUrl: v2(c.login),
		Scope:            "https://" + c.graph + anyScope,
		Resource:         "https://" + c.graph,
		ApiVersions:      []string{"v1.0", "beta"},
		Permissions:      graphAlertPermissions(c),
		DeviceSources:    []*integrationv1.DeviceSourceEndpoint{machines(c), hunting(c), noDevices()},
		Lifecycle:        current("Microsoft Graph's alerts_v2, generally available, with no end announced."),
		// https://learn.microsoft.com/en-us/graph/throttling-limits
		Limits: []*integrationv1.CallLimit{callLimit(LimitGraphAlerts, 150, time.Minute)},
	}
}

// defenderForEndpoint is Defender for Endpoint's list of alerts (https://learn.microsoft.com/en-us/defender-endpoint/api/get-alerts).
func defenderForEndpoint(c cloudFacts) *integrationv1.ApiEndpoint {
	return &integrationv1.ApiEndpoint{
		Api:              integrationv1.Api_API_DEFENDER_FOR_ENDPOINT,
		Cloud:            c.cloud,
		Endpoint:         https(c.endpoint, "v1.0"),
		AuthorizationUrl: v2(c.login),
		Scope:            c.endpointResource + anyScope,
		Resource:         c.endpointResource,
		ApiVersions:      []string{"v1.0"},
		Permissions:      endpointAlertPermissions(),
		DeviceSources:    []*integrationv1.DeviceSourceEndpoint{machines(c), noDevices()},
		Lifecycle: endpointLifecycle(
			"From then on neither alerts nor devices can be read here; register the tenant with API_GRAPH_SECURITY before.",
			integrationv1.Api_API_GRAPH_SECURITY, 0),
		AlternativeHosts: alternativeHosts(c.endpointHosts),
		Limits:           endpointLimits(),
	}
}

// siem is the legacy SIEM API, the alert exporter. Its application holds no app role: it is authorised on the portal's SIEM page
// (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem).
func siem(c cloudFacts) *integrationv1.ApiEndpoint {
	return &integrationv1.ApiEndpoint{
		Api:              integrationv1.Api_API_SIEM,
		Cloud:            c.cloud,
		Endpoint:         https(c.siem, ""),
		AuthorizationUrl: "https://" + c.login + "/{tenant}" + v1TokenPath,
		Scope:            siemResource + anyScope,
		Resource:         siemResource,
		// It looks no devices up by default: its application can do so only where Machine.Read.All was granted to it besides.
		DeviceSources: []*integrationv1.DeviceSourceEndpoint{noDevices(), machines(c)},
		Lifecycle: &integrationv1.Lifecycle{
			Stage: integrationv1.Lifecycle_STAGE_RETIRING,
			// https://learn.microsoft.com/en-us/defender-endpoint/configure-siem
			RetirementTime: timestamppb.New(time.Date(2024, time.December, 31, 0, 0, 0, 0, time.UTC)),
			Note: "The SIEM API is deprecated: since 31 December 2024 Microsoft may switch it off without further notice, and takes no new " +
				"applications for it since 25 November 2021. An empty answer of it proves nothing. API_GRAPH_SECURITY follows it.",
			Successor: integrationv1.Api_API_GRAPH_SECURITY,
		},
		AlternativeHosts: alternativeHosts(c.siemHosts),
	}
}

// siemResource is what the SIEM API's tokens are for: Azure AD Graph, whose own end on 1 July 2025 makes it likelier that no tokens
// are given any more. For US Government clouds it is not documented, and taken to be the same.
const siemResource = "https://graph.windows.net"

// graphSecurityLegacy is Graph's older list of alerts, which is there to tell what became of it
// (https://learn.microsoft.com/en-us/graph/alertsv1-alertsv2-migration).
func graphSecurityLegacy() *integrationv1.ApiEndpoint {
	return &integrationv1.ApiEndpoint{
		Api:   integrationv1.Api_API_GRAPH_SECURITY_LEGACY,
		Cloud: integrationv1.Cloud_CLOUD_GLOBAL,
		Lifecycle: &integrationv1.Lifecycle{
			Stage:          integrationv1.Lifecycle_STAGE_RETIRED,
			RetirementTime: timestamppb.New(time.Date(2026, time.October, 15, 0, 0, 0, 0, time.UTC)),
			Note:           "Microsoft Graph's older /security/alerts is gone since 15 October 2026. Use API_GRAPH_SECURITY, which is alerts_v2.",
			Successor:      integrationv1.Api_API_GRAPH_SECURITY,
		},
	}
}

// machines is Defender for Endpoint's list of machines (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines). Microsoft
// names no successor of it.
func machines(c cloudFacts) *integrationv1.DeviceSourceEndpoint {
	return &integrationv1.DeviceSourceEndpoint{
		Kind:        integrationv1.DeviceSource_KIND_MACHINES,
		Endpoint:    https(c.endpoint, "v1.0"),
		Scope:       c.endpointResource + anyScope,
		Permissions: machinePermissions(),
		Lifecycle: endpointLifecycle(
			"Graph's alerts are not affected. From then on devices cannot be looked up here, and what raised no alert cannot be judged; "+
				"advanced hunting's DeviceInfo over Microsoft Graph (KIND_HUNTING, with API_GRAPH_SECURITY) follows it.",
			0, integrationv1.DeviceSource_KIND_HUNTING),
		AlternativeHosts: alternativeHosts(c.endpointHosts),
		Limits:           endpointLimits(),
	}
}

// hunting is advanced hunting over Graph (https://learn.microsoft.com/en-us/graph/api/security-security-runhuntingquery).
func hunting(c cloudFacts) *integrationv1.DeviceSourceEndpoint {
	return &integrationv1.DeviceSourceEndpoint{
		Kind:     integrationv1.DeviceSource_KIND_HUNTING,
		Endpoint: https(c.graph, "v1.0"),
		Scope:    "https://" + c.graph + anyScope,
		Permissions: []*integrationv1.Permission{
			{Name: "ThreatHunting.Read.All", AppRoleId: c.huntingReadRole, ResourceApp: graphApp, ResourceAppId: graphAppID},
		},
		Lifecycle: current("Advanced hunting over Microsoft Graph, generally available, with no end announced. Not in Defender for Business."),
		// At least so many, more in big tenants; processor time is limited too
		// (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview).
		Limits: []*integrationv1.CallLimit{callLimit(LimitHunting, 45, time.Minute)},
	}
}

func noDevices() *integrationv1.DeviceSourceEndpoint {
	return &integrationv1.DeviceSourceEndpoint{
		Kind: integrationv1.DeviceSource_KIND_NONE, Lifecycle: current("Nothing is looked up, so nothing can be judged as missed."),
	}
}

// graphAlertPermissions are the roles that open alerts_v2, any one of them: the service's own refusal of a token names these four.
// The ids of the two that can write are left out: nobody is told to grant them.
func graphAlertPermissions(c cloudFacts) []*integrationv1.Permission {
	return []*integrationv1.Permission{
		// https://learn.microsoft.com/en-us/graph/api/security-list-alerts_v2
		{Name: "SecurityAlert.Read.All", AppRoleId: c.alertReadRole, ResourceApp: graphApp, ResourceAppId: graphAppID},
		{Name: "SecurityIncident.Read.All", AppRoleId: c.incidentReadRole, ResourceApp: graphApp, ResourceAppId: graphAppID},
		{Name: "SecurityAlert.ReadWrite.All", ResourceApp: graphApp, ResourceAppId: graphAppID, CanWrite: true},
		{Name: "SecurityIncident.ReadWrite.All", ResourceApp: graphApp, ResourceAppId: graphAppID, CanWrite: true},
	}
}

// endpointAlertPermissions are the roles that open Defender for Endpoint's list of alerts, any one of them
// (https://learn.microsoft.com/en-us/defender-endpoint/api/get-alerts).
func endpointAlertPermissions() []*integrationv1.Permission {
	return []*integrationv1.Permission{
		{Name: "Alert.Read.All", AppRoleId: "71fe6b80-7034-4028-9ed8-0f316df9c3ff", ResourceApp: endpointApp, ResourceAppId: endpointAppID},
		{
			Name: "Alert.ReadWrite.All", AppRoleId: "0f7000ec-157b-497f-b70e-ef0b0584f140",
			ResourceApp: endpointApp, ResourceAppId: endpointAppID, CanWrite: true,
		},
	}
}

// machinePermissions are the roles that open the list of machines, any one of them
// (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines).
func machinePermissions() []*integrationv1.Permission {
	return []*integrationv1.Permission{
		{Name: "Machine.Read.All", AppRoleId: "ea8291d3-4b9a-44b5-bc3a-6cea3026dc79", ResourceApp: endpointApp, ResourceAppId: endpointAppID},
		{Name: "Machine.ReadWrite.All", ResourceApp: endpointApp, ResourceAppId: endpointAppID, CanWrite: true},
	}
}

// endpointLimits are the limits of every call of Defender for Endpoint's (https://learn.microsoft.com/en-us/defender-endpoint/api/get-alerts).
func endpointLimits() []*integrationv1.CallLimit {
	return []*integrationv1.CallLimit{callLimit(LimitEndpoint, 100, time.Minute), callLimit(LimitEndpoint, 1500, time.Hour)}
}

// v2 is the v2.0 token endpoint of a tenant.
func v2(login string) string { return "https://" + login + "/{tenant}" + v2TokenPath }

func current(note string) *integrationv1.Lifecycle {
	return &integrationv1.Lifecycle{Stage: integrationv1.Lifecycle_STAGE_CURRENT, Note: note}
}

// endpointLifecycle is what Microsoft's Message Center post MC1220762 of 22 January 2026 announces for the whole Defender for
// Endpoint API.
func endpointLifecycle(consequence string, successor integrationv1.Api, devices integrationv1.DeviceSource_Kind) *integrationv1.Lifecycle {
	return &integrationv1.Lifecycle{
		Stage:          integrationv1.Lifecycle_STAGE_RETIRING,
		RetirementTime: timestamppb.New(time.Date(2027, time.February, 1, 0, 0, 0, 0, time.UTC)),
		Note: "Microsoft retires the Defender for Endpoint API on 1 February 2027 (Message Center MC1220762). " + consequence +
			" Check the post in your Message Center for a new date.",
		Successor: successor, SuccessorDeviceSource: devices,
	}
}
