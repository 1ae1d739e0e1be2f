package defender

import (
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// defaultPort is the port of every endpoint of Microsoft's.
const defaultPort = 443

// table makes the table once: it never changes.
var table = sync.OnceValue(func() []*integrationv1.ApiEndpoint { //nolint:gochecknoglobals // It never changes, and every look-up needs it.
	var endpoints []*integrationv1.ApiEndpoint
	for _, row := range []func(cloudFacts) *integrationv1.ApiEndpoint{graphSecurity, defenderForEndpoint, siem} {
		for _, c := range clouds() {
			endpoints = append(endpoints, row(c))
		}
	}
	return append(endpoints, graphSecurityLegacy())
})

// Endpoints returns each API in each cloud that this version knows, the defaults first; one that is retired is there to tell what
// became of it. This is the one table of hosts, scopes, permissions, limits and lifecycles; what is returned is a copy.
func Endpoints() []*integrationv1.ApiEndpoint {
	endpoints := make([]*integrationv1.ApiEndpoint, len(table()))
	for i, e := range table() {
		endpoints[i] = proto.CloneOf(e)
	}
	return endpoints
}

// Find returns a copy of the table's entry for an API in a cloud, or nil where there is none.
func Find(api integrationv1.Api, cloud integrationv1.Cloud) *integrationv1.ApiEndpoint {
	return proto.CloneOf(find(api, cloud))
}

func find(api integrationv1.Api, cloud integrationv1.Cloud) *integrationv1.ApiEndpoint {
	for _, e := range table() {
		if e.GetApi() == api && e.GetCloud() == cloud {
			return e
		}
	}
	return nil
}

// Retired returns what became of an API that Microsoft no longer offers, in whatever cloud; nil for every other.
func Retired(api integrationv1.Api) *integrationv1.Lifecycle {
	for _, e := range table() {
		if e.GetApi() == api && e.GetLifecycle().GetStage() == integrationv1.Lifecycle_STAGE_RETIRED {
			return proto.CloneOf(e.GetLifecycle())
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

// LimitOf returns the limit that reading alerts over an API counts against.
func LimitOf(api integrationv1.Api) Limit {
	switch api {
	case integrationv1.Api_API_DEFENDER_FOR_ENDPOINT:
		return LimitEndpoint
	case integrationv1.Api_API_SIEM:
		return LimitSIEM
	default:
		return LimitGraphAlerts
	}
}

// LimitOfDevices returns the limit that reading devices counts against; empty where nothing is read.
func LimitOfDevices(kind integrationv1.DeviceSource_Kind) Limit {
	switch kind {
	case integrationv1.DeviceSource_KIND_MACHINES:
		return LimitEndpoint
	case integrationv1.DeviceSource_KIND_HUNTING:
		return LimitHunting
	default:
		return ""
	}
}

// LimitsOf returns the limits that a completed integration spends, each once.
func LimitsOf(integration *integrationv1.Integration) []Limit {
	limits := []Limit{LimitOf(integration.GetApi())}
	if devices := LimitOfDevices(integration.GetDeviceSource().GetKind()); devices != "" && devices != limits[0] {
		limits = append(limits, devices)
	}
	if integration.GetApi() == integrationv1.Api_API_GRAPH_SECURITY {
		limits = append(limits, LimitTelemetry)
	}
	return limits
}

// isMicrosofts says whether the table has the host.
func isMicrosofts(host string) bool {
	host = strings.ToLower(host)
	for _, c := range clouds() {
		if host == c.login || host == c.graph || host == c.endpoint || host == c.siem || slices.Contains(c.loginAliases, host) ||
			slices.ContainsFunc(slices.Concat(c.endpointHosts, c.siemHosts), func(a alternative) bool { return a.host == host }) {
			return true
		}
	}
	return false
}

func https(host, version string) *integrationv1.Endpoint {
	return &integrationv1.Endpoint{
		Host: host, Port: defaultPort, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS, ApiVersion: version,
	}
}

func alternativeHosts(hosts []alternative) []*integrationv1.AlternativeHost {
	var list []*integrationv1.AlternativeHost
	for _, a := range hosts {
		list = append(list, &integrationv1.AlternativeHost{Host: a.host, Note: a.note})
	}
	return list
}

func callLimit(limit Limit, calls int64, period time.Duration) *integrationv1.CallLimit {
	return &integrationv1.CallLimit{Limit: string(limit), Calls: calls, Period: durationpb.New(period)}
}
