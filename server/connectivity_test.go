package server_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestConnectivityOfARegisteredIntegration(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	if never := h.register(t, contoso()); never.GetStatus().GetLastTest() != nil {
		t.Errorf("before any test: %v", never.GetStatus())
	}
	for _, health := range []integrationv1.ConnectivityTest_Health{
		integrationv1.ConnectivityTest_HEALTH_UNHEALTHY, integrationv1.ConnectivityTest_HEALTH_HEALTHY,
	} {
		h.tests.result = &integrationv1.ConnectivityTest{
			TestTime: timestamppb.Now(), Health: health, Summary: "in short",
			Stages: []*integrationv1.ConnectivityStage{{Link: integrationv1.ConnectivityStage_LINK_DNS}},
		}
		before, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := h.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
			Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: "contoso"},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := &integrationv1.TestConnectivityResponse{
			Test: h.tests.result, Technology: "Microsoft Defender for Endpoint", ServiceVersion: "v0.0.0-test",
		}
		if !proto.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if h.tests.secrets.GetClientSecret() != secret || h.tests.settings.GetEndpoint().GetHost() != "graph.microsoft.com" {
			t.Errorf("tested with %v", h.tests.settings)
		}
		// It is kept, and is no change of the integration.
		after, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
		if err != nil || !proto.Equal(after.GetIntegration().GetStatus().GetLastTest(), h.tests.result) ||
			after.GetIntegration().GetEtag() != before.GetIntegration().GetEtag() {
			t.Errorf("get after the test: %v, %v", after, err)
		}
		list, err := h.client.ListIntegrations(t.Context(), &integrationv1.ListIntegrationsRequest{})
		if err != nil || !proto.Equal(list.GetIntegrations()[0], after.GetIntegration()) {
			t.Errorf("list after the test: %v, %v", list, err)
		}
	}
}

func TestConnectivityOfSettingsThatAreNotSaved(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	_, err := h.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
		// They need no id.
		Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: contoso(func(i *integrationv1.Integration) { i.IntegrationId = "" })},
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.tests.secrets.GetClientSecret() != secret || h.tests.settings.GetDeviceSource().GetEndpoint().GetHost() != "api.security.microsoft.com" ||
		h.tests.settings.GetAuthentication().GetClientSecret().GetValue() != "" {
		t.Errorf("tested with %v", h.tests.settings)
	}
	_, err = h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
	wantFailure(t, err, codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND)
}

func TestConnectivityRefusals(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	given := func(change func(*integrationv1.Integration)) *integrationv1.TestConnectivityRequest {
		return &integrationv1.TestConnectivityRequest{Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: contoso(change)}}
	}
	tests := map[string]struct {
		request *integrationv1.TestConnectivityRequest
		code    codes.Code
		reason  integrationv1.ErrorReason
		words   string
	}{
		"nothing to test": {&integrationv1.TestConnectivityRequest{}, codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "subject: exactly one field is required"},
		"nobody's": {&integrationv1.TestConnectivityRequest{Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: "nobody"}},
			codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, `"nobody"`},
		"no tenant": {given(func(i *integrationv1.Integration) { i.TenantId = "" }),
			codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "integration.tenant_id"},
		"no secret": {given(func(i *integrationv1.Integration) { i.Authentication.Credential = clientSecret("") }),
			codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "a client secret must be given"},
		"a retired API": {given(func(i *integrationv1.Integration) { i.Api = integrationv1.Api_API_GRAPH_SECURITY_LEGACY }),
			codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_API_RETIRED, "gone since 15 October 2026"},
		"a host of nobody's": {given(func(i *integrationv1.Integration) { i.Endpoint = &integrationv1.Endpoint{Host: "localhost"} }),
			codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED, "localhost:443"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.client.TestConnectivity(t.Context(), test.request)
			wantFailure(t, err, test.code, test.reason, test.words)
			if h.tests.settings != nil {
				t.Error("something was tested")
			}
		})
	}
}

func TestListEndpoints(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	list := func(request *integrationv1.ListEndpointsRequest) []*integrationv1.ApiEndpoint {
		response, err := h.client.ListEndpoints(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		return response.GetEndpoints()
	}
	all := list(&integrationv1.ListEndpointsRequest{Api: integrationv1.Api_API_GRAPH_SECURITY})
	// Three APIs in four clouds, and the one that is gone.
	if len(all) != 4 || len(list(&integrationv1.ListEndpointsRequest{})) != 13 {
		t.Errorf("%d endpoints of Graph, want one for each cloud", len(all))
	}
	high := list(&integrationv1.ListEndpointsRequest{Cloud: integrationv1.Cloud_CLOUD_US_GOV_HIGH})
	if len(high) != 3 || high[0].GetEndpoint().GetHost() != "graph.microsoft.us" {
		t.Errorf("GCC High: %v", high)
	}
	_, err := h.client.ListEndpoints(t.Context(), &integrationv1.ListEndpointsRequest{Cloud: 99})
	wantFailure(t, err, codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "cloud")
}
