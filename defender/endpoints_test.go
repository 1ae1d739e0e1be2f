package defender

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestEndpoints(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range Endpoints() {
		name := e.GetApi().String() + " " + e.GetCloud().String()
		if seen[name] {
			t.Errorf("%s is there twice", name)
		}
		seen[name] = true
		if e.GetEndpoint().GetHost() == "" || e.GetScope() != "https://"+e.GetEndpoint().GetHost()+"/.default" ||
			!strings.Contains(e.GetAuthorizationUrl(), "{tenant}") || e.GetApiVersions()[0] != e.GetEndpoint().GetApiVersion() ||
			e.GetLifecycle().GetNote() == "" {
			t.Errorf("%s is not whole: %v", name, e)
		}
		if least := e.GetPermissions()[0]; least.GetCanWrite() || least.GetAppRoleId() == "" {
			t.Errorf("%s: the first permission %v is not the least", name, least)
		}
		if e.GetDeviceSources()[0].GetKind() != integrationv1.DeviceSource_KIND_MACHINES || e.GetDeviceSources()[0].GetLifecycle().GetRetirementTime() == nil {
			t.Errorf("%s: %v is not the list of machines with its end", name, e.GetDeviceSources()[0])
		}
	}
	for api := range integrationv1.Api_name {
		for cloud := range integrationv1.Cloud_name {
			name := integrationv1.Api(api).String() + " " + integrationv1.Cloud(cloud).String()
			if api != 0 && cloud != 0 && !seen[name] {
				t.Errorf("the contract has %s, the table does not", name)
			}
		}
	}
}

func TestComplete(t *testing.T) {
	given := &integrationv1.Integration{TenantId: "contoso.test", Authentication: &integrationv1.Authentication{ClientId: "c"}}
	before := proto.CloneOf(given)
	got := Complete(given)
	if !proto.Equal(given, before) {
		t.Error("what was given was changed")
	}
	want := &integrationv1.Integration{
		TenantId: "contoso.test", Api: integrationv1.Api_API_GRAPH_SECURITY, Cloud: integrationv1.Cloud_CLOUD_GLOBAL,
		Endpoint: &integrationv1.Endpoint{Host: "graph.microsoft.com", Port: 443, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS, ApiVersion: "v1.0"},
		Authentication: &integrationv1.Authentication{
			ClientId: "c", Scope: "https://graph.microsoft.com/.default",
			AuthorizationUrl: "https://login.microsoftonline.com/contoso.test/oauth2/v2.0/token",
		},
		DeviceSource: &integrationv1.DeviceSource{
			Kind:     integrationv1.DeviceSource_KIND_MACHINES,
			Endpoint: &integrationv1.Endpoint{Host: "api.security.microsoft.com", Port: 443, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS},
			Scope:    "https://api.securitycenter.microsoft.com/.default",
		},
	}
	if !proto.Equal(got, want) {
		t.Errorf("completed is %v, want %v", got, want)
	}
	if again := Complete(got); !proto.Equal(again, got) {
		t.Errorf("completing again gives %v", again)
	}
	for _, e := range Endpoints() {
		if err := (AllowList{}).Check(Complete(&integrationv1.Integration{Api: e.GetApi(), Cloud: e.GetCloud(), TenantId: "t"})); err != nil {
			t.Errorf("the table's own %s is not allowed: %v", e.GetEndpoint().GetHost(), err)
		}
	}
	none := Complete(&integrationv1.Integration{DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE}})
	if none.GetDeviceSource().GetEndpoint() != nil {
		t.Errorf("no device source has an endpoint: %v", none)
	}
}

func TestAllowList(t *testing.T) {
	open, err := NewAllowList([]string{"127.0.0.1:8080", "[::1]:8080", "Sim.Contoso.Test:443"}, true)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := NewAllowList([]string{"127.0.0.1:8080"}, false)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := func(host string, port int32, protocol integrationv1.Protocol) func(*integrationv1.Integration) {
		return func(i *integrationv1.Integration) {
			i.Endpoint = &integrationv1.Endpoint{Host: host, Port: port, Protocol: protocol}
		}
	}
	login := func(url string) func(*integrationv1.Integration) {
		return func(i *integrationv1.Integration) {
			i.Authentication = &integrationv1.Authentication{AuthorizationUrl: url}
		}
	}
	const (
		inTLS   = integrationv1.Protocol_PROTOCOL_HTTPS
		inClear = integrationv1.Protocol_PROTOCOL_HTTP
	)
	tests := []struct {
		name     string
		list     AllowList
		change   func(*integrationv1.Integration)
		field    string
		endpoint string
	}{
		{"the defaults", AllowList{}, func(*integrationv1.Integration) {}, "", ""},
		{"another case", AllowList{}, endpoint("Graph.Microsoft.COM", 443, inTLS), "", ""},
		{"another port", AllowList{}, endpoint("graph.microsoft.com", 8443, inTLS), "endpoint.host", "graph.microsoft.com:8443"},
		{"Microsoft in clear", AllowList{}, endpoint("graph.microsoft.com", 443, inClear), "endpoint.host", "graph.microsoft.com:443"},
		{"Microsoft in clear, HTTP allowed", open, endpoint("graph.microsoft.com", 443, inClear), "endpoint.host", "graph.microsoft.com:443"},
		{"a host that begins alike", AllowList{}, endpoint("graph.microsoft.com.evil.test", 443, inTLS), "endpoint.host", "graph.microsoft.com.evil.test:443"},
		{"a host below", AllowList{}, endpoint("x.graph.microsoft.com", 443, inTLS), "endpoint.host", "x.graph.microsoft.com:443"},
		{"a trailing dot", AllowList{}, endpoint("graph.microsoft.com.", 443, inTLS), "endpoint.host", "graph.microsoft.com.:443"},
		{"the machine itself", AllowList{}, endpoint("127.0.0.1", 8080, inClear), "endpoint.host", "127.0.0.1:8080"},
		{"metadata of a cloud", open, endpoint("169.254.169.254", 80, inClear), "endpoint.host", "169.254.169.254:80"},
		{"added", open, endpoint("127.0.0.1", 8080, inClear), "", ""},
		{"added, IPv6", open, endpoint("::1", 8080, inClear), "", ""},
		{"added, in clear, HTTP not allowed", closed, endpoint("127.0.0.1", 8080, inClear), "endpoint.protocol", "http://127.0.0.1:8080"},
		{"added, with TLS", closed, endpoint("127.0.0.1", 8080, inTLS), "", ""},
		{"added, another port", closed, endpoint("127.0.0.1", 8081, inTLS), "endpoint.host", "127.0.0.1:8081"},
		{"login elsewhere", AllowList{}, login("https://login.evil.test/t/oauth2/v2.0/token"), "authentication.authorization_url", "login.evil.test:443"},
		{"login in clear", AllowList{}, login("http://login.microsoftonline.com/t"), "authentication.authorization_url", "login.microsoftonline.com:80"},
		{"login with a user", AllowList{}, login("https://login.microsoftonline.com@evil.test/t"), "authentication.authorization_url", "an address that is no https:// URL of a host"},
		{"login of another scheme", open, login("file:///etc/passwd"), "authentication.authorization_url", "an address that is no https:// URL of a host"},
		{"login added", open, login("http://127.0.0.1:8080/t"), "", ""},
		{"login in clear, HTTP not allowed", closed, login("http://127.0.0.1:8080/t"), "authentication.authorization_url", "http://127.0.0.1:8080"},
		{"device source elsewhere", AllowList{}, func(i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Endpoint: &integrationv1.Endpoint{Host: "machines.evil.test"}}
		}, "device_source.endpoint.host", "machines.evil.test:443"},
		{"a nearer device source", AllowList{}, func(i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Endpoint: &integrationv1.Endpoint{Host: "eu.api.security.microsoft.com"}}
		}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i := &integrationv1.Integration{TenantId: "t"}
			tt.change(i)
			err := tt.list.Check(Complete(i))
			var refused *NotAllowedError
			if tt.field == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.As(err, &refused) || refused.Field != tt.field || refused.Endpoint != tt.endpoint || refused.Remedy == "" {
				t.Fatalf("error is %#v, want %s refused for %s", err, tt.endpoint, tt.field)
			}
		})
	}
	for _, entry := range []string{"", "host", "host:", ":443", "host:0", "host:65536", "https://host:443", "::1:8080"} {
		if _, err := NewAllowList([]string{entry}, false); err == nil {
			t.Errorf("%q is taken for HOST:PORT", entry)
		}
	}
}

func TestBaseURL(t *testing.T) {
	tests := []struct {
		host     string
		port     int32
		protocol integrationv1.Protocol
		want     string
	}{
		{"graph.microsoft.com", 443, integrationv1.Protocol_PROTOCOL_HTTPS, "https://graph.microsoft.com"},
		{"graph.microsoft.com", 0, integrationv1.Protocol_PROTOCOL_UNSPECIFIED, "https://graph.microsoft.com"},
		{"127.0.0.1", 8080, integrationv1.Protocol_PROTOCOL_HTTP, "http://127.0.0.1:8080"},
		{"127.0.0.1", 443, integrationv1.Protocol_PROTOCOL_HTTP, "http://127.0.0.1:443"},
		{"::1", 443, integrationv1.Protocol_PROTOCOL_HTTPS, "https://[::1]"},
		{"::1", 8443, integrationv1.Protocol_PROTOCOL_HTTPS, "https://[::1]:8443"},
	}
	for _, tt := range tests {
		if got := BaseURL(&integrationv1.Endpoint{Host: tt.host, Port: tt.port, Protocol: tt.protocol}).String(); got != tt.want {
			t.Errorf("BaseURL of %s port %d is %s, want %s", tt.host, tt.port, got, tt.want)
		}
	}
}
