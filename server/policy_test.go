package server

import (
	"context"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/access"
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
		"a role that is not named": {func(p map[string]methodPolicy) {
			p[get] = methodPolicy{callers: callersInRole, timeLimit: time.Second}
		}, "has roles if, and only if, a role is needed"},
		"a role that nobody needs": {func(p map[string]methodPolicy) {
			p[get] = methodPolicy{callers: callersAny, roles: access.Reader, timeLimit: time.Second}
		}, "has roles if, and only if, a role is needed"},
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
	link := enforce(&guard{}, policies())
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

// A method whose request names an integration asks for the role for that one.
func TestMethodsThatNameAnIntegrationAreHeldToIt(t *testing.T) {
	for i, methods := 0, integrationv1.File_defender_integration_v1_service_proto.Services().ByName("IntegrationService").Methods(); i < methods.Len(); i++ {
		method := methods.Get(i)
		fields := method.Input().Fields()
		names := fields.ByName("integration_id") != nil || fields.ByName("integration") != nil
		if policy := policies()["/"+string(method.Parent().FullName())+"/"+string(method.Name())]; policy.named != names {
			t.Errorf("%s: its request names an integration: %t, and its policy says %t", method.Name(), names, policy.named)
		}
	}
}

func TestWhoIsOnThisMachine(t *testing.T) {
	address := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	unix := &net.UnixAddr{Name: "s", Net: "unix"}
	tests := map[string]struct {
		own, other net.Addr
		want       string
	}{
		"loopback":                  {address("127.0.0.1"), address("127.0.0.2"), "local:tcp"},
		"loopback of IPv6":          {address("::1"), address("::1"), "local:tcp"},
		"another machine":           {address("192.0.2.1"), address("192.0.2.2"), "anonymous"},
		"this machine from outside": {address("192.0.2.1"), address("192.0.2.1"), "anonymous"},
		"loopback from outside":     {address("127.0.0.1"), address("192.0.2.2"), "anonymous"},
		"a unix socket of a system that does not say whose": {unix, unix, "local:unix"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conn := &connection{raw: addressed{own: test.own, other: test.other}}
			conn.learn(nil)
			if got := conn.identities; len(got) != 1 || got[0] != test.want {
				t.Errorf("%v, want %s", got, test.want)
			}
			// Without a policy only this machine's callers hold anything, unless the server is insecure.
			local := test.want != "anonymous"
			if grants := (&guard{}).grants(conn); grants.AllowSome(access.All) != local || grants.Allow(access.Operator, "") != local {
				t.Errorf("without a policy: %v", grants)
			}
			// Reflection is for those who are known, and for whom a policy gives something.
			closed, reflect := &guard{insecure: true}, need{policy: policies()[reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName]}
			policy, err := access.Parse([]byte("rules: [{identities: [uid:1], roles: [reader], integrations: [contoso]}]"))
			if err != nil {
				t.Fatal(err)
			}
			closed.policy.Store(policy)
			if failed := closed.allow(conn, reflect); (failed == nil) != local {
				t.Errorf("reflection: %v", failed)
			}
			if grants := (&guard{insecure: true}).grants(conn); !grants.Allow(access.Operator, "") || !grants.Allow(access.Reader, "") {
				t.Errorf("without a policy, insecurely: %v", grants)
			}
		})
	}
}

// addressed is a connection that has addresses and nothing else.
type addressed struct {
	net.Conn
	own, other net.Addr
}

func (a addressed) LocalAddr() net.Addr  { return a.own }
func (a addressed) RemoteAddr() net.Addr { return a.other }
