package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"buf.build/go/protovalidate"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// interceptor is one link of the chain, in the form for unary calls and in the form for streams.
type interceptor struct {
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

// chainInput is what the interceptors work with.
type chainInput struct {
	logger    *slog.Logger
	metrics   *metrics
	policies  map[string]methodPolicy
	streams   *openStreams
	guard     *guard
	validator protovalidate.Validator
	// tracer makes the spans of calls; nil where they are not traced.
	tracer trace.Tracer
	// unreadLimit is how long a caller may leave a stream unread.
	unreadLimit time.Duration
	limits      Limits
}

// chain is the one list of interceptors, the outermost first.
func chain(in chainInput) []interceptor {
	limiter := newLimiter(in.limits, in.metrics)
	list := []interceptor{
		// First, since every line of the log and every answer carries the request id.
		identify(),
	}
	if in.tracer != nil {
		// Around the log, whose lines carry the trace's id. Probes are not traced.
		list = append(list, only(traced(in.tracer), func(method string) bool { return !in.policies[method].quiet }))
	}
	return append(list, []interceptor{
		// Around all that can fail, so that each call is counted with the code that the caller gets.
		{in.metrics.calls.UnaryServerInterceptor(), in.metrics.calls.StreamServerInterceptor()},
		// Around all that can refuse a call, so that refused calls are logged too. Probes are not.
		only(accessLog(in.logger), func(method string) bool { return !in.policies[method].quiet }),
		// Outside the translation, since it tells the code that the caller gets.
		audit(in.logger, in.policies, limiter),
		// Outside everything that returns errors of our own, so that no other text reaches a caller.
		translate(in.logger, in.metrics),
		// Outside the recovery, since it may run a handler in a goroutine of its own, where a panic must be caught too. A stream is
		// among the open ones before it is let in, so that no change of what is allowed misses it.
		endable(in.streams),
		// Inside that, which ends the wait for a caller to read too.
		readable(&unreadWatch{limit: in.unreadLimit, logger: in.logger, metrics: in.metrics}),
		// Inside metrics and log, so that a panic is counted and logged as the INTERNAL that the caller gets.
		recoverPanics(in.logger, in.metrics.panics),
		// Before anything reads the request: who may not call learns nothing of what is valid.
		enforce(in.guard, in.policies),
		// Inside the policy, so that who may not call takes nothing away from those who may; before the validation, which costs more than
		// to refuse.
		limit(limiter),
		// Last: a handler sees only requests that follow the rules. Only our own messages have any.
		only(validateRequests(in.validator), isOurs),
	}...)
}

// chained returns the server options that build both chains from the list.
func chained(list []interceptor) []grpc.ServerOption {
	unary := make([]grpc.UnaryServerInterceptor, len(list))
	stream := make([]grpc.StreamServerInterceptor, len(list))
	for i, link := range list {
		unary[i], stream[i] = link.unary, link.stream
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...)}
}

// only lets a link work on those methods, by full name, that want returns true for.
func only(link interceptor, want func(method string) bool) interceptor {
	matcher := selector.MatchFunc(func(_ context.Context, meta interceptors.CallMeta) bool { return want(meta.FullMethod()) })
	return interceptor{
		unary:  selector.UnaryServerInterceptor(link.unary, matcher),
		stream: selector.StreamServerInterceptor(link.stream, matcher),
	}
}

// isOurs says whether a method belongs to IntegrationService.
func isOurs(method string) bool {
	prefix := "/" + integrationv1.IntegrationService_ServiceDesc.ServiceName + "/"
	return len(method) > len(prefix) && method[:len(prefix)] == prefix
}

// accessLog logs each call when it ends: method, code, duration, peer; never a payload, which may hold secrets. It tells of no call of which
// audit found that its caller was refused too often.
func accessLog(logger *slog.Logger) interceptor {
	write := logging.LoggerFunc(func(ctx context.Context, level logging.Level, message string, fields ...any) {
		if c := callFrom(ctx); c != nil && c.untold.Load() {
			return
		}
		logger.Log(ctx, slog.Level(level), message, fields...) //nolint:sloglint // The middleware makes the message.
	})
	options := []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithDisableLoggingFields(logging.SystemTag[0], logging.ComponentFieldKey, logging.ServiceFieldKey),
	}
	return interceptor{
		unary:  logging.UnaryServerInterceptor(write, options...),
		stream: logging.StreamServerInterceptor(write, options...),
	}
}

// errPanicked is what a call fails with whose handler panicked.
var errPanicked = errors.New("a handler panicked")

// recoverPanics turns a panic into an error, counts it and logs where it came from.
func recoverPanics(logger *slog.Logger, panics prometheus.Counter) interceptor {
	option := recovery.WithRecoveryHandlerContext(func(ctx context.Context, value any) error {
		panics.Inc()
		logger.LogAttrs(ctx, slog.LevelError, "a handler panicked",
			slog.String("panic", fmt.Sprint(value)), slog.String("stack", string(debug.Stack())))
		return errPanicked
	})
	return interceptor{
		unary:  recovery.UnaryServerInterceptor(option),
		stream: recovery.StreamServerInterceptor(option),
	}
}
