package observing_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// receiver is where spans are sent: OTLP over gRPC.
type receiver struct {
	collectorv1.UnimplementedTraceServiceServer
	address string

	mu sync.Mutex
	// whole is all that was sent, as it was sent; spans are the spans of it, by their id.
	whole []byte
	spans map[string]*tracev1.Span
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{address: listener.Addr().String(), spans: map[string]*tracev1.Span{}}
	s := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, r)
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// Export takes spans.
func (r *receiver) Export(_ context.Context, request *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	raw, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.whole = append(r.whole, raw...)
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				r.spans[string(span.GetSpanId())] = span
			}
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// named returns the spans of a name.
func (r *receiver) named(name string) []*tracev1.Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*tracev1.Span
	for _, span := range r.spans {
		if span.GetName() == name {
			found = append(found, span)
		}
	}
	return found
}

// path returns the names from a span up to the one that has no parent here.
func (r *receiver) path(span *tracev1.Span) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for ; span != nil; span = r.spans[string(span.GetParentSpanId())] {
		names = append(names, span.GetName())
	}
	return names
}

// attribute returns a span's attribute as text; empty where it has none.
func attribute(span *tracev1.Span, key string) string {
	n := slices.IndexFunc(span.GetAttributes(), func(a *commonv1.KeyValue) bool { return a.GetKey() == key })
	if n < 0 {
		return ""
	}
	return span.GetAttributes()[n].GetValue().GetStringValue()
}
