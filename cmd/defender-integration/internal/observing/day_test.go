package observing_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// trace is the trace of whoever calls TestConnectivity.
const trace = "4bf92f3577b34da6a3ce929d0e0e4736"

// TestDay plays a typical day, and looks at what is seen of it.
//
//nolint:paralleltest // Where spans go is in the environment, which is for all.
func TestDay(t *testing.T) {
	h := newHouse(t)
	h.playDay()
	pages := h.scrapeQuiet()
	t.Run("profiles", h.wantProfiles)
	t.Run("metrics", func(t *testing.T) { wantMetrics(t, pages) })
	t.Run("page of metrics", func(t *testing.T) { wantPage(t, pages) })
	h.deleteIntegration()
	t.Run("metrics without the integration", h.wantForgotten)
	h.stop()
	t.Run("log", h.wantLog)
	t.Run("spans", h.wantSpans)
}

// playDay is the day: an integration is registered and tested, alerts are followed, an attack is judged, Microsoft fails for a while,
// and somebody asks for what there is not.
func (h *house) playDay() {
	t, ctx := h.t, h.t.Context()
	t.Helper()
	device := defendertest.SampleDevices()[0]
	if _, err := h.client.RegisterIntegration(ctx, &integrationv1.RegisterIntegrationRequest{Integration: h.integration()}); err != nil {
		t.Fatal(err)
	}
	h.waitState(integrationv1.IntegrationStatus_STATE_ACTIVE)
	tested, err := h.client.TestConnectivity(
		metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace+"-00f067aa0ba902b7-01", "x-request-id", "the-test"),
		&integrationv1.TestConnectivityRequest{Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: "contoso"}})
	if err != nil || tested.GetTest().GetHealth() != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
		t.Fatal(tested, err)
	}

	following := h.open(&integrationv1.StreamAlertsRequest{
		IntegrationId: "contoso", Reference: "following",
		Actors: []*integrationv1.Actor{{ActorId: "first", HostName: device.DNSName}},
	})
	h.await(following, "that it follows", func(event *integrationv1.StreamAlertsResponse) bool {
		return event.GetProgress().GetPhase() == integrationv1.ProgressEvent_PHASE_FOLLOWING
	})
	h.tenant.AddAlert(defendertest.Alert{Title: "an odd one", Severity: "unheardOf", Evidence: []defendertest.Evidence{
		defendertest.DeviceEvidence{Device: device},
	}})
	h.await(following, "the alert", func(event *integrationv1.StreamAlertsResponse) bool { return event.GetAlert() != nil })
	h.readOn(following)

	now := h.microsoft.Now()
	judged := h.open(&integrationv1.StreamAlertsRequest{
		IntegrationId: "contoso", Reference: "judged", Wait: durationpb.New(time.Second),
		Window: &integrationv1.Window{StartTime: timestamppb.New(now.Add(-time.Hour)), EndTime: timestamppb.New(now)},
		Actors: []*integrationv1.Actor{{ActorId: "first", HostName: device.DNSName}},
	})
	h.await(judged, "its verdict", func(event *integrationv1.StreamAlertsResponse) bool { return event.GetCompleted() != nil })
	if _, err := judged.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after its verdict: %v", err)
	}

	mend := h.microsoft.Inject(defendertest.Fault{
		Route: defendertest.RouteAlerts, Times: -1, Respond: defendertest.Respond(http.StatusServiceUnavailable, nil, `{"error":{"code":"x"}}`),
	})
	h.waitState(integrationv1.IntegrationStatus_STATE_FAILING)
	mend()
	h.waitState(integrationv1.IntegrationStatus_STATE_ACTIVE)

	_, err = h.client.GetIntegration(ctx, &integrationv1.GetIntegrationRequest{IntegrationId: "fabrikam"})
	if status.Code(err) != codes.NotFound {
		t.Error(err)
	}
}

// deleteIntegration deletes the integration of the day while a read of it waits for Microsoft, which ends its streams and calls the read
// off.
func (h *house) deleteIntegration() {
	h.t.Helper()
	waits := make(chan struct{})
	hang := defendertest.Hang()
	h.microsoft.Inject(defendertest.Fault{
		Route: defendertest.RouteAlerts,
		Respond: func(ctx context.Context, r *http.Request, next func() *defendertest.Answer) *defendertest.Answer {
			close(waits)
			return hang(ctx, r, next)
		},
	})
	select {
	case <-waits:
	case <-time.After(time.Minute):
		h.t.Fatal("alerts are not read")
	}
	if _, err := h.client.DeleteIntegration(h.t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "contoso"}); err != nil {
		h.t.Fatal(err)
	}
}

// waitState waits until the integration is in a state, and has been read.
func (h *house) waitState(state integrationv1.IntegrationStatus_State) {
	h.t.Helper()
	until(h.t, state.String(), func() bool {
		found, err := h.client.GetIntegration(h.t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
		if err != nil {
			h.t.Fatal(err)
		}
		now := found.GetIntegration().GetStatus()
		return now.GetState() == state && now.GetLastGoodReadTime() != nil
	})
}

// open opens a stream, which ends with the test.
func (h *house) open(request *integrationv1.StreamAlertsRequest) integrationv1.IntegrationService_StreamAlertsClient {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*patience)
	h.t.Cleanup(cancel)
	stream, err := h.client.StreamAlerts(ctx, request)
	if err != nil {
		h.t.Fatal(err)
	}
	return stream
}

// readOn reads a stream until it ends: what nobody reads would wait in the service, and be told by its metrics.
func (h *house) readOn(stream integrationv1.IntegrationService_StreamAlertsClient) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	h.t.Cleanup(func() { <-ended }) // Its context ends by then.
}

// await reads a stream until an event is wanted.
func (h *house) await(stream integrationv1.IntegrationService_StreamAlertsClient, what string, wanted func(*integrationv1.StreamAlertsResponse) bool) {
	h.t.Helper()
	for {
		event, err := stream.Recv()
		if err != nil {
			h.t.Fatalf("waited in vain for %s: %v", what, err)
		}
		if wanted(event) {
			return
		}
	}
}
