package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// How often the store is asked whether it is ready, and how long it has to answer.
const (
	readyInterval = 5 * time.Second
	readyTimeout  = 3 * time.Second
)

// LivenessService is the name that a probe asks for to learn whether the process is to be restarted: it is served for as long as calls
// are accepted, also while the store takes nothing. A restart would not help then, and take away what can still be read.
const LivenessService = "liveness"

// healthServices are the names that a probe can ask for to learn whether calls can be served: the server as a whole, and its service.
func healthServices() []string {
	return []string{"", integrationv1.IntegrationService_ServiceDesc.ServiceName}
}

// readiness tells the health service whether calls can be served.
type readiness struct {
	health *health.Server
	ready  func(context.Context) error
	logger *slog.Logger
	gauge  prometheus.Gauge
	// serving is what was told last. Only check uses it.
	serving bool
}

// newReadiness returns a readiness that has told the health service that nothing is served yet.
func newReadiness(server *health.Server, ready func(context.Context) error, logger *slog.Logger, gauge prometheus.Gauge) *readiness {
	for _, name := range healthServices() {
		server.SetServingStatus(name, healthv1.HealthCheckResponse_NOT_SERVING)
	}
	server.SetServingStatus(LivenessService, healthv1.HealthCheckResponse_SERVING)
	return &readiness{health: server, ready: ready, logger: logger, gauge: gauge}
}

// run checks at once, and then again and again until ctx ends.
func (r *readiness) run(ctx context.Context) {
	ticker := time.NewTicker(readyInterval)
	defer ticker.Stop()
	defer r.gauge.Set(0)
	for {
		r.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// check asks the store once and passes the answer on where it is another than before.
func (r *readiness) check(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := r.ready(asking)
	if ctx.Err() != nil || (err == nil) == r.serving {
		return
	}
	r.serving = err == nil
	answer := healthv1.HealthCheckResponse_SERVING
	if err != nil {
		answer = healthv1.HealthCheckResponse_NOT_SERVING
		r.gauge.Set(0)
		r.logger.LogAttrs(ctx, slog.LevelWarn, "not ready: the store does not answer, or takes nothing", slog.String("error", err.Error()))
	} else {
		r.gauge.Set(1)
		r.logger.LogAttrs(ctx, slog.LevelInfo, "ready")
	}
	for _, name := range healthServices() {
		r.health.SetServingStatus(name, answer)
	}
}
