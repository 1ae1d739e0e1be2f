package connect

import (
	"context"
	"net/http"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/endpoint"
	"defender-integration/defender/entra"
	"defender-integration/defender/graph"
	"defender-integration/defender/hunting"
	"defender-integration/defender/machines"
	"defender-integration/defender/outbound"
	"defender-integration/defender/rest"
	"defender-integration/defender/siem"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// huntingTimeout is how long an answer of advanced hunting is waited for. Microsoft works on a query for up to three minutes
// (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview); what takes as long is asked for in smaller parts.
const huntingTimeout = 45 * time.Second

// huntingName is what advanced hunting is called, for an operator.
const huntingName = "Microsoft Graph's advanced hunting"

// alertSource is an API's source of alerts.
type alertSource interface {
	defender.AlertSource
	// Probe makes one small call: that alerts can be read.
	Probe(ctx context.Context, since time.Time) (defender.Probed, error)
}

// deviceSource is a source of devices.
type deviceSource interface {
	defender.DeviceSource
	// Probe makes one small call: that devices can be read.
	Probe(ctx context.Context) (defender.Probed, error)
}

// newAlertSource makes the source of alerts of the integration's API.
func (c *Connection) newAlertSource(client *http.Client) alertSource {
	place := c.integration.GetEndpoint()
	called := func(name string) *rest.Client {
		return c.api(apiConfig{
			name: name, place: place, client: client, tokens: c.alertTokens, limit: defender.LimitOf(c.integration.GetApi()),
			permissions: c.endpoint.GetPermissions(), lifecycle: c.endpoint.GetLifecycle(),
		})
	}
	switch c.integration.GetApi() {
	case integrationv1.Api_API_DEFENDER_FOR_ENDPOINT:
		return endpoint.NewSource(called("Defender for Endpoint's list of alerts"), place.GetApiVersion())
	case integrationv1.Api_API_SIEM:
		return siem.NewSource(called("The SIEM API"))
	default:
		return graph.NewSource(called("Microsoft Graph's list of alerts"), place.GetApiVersion())
	}
}

// newDeviceSource makes the source of devices.
func (c *Connection) newDeviceSource() deviceSource {
	place := c.integration.GetDeviceSource().GetEndpoint()
	config := apiConfig{
		name: "Defender for Endpoint's list of machines", place: place, tokens: c.deviceTokens,
		limit: defender.LimitOfDevices(c.devices.GetKind()), permissions: c.devices.GetPermissions(), lifecycle: c.devices.GetLifecycle(),
	}
	if c.devices.GetKind() == integrationv1.DeviceSource_KIND_HUNTING {
		config.name, config.client = huntingName, c.client(huntingTimeout)
		return hunting.NewSource(c.api(config), place.GetApiVersion())
	}
	config.client = c.client(0)
	return machines.NewSource(c.api(config), place.GetApiVersion())
}

// newTelemetrySource makes the source of telemetry, which is asked where alerts are read, with the same tokens; nil where that is not
// Microsoft Graph.
func (c *Connection) newTelemetrySource() *hunting.Source {
	if c.integration.GetApi() != integrationv1.Api_API_GRAPH_SECURITY {
		return nil
	}
	found := defender.DeviceSourceOf(c.endpoint, integrationv1.DeviceSource_KIND_HUNTING)
	if found == nil {
		return nil
	}
	place := c.integration.GetEndpoint()
	return hunting.NewSource(c.api(apiConfig{
		name: huntingName, place: place, client: c.client(huntingTimeout), tokens: c.alertTokens, limit: defender.LimitTelemetry,
		permissions: found.GetPermissions(), lifecycle: found.GetLifecycle(),
	}), place.GetApiVersion())
}

// client makes an HTTP client that takes the integration's way. headerTimeout is how long an answer is waited for; zero is the way's
// own.
func (c *Connection) client(headerTimeout time.Duration) *http.Client {
	transport := c.way.Transport()
	if headerTimeout > 0 {
		transport.ResponseHeaderTimeout = headerTimeout
	}
	c.close = append(c.close, transport.CloseIdleConnections)
	return rest.NewHTTPClient(transport)
}

// apiConfig is what the clients of APIs differ in.
type apiConfig struct {
	name        string
	place       *integrationv1.Endpoint
	client      *http.Client
	tokens      *entra.Source
	limit       defender.Limit
	permissions []*integrationv1.Permission
	lifecycle   *integrationv1.Lifecycle
}

// api makes the client of one API.
func (c *Connection) api(config apiConfig) *rest.Client {
	return rest.NewClient(rest.Config{
		Name: config.name, Base: defender.BaseURL(config.place), HTTP: config.client, Tokens: config.tokens,
		Spend: c.config.Spend, Limit: config.limit, Permissions: config.permissions, Lifecycle: config.lifecycle,
		Unreachable: outbound.Problem, UserAgent: c.userAgent(), Logger: c.config.Logger,
	})
}
