package server_test

import (
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestRegisterFillsInTheDefaultsAndShowsNoSecret(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	got := h.register(t, contoso())

	want := &integrationv1.Integration{
		IntegrationId: "contoso",
		Api:           integrationv1.Api_API_GRAPH_SECURITY,
		Cloud:         integrationv1.Cloud_CLOUD_GLOBAL,
		TenantId:      "contoso.onmicrosoft.com",
		Endpoint: &integrationv1.Endpoint{
			Host: "graph.microsoft.com", Port: 443, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS, ApiVersion: "v1.0",
		},
		Authentication: &integrationv1.Authentication{
			ClientId:         "11111111-2222-3333-4444-555555555555",
			Credential:       clientSecret(""),
			AuthorizationUrl: "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token",
			Scope:            "https://graph.microsoft.com/.default",
		},
		DeviceSource: &integrationv1.DeviceSource{
			Kind: integrationv1.DeviceSource_KIND_MACHINES,
			Endpoint: &integrationv1.Endpoint{
				Host: "api.security.microsoft.com", Port: 443, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS, ApiVersion: "v1.0",
			},
			Scope: "https://api.securitycenter.microsoft.com/.default",
		},
		Etag:       got.GetEtag(),
		CreateTime: got.GetCreateTime(),
		UpdateTime: got.GetCreateTime(),
		Status:     &integrationv1.IntegrationStatus{State: integrationv1.IntegrationStatus_STATE_ACTIVE, StateSince: got.GetCreateTime()},
	}
	// The list of machines is about to be retired: that is told, and stands in nobody's way.
	if warnings := got.GetStatus().GetWarnings(); len(warnings) != 1 || warnings[0].GetReason() != integrationv1.ErrorReason_ERROR_REASON_API_RETIRING ||
		!strings.Contains(warnings[0].GetMessage(), "1 February 2027") || !strings.Contains(warnings[0].GetRemedy(), "KIND_HUNTING") {
		t.Errorf("warnings %v", warnings)
	}
	want.Status.Warnings = got.GetStatus().GetWarnings()
	if !proto.Equal(got, want) {
		t.Errorf("registered\n%v\nwant\n%v", got, want)
	}
	if got.GetEtag() == "" || time.Since(got.GetCreateTime().AsTime()) > time.Minute {
		t.Errorf("etag %q, created %v", got.GetEtag(), got.GetCreateTime().AsTime())
	}
}

func TestRegisterSealsTheSecretAndLogsNothingOfIt(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso())
	// A secret that breaks a rule must not come out in what is said about it.
	_, err := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{
		Integration: contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = clientSecret(strings.Repeat(secret, 100))
		}),
	})
	wantFailure(t, err, codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "client_secret.value", "1024")
	if strings.Contains(status.Convert(err).String(), secret) {
		t.Error("the refusal repeats the secret")
	}

	record, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := proto.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(stored), secret) {
		t.Error("the record holds the secret in clear")
	}
	if lines := h.log.lines(secret); len(lines) > 0 {
		t.Errorf("the log has the secret: %s", lines)
	}
	if lines := h.log.lines(`"audit"`, `"RegisterIntegration"`, `"contoso"`, `"local:bufconn"`); len(lines) != 2 {
		t.Errorf("%d lines of audit, want one for each call: %s", len(lines), lines)
	}
}

func TestRegisterAgain(t *testing.T) {
	tests := map[string]struct {
		again *integrationv1.Integration
		same  bool
	}{
		"the same": {again: contoso(), same: true},
		"the same with the defaults spelt out": {again: contoso(func(i *integrationv1.Integration) {
			i.Api = integrationv1.Api_API_GRAPH_SECURITY
			i.Endpoint = &integrationv1.Endpoint{Host: "graph.microsoft.com", Port: 443}
		}), same: true},
		"the same with output fields": {again: contoso(func(i *integrationv1.Integration) {
			i.Etag, i.Status = "77", &integrationv1.IntegrationStatus{State: integrationv1.IntegrationStatus_STATE_PAUSED}
		}), same: true},
		"another secret": {again: contoso(func(i *integrationv1.Integration) { i.Authentication.Credential = clientSecret("other") })},
		"another tenant": {again: contoso(func(i *integrationv1.Integration) { i.TenantId = "fabrikam.com" })},
		"another name":   {again: contoso(func(i *integrationv1.Integration) { i.DisplayName = "Contoso" })},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t, harnessOptions{})
			first := h.register(t, contoso())
			response, err := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: test.again})
			if test.same {
				if err != nil || !proto.Equal(response.GetIntegration(), first) {
					t.Fatalf("%v, %v, want what is there: %v", response.GetIntegration(), err, first)
				}
				return
			}
			info := wantFailure(t, err, codes.AlreadyExists, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_EXISTS, `"contoso"`, "update it")
			if info.GetMetadata()["integration_id"] != "contoso" {
				t.Errorf("metadata %v", info.GetMetadata())
			}
		})
	}
}

func TestRegisterValidateOnlyStoresNothing(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	response, err := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: contoso(), ValidateOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := response.GetIntegration(); got.GetEndpoint().GetHost() != "graph.microsoft.com" || got.GetEtag() != "" ||
		got.GetAuthentication().GetClientSecret().GetValue() != "" {
		t.Errorf("answer %v", got)
	}
	_, err = h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
	wantFailure(t, err, codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, `"contoso"`)
}

func TestRegisterGivesEachRegistrationAJournalOfItsOwn(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	uids := make(map[string]bool)
	for range 2 {
		h.register(t, contoso())
		record, _, err := h.store.Record(t.Context(), "contoso")
		if err != nil {
			t.Fatal(err)
		}
		uids[record.GetUid()] = true
		if _, err := h.client.DeleteIntegration(t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "contoso"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(uids) != 2 {
		t.Errorf("two registrations had the uids %v", uids)
	}
}

func TestRegisterRefusals(t *testing.T) {
	h := newHarness(t, harnessOptions{allowed: []string{"simulated.test:8080"}})
	invalid := integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	notAllowed := integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED
	tests := map[string]struct {
		integration *integrationv1.Integration
		code        codes.Code
		reason      integrationv1.ErrorReason
		field       string
		words       []string
	}{
		"no integration": {nil, codes.InvalidArgument, invalid, "integration", []string{"integration", "required"}},
		"no id": {contoso(func(i *integrationv1.Integration) { i.IntegrationId = "" }),
			codes.InvalidArgument, invalid, "integration.integration_id", []string{"lower-case letters, digits and hyphens"}},
		"id with a slash": {contoso(func(i *integrationv1.Integration) { i.IntegrationId = "a/b" }),
			codes.InvalidArgument, invalid, "integration.integration_id", []string{"lower-case letters"}},
		"common tenant": {contoso(func(i *integrationv1.Integration) { i.TenantId = "common" }),
			codes.InvalidArgument, invalid, "integration.tenant_id", []string{"not 'common'"}},
		"no authentication": {contoso(func(i *integrationv1.Integration) { i.Authentication = nil }),
			codes.InvalidArgument, invalid, "integration.authentication", []string{"required"}},
		"no client id": {contoso(func(i *integrationv1.Integration) { i.Authentication.ClientId = "" }),
			codes.InvalidArgument, invalid, "integration.authentication", []string{"client_id is required"}},
		"no credential": {contoso(func(i *integrationv1.Integration) { i.Authentication.Credential = nil }),
			codes.InvalidArgument, invalid, "integration.authentication.credential", []string{"exactly one"}},
		"empty secret": {contoso(func(i *integrationv1.Integration) { i.Authentication.Credential = clientSecret("") }),
			codes.InvalidArgument, invalid, "integration.authentication.client_secret.value", []string{"a client secret must be given"}},
		"a certificate that cannot be used": {contoso(func(i *integrationv1.Integration) { i.Authentication.Credential = clientCertificate(unusable) }),
			codes.InvalidArgument, invalid, "integration", []string{"has no private key", "Append it"}},
		"empty certificate": {contoso(func(i *integrationv1.Integration) { i.Authentication.Credential = clientCertificate("") }),
			codes.InvalidArgument, invalid, "integration.authentication.client_certificate.pem", []string{"a certificate with its private key must be given"}},
		"secret and file": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{Value: secret, File: "f"}}
		}), codes.InvalidArgument, invalid, "integration.authentication.client_secret", []string{"only one of"}},
		"file out of the folder": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{File: "../key"}}
		}), codes.InvalidArgument, invalid, "integration.authentication.client_secret.file", []string{"leads out"}},
		"secret in a file and in a variable": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{File: "f", EnvVariable: "LISTED"}}
		}), codes.InvalidArgument, invalid, "integration.authentication.client_secret", []string{"only one of"}},
		"secret in a variable that is not listed": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{EnvVariable: "PATH"}}
		}), codes.InvalidArgument, invalid, "integration.authentication.client_secret.env_variable", []string{"did not list it"}},
		"certificate in a variable that is not listed": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{EnvVariable: "PATH"}}
		}), codes.InvalidArgument, invalid, "integration.authentication.client_certificate.env_variable", []string{"did not list it"}},
		"password in a variable that is not listed": {contoso(func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "https://simulated.test:8080", Username: "we", PasswordEnvVariable: "PATH"}
		}), codes.InvalidArgument, invalid, "integration.proxy.password_env_variable", []string{"did not list it"}},
		"trust for a secret in a variable": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{EnvVariable: "LISTED"}}
			i.Trust = &integrationv1.Trust{CaPem: "pem"}
		}), codes.InvalidArgument, invalid, "integration.trust.ca_pem", []string{"an environment variable"}},
		"trust for a proxy that is told what is in a variable": {contoso(func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "https://simulated.test:8080", Username: "we", PasswordEnvVariable: "LISTED"}
			i.Trust = &integrationv1.Trust{CaPem: "pem"}
		}), codes.InvalidArgument, invalid, "integration.trust.ca_pem", []string{"password_env_variable"}},
		"token file out of the folder": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_WorkloadIdentity{WorkloadIdentity: &integrationv1.WorkloadIdentity{TokenFile: "../t"}}
		}), codes.InvalidArgument, invalid, "integration.authentication.workload_identity.token_file", []string{"leads out"}},
		"trust for a credential of the service": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Credential = &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}}
			i.Trust = &integrationv1.Trust{CaPem: "pem"}
		}), codes.InvalidArgument, invalid, "integration.trust.ca_pem", []string{"name it in ca_file"}},
		"trust for a proxy that is told what is in a file": {contoso(func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "https://simulated.test:8080", Username: "we", PasswordFile: "p"}
			i.Trust = &integrationv1.Trust{CaPem: "pem"}
		}), codes.InvalidArgument, invalid, "integration.trust.ca_pem", []string{"password_file"}},
		"proxy with a password in its URL": {contoso(func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "http://name:" + secret + "@proxy.test:3128"}
		}), codes.InvalidArgument, invalid, "integration.proxy.url", []string{"fields of their own"}},
		"proxy with a password for nobody": {contoso(func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "http://proxy.test:3128", Password: "p"}
		}), codes.InvalidArgument, invalid, "integration.proxy", []string{"needs a username"}},
		"scope and resource": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.Scope, i.Authentication.Resource = "a/.default", "a"
		}), codes.InvalidArgument, invalid, "integration.authentication", []string{"either scope"}},
		"hunting without Graph": {contoso(func(i *integrationv1.Integration) {
			i.Api = integrationv1.Api_API_SIEM
			i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_HUNTING}
		}), codes.InvalidArgument, invalid, "integration.device_source.kind", []string{"KIND_HUNTING does not go with API_SIEM"}},
		"unknown API": {contoso(func(i *integrationv1.Integration) { i.Api = 99 }),
			codes.InvalidArgument, invalid, "integration.api", []string{"defined"}},
		"host with a scheme": {contoso(func(i *integrationv1.Integration) {
			i.Endpoint = &integrationv1.Endpoint{Host: "https://graph.microsoft.com"}
		}),
			codes.InvalidArgument, invalid, "integration.endpoint.host", []string{"without scheme, port or path"}},
		"authorization URL with a query": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = "https://login.microsoftonline.com/?x=1"
		}), codes.InvalidArgument, invalid, "integration.authentication.authorization_url", []string{"absolute URL"}},
		"too fast": {contoso(func(i *integrationv1.Integration) {
			i.Polling = &integrationv1.Polling{FastInterval: durationpb.New(time.Millisecond)}
		}), codes.InvalidArgument, invalid, "integration.polling.fast_interval", []string{"0.1s"}},
		"fast slower than slow": {contoso(func(i *integrationv1.Integration) {
			i.Polling = &integrationv1.Polling{FastInterval: durationpb.New(time.Minute), SlowInterval: durationpb.New(time.Second)}
		}), codes.InvalidArgument, invalid, "integration.polling.fast_interval", []string{"not be longer than slow_interval"}},
		"a host of nobody's": {contoso(func(i *integrationv1.Integration) { i.Endpoint = &integrationv1.Endpoint{Host: "169.254.169.254"} }),
			codes.FailedPrecondition, notAllowed, "endpoint.host", []string{"169.254.169.254:443", "--allow-endpoint 169.254.169.254:443"}},
		"a login host of nobody's": {contoso(func(i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = "https://evil.example.com/token"
		}), codes.FailedPrecondition, notAllowed, "authentication.authorization_url", []string{"evil.example.com:443", "--allow-endpoint"}},
		"a device source of nobody's": {contoso(func(i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Endpoint: &integrationv1.Endpoint{Host: "10.0.0.1"}}
		}), codes.FailedPrecondition, notAllowed, "device_source.endpoint.host", []string{"10.0.0.1:443", "--allow-endpoint"}},
		"a file for a proxy of nobody's": {contoso(func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "http://proxy.test:3128", Username: "we", PasswordFile: "p"}
		}), codes.FailedPrecondition, notAllowed, "proxy.password_file", []string{"proxy.test:3128", "--allow-endpoint proxy.test:3128"}},
		"a variable for a proxy of nobody's": {contoso(func(i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "http://proxy.test:3128", Username: "we", PasswordEnvVariable: "LISTED"}
		}), codes.FailedPrecondition, notAllowed, "proxy.password_env_variable", []string{"proxy.test:3128", "--allow-endpoint proxy.test:3128"}},
		"HTTP in clear": {contoso(func(i *integrationv1.Integration) {
			i.Endpoint = &integrationv1.Endpoint{Host: "simulated.test", Port: 8080, Protocol: integrationv1.Protocol_PROTOCOL_HTTP}
		}), codes.FailedPrecondition, notAllowed, "endpoint.protocol", []string{"--allow-http"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: test.integration})
			info := wantFailure(t, err, test.code, test.reason, test.words...)
			if got := info.GetMetadata()["field"]; got != test.field {
				t.Errorf("field %q, want %q", got, test.field)
			}
			if strings.Contains(status.Convert(err).String(), secret) {
				t.Error("the refusal repeats the secret")
			}
			if test.reason != invalid {
				if info.GetMetadata()["endpoint"] == "" {
					t.Error("the metadata names no endpoint")
				}
				return
			}
			st := status.Convert(err)
			if bad := detail[*errdetails.BadRequest](st).GetFieldViolations(); len(bad) != 1 || bad[0].GetField() != test.field || bad[0].GetDescription() == "" {
				t.Errorf("BadRequest %v", bad)
			}
			if violations := detail[*validate.Violations](st).GetViolations(); len(violations) != 1 || violations[0].GetMessage() == "" {
				t.Errorf("Violations %v", violations)
			}
		})
	}
}

// Who asks for Graph's older alerts is told what became of them, and what to use.
func TestRegisterARetiredAPI(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	_, err := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{
		Integration: contoso(func(i *integrationv1.Integration) { i.Api = integrationv1.Api_API_GRAPH_SECURITY_LEGACY }),
	})
	info := wantFailure(t, err, codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_API_RETIRED, "15 October 2026", "API_GRAPH_SECURITY")
	if m := info.GetMetadata(); m["api"] != "API_GRAPH_SECURITY_LEGACY" || m["successor"] != "API_GRAPH_SECURITY" {
		t.Errorf("metadata %v", m)
	}
}

// Every API is registered with the fewest words; what is left out is filled in and shown.
func TestRegisterEachAPI(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	for api, want := range map[integrationv1.Api]struct{ host, url, target, devices string }{
		integrationv1.Api_API_GRAPH_SECURITY: {
			"graph.microsoft.com", "/oauth2/v2.0/token", "https://graph.microsoft.com/.default", "KIND_MACHINES api.security.microsoft.com",
		},
		integrationv1.Api_API_DEFENDER_FOR_ENDPOINT: {
			"api.security.microsoft.com", "/oauth2/v2.0/token", "https://api.securitycenter.microsoft.com/.default", "KIND_MACHINES api.security.microsoft.com",
		},
		integrationv1.Api_API_SIEM: {"wdatp-alertexporter-us.windows.com", "/oauth2/token", "https://graph.windows.net", "KIND_NONE "},
	} {
		got := h.register(t, contoso(func(i *integrationv1.Integration) {
			i.IntegrationId, i.Api = "api-"+strings.ToLower(strings.ReplaceAll(api.String(), "_", "-")), api
		}))
		a, d := got.GetAuthentication(), got.GetDeviceSource()
		if got.GetEndpoint().GetHost() != want.host || !strings.HasSuffix(a.GetAuthorizationUrl(), want.url) || a.GetScope()+a.GetResource() != want.target ||
			d.GetKind().String()+" "+d.GetEndpoint().GetHost() != want.devices {
			t.Errorf("%s: %v", api, got)
		}
	}
	near := h.register(t, contoso(func(i *integrationv1.Integration) {
		i.IntegrationId, i.Api = "near", integrationv1.Api_API_DEFENDER_FOR_ENDPOINT
		i.Endpoint = &integrationv1.Endpoint{Host: "eu.api.security.microsoft.com"}
	}))
	if host := near.GetDeviceSource().GetEndpoint().GetHost(); host != "eu.api.security.microsoft.com" {
		t.Errorf("devices of a nearer host are at %s", host)
	}
}
