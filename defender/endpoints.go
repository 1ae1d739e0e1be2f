package defender

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// defaultPort is the port of every endpoint of Microsoft's.
const defaultPort = 443

// Resource applications in Entra whose permissions are needed, by the ids that they have in every tenant
// (https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-create-app-webapp).
const (
	graphApp      = "Microsoft Graph"
	graphAppID    = "00000003-0000-0000-c000-000000000000"
	machinesApp   = "WindowsDefenderATP"
	machinesAppID = "fc780465-2017-40d4-a0c5-307022471b92"
)

// Endpoints returns each API in each cloud that this version can reach, the defaults first. This is the one table of hosts,
// scopes, permissions and lifecycles; what is returned is a copy.
func Endpoints() []*integrationv1.ApiEndpoint {
	var endpoints []*integrationv1.ApiEndpoint
	for _, c := range clouds() {
		endpoints = append(endpoints, &integrationv1.ApiEndpoint{
			Api:              integrationv1.Api_API_GRAPH_SECURITY,
			Cloud:            c.cloud,
			Endpoint:         https(c.graph, "v1.0"),
			AuthorizationUrl: "https://" + c.login + "/{tenant}/oauth2/v2.0/token",
			// The resource's root and `/.default`: client credentials take no other scope
			// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow).
			Scope:       "https://" + c.graph + "/.default",
			ApiVersions: []string{"v1.0", "beta"},
			Permissions: alertPermissions(c.alertReadRole),
			DeviceSources: []*integrationv1.DeviceSourceEndpoint{
				{
					Kind:        integrationv1.DeviceSource_KIND_MACHINES,
					Endpoint:    https(c.machines, ""),
					Scope:       c.machinesScope,
					Permissions: machinePermissions(),
					Lifecycle:   machinesLifecycle(),
				},
				{Kind: integrationv1.DeviceSource_KIND_NONE, Lifecycle: current("Nothing is looked up, so nothing can be judged as missed.")},
			},
			Lifecycle: current("Microsoft Graph's alerts_v2, generally available, with no end announced."),
		})
	}
	return endpoints
}

// Find returns the table's entry for an API in a cloud, or nil where there is none.
func Find(api integrationv1.Api, cloud integrationv1.Cloud) *integrationv1.ApiEndpoint {
	for _, e := range Endpoints() {
		if e.GetApi() == api && e.GetCloud() == cloud {
			return e
		}
	}
	return nil
}

// DeviceSourceOf returns the entry's device source of that kind, or nil where the API has none of that kind.
func DeviceSourceOf(endpoint *integrationv1.ApiEndpoint, kind integrationv1.DeviceSource_Kind) *integrationv1.DeviceSourceEndpoint {
	for _, s := range endpoint.GetDeviceSources() {
		if s.GetKind() == kind {
			return s
		}
	}
	return nil
}

// cloudFacts are what differs from cloud to cloud.
type cloudFacts struct {
	cloud                   integrationv1.Cloud
	login, graph            string
	alertReadRole           string
	machines, machinesScope string
}

func clouds() []cloudFacts {
	return []cloudFacts{
		{
			cloud: integrationv1.Cloud_CLOUD_GLOBAL,
			// https://learn.microsoft.com/en-us/graph/deployments
			login: "login.microsoftonline.com",
			graph: "graph.microsoft.com",
			// https://graphpermissions.merill.net/permission/SecurityAlert.Read.All
			alertReadRole: "472e4a4d-bb4a-4026-98d1-0b0d74cb74a5",
			// https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-list; the scope from
			// https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-create-app-webapp, whose tokens hold on every
			// host of this cloud.
			machines:      "api.security.microsoft.com",
			machinesScope: "https://api.securitycenter.microsoft.com/.default",
		},
		{
			cloud: integrationv1.Cloud_CLOUD_US_GOV_HIGH,
			// https://learn.microsoft.com/en-us/graph/deployments
			login:         "login.microsoftonline.us",
			graph:         "graph.microsoft.us",
			alertReadRole: govAlertReadRole,
			machines:      govMachines,
			machinesScope: govMachinesScope,
		},
		{
			cloud: integrationv1.Cloud_CLOUD_US_GOV_DOD,
			// https://learn.microsoft.com/en-us/graph/deployments
			login:         "login.microsoftonline.us",
			graph:         "dod-graph.microsoft.us",
			alertReadRole: govAlertReadRole,
			machines:      govMachines,
			machinesScope: govMachinesScope,
		},
	}
}

// What GCC High and DoD share.
const (
	// The app role's id differs from the worldwide cloud's: agreed on by public code, not documented by Microsoft.
	govAlertReadRole = "64c33fcb-e6aa-490d-bed5-6016a9ef8f6d"
	// https://learn.microsoft.com/en-us/defender-endpoint/gov
	govMachines = "api-gov.securitycenter.microsoft.us"
	// Not documented by Microsoft: the host's root, as in the worldwide cloud. It can be set in the integration.
	govMachinesScope = "https://api-gov.securitycenter.microsoft.us/.default"
)

// alternativeMachinesHosts are hosts of the list of machines that are no cloud's default: an operator may choose one that is
// nearer, or GCC's.
func alternativeMachinesHosts() []string {
	return []string{
		// The name in most of Microsoft's samples (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines).
		"api.securitycenter.microsoft.com",
		// Nearer hosts (https://learn.microsoft.com/en-us/defender-endpoint/api/exposed-apis-odata-samples).
		"us.api.security.microsoft.com", "eu.api.security.microsoft.com", "uk.api.security.microsoft.com",
		"au.api.security.microsoft.com", "swa.api.security.microsoft.com", "ina.api.security.microsoft.com",
		"aea.api.security.microsoft.com",
		// US Government GCC, whose Graph and login are the worldwide ones (https://learn.microsoft.com/en-us/defender-endpoint/gov).
		"api-gcc.securitycenter.microsoft.us",
	}
}

// authorizationURL is the token endpoint of a tenant.
func authorizationURL(endpoint *integrationv1.ApiEndpoint, tenant string) string {
	return strings.ReplaceAll(endpoint.GetAuthorizationUrl(), "{tenant}", tenant)
}

func https(host, version string) *integrationv1.Endpoint {
	return &integrationv1.Endpoint{
		Host: host, Port: defaultPort, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS, ApiVersion: version,
	}
}

// alertPermissions are the roles that open alerts_v2, any one of them: the service's own refusal of a token names these four.
// The ids of the two that can write are left out: nobody is told to grant them.
func alertPermissions(readRole string) []*integrationv1.Permission {
	return []*integrationv1.Permission{
		// https://learn.microsoft.com/en-us/graph/api/security-list-alerts_v2
		{Name: "SecurityAlert.Read.All", AppRoleId: readRole, ResourceApp: graphApp, ResourceAppId: graphAppID},
		// https://graphpermissions.merill.net/permission/SecurityIncident.Read.All
		{Name: "SecurityIncident.Read.All", AppRoleId: "45cc0394-e837-488b-a098-1918f48d186c", ResourceApp: graphApp, ResourceAppId: graphAppID},
		{Name: "SecurityAlert.ReadWrite.All", ResourceApp: graphApp, ResourceAppId: graphAppID, CanWrite: true},
		{Name: "SecurityIncident.ReadWrite.All", ResourceApp: graphApp, ResourceAppId: graphAppID, CanWrite: true},
	}
}

// machinePermissions are the roles that open the list of machines, any one of them
// (https://learn.microsoft.com/en-us/defender-endpoint/api/get-machines).
func machinePermissions() []*integrationv1.Permission {
	return []*integrationv1.Permission{
		{Name: "Machine.Read.All", AppRoleId: "ea8291d3-4b9a-44b5-bc3a-6cea3026dc79", ResourceApp: machinesApp, ResourceAppId: machinesAppID},
		{Name: "Machine.ReadWrite.All", ResourceApp: machinesApp, ResourceAppId: machinesAppID, CanWrite: true},
	}
}

func current(note string) *integrationv1.Lifecycle {
	return &integrationv1.Lifecycle{Stage: integrationv1.Lifecycle_STAGE_CURRENT, Note: note}
}

// machinesLifecycle is what Microsoft's Message Center post MC1220762 of 22 January 2026 announces for the whole Defender for
// Endpoint API. Microsoft names no successor of the list of machines.
func machinesLifecycle() *integrationv1.Lifecycle {
	return &integrationv1.Lifecycle{
		Stage:          integrationv1.Lifecycle_STAGE_RETIRING,
		RetirementTime: timestamppb.New(time.Date(2027, time.February, 1, 0, 0, 0, 0, time.UTC)),
		Note: "Microsoft retires the Defender for Endpoint API on 1 February 2027 (Message Center MC1220762). " +
			"Alerts are not affected. From then on devices cannot be looked up here, and what raised no alert cannot be judged; " +
			"advanced hunting's DeviceInfo over Microsoft Graph follows it. Check the post in your Message Center for a new date.",
	}
}

// Complete returns a copy of the integration with the defaults of its API and cloud filled in: API, cloud, host, port,
// protocol, version, authorization URL, scope and device source. What is set stays. Polling is not this package's and is left
// alone, and so is everything where the table has no such API in that cloud.
func Complete(integration *integrationv1.Integration) *integrationv1.Integration {
	c := proto.CloneOf(integration)
	setDefault(&c.Api, integrationv1.Api_API_GRAPH_SECURITY)
	setDefault(&c.Cloud, integrationv1.Cloud_CLOUD_GLOBAL)
	found := Find(c.GetApi(), c.GetCloud())
	if found == nil {
		return c
	}
	c.Endpoint = completeEndpoint(c.GetEndpoint(), found.GetEndpoint())
	if c.GetAuthentication() == nil {
		c.Authentication = &integrationv1.Authentication{}
	}
	setDefault(&c.Authentication.AuthorizationUrl, authorizationURL(found, c.GetTenantId()))
	setDefault(&c.Authentication.Scope, found.GetScope())
	if c.GetDeviceSource() == nil {
		c.DeviceSource = &integrationv1.DeviceSource{}
	}
	setDefault(&c.DeviceSource.Kind, found.GetDeviceSources()[0].GetKind())
	if source := DeviceSourceOf(found, c.GetDeviceSource().GetKind()); source.GetEndpoint() != nil {
		c.DeviceSource.Endpoint = completeEndpoint(c.GetDeviceSource().GetEndpoint(), source.GetEndpoint())
		setDefault(&c.DeviceSource.Scope, source.GetScope())
	}
	return c
}

func completeEndpoint(given, defaults *integrationv1.Endpoint) *integrationv1.Endpoint {
	if given == nil {
		return proto.CloneOf(defaults)
	}
	setDefault(&given.Host, defaults.GetHost())
	setDefault(&given.Port, defaults.GetPort())
	setDefault(&given.Protocol, defaults.GetProtocol())
	setDefault(&given.ApiVersion, defaults.GetApiVersion())
	return given
}

// setDefault sets what is zero.
func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
