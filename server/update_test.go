package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// change returns an update of contoso.
func change(integration *integrationv1.Integration, paths ...string) *integrationv1.UpdateIntegrationRequest {
	if integration != nil && integration.GetIntegrationId() == "" {
		integration.IntegrationId = "contoso"
	}
	return &integrationv1.UpdateIntegrationRequest{Integration: integration, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}}
}

// storedSecret returns the client secret that the connectivity test would use.
func (h *harness) storedSecret(t *testing.T) string {
	t.Helper()
	request := &integrationv1.TestConnectivityRequest{Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: "contoso"}}
	if _, err := h.client.TestConnectivity(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	return h.tests.secrets.GetClientSecret()
}

func TestUpdateChangesWhatTheMaskNamesAndNothingElse(t *testing.T) {
	h := newHarness(t, harnessOptions{allowed: []string{"graph.test:8443", "login.test:443", "devices.test:443"}})
	before := h.register(t, contoso())

	steps := []struct {
		request *integrationv1.UpdateIntegrationRequest
		want    func(*integrationv1.Integration)
		secret  string
	}{
		{
			request: change(&integrationv1.Integration{Paused: true, DisplayName: "not in the mask"}, "paused"),
			want: func(i *integrationv1.Integration) {
				i.Paused = true
			},
			secret: secret,
		},
		{
			request: change(&integrationv1.Integration{DisplayName: "Contoso"}, "display_name", "paused"),
			want: func(i *integrationv1.Integration) {
				i.DisplayName, i.Paused = "Contoso", false
			},
			secret: secret,
		},
		{
			request: change(&integrationv1.Integration{Authentication: &integrationv1.Authentication{Credential: clientSecret("second")}},
				"authentication.client_secret"),
			want:   func(*integrationv1.Integration) {},
			secret: "second",
		},
		{
			request: change(&integrationv1.Integration{
				Endpoint:       &integrationv1.Endpoint{Host: "graph.test", Port: 8443},
				Authentication: &integrationv1.Authentication{Credential: clientSecret("third")},
			}, "endpoint.port", "authentication.client_secret.value", "endpoint.host"),
			want: func(i *integrationv1.Integration) {
				i.Endpoint.Host, i.Endpoint.Port = "graph.test", 8443
			},
			secret: "third",
		},
		{
			// A message that the mask names and the request leaves out goes back to its defaults.
			request: change(&integrationv1.Integration{Authentication: &integrationv1.Authentication{Credential: clientSecret("fourth")}},
				"endpoint", "authentication.client_secret"),
			want: func(i *integrationv1.Integration) {
				i.Endpoint.Host, i.Endpoint.Port = "graph.microsoft.com", 443
			},
			secret: "fourth",
		},
		{
			request: change(&integrationv1.Integration{DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE}},
				"device_source.kind"),
			want: func(i *integrationv1.Integration) {
				i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE}
			},
			secret: "fourth",
		},
	}
	for i, step := range steps {
		response, err := h.client.UpdateIntegration(t.Context(), step.request)
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		got, want := response.GetIntegration(), proto.CloneOf(before)
		step.want(want)
		if got.GetEtag() == before.GetEtag() {
			t.Errorf("step %d: the etag is still %s", i, got.GetEtag())
		}
		before = proto.CloneOf(got)
		for _, integration := range []*integrationv1.Integration{got, want} {
			integration.Etag, integration.UpdateTime, integration.Status = "", nil, nil
		}
		if !proto.Equal(got, want) {
			t.Errorf("step %d:\n%v\nwant\n%v", i, got, want)
		}
		if stored := h.storedSecret(t); stored != step.secret {
			t.Errorf("step %d: the stored secret is %q, want %q", i, stored, step.secret)
		}
	}
}

func TestUpdateKeepsTheJournal(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso())
	uid := func() string {
		record, _, err := h.store.Record(t.Context(), "contoso")
		if err != nil {
			t.Fatal(err)
		}
		return record.GetUid()
	}
	before := uid()
	if _, err := h.client.UpdateIntegration(t.Context(), change(&integrationv1.Integration{Paused: true}, "paused")); err != nil {
		t.Fatal(err)
	}
	if after := uid(); after != before {
		t.Errorf("the uid was %s and is %s", before, after)
	}
}

func TestUpdateThatChangesNothingKeepsTheEtag(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	before := h.register(t, contoso())
	response, err := h.client.UpdateIntegration(t.Context(),
		change(&integrationv1.Integration{Authentication: &integrationv1.Authentication{Credential: clientSecret(secret)}}, "paused", "authentication.client_secret.value"))
	if err != nil {
		t.Fatal(err)
	}
	if got := response.GetIntegration(); !proto.Equal(got, before) {
		t.Errorf("%v\nwant\n%v", got, before)
	}
}

func TestUpdateValidateOnlyStoresNothing(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	before := h.register(t, contoso())
	request := change(&integrationv1.Integration{DisplayName: "Contoso"}, "display_name")
	request.ValidateOnly = true
	response, err := h.client.UpdateIntegration(t.Context(), request)
	if err != nil || response.GetIntegration().GetDisplayName() != "Contoso" {
		t.Fatalf("%v, %v", response, err)
	}
	got, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
	if err != nil || !proto.Equal(got.GetIntegration(), before) {
		t.Errorf("%v, %v, want %v", got.GetIntegration(), err, before)
	}
}

func TestUpdateWithTheCurrentEtag(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	before := h.register(t, contoso())
	request := change(&integrationv1.Integration{Paused: true, Etag: before.GetEtag()}, "paused")
	if _, err := h.client.UpdateIntegration(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	// The same etag is an old one now.
	_, err := h.client.UpdateIntegration(t.Context(), request)
	info := wantFailure(t, err, codes.Aborted, integrationv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH, `"contoso"`, "read it again")
	current, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
	if err != nil {
		t.Fatal(err)
	}
	if info.GetMetadata()["etag"] != current.GetIntegration().GetEtag() || info.GetMetadata()["integration_id"] != "contoso" {
		t.Errorf("metadata %v, current etag %s", info.GetMetadata(), current.GetIntegration().GetEtag())
	}
}

func TestUpdateRefusals(t *testing.T) {
	h := newHarness(t, harnessOptions{allowed: []string{"other.test:443"}})
	h.register(t, contoso())
	stored, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	before := proto.CloneOf(stored)

	invalid := integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
	immutable := integrationv1.ErrorReason_ERROR_REASON_IMMUTABLE_FIELD
	credentials := integrationv1.ErrorReason_ERROR_REASON_CREDENTIALS_REQUIRED
	other := &integrationv1.Endpoint{Host: "other.test"}
	tests := map[string]struct {
		request *integrationv1.UpdateIntegrationRequest
		code    codes.Code
		reason  integrationv1.ErrorReason
		field   string
		words   []string
	}{
		"no integration": {change(nil, "paused"), codes.InvalidArgument, invalid, "integration", []string{"required"}},
		"no id": {&integrationv1.UpdateIntegrationRequest{
			Integration: &integrationv1.Integration{Paused: true}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"paused"}},
		}, codes.InvalidArgument, invalid, "integration.integration_id", []string{"which integration"}},
		"no mask": {&integrationv1.UpdateIntegrationRequest{Integration: &integrationv1.Integration{IntegrationId: "contoso"}},
			codes.InvalidArgument, invalid, "update_mask", []string{"required"}},
		"empty mask": {change(&integrationv1.Integration{}), codes.InvalidArgument, invalid, "update_mask", []string{"at least one field"}},
		"unknown field": {change(&integrationv1.Integration{}, "paused", "colour"),
			codes.InvalidArgument, invalid, "update_mask", []string{`"colour"`, "no field"}},
		"unknown field inside": {change(&integrationv1.Integration{}, "endpoint.colour"),
			codes.InvalidArgument, invalid, "update_mask", []string{`"endpoint.colour"`}},
		"inside a duration": {change(&integrationv1.Integration{}, "polling.fast_interval.seconds"),
			codes.InvalidArgument, invalid, "update_mask", []string{`"polling.fast_interval.seconds"`}},
		"inside a text": {change(&integrationv1.Integration{}, "display_name.first"),
			codes.InvalidArgument, invalid, "update_mask", []string{`"display_name.first"`}},
		"everything": {change(&integrationv1.Integration{}, "*"), codes.InvalidArgument, invalid, "update_mask", []string{`"*"`}},
		"output field": {change(&integrationv1.Integration{}, "status.state"),
			codes.InvalidArgument, invalid, "update_mask", []string{`"status.state"`, "only the service sets"}},
		"tenant": {change(&integrationv1.Integration{TenantId: "other"}, "tenant_id"),
			codes.InvalidArgument, immutable, "tenant_id", []string{"never changes", "register another"}},
		"API":   {change(&integrationv1.Integration{}, "api"), codes.InvalidArgument, immutable, "api", []string{"never changes"}},
		"cloud": {change(&integrationv1.Integration{}, "cloud"), codes.InvalidArgument, immutable, "cloud", []string{"never changes"}},
		"nobody's integration": {change(&integrationv1.Integration{IntegrationId: "nobody"}, "paused"),
			codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, "", []string{`"nobody"`}},
		"an id that none can have": {change(&integrationv1.Integration{IntegrationId: "../*>"}, "paused"),
			codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, "", []string{`"../*>"`}},
		"old etag": {change(&integrationv1.Integration{Etag: "0", Paused: true}, "paused"),
			codes.Aborted, integrationv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH, "", []string{"read it again"}},
		"a value that breaks a rule": {change(&integrationv1.Integration{Endpoint: &integrationv1.Endpoint{Host: "a/b"}}, "endpoint.host"),
			codes.InvalidArgument, invalid, "integration.endpoint.host", []string{"without scheme, port or path"}},
		"authentication without its parts": {change(&integrationv1.Integration{}, "authentication"),
			codes.InvalidArgument, invalid, "integration.authentication", []string{"required"}},
		"a host that is not allowed": {change(&integrationv1.Integration{
			Endpoint:       &integrationv1.Endpoint{Host: "nobody.test"},
			Authentication: &integrationv1.Authentication{Credential: clientSecret("new")},
		}, "endpoint.host", "authentication.client_secret"),
			codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED, "endpoint.host", []string{"nobody.test:443"}},
		"another host without the secret": {change(&integrationv1.Integration{Endpoint: other}, "endpoint.host"),
			codes.FailedPrecondition, credentials, "authentication.client_secret.value", []string{"endpoint", "client_secret", "update_mask"}},
		"another login without the secret": {change(&integrationv1.Integration{
			Authentication: &integrationv1.Authentication{AuthorizationUrl: "https://other.test/token"},
		}, "authentication.authorization_url"),
			codes.FailedPrecondition, credentials, "authentication.client_secret.value", []string{"authentication.authorization_url"}},
		"other devices without the secret": {change(&integrationv1.Integration{DeviceSource: &integrationv1.DeviceSource{Endpoint: other}}, "device_source.endpoint.host"),
			codes.FailedPrecondition, credentials, "authentication.client_secret.value", []string{"device_source.endpoint"}},
		"a proxy without the secret": {change(&integrationv1.Integration{Proxy: &integrationv1.Proxy{Url: "http://proxy.test:3128"}}, "proxy"),
			codes.FailedPrecondition, credentials, "authentication.client_secret.value", []string{"a change of proxy"}},
		"an authority without the secret": {change(&integrationv1.Integration{Trust: &integrationv1.Trust{CaPem: "pem"}}, "trust"),
			codes.FailedPrecondition, credentials, "authentication.client_secret.value", []string{"a change of trust"}},
		"another kind of credential, without it": {change(&integrationv1.Integration{
			Authentication: &integrationv1.Authentication{Credential: clientCertificate("")},
		}, "authentication.client_certificate"),
			codes.InvalidArgument, invalid, "integration.authentication.client_certificate.pem", []string{"must be given"}},
		"a certificate that cannot be used": {change(&integrationv1.Integration{
			Authentication: &integrationv1.Authentication{Credential: clientCertificate(unusable)},
		}, "authentication.client_certificate"),
			codes.InvalidArgument, invalid, "integration", []string{"has no private key"}},
		"an unknown device source": {change(&integrationv1.Integration{
			DeviceSource: &integrationv1.DeviceSource{Kind: 99},
		}, "device_source.kind"),
			codes.InvalidArgument, invalid, "integration.device_source.kind", []string{"defined"}},
		"another host with a secret that the mask leaves out": {change(&integrationv1.Integration{
			Endpoint: other, Authentication: &integrationv1.Authentication{Credential: clientSecret("new")},
		}, "endpoint.host"),
			codes.FailedPrecondition, credentials, "authentication.client_secret.value", []string{"update_mask"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.client.UpdateIntegration(t.Context(), test.request)
			info := wantFailure(t, err, test.code, test.reason, test.words...)
			if got := info.GetMetadata()["field"]; got != test.field {
				t.Errorf("field %q, want %q", got, test.field)
			}
		})
	}
	after, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil || !proto.Equal(after, before) {
		t.Errorf("what was refused changed the record: %v, %v", after, err)
	}
}

func TestRecordsOfTheStoreHoldNoSecretField(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso())
	record, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	if record.GetFormat() != 1 || record.GetIntegration().GetEtag() != "" || record.GetIntegration().GetStatus() != nil ||
		record.GetIntegration().GetAuthentication().GetClientSecret() == nil {
		t.Errorf("record %v", record)
	}
	if value := record.GetIntegration().GetAuthentication().GetClientSecret().GetValue(); value != "" {
		t.Error("the record's settings hold the secret")
	}
}

// Each secret is kept for what it was given for, and goes where nothing needs it any more.
func TestUpdateOfSecrets(t *testing.T) {
	h := newHarness(t, harnessOptions{allowed: []string{"other.test:3128"}})
	h.register(t, contoso(func(i *integrationv1.Integration) {
		i.Proxy = &integrationv1.Proxy{Url: "http://proxy.test:3128", Username: "we", Password: "pass-1"}
	}))
	authentication := func(credential *integrationv1.Authentication) *integrationv1.Integration {
		return &integrationv1.Integration{Authentication: credential}
	}
	withSecret := func(value string, proxy *integrationv1.Proxy) *integrationv1.Integration {
		return &integrationv1.Integration{Authentication: &integrationv1.Authentication{Credential: clientSecret(value)}, Proxy: proxy}
	}
	const secretPath = "authentication.client_secret"
	steps := []struct {
		name    string
		request *integrationv1.UpdateIntegrationRequest
		refused string // the field that must come along
		want    *storev1.Secrets
	}{
		{"a name", change(&integrationv1.Integration{DisplayName: "n"}, "display_name"), "", &storev1.Secrets{ClientSecret: secret, ProxyPassword: "pass-1"}},
		{"what was read, put back", change(withSecret("", &integrationv1.Proxy{Url: "http://proxy.test:3128", Username: "we"}), "proxy", secretPath), "",
			&storev1.Secrets{ClientSecret: secret, ProxyPassword: "pass-1"}},
		{"another proxy with the client secret alone", change(withSecret("s2", &integrationv1.Proxy{Url: "http://other.test:3128"}), "proxy.url", secretPath),
			"proxy.password", nil},
		{"another name at the proxy", change(withSecret("s2", &integrationv1.Proxy{Username: "you"}), "proxy.username", secretPath), "proxy.password", nil},
		{"another proxy with both", change(withSecret("s2", &integrationv1.Proxy{Url: "http://other.test:3128", Password: "pass-2"}), "proxy.url", "proxy.password", secretPath), "",
			&storev1.Secrets{ClientSecret: "s2", ProxyPassword: "pass-2"}},
		{"another authority with the client secret alone", change(&integrationv1.Integration{
			Authentication: &integrationv1.Authentication{Credential: clientSecret("s2")}, Trust: &integrationv1.Trust{CaPem: "ca"},
		}, "trust", secretPath), "proxy.password", nil},
		{"the proxy's password in a file", change(withSecret("s2", &integrationv1.Proxy{Url: "http://other.test:3128", Username: "we", PasswordFile: "p"}), "proxy", secretPath), "",
			&storev1.Secrets{ClientSecret: "s2"}},
		{"the proxy's password in a variable", change(withSecret("s2", &integrationv1.Proxy{Url: "http://other.test:3128", Username: "we", PasswordEnvVariable: "LISTED"}), "proxy", secretPath), "",
			&storev1.Secrets{ClientSecret: "s2"}},
		{"no proxy", change(withSecret("s2", nil), "proxy", secretPath), "", &storev1.Secrets{ClientSecret: "s2"}},
		{"a certificate", change(authentication(&integrationv1.Authentication{Credential: clientCertificate("pem-1")}), "authentication.client_certificate"), "",
			&storev1.Secrets{ClientCertificate: "pem-1"}},
		{"a certificate, put back", change(authentication(&integrationv1.Authentication{Credential: clientCertificate("")}), "authentication.client_certificate"), "",
			&storev1.Secrets{ClientCertificate: "pem-1"}},
		{"trust without the certificate", change(&integrationv1.Integration{Trust: &integrationv1.Trust{CaPem: "ca"}}, "trust"), "authentication.client_certificate.pem", nil},
		{"a file", change(authentication(&integrationv1.Authentication{Credential: &integrationv1.Authentication_ClientCertificate{
			ClientCertificate: &integrationv1.ClientCertificate{File: "f"},
		}}), "authentication.client_certificate"), "", &storev1.Secrets{}},
		{"a certificate again, of which nothing was kept", change(authentication(&integrationv1.Authentication{Credential: clientCertificate("pem-2")}),
			"authentication.client_certificate"), "", &storev1.Secrets{ClientCertificate: "pem-2"}},
		{"a variable", change(authentication(&integrationv1.Authentication{Credential: &integrationv1.Authentication_ClientCertificate{
			ClientCertificate: &integrationv1.ClientCertificate{EnvVariable: "LISTED"},
		}}), "authentication.client_certificate"), "", &storev1.Secrets{}},
		{"a proxy for what is in a variable", change(&integrationv1.Integration{Proxy: &integrationv1.Proxy{Url: "http://proxy.test:3128"}}, "proxy"), "", &storev1.Secrets{}},
	}
	stored := &storev1.Secrets{ClientSecret: secret, ProxyPassword: "pass-1"}
	for _, step := range steps {
		_, err := h.client.UpdateIntegration(t.Context(), step.request)
		if step.refused == "" {
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			stored = step.want
		} else {
			info := wantFailure(t, err, codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_CREDENTIALS_REQUIRED, step.refused)
			if info.GetMetadata()["field"] != step.refused {
				t.Errorf("%s: metadata %v", step.name, info.GetMetadata())
			}
		}
		h.storedSecret(t)
		if !proto.Equal(h.tests.secrets, stored) {
			t.Errorf("%s: stored are %v, want %v", step.name, h.tests.secrets, stored)
		}
	}
}

// Another kind of device source is at another place, which the old one's settings do not keep it from. The tokens go there then, so
// that the secret must come along.
func TestUpdateOfTheDeviceSource(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso())
	toHunting := &integrationv1.Integration{DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_HUNTING}}
	_, err := h.client.UpdateIntegration(t.Context(), change(toHunting, "device_source.kind"))
	wantFailure(t, err, codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_CREDENTIALS_REQUIRED, "device_source.endpoint")
	toHunting.Authentication = &integrationv1.Authentication{Credential: clientSecret(secret)}
	response, err := h.client.UpdateIntegration(t.Context(), change(toHunting, "device_source.kind", "authentication.client_secret"))
	if err != nil {
		t.Fatal(err)
	}
	want := &integrationv1.DeviceSource{
		Kind: integrationv1.DeviceSource_KIND_HUNTING, Scope: "https://graph.microsoft.com/.default",
		Endpoint: &integrationv1.Endpoint{Host: "graph.microsoft.com", Port: 443, Protocol: integrationv1.Protocol_PROTOCOL_HTTPS, ApiVersion: "v1.0"},
	}
	if got := response.GetIntegration().GetDeviceSource(); !proto.Equal(got, want) {
		t.Errorf("devices are looked up by %v, want %v", got, want)
	}
	// What the mask names stays.
	response, err = h.client.UpdateIntegration(t.Context(), change(&integrationv1.Integration{
		DeviceSource: &integrationv1.DeviceSource{
			Kind: integrationv1.DeviceSource_KIND_MACHINES, Endpoint: &integrationv1.Endpoint{Host: "eu.api.security.microsoft.com"},
		},
		Authentication: &integrationv1.Authentication{Credential: clientSecret(secret)},
	}, "device_source.kind", "device_source.endpoint.host", "authentication.client_secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got := response.GetIntegration().GetDeviceSource(); got.GetEndpoint().GetHost() != "eu.api.security.microsoft.com" ||
		got.GetScope() != "https://api.securitycenter.microsoft.com/.default" {
		t.Errorf("devices are looked up by %v", got)
	}
	// What the mask names of the place does not keep what else was filled in.
	response, err = h.client.UpdateIntegration(t.Context(), change(&integrationv1.Integration{
		DeviceSource: &integrationv1.DeviceSource{
			Kind: integrationv1.DeviceSource_KIND_HUNTING, Endpoint: &integrationv1.Endpoint{ApiVersion: "beta"},
		},
		Authentication: &integrationv1.Authentication{Credential: clientSecret(secret)},
	}, "device_source.kind", "device_source.endpoint.api_version", "authentication.client_secret"))
	if err != nil {
		t.Fatal(err)
	}
	want.Endpoint.ApiVersion = "beta"
	if got := response.GetIntegration().GetDeviceSource(); !proto.Equal(got, want) {
		t.Errorf("devices are looked up by %v, want %v", got, want)
	}
}

// What no connection is made from can be changed however the rest is: a certificate that has expired, a host that is allowed no more
// and a key that is lost keep nobody from pausing.
func TestUpdateOfWhatIsUnusable(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso(func(i *integrationv1.Integration) { i.Authentication.Credential = clientCertificate("good") }))
	record, revision, err := h.store.Record(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	record = proto.CloneOf(record)
	record.Integration.TenantId = worn // as time would do
	record.Integration.Endpoint.Host = "graph.nowhere.test"
	record.SealedSecrets = []byte("sealed with a key that is lost")
	if _, err := h.store.UpdateRecord(t.Context(), record, revision); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"paused", "display_name", "polling"} {
		if _, err := h.client.UpdateIntegration(t.Context(), change(&integrationv1.Integration{Paused: true, DisplayName: "n"}, path)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	_, err = h.client.UpdateIntegration(t.Context(), change(&integrationv1.Integration{
		DeviceSource: &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_NONE},
	}, "device_source.kind"))
	wantFailure(t, err, codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED, "graph.nowhere.test")
}
