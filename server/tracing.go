package server

import (
	"context"
	"sync"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// traced gives each call a span, below the caller's where it sends one (traceparent). It stands in the chain only where calls are
// traced: otherwise it would cost each open stream a frame of its stack.
//
// A unary call is one span. A stream is open for hours, and a span is told when it ends: so a stream has one for its beginning, through
// its first message, and one for its end, below the first. What is done for several streams at once, such as a closing read, is linked
// to their first spans.
func traced(tracer trace.Tracer) interceptor {
	return interceptor{
		unary: func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			ctx, span := startCall(ctx, tracer, info.FullMethod)
			response, err := handler(ctx, request)
			endCall(ctx, span, err)
			return response, err
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, span := startCall(stream.Context(), tracer, info.FullMethod)
			out := &tracedStream{
				WrappedServerStream: middleware.WrappedServerStream{ServerStream: stream, WrappedContext: ctx},
				begun:               sync.OnceFunc(func() { endCall(ctx, span, nil) }),
			}
			err := handler(srv, out)
			if !span.IsRecording() { // It has begun.
				ctx, span = tracer.Start(ctx, info.FullMethod[1:]+" ends", trace.WithSpanKind(trace.SpanKindServer))
			}
			endCall(ctx, span, err)
			return err
		},
	}
}

// tracedStream is a stream whose first message ends the span of its beginning.
type tracedStream struct {
	middleware.WrappedServerStream
	begun func()
}

// SendMsg sends a message.
func (s *tracedStream) SendMsg(message any) error {
	err := s.WrappedServerStream.SendMsg(message)
	if err == nil {
		s.begun()
	}
	return err
}

// startCall begins the span of a call.
func startCall(ctx context.Context, tracer trace.Tracer, method string) (context.Context, trace.Span) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	ctx = propagation.TraceContext{}.Extract(ctx, carrier(incoming))
	what := trace.WithAttributes(attribute.String("rpc.system", "grpc"), attribute.String("rpc.method", method[1:]))
	return tracer.Start(ctx, method[1:], trace.WithSpanKind(trace.SpanKindServer), what) //nolint:spancheck // The caller ends it.
}

// endCall ends the span of a call with what is known of the call by then, and with the code that it ends with.
func endCall(ctx context.Context, span trace.Span, err error) {
	defer span.End()
	if !span.IsRecording() {
		return
	}
	if c := callFrom(ctx); c != nil {
		for _, a := range c.attrs() {
			span.SetAttributes(attribute.String(a.Key, a.Value.String()))
		}
	}
	code := status.Code(err)
	span.SetAttributes(attribute.String("rpc.response.status_code", code.String()))
	// What is the caller's own fault, or wish, is no error of the service.
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		span.SetStatus(otelcodes.Error, code.String())
	default:
	}
}

// carrier lets a propagator read what a caller sent.
type carrier metadata.MD

// Get returns a header's value; empty where it is not sent, or more than once.
func (c carrier) Get(key string) string {
	if values := metadata.MD(c).Get(key); len(values) == 1 {
		return values[0]
	}
	return ""
}

// Set is for callers only: nothing is sent.
func (c carrier) Set(string, string) {}

// Keys returns the headers' names.
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for key := range c {
		keys = append(keys, key)
	}
	return keys
}
