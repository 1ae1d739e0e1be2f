// Package connect makes the connection of an integration: its way out, its tokens, its alerts, its devices, and the test that says
// which link between them and this service does not hold, and what to do.
package connect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender"
	"defender-integration/defender/entra"
	"defender-integration/defender/hunting"
	"defender-integration/defender/outbound"
	"defender-integration/defender/secretsdir"
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
	// Left tells what is left of the budget that Spend guards, for the test. Default: nothing is told.
	Left func() []*integrationv1.BudgetLeft
	// Allow says which hosts may be spoken to.
	Allow defender.AllowList
	// Files is the folder that files of secrets are in; nil for none.
	Files *secretsdir.Dir
	// Variables are the environment variables that secrets may be in; nil for none.
	Variables *secretsdir.Variables
	// Outbound are the operator's proxies and authorities; nil for none.
	Outbound *outbound.Defaults
	// Tokens shares tokens with the other connections of the same application. Default: it shares with none.
	Tokens *entra.Shared
	// Version is this service's, for the User-Agent.
	Version string
	// Logger takes one line at debug level for each call. Default: nowhere.
	Logger *slog.Logger
}

// Connection is how one integration reaches Microsoft. It is safe for concurrent use. Close it after use.
type Connection struct {
	config      Config
	integration *integrationv1.Integration
	endpoint    *integrationv1.ApiEndpoint
	devices     *integrationv1.DeviceSourceEndpoint
	way         *outbound.Outbound

	alertTokens  *entra.Source
	alertSource  alertSource
	deviceTokens *entra.Source
	deviceSource deviceSource
	// telemetry is nil where the API's application cannot hunt.
	telemetry *hunting.Source

	// close lets go of what the connection holds.
	close []func()
}

// New makes a connection, and calls nothing. It reads the proxy's password and the trusted authorities, where they are in
// files or in an environment variable. It fails with a *defender.NotAllowedError where the operator does not allow a host, and with a *defender.Error of the
// reason CONFIGURATION_INVALID where the settings do not go together, or CREDENTIAL_UNUSABLE where one of them cannot be read.
func New(config Config) (*Connection, error) {
	integration := defender.Complete(config.Integration)
	if retired := defender.Retired(integration.GetApi()); retired != nil {
		return nil, invalid(retired.GetNote(), "Register the tenant with "+retired.GetSuccessor().String()+".")
	}
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
	if config.Spend == nil {
		return nil, errors.New("connect: Config.Spend is not set")
	}
	if config.Tokens == nil {
		config.Tokens = entra.NewShared()
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Connection{config: config, integration: integration, endpoint: found, devices: devices}
	if err := c.open(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Check says whether a connection can be made of settings and secrets, and calls nothing. What is in files and variables is not looked at:
// they may come later. For errors see [New].
func Check(config Config) error {
	config.Spend = func(context.Context, defender.Limit) error { return nil }
	config.Integration = withoutReferences(config.Integration)
	c, err := New(config)
	if err != nil {
		return err
	}
	defer c.Close()
	if config.Secrets.GetClientCertificate() == "" {
		return nil
	}
	_, err = c.alertTokens.Inspect(context.Background())
	return err
}

// withoutReferences returns settings without what New reads from files and variables.
func withoutReferences(integration *integrationv1.Integration) *integrationv1.Integration {
	c := proto.CloneOf(integration)
	if c.GetProxy() != nil {
		c.Proxy.PasswordFile, c.Proxy.PasswordEnvVariable = "", ""
	}
	if c.GetTrust().GetCaFile() != "" {
		c.Trust = nil
	}
	return c
}

// open makes what the connection consists of.
func (c *Connection) open() error {
	digest, err := c.openWay()
	if err != nil {
		return err
	}
	client := c.client(0)
	a := c.integration.GetAuthentication()
	if c.alertTokens, err = c.tokens(client, digest, a.GetScope(), a.GetResource()); err != nil {
		return err
	}
	c.alertSource = c.newAlertSource(client)
	c.telemetry = c.newTelemetrySource()
	if c.devices.GetEndpoint() == nil {
		return nil
	}
	scope, resource := defender.DeviceTarget(c.integration)
	if c.deviceTokens, err = c.tokens(client, digest, scope, resource); err != nil {
		return err
	}
	c.deviceSource = c.newDeviceSource()
	return nil
}

// openWay makes the way out, and returns a digest of what it is made of.
func (c *Connection) openWay() (string, error) {
	proxy, trust := c.integration.GetProxy(), c.integration.GetTrust()
	password, err := c.proxyPassword(proxy)
	if err != nil {
		return "", err
	}
	authorities := []byte(trust.GetCaPem())
	if name := trust.GetCaFile(); name != "" {
		if authorities, err = c.config.Files.Read(name); err != nil {
			return "", err
		}
	}
	c.way, err = outbound.New(outbound.Config{
		Proxy: proxy, ProxyPassword: password, TrustPEM: authorities, Defaults: c.config.Outbound, Allowed: c.config.Allow.Added,
	})
	if err != nil {
		return "", err
	}
	settings, err := proto.MarshalOptions{Deterministic: true}.Marshal(proxy)
	if err != nil {
		return "", fmt.Errorf("encode the proxy's settings: %w", err)
	}
	// Each part is hashed, so that no two ways give the same bytes.
	hash := sha256.New()
	for _, part := range [][]byte{settings, []byte(password), authorities} {
		sum := sha256.Sum256(part)
		_, _ = hash.Write(sum[:]) // a hash never fails
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// proxyPassword returns the password at the proxy, from wherever it is kept.
func (c *Connection) proxyPassword(proxy *integrationv1.Proxy) (string, error) {
	var content []byte
	var err error
	switch file, variable := proxy.GetPasswordFile(), proxy.GetPasswordEnvVariable(); {
	case file != "":
		content, err = c.config.Files.Read(file)
	case variable != "":
		content, err = c.config.Variables.Read(variable)
	default:
		return c.config.Secrets.GetProxyPassword(), nil
	}
	return strings.TrimSpace(string(content)), err
}

// tokens returns the source of tokens for a scope or resource.
func (c *Connection) tokens(client *http.Client, way, scope, resource string) (*entra.Source, error) {
	source, release, err := c.config.Tokens.Source(entra.Config{
		Authentication: c.integration.GetAuthentication(), Secrets: c.config.Secrets, Files: c.config.Files, Variables: c.config.Variables,
		Scope: scope, Resource: resource, HTTP: client, Way: way, UserAgent: c.userAgent(),
	})
	if err != nil {
		return nil, err
	}
	c.close = append(c.close, release)
	return source, nil
}

func (c *Connection) userAgent() string { return "defender-integration/" + c.config.Version }

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
	if c.deviceSource == nil {
		return nil
	}
	return c.deviceSource
}

// Telemetry returns the source of telemetry; nil where the integration's API has none. That there is one does not say that the
// application may use it.
func (c *Connection) Telemetry() defender.TelemetrySource {
	if c.telemetry == nil {
		return nil
	}
	return c.telemetry
}

// Expiries tells until when what the connection calls with is good.
func (c *Connection) Expiries() defender.Expiries {
	var e defender.Expiries
	e.AlertToken, e.Certificate = c.alertTokens.Expiries()
	if c.deviceTokens != nil {
		token, certificate := c.deviceTokens.Expiries()
		if e.DeviceToken = token; !certificate.IsZero() {
			e.Certificate = certificate
		}
	}
	return e
}

// Close closes connections that are idle, and gives back the tokens.
func (c *Connection) Close() {
	for _, let := range c.close {
		let()
	}
}
