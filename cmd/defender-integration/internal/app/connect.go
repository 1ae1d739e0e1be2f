package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"defender-integration/collector"
	"defender-integration/defender"
	"defender-integration/defender/connect"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/server"
)

// connector makes connections to Microsoft.
type connector struct {
	sealer  server.Sealer
	allowed defender.AllowList
	version string
	logger  *slog.Logger
}

// new makes a connection with settings and secrets.
func (c *connector) new(
	integration *integrationv1.Integration, secrets *storev1.Secrets, spend defender.SpendFunc,
) (*connect.Connection, error) {
	return connect.New(connect.Config{
		Integration: integration, Secrets: secrets, Spend: spend, Allow: c.allowed, Version: c.version, Logger: c.logger,
	})
}

// connect makes the connection of a registered integration, for its collector.
func (c *connector) connect(record *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
	secrets, err := c.sealer.Open(record.GetSealedSecrets(), record.GetUid())
	if err != nil {
		return nil, fmt.Errorf("open the secrets of integration %q: %w", record.GetIntegration().GetIntegrationId(), err)
	}
	connection, err := c.new(record.GetIntegration(), secrets, spend)
	if err != nil {
		return nil, err
	}
	return connection, nil
}

// tester returns the function that tries the links of settings. Its calls count against the budget of the application.
func (c *connector) tester(spender func(*integrationv1.Integration) defender.SpendFunc) server.TestFunc {
	return func(
		ctx context.Context, integration *integrationv1.Integration, secrets *storev1.Secrets,
	) []*integrationv1.ConnectivityStage {
		connection, err := c.new(integration, secrets, spender(integration))
		if err != nil {
			return []*integrationv1.ConnectivityStage{refused(err)}
		}
		defer connection.Close()
		return connection.Test(ctx)
	}
}

// refused is the stage of settings with which no connection can be made: those of an integration that was registered when other
// hosts were allowed.
func refused(err error) *integrationv1.ConnectivityStage {
	stage := &integrationv1.ConnectivityStage{
		Link:   integrationv1.ConnectivityStage_LINK_CONFIGURATION,
		Result: integrationv1.ConnectivityStage_RESULT_FAILED,
		Seen:   err.Error(),
		Reason: integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID,
	}
	var notAllowed *defender.NotAllowedError
	var upstream *defender.Error
	switch {
	case errors.As(err, &notAllowed):
		stage.Remedy, stage.Reason = notAllowed.Remedy, integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED
	case errors.As(err, &upstream):
		stage.Seen, stage.Remedy = upstream.Problem.GetMessage(), upstream.Problem.GetRemedy()
		stage.Reason = upstream.Problem.GetReason()
	}
	return stage
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
