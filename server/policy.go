package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// callers is who may call a method.
type callers int

const (
	// callersKnown are those on this machine, and those with a certificate of the client CA.
	callersKnown callers = iota + 1
	// callersAny are all that reach a listener: for probes.
	callersAny
)

// methodPolicy is what holds for a method.
type methodPolicy struct {
	// callers is who may call it.
	callers callers
	// timeLimit is how long a unary call may take; zero for streams, which end when they end.
	timeLimit time.Duration
	// audited methods change something or make the service call out: each call leaves a line saying who, what and how it ended.
	audited bool
	// quiet methods are called all the time by probes and leave no line in the access log.
	quiet bool
}

// storeTimeLimit is for methods that ask the store and nothing else.
const storeTimeLimit = 15 * time.Second

// connectivityTimeLimit is for TestConnectivity, which ends by itself after two minutes with an answer that says what was not tried.
const connectivityTimeLimit = 150 * time.Second

// policies returns the policy of every method, by its full name. The server does not start where a method has none.
func policies() map[string]methodPolicy {
	return map[string]methodPolicy{
		integrationv1.IntegrationService_RegisterIntegration_FullMethodName: {callers: callersKnown, timeLimit: storeTimeLimit, audited: true},
		integrationv1.IntegrationService_GetIntegration_FullMethodName:      {callers: callersKnown, timeLimit: storeTimeLimit},
		integrationv1.IntegrationService_ListIntegrations_FullMethodName:    {callers: callersKnown, timeLimit: storeTimeLimit},
		integrationv1.IntegrationService_UpdateIntegration_FullMethodName:   {callers: callersKnown, timeLimit: storeTimeLimit, audited: true},
		integrationv1.IntegrationService_DeleteIntegration_FullMethodName:   {callers: callersKnown, timeLimit: storeTimeLimit, audited: true},
		integrationv1.IntegrationService_ListEndpoints_FullMethodName:       {callers: callersKnown, timeLimit: storeTimeLimit},
		integrationv1.IntegrationService_TestConnectivity_FullMethodName:    {callers: callersKnown, timeLimit: connectivityTimeLimit, audited: true},
		integrationv1.IntegrationService_StreamAlerts_FullMethodName:        {callers: callersKnown, audited: true},

		healthv1.Health_Check_FullMethodName: {callers: callersAny, timeLimit: storeTimeLimit, quiet: true},
		healthv1.Health_List_FullMethodName:  {callers: callersAny, timeLimit: storeTimeLimit, quiet: true},
		healthv1.Health_Watch_FullMethodName: {callers: callersAny, quiet: true},

		reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName: {callers: callersKnown},
	}
}

// checkPolicies returns an error that names each registered method without a policy, each policy of a method that is not
// registered, and each policy that does not say enough.
func checkPolicies(table map[string]methodPolicy, services map[string]grpc.ServiceInfo) error {
	var errs []error
	registered := make(map[string]grpc.MethodInfo)
	for service, info := range services {
		for _, method := range info.Methods {
			registered["/"+service+"/"+method.Name] = method
		}
	}
	for _, name := range slices.Sorted(maps.Keys(registered)) {
		policy, ok := table[name]
		streams := registered[name].IsServerStream || registered[name].IsClientStream
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s is registered and has no policy", name))
		case policy.callers == 0:
			errs = append(errs, fmt.Errorf("the policy of %s does not say who may call it", name))
		case streams == (policy.timeLimit != 0):
			errs = append(errs, fmt.Errorf("the policy of %s: a unary method has a time limit, a stream has none", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if _, ok := registered[name]; !ok {
			errs = append(errs, fmt.Errorf("%s has a policy and is not registered", name))
		}
	}
	return errors.Join(errs...)
}

// errTimeLimit is the cause of a call's context that passed the method's time limit: not the caller's own deadline.
var errTimeLimit = errors.New("the method's time limit passed")

// enforce refuses who may not call, and gives unary calls the method's time limit.
func enforce(table map[string]methodPolicy) interceptor {
	admit := func(ctx context.Context, method string) error {
		if table[method].callers == callersAny {
			return nil
		}
		if who := callerFrom(ctx); who.kind == callerUnknown {
			// The listeners let nobody through who is neither local nor certified, so this is a fault of ours, and the caller
			// learns no more than that.
			return fmt.Errorf("%s was called over a connection that is neither local nor certified", method)
		}
		return nil
	}
	return interceptor{
		unary: func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := admit(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeoutCause(ctx, table[info.FullMethod].timeLimit, errTimeLimit)
			defer cancel()
			response, err := handler(ctx, request)
			if err != nil && errors.Is(context.Cause(ctx), errTimeLimit) {
				err = errors.Join(errTimeLimit, err)
			}
			return response, err
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := admit(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return handler(srv, stream)
		},
	}
}

// audit logs who called, what, and how it ended.
func audit(logger *slog.Logger) interceptor {
	record := func(ctx context.Context, method string, err error) {
		logger.LogAttrs(ctx, slog.LevelInfo, "audit",
			slog.String("method", method[strings.LastIndexByte(method, '/')+1:]),
			slog.String("caller", callerFrom(ctx).name),
			slog.String("code", status.Code(err).String()))
	}
	return interceptor{
		unary: func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			response, err := handler(ctx, request)
			record(ctx, info.FullMethod, err)
			return response, err
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			err := handler(srv, stream)
			record(stream.Context(), info.FullMethod, err)
			return err
		},
	}
}
