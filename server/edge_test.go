package server_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientmodel "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestRequestID(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	tests := map[string]struct {
		sent []string
		kept bool
	}{
		"none":       {nil, false},
		"one":        {[]string{"0c9e-11.22:33_44"}, true},
		"longest":    {[]string{strings.Repeat("a", 128)}, true},
		"too long":   {[]string{strings.Repeat("a", 129)}, false},
		"a line":     {[]string{"a b"}, false},
		"quotes":     {[]string{`a"b`}, false},
		"two of one": {[]string{"a", "b"}, false},
		"empty":      {[]string{""}, false},
	}
	seen := make(map[string]bool)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			for _, id := range test.sent {
				ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", id) //nolint:fatcontext // Two at most.
			}
			var header metadata.MD
			// A call that fails has it too.
			_, err := h.client.GetIntegration(ctx, &integrationv1.GetIntegrationRequest{IntegrationId: "nobody"}, grpc.Header(&header))
			if status.Code(err) != codes.NotFound {
				t.Fatal(err)
			}
			got := header.Get("x-request-id")
			if len(got) != 1 || (got[0] == strings.Join(test.sent, ",")) != test.kept || len(got[0]) < 16 {
				t.Fatalf("sent %q, got %q", test.sent, got)
			}
			if seen[got[0]] {
				t.Errorf("%q came twice", got[0])
			}
			seen[got[0]] = true
			if lines := h.log.lines(`"finished call"`, `"request_id":"`+got[0]+`"`, `"NotFound"`); len(lines) != 1 {
				t.Errorf("%d lines of the access log have it, want one", len(lines))
			}
		})
	}
}

func TestRequestIDOfAStream(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.streams.run = func(context.Context, *integrationv1.StreamAlertsRequest, send) error { return nil }
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "mine")
	stream, err := h.client.StreamAlerts(ctx, &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	if err != nil {
		t.Fatal(err)
	}
	if header, err := stream.Header(); err != nil || len(header.Get("x-request-id")) != 1 || header.Get("x-request-id")[0] != "mine" {
		t.Errorf("header %v, %v", header, err)
	}
}

func TestAPanicIsInternalCountedAndLogged(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.streams.run = func(context.Context, *integrationv1.StreamAlertsRequest, send) error {
		panic("the words of the panic")
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "panic-1")
	stream, err := h.client.StreamAlerts(ctx, &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	info := wantFailure(t, err, codes.Internal, integrationv1.ErrorReason_ERROR_REASON_INTERNAL, "a fault of the service", "panic-1")
	if info.GetMetadata()["request_id"] != "panic-1" || strings.Contains(status.Convert(err).String(), "the words") {
		t.Errorf("%v", status.Convert(err))
	}
	if lines := h.log.lines(`"a handler panicked"`, "the words of the panic", "panic-1", "edge_test.go"); len(lines) != 1 {
		t.Errorf("the log says so %d times, want once, with the place", len(lines))
	}
	if n := h.counter(t, "defender_integration_panics_total", nil); n != 1 {
		t.Errorf("%v panics are counted, want 1", n)
	}
	// Metrics stand outside the recovery: the call is counted with the code that the caller got.
	eventually(t, "the call is counted as Internal", func() bool {
		return h.counted(t, "StreamAlerts", "Internal") == 1
	})
}

// counted returns how many calls of a method ended with a code, going by the metrics.
func (h *harness) counted(t *testing.T, method, code string) float64 {
	t.Helper()
	return h.counter(t, "grpc_server_handled_total", map[string]string{"grpc_method": method, "grpc_code": code})
}

// counter returns the value of the first counter of a name that has these labels, among others; 0 where there is none.
func (h *harness) counter(t *testing.T, name string, want map[string]string) float64 {
	t.Helper()
	return h.metric(t, name, want).GetCounter().GetValue()
}

// gauge returns the value of the first gauge of a name that has these labels, among others; 0 where there is none.
func (h *harness) gauge(t *testing.T, name string, want map[string]string) float64 {
	t.Helper()
	return h.metric(t, name, want).GetGauge().GetValue()
}

// metric returns the first metric of a name that has these labels, among others; nil where there is none.
func (h *harness) metric(t *testing.T, name string, want map[string]string) *clientmodel.Metric {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			missing := len(want)
			for _, label := range metric.GetLabel() {
				if want[label.GetName()] == label.GetValue() {
					missing--
				}
			}
			if family.GetName() == name && missing == 0 {
				return metric
			}
		}
	}
	return nil
}

func TestRefusedRequestsAreCountedAndLoggedWithTheirIntegration(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	_, err := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{
		Integration: contoso(func(i *integrationv1.Integration) { i.TenantId = "" }),
	})
	wantFailure(t, err, codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
	if n := h.counted(t, "RegisterIntegration", "InvalidArgument"); n != 1 {
		t.Errorf("counted %v times", n)
	}
	if lines := h.log.lines(`"finished call"`, `"integration_id":"contoso"`, `"InvalidArgument"`); len(lines) != 1 {
		t.Errorf("%d lines of the access log", len(lines))
	}
}

func TestAnUnknownMethodIsUnimplemented(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	err := h.conn.Invoke(t.Context(), "/defender.integration.v1.IntegrationService/Nothing",
		&integrationv1.GetIntegrationRequest{}, &integrationv1.GetIntegrationResponse{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}

// Health follows the store, and is asked at most every few seconds: in fake time, so that nobody waits.
func TestHealthFollowsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, harnessOptions{})
		for _, service := range []string{"", "defender.integration.v1.IntegrationService"} {
			ctx, cancel := context.WithCancel(t.Context())
			watch, err := h.health.Watch(ctx, &healthv1.HealthCheckRequest{Service: service})
			if err != nil {
				t.Fatal(err)
			}
			next := func() healthv1.HealthCheckResponse_ServingStatus {
				answer, err := watch.Recv()
				if err != nil {
					t.Fatal(err)
				}
				return answer.GetStatus()
			}
			got := next()
			if got == healthv1.HealthCheckResponse_NOT_SERVING {
				got = next() // The watch was faster than the first check.
			}
			if got != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("%q at the start: %s", service, got)
			}
			for _, step := range []struct {
				unavailable bool
				want        healthv1.HealthCheckResponse_ServingStatus
			}{
				{true, healthv1.HealthCheckResponse_NOT_SERVING},
				{false, healthv1.HealthCheckResponse_SERVING},
			} {
				h.store.SetUnavailable(step.unavailable)
				began := time.Now()
				if got := next(); got != step.want {
					t.Errorf("%q with an unavailable store: %t: %s", service, step.unavailable, got)
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("it took %v to tell", took)
				}
				alive, err := h.health.Check(ctx, &healthv1.HealthCheckRequest{Service: "liveness"})
				if err != nil || alive.GetStatus() != healthv1.HealthCheckResponse_SERVING {
					t.Errorf("liveness with an unavailable store: %t: %v, %v", step.unavailable, alive, err)
				}
			}
			cancel()
			if _, err := watch.Recv(); !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
				t.Error(err)
			}
		}
		_, err := h.health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "nobody"})
		if status.Code(err) != codes.NotFound {
			t.Errorf("an unknown service: %v", err)
		}
		if lines := h.log.lines("finished call"); len(lines) > 0 {
			t.Errorf("probes are in the access log: %s", lines)
		}
	})
}
