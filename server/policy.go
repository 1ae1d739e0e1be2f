package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/access"
)

// callers is who may call a method.
type callers int

const (
	// callersInRole are those that hold one of the method's roles.
	callersInRole callers = iota + 1
	// callersKnown are all of whom it is known who they are.
	callersKnown
	// callersAny are all that reach a listener: for probes.
	callersAny
)

// methodPolicy is what holds for a method.
type methodPolicy struct {
	// callers is who may call it.
	callers callers
	// roles are those of which a caller must hold one, where callers is callersInRole.
	roles access.Roles
	// named methods are about the integration that the request names, and the role is needed for that; for the others, for any one.
	named bool
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

// policies returns the policy of every method, by its full name. The server does not start where a method has none, and what has none
// is not served.
func policies() map[string]methodPolicy {
	const anyRole = access.Reader | access.Operator
	return map[string]methodPolicy{
		integrationv1.IntegrationService_RegisterIntegration_FullMethodName: {
			callers: callersInRole, roles: access.Operator, named: true, timeLimit: storeTimeLimit, audited: true,
		},
		integrationv1.IntegrationService_GetIntegration_FullMethodName: {
			callers: callersInRole, roles: anyRole, named: true, timeLimit: storeTimeLimit,
		},
		// Its answer has what the caller holds a role for.
		integrationv1.IntegrationService_ListIntegrations_FullMethodName: {
			callers: callersInRole, roles: anyRole, timeLimit: storeTimeLimit,
		},
		integrationv1.IntegrationService_UpdateIntegration_FullMethodName: {
			callers: callersInRole, roles: access.Operator, named: true, timeLimit: storeTimeLimit, audited: true,
		},
		integrationv1.IntegrationService_DeleteIntegration_FullMethodName: {
			callers: callersInRole, roles: access.Operator, named: true, timeLimit: storeTimeLimit, audited: true,
		},
		integrationv1.IntegrationService_ListEndpoints_FullMethodName: {
			callers: callersInRole, roles: anyRole, timeLimit: storeTimeLimit,
		},
		integrationv1.IntegrationService_TestConnectivity_FullMethodName: {
			callers: callersInRole, roles: access.Operator, named: true, timeLimit: connectivityTimeLimit, audited: true,
		},
		integrationv1.IntegrationService_StreamAlerts_FullMethodName: {
			callers: callersInRole, roles: access.Reader, named: true, audited: true,
		},

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
		case (policy.callers == callersInRole) != (policy.roles != 0), policy.named && policy.roles == 0:
			errs = append(errs, fmt.Errorf("the policy of %s: it has roles if, and only if, a role is needed", name))
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
