// Package tracing sends the spans of the service to where OpenTelemetry's usual environment variables say, and nowhere where they say
// nothing: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// flushLimit is how long the last spans may take to be sent when the service ends.
const flushLimit = 5 * time.Second

// Tracing is where spans go.
type Tracing struct{ provider *trace.TracerProvider }

// Start returns where spans go by the environment, nil where it names nothing: neither OTEL_TRACES_EXPORTER nor an endpoint
// (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), or OTEL_TRACES_EXPORTER=none, or OTEL_SDK_DISABLED=true. Samplers,
// limits, batches, certificates, headers and attributes of the resource are read from their own variables. What keeps spans from being
// sent is logged. It returns an error where a variable says what is not known.
func Start(ctx context.Context, version string, logger *slog.Logger) (*Tracing, error) {
	exporter, err := newExporter(ctx)
	if exporter == nil || err != nil {
		return nil, err
	}
	// The later ones win.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "defender-integration"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err), exporter.Shutdown(ctx))
	}
	// The SDK has no other way to tell.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.WarnContext(ctx, "spans could not be sent", "error", err)
	}))
	return &Tracing{trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))}, nil
}

// Provider makes tracers.
func (t *Tracing) Provider() *trace.TracerProvider { return t.provider }

// Stop sends what has not been sent yet, and returns after a few seconds at the latest, also where ctx has ended. It does nothing for
// a nil Tracing.
func (t *Tracing) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}

// newExporter returns what sends spans, nil for nothing.
//
// It is go.opentelemetry.io/contrib/exporters/autoexport for traces: that one links the exporters of metrics and logs as well, and a
// bridge to Prometheus.
func newExporter(ctx context.Context) (trace.SpanExporter, error) {
	kind := os.Getenv("OTEL_TRACES_EXPORTER")
	if kind == "" && first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
		kind = "otlp"
	}
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		kind = "none"
	}
	switch kind {
	case "", "none":
		return nil, nil
	case "console":
		return stdouttrace.New()
	case "otlp":
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER is %q and must be otlp, console or none", kind)
	}
	switch protocol := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("the protocol of OTEL_EXPORTER_OTLP_PROTOCOL is %q and must be grpc or http/protobuf", protocol)
	}
}

// first returns the first of the variables that is set and not empty.
func first(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}
