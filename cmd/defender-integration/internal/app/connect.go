package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"defender-integration/collector"
	"defender-integration/defender"
	"defender-integration/defender/connect"
	"defender-integration/defender/entra"
	"defender-integration/defender/outbound"
	"defender-integration/defender/secretsdir"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server"
)

// connector makes connections to Microsoft.
type connector struct {
	sealer    server.Sealer
	allowed   defender.AllowList
	files     *secretsdir.Dir
	variables *secretsdir.Variables
	outbound  *outbound.Defaults
	tokens    *entra.Shared
	version   string
	logger    *slog.Logger
}

// newConnector makes a connector of what the operator says: without a sealer, and without the folder for secrets.
func newConnector(options Options) (*connector, error) {
	allowed, err := defender.NewAllowList(options.AllowEndpoints, options.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("--allow-endpoint: %w", err)
	}
	variables, err := secretsdir.NewVariables(options.SecretVariables)
	if err != nil {
		return nil, err
	}
	leave, err := outboundDefaults(options)
	if err != nil {
		return nil, err
	}
	return &connector{
		allowed: allowed, variables: variables, outbound: leave, tokens: entra.NewShared(), version: options.Version, logger: options.Logger,
	}, nil
}

// outboundDefaults reads what the operator says of proxies and authorities.
func outboundDefaults(options Options) (*outbound.Defaults, error) {
	rules, err := outbound.ParseRules(options.ProxyRules)
	if err != nil {
		return nil, fmt.Errorf("--proxy: %w", err)
	}
	var authorities []byte
	if options.TrustedCAFile != "" {
		if authorities, err = os.ReadFile(options.TrustedCAFile); err != nil {
			return nil, fmt.Errorf("--trusted-ca-file: %w", err)
		}
	}
	return outbound.NewDefaults(rules, authorities)
}

// config is what a connection with settings and secrets is made of.
func (c *connector) config(integration *integrationv1.Integration, secrets *storev1.Secrets) connect.Config {
	return connect.Config{
		Integration: integration, Secrets: secrets, Allow: c.allowed, Files: c.files, Variables: c.variables, Outbound: c.outbound, Tokens: c.tokens,
		Version: c.version, Logger: c.logger,
	}
}

// connect makes the connection of a registered integration, for its collector.
func (c *connector) connect(record *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
	secrets, err := c.sealer.Open(record.GetSealedSecrets(), record.GetUid())
	if err != nil {
		return nil, fmt.Errorf("open the secrets of integration %q: %w", record.GetIntegration().GetIntegrationId(), err)
	}
	config := c.config(record.GetIntegration(), secrets)
	config.Spend = spend
	connection, err := connect.New(config)
	if err != nil {
		return nil, err
	}
	return connection, nil
}

// check says whether a connection can be made of settings and secrets, and calls nothing.
func (c *connector) check(integration *integrationv1.Integration, secrets *storev1.Secrets) error {
	return connect.Check(c.config(integration, secrets))
}

// rules are which settings an integration may have here. checkFile says which names files of secrets may have.
func (c *connector) rules(checkFile func(name string) error) server.Rules {
	return server.Rules{Check: c.check, CheckFile: checkFile, CheckVariable: c.variables.Check, Allowed: c.allowed}
}

// tester returns the function that tries the links of settings. Its calls count against the budget of the application.
func (c *connector) tester(manager *collector.Manager) server.TestFunc {
	return func(
		ctx context.Context, integration *integrationv1.Integration, secrets *storev1.Secrets,
	) *integrationv1.ConnectivityTest {
		config := c.config(integration, secrets)
		config.Spend = manager.Spender(integration)
		config.Left = func() []*integrationv1.BudgetLeft { return manager.Left(integration) }
		return connect.Test(ctx, config)
	}
}

// deviceKeys returns the keys by which a device may fit an Actor, as the collectors know keys.
func deviceKeys(device *integrationv1.Device) []string {
	keys := match.DeviceKeys(device)
	texts := make([]string, len(keys))
	for i, key := range keys {
		texts[i] = key.String()
	}
	return texts
}

// wanted says what such keys ask a device source for.
func wanted(keys []string) defender.Wanted {
	var w defender.Wanted
	for _, key := range keys {
		prefix, value, _ := strings.Cut(key, ":")
		list := map[string]*[]string{
			match.DeviceIDPrefix: &w.DeviceIDs, match.EntraIDPrefix: &w.EntraIDs, match.FullNamePrefix: &w.FullNames,
			match.LabelPrefix: &w.Labels, match.ShortNamePrefix: &w.ShortNames, match.AddressPrefix: &w.Addresses,
		}[prefix]
		if list != nil {
			*list = append(*list, value)
		}
	}
	return w
}
