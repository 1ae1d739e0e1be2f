package server_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

// limitedTo makes a server with limits, whose streams last until they are cancelled.
func limitedTo(t *testing.T, limits server.Limits) *harness {
	t.Helper()
	h := newHarness(t, harnessOptions{change: func(o *server.Options) { o.Limits = limits }})
	h.streams.run = func(ctx context.Context, _ *integrationv1.StreamAlertsRequest, send send) error {
		if err := send(&integrationv1.StreamAlertsResponse{ResumeToken: "open"}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
	return h
}

// open opens a stream of alerts and returns its end, and why there is none.
func (h *harness) open(t *testing.T) (end func(), err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := h.client.StreamAlerts(ctx, &integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	if err == nil {
		_, err = stream.Recv()
	}
	if err != nil {
		cancel()
	}
	return cancel, err
}

// openStreams returns how many streams the metrics say are open.
func (h *harness) openStreams(t *testing.T) float64 {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "defender_integration_streams_open" {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no metric tells how many streams are open")
	return 0
}

// wantLimit checks a refusal's metadata and that it was counted so often, and returns when to come again.
func (h *harness) wantLimit(t *testing.T, err error, limit, scope, allowed string, times float64) time.Duration {
	t.Helper()
	info := wantFailure(t, err, codes.ResourceExhausted, integrationv1.ErrorReason_ERROR_REASON_CALLER_LIMIT, allowed)
	if m := info.GetMetadata(); m["limit"] != limit || m["scope"] != scope || m["allowed"] != allowed || len(m) != 3 {
		t.Errorf("metadata %v", m)
	}
	if n := h.counter(t, "defender_integration_refused_total", map[string]string{"limit": limit, "scope": scope}); n != times {
		t.Errorf("%v refusals are counted, want %v", n, times)
	}
	return detail[*errdetails.RetryInfo](status.Convert(err)).GetRetryDelay().AsDuration()
}

func TestMoreStreamsThanAreAllowedAreRefused(t *testing.T) {
	h := limitedTo(t, server.Limits{StreamsPerCaller: 2})
	end, err := h.open(t)
	if err != nil {
		t.Fatal(err)
	}
	// Reflection's stay open for as long as the caller likes, too.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reflected, err := reflectionv1.NewServerReflectionClient(h.conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := reflected.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := reflected.Recv(); err != nil {
		t.Fatal(err)
	}

	_, err = h.open(t)
	if wait := h.wantLimit(t, err, "streams", "caller", "2", 1); wait != 10*time.Second {
		t.Errorf("to come again in %s", wait)
	}
	if got := status.Convert(err).Message(); !strings.Contains(got, `"local:bufconn"`) || !strings.Contains(got, "--max-streams-per-caller") {
		t.Errorf("it says neither who nor what mends it: %s", got)
	}
	if n := h.openStreams(t); n != 2 {
		t.Errorf("%v streams are open, say the metrics", n)
	}
	if lines := h.log.lines(`"msg":"audit"`, `"StreamAlerts"`, `"ResourceExhausted"`); len(lines) != 1 {
		t.Errorf("%d audit lines tell of the refusal", len(lines))
	}
	end()
	eventually(t, "there is room again", func() bool {
		again, err := h.open(t)
		again()
		return err == nil
	})
	cancel()
	eventually(t, "no stream is open", func() bool { return h.openStreams(t) == 0 })
}

func TestMoreCallsThanAreAllowedAreRefused(t *testing.T) {
	h := limitedTo(t, server.Limits{CallsPerSecond: 0.001, CallsPerSecondPerCaller: 2})
	list := func() error {
		_, err := h.client.ListIntegrations(t.Context(), &integrationv1.ListIntegrationsRequest{})
		return err
	}
	if err := list(); err != nil {
		t.Fatal(err)
	}
	if wait := h.wantLimit(t, list(), "calls", "server", "0.001", 1); wait < 10*time.Minute || wait > 1000*time.Second {
		t.Errorf("to come again in %s", wait)
	}
	// It stands before the validation: what costs nothing to refuse is refused first.
	_, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{})
	h.wantLimit(t, err, "calls", "server", "0.001", 2)
	// Streams are not counted as calls.
	end, err := h.open(t)
	if err != nil {
		t.Error(err)
	}
	end()
}

// A server whose callers are at every limit is well, and says so.
func TestProbesAreNotLimited(t *testing.T) {
	h := limitedTo(t, server.Limits{Streams: 1, StreamsPerCaller: 1, CallsPerSecond: 0.001, CallsPerSecondPerCaller: 0.001, RequestBytes: 1})
	if _, err := h.client.ListIntegrations(t.Context(), &integrationv1.ListIntegrationsRequest{}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for name := range map[string]int{"liveness": 0, "": 0} {
			if _, err := h.health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: name}); err != nil {
				t.Errorf("check %q: %v", name, err)
			}
		}
		if _, err := h.health.List(t.Context(), &healthv1.HealthListRequest{}); err != nil {
			t.Errorf("list: %v", err)
		}
		watch, err := h.health.Watch(t.Context(), &healthv1.HealthCheckRequest{Service: "liveness"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Errorf("watch: %v", err)
		}
	}
	if n := h.openStreams(t); n != 0 {
		t.Errorf("%v streams are open, say the metrics", n)
	}
}

// A request that is too large is too large the next time too: nothing says when to come again.
func TestRequestsThatAreTooLargeAreRefusedForGood(t *testing.T) {
	h := limitedTo(t, server.Limits{RequestBytes: 1000})
	get := func(size int) error {
		_, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: strings.Repeat("a", size)})
		return err
	}
	stream := func(size int) error {
		_, err := h.streamOnce(t, &integrationv1.StreamAlertsRequest{IntegrationId: strings.Repeat("a", size)})
		return err
	}
	for name, call := range map[string]func(int) error{"unary": get, "stream": stream} {
		t.Run(name, func(t *testing.T) {
			before := h.counter(t, "defender_integration_refused_total", map[string]string{"limit": "request_bytes"})
			// Three bytes are the field's own.
			wantFailure(t, call(997), codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST)
			if wait := h.wantLimit(t, call(998), "request_bytes", "server", "1000", before+1); wait != 0 {
				t.Errorf("to come again in %s", wait)
			}
		})
	}

	// gRPC itself refuses what is not even read. It says so in words, and not that it helps to come again.
	for name, call := range map[string]func(int) error{"unary": get, "stream": stream} {
		st := status.Convert(call(server.MaxRequestBytes))
		if st.Code() != codes.ResourceExhausted || !strings.Contains(st.Message(), "larger than max") || len(st.Details()) != 0 {
			t.Errorf("%s: %s %q %v", name, st.Code(), st.Message(), st.Details())
		}
	}
}

// Many callers at once, over one connection: as many streams as are allowed, and all are given back.
func TestStreamsAreCountedWhateverEndsThem(t *testing.T) {
	const allowed, streams = 20, 60
	h := limitedTo(t, server.Limits{Streams: allowed})
	run := h.streams.run
	h.streams.run = func(ctx context.Context, request *integrationv1.StreamAlertsRequest, send send) error {
		switch request.GetReference() {
		case "panics":
			panic("the words of the panic")
		case "fails":
			return context.DeadlineExceeded
		}
		return run(ctx, request, send)
	}
	var group sync.WaitGroup
	for i := range streams {
		group.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := h.client.StreamAlerts(ctx, &integrationv1.StreamAlertsRequest{
				IntegrationId: "contoso", Reference: []string{"panics", "fails", "is cancelled"}[i%3],
			})
			if err == nil {
				_, _ = stream.Recv()
			}
		})
	}
	group.Wait()
	eventually(t, "no stream is open", func() bool { return h.openStreams(t) == 0 })
	for i := range allowed + 1 {
		end, err := h.open(t)
		defer end()
		if (err == nil) != (i < allowed) {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
}

// A stream whose request has not come takes no place yet: who may call nothing could take all with such. It does not hold the end either.
func TestStreamsWithoutARequestTakeNoPlace(t *testing.T) {
	s, h := start(t, server.Options{Address: "127.0.0.1:0", Limits: server.Limits{Streams: 2}, PolicyFile: writePolicy(t, `
rules:
  - {identities: [local:bufconn], roles: [reader, operator], integrations: ["*"]}
`)})
	h.prepare(t, h.conn, "contoso")
	stranger := dialed(t, tcp(s), insecure.NewCredentials())
	for range 3 {
		if _, err := stranger.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true},
			integrationv1.IntegrationService_StreamAlerts_FullMethodName); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the streams are open", func() bool {
		return h.counter(t, "grpc_server_started_total", map[string]string{"grpc_method": "StreamAlerts"}) == 3
	})
	if err := streamOf("contoso").make(t.Context(), h.conn); err != nil {
		t.Error(err)
	}
	began := time.Now()
	if err := h.stop(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("it stopped after %s: %v", time.Since(began), err)
	}
}

// However often a caller is refused, the log has a bounded number of lines, in the audit and beside it.
func TestRefusedCallsDoNotFillTheLog(t *testing.T) {
	const calls, most = 3000, 2000
	s, h := start(t, server.Options{Address: "127.0.0.1:0", PolicyFile: writePolicy(t, `
rules:
  - {identities: [local:bufconn], roles: [reader, operator], integrations: ["*"]}
`)})
	stranger := integrationv1.NewIntegrationServiceClient(dialed(t, tcp(s), insecure.NewCredentials()))
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			for range calls / 10 {
				_, err := stranger.ListEndpoints(t.Context(), &integrationv1.ListEndpointsRequest{})
				if status.Code(err) != codes.PermissionDenied {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	audit, all := len(h.log.lines(`"msg":"audit"`, `"local:tcp"`)), len(h.log.lines(`"msg":"finished call"`))
	untold := h.counter(t, "defender_integration_refused_untold_total", nil)
	if audit > most || all > most || untold != float64(calls-audit) {
		t.Errorf("of %d calls %d are audited, %d logged, and %v counted as untold", calls, audit, all, untold)
	}
}
