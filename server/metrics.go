package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the server's metrics.
type metrics struct {
	// calls are gRPC's own, by method and code.
	calls *grpcprom.ServerMetrics
	// panics counts the handlers that panicked.
	panics prometheus.Counter
	// unread counts the streams that were ended since their caller did not read, cut the connections that were closed since their
	// caller did not read on.
	unread, cut prometheus.Counter
	// streams is how many streams are open, refused counts what was refused since a limit was reached, by limit and scope.
	streams prometheus.Gauge
	refused *prometheus.CounterVec
}

// newMetrics makes the server's metrics and registers them.
func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		calls:  grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram()),
		panics: counter("defender_integration_panics_total", "Handlers of calls that panicked. Each is a defect."),
		unread: counter("defender_integration_streams_unread_total", "Streams that were ended since their caller left them unread."),
		cut: counter("defender_integration_connections_unread_total",
			"Connections that were closed since a stream had ended and stayed unread."),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "defender_integration_streams_open", Help: "Streams that are open: of alerts, and of reflection.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "defender_integration_refused_total",
			Help: "Calls, streams and requests that were refused since a limit (streams, calls, request_bytes) of one caller, or of all (server), was reached.",
		}, []string{"limit", "scope"}),
	}
	for limit, scopes := range limitScopes() {
		for _, scope := range scopes {
			m.refused.WithLabelValues(string(limit), string(scope)) // so that a rate sees the first refusal
		}
	}
	return m, errors.Join(registry.Register(m.calls), registry.Register(m.panics), registry.Register(m.unread), registry.Register(m.cut),
		registry.Register(m.streams), registry.Register(m.refused))
}

// serveMetrics serves the registry over HTTP under /metrics until ctx ends.
func serveMetrics(ctx context.Context, listener net.Listener, registry *prometheus.Registry) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	}))
	web := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	// A scrape is cut off rather than waited for: nothing is lost by it.
	defer context.AfterFunc(ctx, func() { _ = web.Close() })()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
