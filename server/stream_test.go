package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/server/failure"
)

type send = func(*integrationv1.StreamAlertsResponse) error

func TestStreamAlertsPassesEventsOnAndEnds(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	request := &integrationv1.StreamAlertsRequest{IntegrationId: "contoso", Reference: "action-7"}
	h.streams.run = func(_ context.Context, got *integrationv1.StreamAlertsRequest, send send) error {
		if !proto.Equal(got, request) {
			return fmt.Errorf("the request came as %v", got)
		}
		for i := range 3 {
			if err := send(&integrationv1.StreamAlertsResponse{Reference: "action-7", ResumeToken: fmt.Sprint(i)}); err != nil {
				return err
			}
		}
		return nil
	}
	stream, err := h.client.StreamAlerts(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		event, err := stream.Recv()
		if err != nil || event.GetResumeToken() != fmt.Sprint(i) {
			t.Fatalf("event %d: %v, %v", i, event, err)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("the stream ended with %v", err)
	}
	eventually(t, "a line of the access log with the reference", func() bool {
		return len(h.log.lines(`"finished call"`, `"reference":"action-7"`, `"integration_id":"contoso"`, `"StreamAlerts"`)) == 1
	})
}

func TestStreamAlertsEndsWithTheFailureThatTheStreamsReturn(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.streams.run = func(context.Context, *integrationv1.StreamAlertsRequest, send) error {
		return failure.New(integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED, "gone").With("oldest_resume_token", "abc")
	}
	_, err := h.streamOnce(t, &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	info := wantFailure(t, err, codes.OutOfRange, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED, "gone")
	if info.GetMetadata()["oldest_resume_token"] != "abc" {
		t.Errorf("metadata %v", info.GetMetadata())
	}
}

// streamOnce starts a stream and returns its first event or error.
func (h *harness) streamOnce(t *testing.T, request *integrationv1.StreamAlertsRequest) (*integrationv1.StreamAlertsResponse, error) {
	t.Helper()
	stream, err := h.client.StreamAlerts(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return stream.Recv()
}

func TestStreamAlertsRefusals(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.streams.run = func(context.Context, *integrationv1.StreamAlertsRequest, send) error {
		return errors.New("a request that is not valid reached the streams")
	}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	actor := func(change func(*integrationv1.Actor)) *integrationv1.StreamAlertsRequest {
		a := &integrationv1.Actor{ActorId: "a1", HostName: "host"}
		change(a)
		return &integrationv1.StreamAlertsRequest{IntegrationId: "contoso", Actors: []*integrationv1.Actor{a}}
	}
	window := func(start, end time.Time) *integrationv1.StreamAlertsRequest {
		w := &integrationv1.Window{EndTime: timestamppb.New(end)}
		if !start.IsZero() {
			w.StartTime = timestamppb.New(start)
		}
		return &integrationv1.StreamAlertsRequest{IntegrationId: "contoso", Window: w}
	}
	tests := map[string]struct {
		request *integrationv1.StreamAlertsRequest
		field   string
		words   string
	}{
		"no integration": {&integrationv1.StreamAlertsRequest{}, "integration_id", "at least 1"},
		"long reference": {&integrationv1.StreamAlertsRequest{IntegrationId: "a", Reference: fmt.Sprintf("%0257d", 1)}, "reference", "256"},
		"an Actor twice": {&integrationv1.StreamAlertsRequest{IntegrationId: "a", Actors: []*integrationv1.Actor{
			{ActorId: "a1", HostName: "x"}, {ActorId: "a1", HostName: "y"},
		}}, "actors", "each actor_id may stand only once"},
		"too many Actors":            {&integrationv1.StreamAlertsRequest{IntegrationId: "a", Actors: manyActors(1001)}, "actors", "1000"},
		"an Actor without an id":     {actor(func(a *integrationv1.Actor) { a.ActorId = "" }), "actors[0].actor_id", "at least 1"},
		"an Actor without a name":    {actor(func(a *integrationv1.Actor) { a.HostName = "" }), "actors[0]", "needs at least one of host_name"},
		"an address that is none":    {actor(func(a *integrationv1.Actor) { a.IpAddresses = []string{"10.0.0.256"} }), "actors[0].ip_addresses[0]", "IP address"},
		"a device id that is none":   {actor(func(a *integrationv1.Actor) { a.MdeDeviceId = "xyz" }), "actors[0].mde_device_id", "pattern"},
		"an Entra id that is none":   {actor(func(a *integrationv1.Actor) { a.EntraDeviceId = "xyz" }), "actors[0].entra_device_id", "pattern"},
		"a window without a start":   {window(time.Time{}, now), "window", "needs a start_time before it"},
		"a window that ends first":   {window(now, now.Add(-time.Second)), "window", "needs a start_time before it"},
		"a window that is too long":  {window(now, now.AddDate(0, 0, 31)), "window", "at most 30 days"},
		"a negative wait":            {&integrationv1.StreamAlertsRequest{IntegrationId: "a", Wait: durationpb.New(-1)}, "wait", "0s"},
		"a tolerance that is a week": {&integrationv1.StreamAlertsRequest{IntegrationId: "a", Tolerance: durationpb.New(7 * 24 * time.Hour)}, "tolerance", "86400s"},
		"on_time that is a month":    {&integrationv1.StreamAlertsRequest{IntegrationId: "a", OnTime: durationpb.New(30 * 24 * time.Hour)}, "on_time", "604800s"},
		"min_confidence without traces": {
			&integrationv1.StreamAlertsRequest{
				IntegrationId: "a", Actors: []*integrationv1.Actor{{ActorId: "one", HostName: "one"}}, MinConfidence: integrationv1.Confidence_CONFIDENCE_WEAK,
			}, "", "needs traces of each Actor",
		},
		"certainty without a process's creation time": {
			&integrationv1.StreamAlertsRequest{
				IntegrationId: "a", MinConfidence: integrationv1.Confidence_CONFIDENCE_CERTAIN, Actors: []*integrationv1.Actor{{
					ActorId: "one", HostName: "one", Traces: &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{ProcessId: 4711}}},
				}},
			}, "", "a process with its id and its creation time",
		},
		"a token that is too long": {&integrationv1.StreamAlertsRequest{IntegrationId: "a", ResumeToken: fmt.Sprintf("%04097d", 1)}, "resume_token", "4096"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.streamOnce(t, test.request)
			info := wantFailure(t, err, codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, test.words)
			if got := info.GetMetadata()["field"]; got != test.field {
				t.Errorf("field %q, want %q", got, test.field)
			}
		})
	}
}

func manyActors(n int) []*integrationv1.Actor {
	actors := make([]*integrationv1.Actor, n)
	for i := range actors {
		actors[i] = &integrationv1.Actor{ActorId: fmt.Sprint(i), HostName: "host"}
	}
	return actors
}

// The limits of a request's size and of its fields go together: nothing that is valid is too large.
func TestTheLargestValidRequestFits(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.streams.run = func(_ context.Context, request *integrationv1.StreamAlertsRequest, send send) error {
		return send(&integrationv1.StreamAlertsResponse{Reference: fmt.Sprint(len(request.GetActors()))})
	}
	name := strings.Repeat("n", 253)
	actors := manyActors(1000)
	for i, actor := range actors {
		actor.ActorId = fmt.Sprintf("%0128d", i)
		actor.HostName, actor.FqHostName = name, name
		actor.AlternateHostNames = slices.Repeat([]string{name}, 16)
		actor.IpAddresses = slices.Repeat([]string{"2001:0db8:0000:0000:0000:0000:0000:0001"}, 32)
		actor.MdeDeviceId, actor.EntraDeviceId = strings.Repeat("a", 40), "11111111-2222-3333-4444-555555555555"
	}
	request := &integrationv1.StreamAlertsRequest{
		IntegrationId: strings.Repeat("i", 63), Reference: strings.Repeat("r", 256), ResumeToken: strings.Repeat("t", 1024), Actors: actors,
	}
	if event, err := h.streamOnce(t, request); err != nil || event.GetReference() != "1000" {
		t.Errorf("a request of %d bytes: %v, %v", proto.Size(request), event, err)
	}
}

func TestDrainingEndsStreamsWithAReasonAndWhenToComeAgain(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.streams.run = func(ctx context.Context, _ *integrationv1.StreamAlertsRequest, send send) error {
		if err := send(&integrationv1.StreamAlertsResponse{ResumeToken: "1"}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	alerts, err := h.client.StreamAlerts(t.Context(), &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := h.health.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	reflect, err := reflectionv1.NewServerReflectionClient(h.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list := &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}
	if err := reflect.Send(list); err != nil {
		t.Fatal(err)
	}
	// Each is open once its first message came.
	if _, err := alerts.Recv(); err != nil {
		t.Fatal(err)
	}
	for serving := false; !serving; {
		answer, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		serving = answer.GetStatus() == healthv1.HealthCheckResponse_SERVING
	}
	if _, err := reflect.Recv(); err != nil {
		t.Fatal(err)
	}

	if err := h.stop(); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	_, err = alerts.Recv()
	wantFailure(t, err, codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING, "about to stop")
	wantRetry(t, err)
	_, err = reflect.Recv()
	wantFailure(t, err, codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING)
	for err = nil; err == nil; {
		_, err = watch.Recv()
	}
	wantFailure(t, err, codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING)
	if lines := h.log.lines("cut off"); len(lines) > 0 {
		t.Errorf("something had to be cut off: %s", lines)
	}
}

func TestDrainingCutsOffWhatDoesNotEnd(t *testing.T) {
	h := newHarness(t, harnessOptions{change: func(o *server.Options) { o.DrainTimeout = time.Millisecond }})
	stuck, release := make(chan struct{}), make(chan struct{})
	h.streams.run = func(context.Context, *integrationv1.StreamAlertsRequest, send) error {
		close(stuck)
		<-release
		return nil
	}
	stream, err := h.client.StreamAlerts(t.Context(), &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	if err != nil {
		t.Fatal(err)
	}
	<-stuck
	done := make(chan error, 1)
	go func() { done <- h.stop() }()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if lines := h.log.lines("cut off"); len(lines) != 1 {
		t.Errorf("the log says so %d times", len(lines))
	}
}
