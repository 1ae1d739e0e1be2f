// Package connect makes the connection of an integration: its tokens, its alerts, its devices, and the test that says which
// link between them and this service does not hold, and what to do.
package connect

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"defender-integration/defender"
	"defender-integration/defender/entra"
	"defender-integration/defender/graph"
	"defender-integration/defender/machines"
	"defender-integration/defender/rest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Config is what a [Connection] is made of.
type Config struct {
	// Integration is completed first; see [defender.Complete]. It is not changed, and must not be while the connection is used.
	Integration *integrationv1.Integration
	// Secrets are the integration's.
	Secrets *storev1.Secrets
	// Spend is asked before each call at an API.
	Spend defender.SpendFunc
	// Allow says which hosts may be spoken to.
	Allow defender.AllowList
	// Transport makes the calls. Default: one of the connection's own, with a time limit at each point.
	Transport *http.Transport
	// Version is this service's, for the User-Agent.
	Version string
	// Logger takes one line at debug level for each call. Default: nowhere.
	Logger *slog.Logger
}

// Connection is how one integration reaches Microsoft. It is safe for concurrent use. Close it after use.
type Connection struct {
	integration *integrationv1.Integration
	endpoint    *integrationv1.ApiEndpoint
	devices     *integrationv1.DeviceSourceEndpoint
	spend       defender.SpendFunc
	transport   *http.Transport

	alertTokens   *entra.Source
	alertSource   *graph.Source
	deviceTokens  *entra.Source
	machineSource *machines.Source
}

// New makes a connection, and calls nothing. It fails with a *defender.NotAllowedError where the operator does not allow a
// host, and with a *defender.Error of the reason CONFIGURATION_INVALID where the settings do not go together.
func New(config Config) (*Connection, error) {
	integration := defender.Complete(config.Integration)
	found := defender.Find(integration.GetApi(), integration.GetCloud())
	if found == nil {
		return nil, invalid(fmt.Sprintf("Microsoft does not offer %s in %s.", integration.GetApi(), integration.GetCloud()),
			"Ask ListEndpoints for the APIs and clouds that there are.")
	}
	devices := defender.DeviceSourceOf(found, integration.GetDeviceSource().GetKind())
	if devices == nil {
		return nil, invalid(fmt.Sprintf("%s does not go with %s.", integration.GetDeviceSource().GetKind(), integration.GetApi()),
			"Ask ListEndpoints for the device sources that go with the API.")
	}
	if err := config.Allow.Check(integration); err != nil {
		return nil, err
	}
	if config.Secrets.GetClientSecret() == "" {
		return nil, invalid("The client secret is empty.", "Give the secret's Value in authentication.client_secret.value.")
	}
	if config.Spend == nil {
		return nil, errors.New("connect: Config.Spend is not set")
	}
	if config.Transport == nil {
		config.Transport = rest.NewTransport()
	}

	c := &Connection{integration: integration, endpoint: found, devices: devices, spend: config.Spend, transport: config.Transport}
	agent := "defender-integration/" + config.Version
	client := rest.NewHTTPClient(config.Transport)
	tokens := func(scope string) *entra.Source {
		return entra.NewSource(entra.Config{
			TokenURL: integration.GetAuthentication().GetAuthorizationUrl(), ClientID: integration.GetAuthentication().GetClientId(),
			ClientSecret: config.Secrets.GetClientSecret(), Scope: scope, HTTP: client, UserAgent: agent,
		})
	}
	c.alertTokens = tokens(integration.GetAuthentication().GetScope())
	c.alertSource = graph.NewSource(rest.NewClient(rest.Config{
		Name: "Microsoft Graph's list of alerts", Base: defender.BaseURL(integration.GetEndpoint()), HTTP: client, Tokens: c.alertTokens,
		Spend: config.Spend, Limit: defender.LimitGraphAlerts, Permissions: found.GetPermissions(), UserAgent: agent, Logger: config.Logger,
	}), integration.GetEndpoint().GetApiVersion())
	if devices.GetKind() == integrationv1.DeviceSource_KIND_MACHINES {
		source := integration.GetDeviceSource()
		c.deviceTokens = tokens(source.GetScope())
		c.machineSource = machines.NewSource(rest.NewClient(rest.Config{
			Name: "Defender for Endpoint's list of machines", Base: defender.BaseURL(source.GetEndpoint()), HTTP: client, Tokens: c.deviceTokens,
			Spend: config.Spend, Limit: defender.LimitMachines, Permissions: devices.GetPermissions(), UserAgent: agent, Logger: config.Logger,
		}), source.GetEndpoint().GetApiVersion())
	}
	return c, nil
}

func invalid(message, remedy string) *defender.Error {
	return &defender.Error{
		Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID, Message: message, Remedy: remedy,
		},
		Permanent: true,
	}
}

// Alerts returns the source of alerts.
func (c *Connection) Alerts() defender.AlertSource { return c.alertSource }

// Devices returns the device source, nil where the integration has none.
func (c *Connection) Devices() defender.DeviceSource {
	if c.machineSource == nil {
		return nil
	}
	return c.machineSource
}

// Close closes connections that are idle.
func (c *Connection) Close() { c.transport.CloseIdleConnections() }
