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
		if e.GetLifecycle().GetNote() == "" {
			t.Errorf("%s has no lifecycle", name)
		}
		if e.GetLifecycle().GetStage() == integrationv1.Lifecycle_STAGE_RETIRED {
			if e.GetEndpoint() != nil || e.GetLifecycle().GetSuccessor() == 0 || e.GetLifecycle().GetRetirementTime() == nil {
				t.Errorf("%s is retired, and tells not what of it: %v", name, e)
			}
			continue
		}
		wantWhole(t, name, e)
	}
	for api := range integrationv1.Api_name {
		for cloud := range integrationv1.Cloud_name {
			api, cloud := integrationv1.Api(api), integrationv1.Cloud(cloud)
			if api != 0 && cloud != 0 && Retired(api) == nil && !seen[api.String()+" "+cloud.String()] {
				t.Errorf("the contract has %s in %s, the table does not", api, cloud)
			}
		}
	}
}

// wantWhole fails unless the entry of an API that is offered has all that registering needs.
func wantWhole(t *testing.T, name string, e *integrationv1.ApiEndpoint) {
	t.Helper()
	place := e.GetEndpoint()
	if place.GetHost() == "" || place.GetPort() != 443 || e.GetScope() != e.GetResource()+"/.default" || !strings.Contains(e.GetAuthorizationUrl(), "{tenant}") {
		t.Errorf("%s is not whole: %v", name, e)
	}
	if versions := e.GetApiVersions(); len(versions) > 0 && versions[0] != place.GetApiVersion() || len(versions) == 0 && place.GetApiVersion() != "" {
		t.Errorf("%s: version %q, offered %q", name, place.GetApiVersion(), versions)
	}
	if permissions := e.GetPermissions(); len(permissions) > 0 && (permissions[0].GetCanWrite() || permissions[0].GetAppRoleId() == "") {
		t.Errorf("%s: the first permission %v is not the least", name, permissions[0])
	}
	if len(e.GetDeviceSources()) == 0 {
		t.Errorf("%s has no device source, not even none", name)
	}
	kinds := map[integrationv1.DeviceSource_Kind]bool{}
	for _, source := range e.GetDeviceSources() {
		kind := source.GetKind()
		if kinds[kind] || source.GetLifecycle().GetNote() == "" || (source.GetEndpoint() == nil) != (kind == integrationv1.DeviceSource_KIND_NONE) ||
			kind != integrationv1.DeviceSource_KIND_NONE && (len(source.GetPermissions()) == 0 || len(source.GetLimits()) == 0) {
			t.Errorf("%s: device source %v", name, source)
		}
		kinds[kind] = true
		if limit := LimitOfDevices(kind); kind != integrationv1.DeviceSource_KIND_NONE && source.GetLimits()[0].GetLimit() != string(limit) {
			t.Errorf("%s: %s counts against %s, the table says %v", name, kind, limit, source.GetLimits())
		}
	}
	if limits := e.GetLimits(); len(limits) > 0 && limits[0].GetLimit() != string(LimitOf(e.GetApi())) {
		t.Errorf("%s counts against %s, the table says %v", name, LimitOf(e.GetApi()), limits)
	}
}

// What the table says is a copy: who changes it changes nothing for others.
func TestEndpointsAreCopies(t *testing.T) {
	Endpoints()[0].Endpoint.Host = "changed"
	Find(integrationv1.Api_API_SIEM, integrationv1.Cloud_CLOUD_GLOBAL).Endpoint.Host = "changed"
	Retired(integrationv1.Api_API_GRAPH_SECURITY_LEGACY).Note = "changed"
	for _, e := range Endpoints() {
		if e.GetEndpoint().GetHost() == "changed" || e.GetLifecycle().GetNote() == "changed" {
			t.Errorf("%v", e)
		}
	}
	if Find(integrationv1.Api_API_SIEM, 99) != nil || Retired(integrationv1.Api_API_SIEM) != nil {
		t.Error("what is not there is found")
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
			Endpoint: &integrationv1.Endpoint{Host: "api.security.microsoft.com", Port: 443, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS, ApiVersion: "v1.0"},
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
		if Retired(e.GetApi()) != nil {
			continue
		}
		if err := (AllowList{}).Check(Complete(&integrationv1.Integration{Api: e.GetApi(), Cloud: e.GetCloud(), TenantId: "t"})); err != nil {
			t.Errorf("the table's own %s is not allowed: %v", e.GetEndpoint().GetHost(), err)
		}
	}
	none := Complete(&integrationv1.Integration{DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE}})
	if none.GetDeviceSource().GetEndpoint() != nil {
		t.Errorf("no device source has an endpoint: %v", none)
	}
}

// What is left out depends on what is given: the credential, the token endpoint, the API's own host.
func TestCompleteByWhatIsGiven(t *testing.T) {
	const (
		v1      = "https://login.microsoftonline.com/t/oauth2/token"
		v2      = "https://login.microsoftonline.com/t/oauth2/v2.0/token"
		siem    = "https://graph.windows.net"
		graph   = "https://graph.microsoft.com"
		machine = "https://api.securitycenter.microsoft.com"
	)
	secret := func(a *integrationv1.Authentication) { a.Credential = &integrationv1.Authentication_ClientSecret{} }
	tests := map[string]struct {
		api    integrationv1.Api
		change func(*integrationv1.Integration)
		// url, scope and resource are those of the tokens for alerts; deviceScope and deviceResource of those for devices.
		url, scope, resource, deviceScope, deviceResource string
	}{
		"Graph":    {integrationv1.Api_API_GRAPH_SECURITY, func(*integrationv1.Integration) {}, v2, graph + "/.default", "", machine + "/.default", ""},
		"Endpoint": {integrationv1.Api_API_DEFENDER_FOR_ENDPOINT, func(*integrationv1.Integration) {}, v2, machine + "/.default", "", machine + "/.default", ""},
		"SIEM":     {integrationv1.Api_API_SIEM, func(*integrationv1.Integration) {}, v1, "", siem, "", ""},
		"SIEM with machines": {integrationv1.Api_API_SIEM, func(i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES}
		}, v1, "", siem, "", machine},
		"SIEM with a certificate": {integrationv1.Api_API_SIEM, func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{}}
		}, v2, siem + "/.default", "", "", ""},
		"SIEM at the v2.0 endpoint": {integrationv1.Api_API_SIEM, func(i *integrationv1.Integration) { i.Authentication.AuthorizationUrl = v2 },
			v2, siem + "/.default", "", "", ""},
		"Graph at the v1 endpoint": {integrationv1.Api_API_GRAPH_SECURITY, func(i *integrationv1.Integration) { i.Authentication.AuthorizationUrl = v1 },
			v1, "", graph, "", machine},
		"Graph with a resource": {integrationv1.Api_API_GRAPH_SECURITY, func(i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl, i.Authentication.Resource = v1, "https://other"
		}, v1, "", "https://other", "", machine},
		"managed identity": {integrationv1.Api_API_GRAPH_SECURITY, func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}
		}, "", graph + "/.default", "", machine + "/.default", ""},
		"another scope, which devices of the same host have too": {integrationv1.Api_API_DEFENDER_FOR_ENDPOINT, func(i *integrationv1.Integration) {
			i.Authentication.Scope = "https://own/.default"
		}, v2, "https://own/.default", "", "https://own/.default", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			i := &integrationv1.Integration{Api: tt.api, TenantId: "t", Authentication: &integrationv1.Authentication{ClientId: "c"}}
			secret(i.GetAuthentication())
			tt.change(i)
			got := Complete(i)
			a := got.GetAuthentication()
			scope, resource := DeviceTarget(got)
			if a.GetAuthorizationUrl() != tt.url || a.GetScope() != tt.scope || a.GetResource() != tt.resource || scope != tt.deviceScope || resource != tt.deviceResource {
				t.Errorf("completed to %v, devices %q %q", got, scope, resource)
			}
		})
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
