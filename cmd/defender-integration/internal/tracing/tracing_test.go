package tracing_test

import (
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"defender-integration/cmd/defender-integration/internal/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Nothing is traced unless the environment says where spans go, and what it says must be known.
//
//nolint:paralleltest // The environment is for all.
func TestWhatTheEnvironmentSays(t *testing.T) {
	endpoint := [2]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317"}
	for _, test := range []struct {
		name      string
		variables [][2]string
		on        bool
		fails     string
	}{
		{name: "nothing"},
		{name: "a name alone", variables: [][2]string{{"OTEL_SERVICE_NAME", "x"}}},
		{name: "an endpoint", variables: [][2]string{endpoint}, on: true},
		{name: "an endpoint for traces", variables: [][2]string{{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint[1]}}, on: true},
		{name: "over gRPC", variables: [][2]string{endpoint, {"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}}, on: true},
		{name: "the console", variables: [][2]string{{"OTEL_TRACES_EXPORTER", "console"}}, on: true},
		{name: "none", variables: [][2]string{endpoint, {"OTEL_TRACES_EXPORTER", "none"}}},
		{name: "disabled", variables: [][2]string{endpoint, {"OTEL_SDK_DISABLED", "true"}}},
		{name: "an exporter that is not known", variables: [][2]string{{"OTEL_TRACES_EXPORTER", "zipkin"}}, fails: "otlp, console or none"},
		{name: "a protocol that is not known", variables: [][2]string{endpoint, {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"}}, fails: "grpc or http/protobuf"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, v := range [][2]string{
				{"OTEL_TRACES_EXPORTER"}, {"OTEL_EXPORTER_OTLP_ENDPOINT"}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}, {"OTEL_SDK_DISABLED"},
				{"OTEL_EXPORTER_OTLP_PROTOCOL"}, {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"},
			} {
				t.Setenv(v[0], "")
			}
			for _, v := range test.variables {
				t.Setenv(v[0], v[1])
			}
			traces, err := tracing.Start(t.Context(), "v0", slog.New(slog.DiscardHandler))
			if (traces != nil) != test.on || (err != nil) != (test.fails != "") {
				t.Fatalf("%v, %v", traces, err)
			}
			if err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Error(err)
			}
			if err := traces.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
