package client_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// sendFunc sends an event.
type sendFunc func(*integrationv1.StreamAlertsResponse)

// script is what the fake does with a call, the first of them being number 1.
type script func(ctx context.Context, call int, request *integrationv1.StreamAlertsRequest, send sendFunc) error

// fake is the service as far as streams go: it does what its script says.
type fake struct {
	integrationv1.UnimplementedIntegrationServiceServer
	script script

	mu       sync.Mutex
	requests []*integrationv1.StreamAlertsRequest
	// ended are the errors of the calls' contexts when their scripts ended.
	ended []error
	// at is when each call came.
	at []time.Time
}

func (f *fake) StreamAlerts(request *integrationv1.StreamAlertsRequest, stream grpc.ServerStreamingServer[integrationv1.StreamAlertsResponse]) error {
	f.mu.Lock()
	f.requests = append(f.requests, proto.CloneOf(request))
	f.at = append(f.at, time.Now())
	call := len(f.requests)
	f.mu.Unlock()
	err := f.script(stream.Context(), call, request, func(event *integrationv1.StreamAlertsResponse) {
		// A call that broke is told by its context.
		_ = stream.Send(event)
	})
	f.mu.Lock()
	f.ended = append(f.ended, stream.Context().Err())
	f.mu.Unlock()
	return err
}

// tokens returns the resume tokens that the calls came with.
func (f *fake) tokens() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, r := range f.requests {
		out = append(out, r.GetResumeToken())
	}
	return out
}

// waits returns how long after the one before each call came.
func (f *fake) waits() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []time.Duration
	for i := 1; i < len(f.at); i++ {
		out = append(out, f.at[i].Sub(f.at[i-1]))
	}
	return out
}

// pipe is a network in this process with one address, at which one server at a time may listen.
type pipe struct {
	mu       sync.Mutex
	listener *bufconn.Listener
}

// serve serves until the function that it returns is called, which cuts all connections.
func (p *pipe) serve(service integrationv1.IntegrationServiceServer) (stop func()) {
	p.mu.Lock()
	p.listener = bufconn.Listen(1 << 20)
	listener := p.listener
	p.mu.Unlock()
	server := grpc.NewServer()
	integrationv1.RegisterIntegrationServiceServer(server, service)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // It returns nil after Stop, and cannot fail before on a pipe.
	}()
	return func() {
		server.Stop()
		<-served
	}
}

func (p *pipe) dial(options ...grpc.DialOption) *grpc.ClientConn {
	conn, err := grpc.NewClient("passthrough:///in-memory", append(options,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			p.mu.Lock()
			listener := p.listener
			p.mu.Unlock()
			return listener.DialContext(ctx)
		}),
		grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		panic(err) // The target is a constant.
	}
	return conn
}

// start serves a script for the length of a test.
func start(t *testing.T, s script, options ...grpc.DialOption) (*fake, *grpc.ClientConn) {
	t.Helper()
	f := &fake{script: s}
	conn, stop := connect(f, options...)
	t.Cleanup(stop)
	return f, conn
}

// connect serves the fake, connects to it, and returns what ends both.
func connect(f *fake, options ...grpc.DialOption) (conn *grpc.ClientConn, stop func()) {
	p := &pipe{}
	end := p.serve(f)
	conn = p.dial(options...)
	return conn, func() {
		_ = conn.Close()
		end()
	}
}

// alert returns an alert's event; its token is "t" and the number.
func alert(n int) *integrationv1.StreamAlertsResponse {
	return &integrationv1.StreamAlertsResponse{
		ResumeToken: fmt.Sprintf("t%d", n),
		Event: &integrationv1.StreamAlertsResponse_Alert{Alert: &integrationv1.AlertEvent{
			Alert: &integrationv1.Alert{Id: fmt.Sprintf("alert-%d", n)},
		}},
	}
}

func actors(token string) *integrationv1.StreamAlertsResponse {
	return &integrationv1.StreamAlertsResponse{
		ResumeToken: token, Event: &integrationv1.StreamAlertsResponse_Actors{Actors: &integrationv1.ActorsEvent{}},
	}
}

func completed(token string) *integrationv1.StreamAlertsResponse {
	return &integrationv1.StreamAlertsResponse{
		ResumeToken: token,
		Event: &integrationv1.StreamAlertsResponse_Completed{Completed: &integrationv1.CompletedEvent{
			Verdicts: []*integrationv1.ActorVerdict{{ActorId: "workstation-7", Verdict: integrationv1.Verdict_VERDICT_PREVENTED}},
		}},
	}
}

// failed returns a status with a reason.
func failed(code codes.Code, reason integrationv1.ErrorReason, metadata map[string]string, more ...protoadapt.MessageV1) error {
	details := append([]protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: reason.String(), Domain: "defender.integration.v1", Metadata: metadata,
	}}, more...)
	st, err := status.New(code, "in words").WithDetails(details...)
	if err != nil {
		panic(err) // Only for the code OK.
	}
	return st.Err()
}

func retryIn(d time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
}

func draining(d time.Duration) error {
	return failed(codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING, nil, retryIn(d))
}
