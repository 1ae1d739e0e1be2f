package server

import (
	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// StreamAlerts streams alerts.
func (s *Service) StreamAlerts(
	request *integrationv1.StreamAlertsRequest, stream grpc.ServerStreamingServer[integrationv1.StreamAlertsResponse],
) error {
	return s.Streams.Stream(stream.Context(), request, stream.Send)
}
