package server_test

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
)

func TestGetShowsTheCollectorsStatus(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso(func(i *integrationv1.Integration) { i.Paused = true }))
	get := func() *integrationv1.IntegrationStatus {
		response, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
		if err != nil {
			t.Fatal(err)
		}
		return response.GetIntegration().GetStatus()
	}
	if got := get().GetState(); got != integrationv1.IntegrationStatus_STATE_PAUSED {
		t.Errorf("before its collector began: %s", got)
	}
	record, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	want := &integrationv1.IntegrationStatus{State: integrationv1.IntegrationStatus_STATE_FAILING, StateSince: timestamppb.Now()}
	h.statuses.set(record.GetUid(), want)
	if got := get(); !proto.Equal(got, want) {
		t.Errorf("status %v, want %v", got, want)
	}
}

func TestGetRefusals(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	tests := map[string]struct {
		id     string
		code   codes.Code
		reason integrationv1.ErrorReason
		words  string
	}{
		"no id":                    {"", codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "integration_id: must be at least 1 characters"},
		"long id":                  {fmt.Sprintf("%064d", 1), codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "at most 63"},
		"nobody's":                 {"nobody", codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, `"nobody"`},
		"an id that none can have": {"a.*.>", codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, `"a.*.>"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: test.id})
			wantFailure(t, err, test.code, test.reason, test.words)
		})
	}
}

func TestListPagesInTheOrderOfIDs(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	var want []string
	for _, i := range []int{3, 0, 6, 2, 5, 1, 4} {
		id := fmt.Sprintf("tenant-%d", i)
		h.register(t, contoso(func(i *integrationv1.Integration) { i.IntegrationId = id }))
		want = append(want, id)
	}
	slices.Sort(want)
	for size, pages := range map[int32]int{0: 1, 1: 7, 3: 3, 7: 1, 1000: 1} {
		wantListed(t, h.client, size, want, pages)
	}
}

// A caller is shown what it may read, in full pages, and nothing tells of the rest.
func TestListShowsWhatTheCallerMayRead(t *testing.T) {
	s, h := start(t, server.Options{Address: "127.0.0.1:0", PolicyFile: writePolicy(t, `
rules:
  - {identities: [local:bufconn], roles: [operator], integrations: ["*"]}
  - {identities: [local:tcp], roles: [reader], integrations: [tenant-151, tenant-007, not-there]}
  - {identities: [local:tcp], roles: [operator], integrations: [tenant-199]}
`)})
	var all []string
	for i := range 200 {
		id := fmt.Sprintf("tenant-%03d", i)
		h.register(t, contoso(func(i *integrationv1.Integration) { i.IntegrationId = id }))
		all = append(all, id)
	}
	wantListed(t, h.client, 0, all, 2)
	client := integrationv1.NewIntegrationServiceClient(dialed(t, tcp(s), insecure.NewCredentials()))
	for size, pages := range map[int32]int{0: 1, 1: 3, 2: 2, 3: 1, 150: 1} {
		wantListed(t, client, size, []string{"tenant-007", "tenant-151", "tenant-199"}, pages)
	}
}

// wantListed lists all pages of a size, and fails unless they are so many and have these integrations.
func wantListed(t *testing.T, client integrationv1.IntegrationServiceClient, size int32, want []string, pages int) {
	t.Helper()
	var got []string
	var token string
	count := 0
	for {
		response, err := client.ListIntegrations(t.Context(), &integrationv1.ListIntegrationsRequest{PageSize: size, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		count++
		for _, integration := range response.GetIntegrations() {
			got = append(got, integration.GetIntegrationId())
			if integration.GetEtag() == "" || integration.GetStatus() == nil || integration.GetAuthentication().GetClientSecret().GetValue() != "" {
				t.Errorf("listed as %v", integration)
			}
		}
		if token = response.GetNextPageToken(); token == "" || count > len(want) {
			break
		}
	}
	if !slices.Equal(got, want) || count != pages {
		t.Errorf("page size %d: %v in %d pages, want %v in %d", size, got, count, want, pages)
	}
}

func TestListRefusals(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	tests := map[string]struct {
		request *integrationv1.ListIntegrationsRequest
		reason  integrationv1.ErrorReason
		words   string
	}{
		"negative size":     {&integrationv1.ListIntegrationsRequest{PageSize: -1}, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "page_size"},
		"large size":        {&integrationv1.ListIntegrationsRequest{PageSize: 1001}, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "1000"},
		"no token of ours":  {&integrationv1.ListIntegrationsRequest{PageToken: "!"}, integrationv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID, "next_page_token"},
		"another version's": {&integrationv1.ListIntegrationsRequest{PageToken: "MjphYmM"}, integrationv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID, "begin without one"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.client.ListIntegrations(t.Context(), test.request)
			wantFailure(t, err, codes.InvalidArgument, test.reason, test.words)
		})
	}
}
