package server

import (
	"context"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// TestConnectivity tries every link of an integration.
func (s *Service) TestConnectivity(
	ctx context.Context, request *integrationv1.TestConnectivityRequest,
) (*integrationv1.TestConnectivityResponse, error) {
	settings, secrets, err := s.subject(ctx, request)
	if err != nil {
		return nil, err
	}
	response := &integrationv1.TestConnectivityResponse{
		Health:         integrationv1.TestConnectivityResponse_HEALTH_HEALTHY,
		Technology:     technology,
		ServiceVersion: s.Version,
		Stages:         s.Test(ctx, settings, secrets),
	}
	for _, stage := range response.GetStages() {
		if stage.GetResult() == integrationv1.ConnectivityStage_RESULT_FAILED {
			response.Health = integrationv1.TestConnectivityResponse_HEALTH_UNHEALTHY
		}
	}
	return response, nil
}

// subject returns the settings and secrets that are to be tested.
func (s *Service) subject(
	ctx context.Context, request *integrationv1.TestConnectivityRequest,
) (*integrationv1.Integration, *storev1.Secrets, error) {
	if given := request.GetIntegration(); given != nil {
		secrets := secretsOf(given)
		if secrets.GetClientSecret() == "" {
			return nil, nil, failure.Invalid("integration."+secretField, "a client secret must be given")
		}
		settings, err := s.complete(settingsOf(given))
		return settings, secrets, err
	}
	found, err := s.record(ctx, request.GetIntegrationId())
	if err != nil {
		return nil, nil, err
	}
	secrets, err := s.open(found.Record)
	return found.Record.GetIntegration(), secrets, err
}
