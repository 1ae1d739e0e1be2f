package defender

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// StartSpan begins a span below the one of ctx, and one that costs nothing and goes nowhere where ctx has none: whoever traces hands
// down a context with a span, and no tracer. The caller ends it with [EndSpan].
//
// What is said in a span leaves the service: names, hosts, numbers and reasons of errors; never an address with its query, a header, a
// body, or words of Microsoft's.
func StartSpan(ctx context.Context, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsValid() {
		return ctx, noop.Span{}
	}
	return parent.TracerProvider().Tracer("defender-integration/defender").Start(ctx, name, options...) //nolint:spancheck // The caller ends it.
}

// EndSpan ends a span, with the reason of an error where there is one.
func EndSpan(span trace.Span, err error) {
	if err != nil && span.IsRecording() {
		NoteError(span, err)
	}
	span.End()
}

// NoteError makes an error the span's: by its reason, since its words may have some of Microsoft's.
func NoteError(span trace.Span, err error) {
	reason := "canceled"
	if e, ok := errors.AsType[*Error](err); ok {
		reason = e.Problem.GetReason().String()
		span.SetAttributes(attributesOf(e.Problem)...)
	} else if !errors.Is(err, context.Canceled) {
		reason = "other"
	}
	span.SetAttributes(attribute.String("error.type", reason))
	span.SetStatus(codes.Error, reason)
}

// attributesOf returns what a span tells of a problem: what Microsoft's support asks for.
func attributesOf(problem *integrationv1.Problem) []attribute.KeyValue {
	var attributes []attribute.KeyValue
	if status := problem.GetHttpStatus(); status != 0 {
		attributes = append(attributes, attribute.Int64("http.response.status_code", int64(status)))
	}
	if id := problem.GetUpstreamRequestId(); id != "" {
		attributes = append(attributes, attribute.String("defender.upstream_request_id", id))
	}
	return attributes
}
