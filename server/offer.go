package server

import (
	"context"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// ListEndpoints returns what Microsoft offers.
func (s *Service) ListEndpoints(
	_ context.Context, request *integrationv1.ListEndpointsRequest,
) (*integrationv1.ListEndpointsResponse, error) {
	response := &integrationv1.ListEndpointsResponse{}
	for _, endpoint := range defender.Endpoints() {
		if api := request.GetApi(); api != integrationv1.Api_API_UNSPECIFIED && api != endpoint.GetApi() {
			continue
		}
		if cloud := request.GetCloud(); cloud != integrationv1.Cloud_CLOUD_UNSPECIFIED && cloud != endpoint.GetCloud() {
			continue
		}
		response.Endpoints = append(response.Endpoints, endpoint)
	}
	return response, nil
}
