package server

import (
	"context"
	"log/slog"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// saveTestLimit is how long keeping the result of a test may take.
const saveTestLimit = 10 * time.Second

// TestConnectivity tries every link of an integration. The result of a registered one is kept with it.
func (s *Service) TestConnectivity(
	ctx context.Context, request *integrationv1.TestConnectivityRequest,
) (*integrationv1.TestConnectivityResponse, error) {
	response := &integrationv1.TestConnectivityResponse{Technology: technology, ServiceVersion: s.Version}
	if given := request.GetIntegration(); given != nil {
		secrets := secretsOf(given)
		settings, err := s.complete(settingsOf(given))
		if err != nil {
			return nil, err
		}
		if err := needSecrets(settings, secrets); err != nil {
			return nil, err
		}
		response.Test = s.Test(ctx, settings, secrets)
		return response, nil
	}
	found, err := s.record(ctx, request.GetIntegrationId())
	if err != nil {
		return nil, err
	}
	secrets, err := s.open(found.Record)
	if err != nil {
		return nil, err
	}
	response.Test = s.Test(ctx, found.Record.GetIntegration(), secrets)
	s.keepTest(ctx, found.Record, response.GetTest())
	return response, nil
}

// keepTest keeps the result of a test, also where the caller has gone meanwhile, unless the integration is gone. That it cannot be kept
// takes nothing from the answer.
func (s *Service) keepTest(ctx context.Context, record *storev1.Record, test *integrationv1.ConnectivityTest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTestLimit)
	defer cancel()
	id := record.GetIntegration().GetIntegrationId()
	now, err := s.record(ctx, id)
	if err == nil && now.Record.GetUid() == record.GetUid() {
		err = s.Records.SaveTest(ctx, record.GetUid(), test)
	}
	if err != nil {
		s.Logger.LogAttrs(ctx, slog.LevelWarn, "the result of a test could not be kept",
			slog.String("integration_id", id), slog.String("error", err.Error()))
	}
}
