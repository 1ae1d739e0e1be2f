package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
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
	// untold counts the refused calls that the log does not tell of, since their caller had too many.
	untold prometheus.Counter
	// failures counts the calls that failed, by method and by the reason that the caller is told.
	failures *prometheus.CounterVec
	// ready is 1 while calls can be served.
	ready prometheus.Gauge
	// waiting is what streams have given gRPC and their callers have not read, in bytes; blocked is how many streams wait for that.
	waiting, blocked prometheus.Gauge
	// handshakes counts the TLS handshakes that failed, expelled the connections that were closed since their certificate verified no more.
	handshakes, expelled prometheus.Counter
	// reloads counts the files that changed, by which and by what became of it; reloadFailing is 1 while what is there cannot be used.
	reloads       *prometheus.CounterVec
	reloadFailing *prometheus.GaugeVec
	// expiry is when the files for TLS expire.
	expiry *prometheus.GaugeVec
}

// newMetrics makes the server's metrics and registers them.
func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		calls:  grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram()),
		panics: counter("defender_integration_panics_total", "Handlers of calls that panicked. Each is a defect."),
		unread: counter("defender_integration_streams_unread_total", "Streams that were ended since their caller left them unread."),
		cut: counter("defender_integration_connections_unread_total",
			"Connections that were closed since a stream had ended and stayed unread."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "defender_integration_call_failures_total",
			Help: "Calls that failed with a reason (ErrorInfo.reason, in lower case and without ERROR_REASON_), by method. Calls that their caller cancelled have none.",
		}, []string{"method", "reason"}),
		ready: gauge("defender_integration_ready", "1 while calls can be served, as health tells; 0 while the store does not answer or takes nothing, and at the end."),
		waiting: gauge("defender_integration_outbox_bytes",
			"What streams have given gRPC and has not left yet, since callers do not read as fast."),
		blocked: gauge("defender_integration_outbox_blocked_streams",
			"Streams that have an event to send and wait for their caller to read those before it."),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "defender_integration_streams_open", Help: "Streams that are open: of alerts, and of reflection.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "defender_integration_refused_total",
			Help: "Calls, streams and requests that were refused since a limit (streams, calls, request_bytes) of one caller, or of all (server), was reached.",
		}, []string{"limit", "scope"}),
		untold: counter("defender_integration_refused_untold_total",
			"Calls that were denied or beyond a limit, and that the log has no line of, since one caller had more than 10 a second of them."),
		handshakes: counter("defender_integration_tls_handshakes_refused_total",
			"TLS handshakes that failed: no client certificate, one that does not verify, or no TLS at all."),
		expelled: counter("defender_integration_connections_expelled_total",
			"Connections that were closed since their client's certificate had expired or the client CA vouched for it no more."),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "defender_integration_reloads_total",
			Help: "Changes of files that were seen while the service ran, by which (tls, policy) and result (taken, refused).",
		}, []string{"files", "result"}),
		reloadFailing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "defender_integration_reload_failing",
			Help: "1 while files (tls, policy) cannot be used as they are, and what was there before is in force.",
		}, []string{"files"}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "defender_integration_tls_certificate_expiry_timestamp_seconds",
			Help: "When the first certificate of a file (certificate, client_ca) expires, in seconds since 1970.",
		}, []string{"file"}),
	}
	for limit, scopes := range limitScopes() {
		for _, scope := range scopes {
			m.refused.WithLabelValues(string(limit), string(scope)) // so that a rate sees the first refusal
		}
	}
	var errs []error
	for _, one := range []prometheus.Collector{
		m.calls, m.panics, m.unread, m.cut, m.failures, m.ready, m.waiting, m.blocked, m.streams, m.refused, m.untold,
		m.handshakes, m.expelled, m.reloads, m.reloadFailing, m.expiry,
	} {
		errs = append(errs, registry.Register(one))
	}
	return m, errors.Join(errs...)
}

// failed counts a call that failed, by the reason that its status tells; calls without one are counted by code alone.
func (m *metrics) failed(method string, st *status.Status) {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			reason := strings.ToLower(strings.TrimPrefix(info.GetReason(), "ERROR_REASON_"))
			m.failures.WithLabelValues(method[strings.LastIndexByte(method, '/')+1:], reason).Inc()
			return
		}
	}
}

// serveMetrics serves the registry over HTTP under /metrics until ctx ends.
func serveMetrics(ctx context.Context, listener net.Listener, registry *prometheus.Registry) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
	}))
	// A scrape is cut off rather than waited for: nothing is lost by it.
	return serveHTTP(ctx, listener, mux, 20*time.Second)
}
