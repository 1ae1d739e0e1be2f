package server

import (
	"context"
	"errors"

	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// errWaiting is why nothing is served before the store is there.
var errWaiting = errors.New("the store was not reached yet since the start")

// Waiting is the service while its store is not there yet: a server of it can be asked how it does, and every call of the contract is told
// that the store is unavailable and to come again.
type Waiting struct {
	integrationv1.UnimplementedIntegrationServiceServer
}

var _ integrationv1.IntegrationServiceServer = Waiting{}

// RegisterIntegration implements the contract's service.
func (Waiting) RegisterIntegration(context.Context, *integrationv1.RegisterIntegrationRequest) (*integrationv1.RegisterIntegrationResponse, error) {
	return nil, storeUnavailable(errWaiting)
}

// GetIntegration implements the contract's service.
func (Waiting) GetIntegration(context.Context, *integrationv1.GetIntegrationRequest) (*integrationv1.GetIntegrationResponse, error) {
	return nil, storeUnavailable(errWaiting)
}

// ListIntegrations implements the contract's service.
func (Waiting) ListIntegrations(context.Context, *integrationv1.ListIntegrationsRequest) (*integrationv1.ListIntegrationsResponse, error) {
	return nil, storeUnavailable(errWaiting)
}

// UpdateIntegration implements the contract's service.
func (Waiting) UpdateIntegration(context.Context, *integrationv1.UpdateIntegrationRequest) (*integrationv1.UpdateIntegrationResponse, error) {
	return nil, storeUnavailable(errWaiting)
}

// DeleteIntegration implements the contract's service.
func (Waiting) DeleteIntegration(context.Context, *integrationv1.DeleteIntegrationRequest) (*integrationv1.DeleteIntegrationResponse, error) {
	return nil, storeUnavailable(errWaiting)
}

// ListEndpoints implements the contract's service.
func (Waiting) ListEndpoints(context.Context, *integrationv1.ListEndpointsRequest) (*integrationv1.ListEndpointsResponse, error) {
	return nil, storeUnavailable(errWaiting)
}

// TestConnectivity implements the contract's service.
func (Waiting) TestConnectivity(context.Context, *integrationv1.TestConnectivityRequest) (*integrationv1.TestConnectivityResponse, error) {
	return nil, storeUnavailable(errWaiting)
}

// StreamAlerts implements the contract's service.
func (Waiting) StreamAlerts(*integrationv1.StreamAlertsRequest, grpc.ServerStreamingServer[integrationv1.StreamAlertsResponse]) error {
	return storeUnavailable(errWaiting)
}
