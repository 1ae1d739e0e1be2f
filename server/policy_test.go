package server

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// registered returns the services as the server registers them.
func registered() map[string]grpc.ServiceInfo {
	s := grpc.NewServer()
	integrationv1.RegisterIntegrationServiceServer(s, integrationv1.UnimplementedIntegrationServiceServer{})
	healthv1.RegisterHealthServer(s, health.NewServer())
	reflection.RegisterV1(s)
	return s.GetServiceInfo()
}

func TestEveryMethodHasAPolicy(t *testing.T) {
	if err := checkPolicies(policies(), registered()); err != nil {
		t.Error(err)
	}
}

func TestCheckPoliciesNamesWhatIsWrong(t *testing.T) {
	const get = integrationv1.IntegrationService_GetIntegration_FullMethodName
	const stream = integrationv1.IntegrationService_StreamAlerts_FullMethodName
	tests := map[string]struct {
		change func(map[string]methodPolicy)
		words  string
	}{
		"a method without a policy":     {func(p map[string]methodPolicy) { delete(p, get) }, get + " is registered and has no policy"},
		"a policy without a method":     {func(p map[string]methodPolicy) { p["/a.B/C"] = p[get] }, "/a.B/C has a policy and is not registered"},
		"a policy without callers":      {func(p map[string]methodPolicy) { p[get] = methodPolicy{timeLimit: time.Second} }, "does not say who may call it"},
		"a unary method without an end": {func(p map[string]methodPolicy) { p[get] = methodPolicy{callers: callersKnown} }, "a unary method has a time limit"},
		"a stream with an end of its own": {func(p map[string]methodPolicy) {
			p[stream] = methodPolicy{callers: callersKnown, timeLimit: time.Second}
		}, "a stream has none"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			table := policies()
			test.change(table)
			err := checkPolicies(table, registered())
			if err == nil || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want only %q", err, test.words)
			}
		})
	}
}

func TestEnforceLetsNobodyUnknownIn(t *testing.T) {
	link := enforce(policies())
	calls := make(map[string]bool)
	for method := range maps.Keys(policies()) {
		_, err := link.unary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: method},
			func(context.Context, any) (any, error) { return nil, nil })
		if err == nil {
			calls[method] = true
		}
	}
	want := map[string]bool{
		healthv1.Health_Check_FullMethodName: true, healthv1.Health_List_FullMethodName: true, healthv1.Health_Watch_FullMethodName: true,
	}
	if !maps.Equal(calls, want) {
		t.Errorf("a caller that no handshake knows may call %v, want only %v", calls, want)
	}
}
