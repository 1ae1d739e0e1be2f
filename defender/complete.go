package defender

import (
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// How the paths of token endpoints end: v1 takes a resource, v2.0 a scope
// (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow).
const (
	v1TokenPath = "/oauth2/token"
	v2TokenPath = "/oauth2/v2.0/token"
)

// Complete returns a copy of the integration with the defaults of its API and cloud filled in: API, cloud, host, port,
// protocol, version, authorization URL, scope or resource, and device source. What is set stays. Polling is not this package's and
// is left alone, and so is everything where the table has no such API in that cloud, or only to tell that it is gone.
func Complete(integration *integrationv1.Integration) *integrationv1.Integration {
	c := proto.CloneOf(integration)
	setDefault(&c.Api, integrationv1.Api_API_GRAPH_SECURITY)
	setDefault(&c.Cloud, integrationv1.Cloud_CLOUD_GLOBAL)
	found := find(c.GetApi(), c.GetCloud())
	if found.GetEndpoint() == nil {
		return c
	}
	c.Endpoint = completeEndpoint(c.GetEndpoint(), found.GetEndpoint())
	if c.GetAuthentication() == nil {
		c.Authentication = &integrationv1.Authentication{}
	}
	completeAuthentication(c.GetAuthentication(), found, c.GetTenantId())
	if c.GetDeviceSource() == nil {
		c.DeviceSource = &integrationv1.DeviceSource{}
	}
	setDefault(&c.DeviceSource.Kind, found.GetDeviceSources()[0].GetKind())
	if source := DeviceSourceOf(found, c.GetDeviceSource().GetKind()); source.GetEndpoint() != nil {
		place, scope := source.GetEndpoint(), source.GetScope()
		if place.GetHost() == found.GetEndpoint().GetHost() {
			// Devices are at the API's own host: where that was chosen, such as a nearer one, they are there too.
			place = proto.CloneOf(c.GetEndpoint())
			place.ApiVersion = source.GetEndpoint().GetApiVersion()
			if given := target(c.GetAuthentication()); scope == found.GetScope() && given != "" {
				scope = given
			}
		}
		c.DeviceSource.Endpoint = completeEndpoint(c.GetDeviceSource().GetEndpoint(), place)
		setDefault(&c.DeviceSource.Scope, scope)
	}
	return c
}

// target returns what tokens are asked for, as a scope.
func target(a *integrationv1.Authentication) string {
	if a.GetResource() != "" {
		return strings.TrimSuffix(a.GetResource(), "/") + anyScope
	}
	return a.GetScope()
}

// completeAuthentication fills in where tokens are asked for, and what for. Only a client secret goes with a v1 token endpoint; a
// managed identity has an endpoint of its own, which is not told by callers.
func completeAuthentication(a *integrationv1.Authentication, found *integrationv1.ApiEndpoint, tenant string) {
	tokenURL := strings.ReplaceAll(found.GetAuthorizationUrl(), "{tenant}", tenant)
	switch {
	case a.GetManagedIdentity() != nil:
	case a.GetClientCertificate() != nil, a.GetWorkloadIdentity() != nil:
		if before, ok := strings.CutSuffix(tokenURL, v1TokenPath); ok {
			tokenURL = before + v2TokenPath
		}
		setDefault(&a.AuthorizationUrl, tokenURL)
	default:
		setDefault(&a.AuthorizationUrl, tokenURL)
		if a.GetScope() == "" && isV1(a.GetAuthorizationUrl()) {
			setDefault(&a.Resource, found.GetResource())
		}
	}
	if a.GetResource() == "" {
		setDefault(&a.Scope, found.GetScope())
	}
}

// isV1 says whether a URL is of a v1 token endpoint.
func isV1(tokenURL string) bool {
	u, err := url.Parse(tokenURL)
	return err == nil && strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), v1TokenPath)
}

// DeviceTarget returns what a completed integration's tokens for its device source are asked for: a scope, or a resource where its
// tokens for alerts are asked for by one.
func DeviceTarget(integration *integrationv1.Integration) (scope, resource string) {
	scope = integration.GetDeviceSource().GetScope()
	if integration.GetAuthentication().GetResource() != "" {
		return "", strings.TrimSuffix(scope, anyScope)
	}
	return scope, ""
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
