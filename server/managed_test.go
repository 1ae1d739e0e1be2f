package server_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// configured is an integration as a configuration has it: its secret is in a file.
func configured(changes ...func(*integrationv1.Integration)) *integrationv1.Integration {
	return contoso(append([]func(*integrationv1.Integration){func(i *integrationv1.Integration) {
		i.Authentication.Credential = &integrationv1.Authentication_ClientSecret{ClientSecret: &integrationv1.ClientSecret{File: "contoso"}}
	}}, changes...)...)
}

// apply applies an integration, which must come to what is wanted.
func (h *harness) apply(t *testing.T, source string, integration *integrationv1.Integration, want server.Applied) {
	t.Helper()
	applied, err := h.service.Apply(t.Context(), source, integration)
	if err != nil || applied != want {
		t.Fatalf("%s of %s: %q, %v, want %q", integration.GetIntegrationId(), source, applied, err, want)
	}
}

func (h *harness) get(t *testing.T, id string) *integrationv1.Integration {
	t.Helper()
	response, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: id})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetIntegration()
}

// What the configuration says is brought about once: it is shown with its file, and the same again writes nothing.
func TestApply(t *testing.T) {
	h := newHarness(t, harnessOptions{configured: true})
	h.apply(t, "a.yaml", configured(), server.AppliedRegistered)
	first := h.get(t, "contoso")
	if first.GetManagedBy() != "a.yaml" || first.GetEndpoint().GetHost() != "graph.microsoft.com" {
		t.Errorf("it is shown as %v", first)
	}
	record, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	h.apply(t, "a.yaml", configured(), server.AppliedNothing)
	if again := h.get(t, "contoso"); again.GetEtag() != first.GetEtag() {
		t.Error("the same again gave it another etag")
	}
	paused := configured(func(i *integrationv1.Integration) { i.Paused, i.DisplayName = true, "Contoso" })
	h.apply(t, "a.yaml", paused, server.AppliedUpdated)
	changed := h.get(t, "contoso")
	if !changed.GetPaused() || changed.GetEtag() == first.GetEtag() || changed.GetCreateTime().AsTime() != first.GetCreateTime().AsTime() {
		t.Errorf("after the change: %v", changed)
	}
	h.apply(t, "b.yaml", paused, server.AppliedUpdated)
	if moved := h.get(t, "contoso"); moved.GetManagedBy() != "b.yaml" {
		t.Errorf("after it moved to another file: %v", moved)
	}
	now, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil || now.GetUid() != record.GetUid() {
		t.Errorf("it has another journal: %v", err)
	}
	managed, err := h.service.Managed(t.Context())
	if err != nil || len(managed) != 1 || managed["contoso"] != "b.yaml" {
		t.Errorf("managed are %v, %v", managed, err)
	}
	for range 2 {
		if err := h.service.Unapply(t.Context(), "contoso"); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := h.store.Record(t.Context(), "contoso"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after it was taken out: %v", err)
	}
}

func TestApplyRefuses(t *testing.T) {
	h := newHarness(t, harnessOptions{configured: true})
	h.apply(t, "a.yaml", configured(), server.AppliedRegistered)
	h.register(t, contoso(func(i *integrationv1.Integration) { i.IntegrationId = "by-hand" }))
	before, byHand := h.get(t, "contoso"), h.get(t, "by-hand")
	for name, test := range map[string]struct {
		integration *integrationv1.Integration
		reason      integrationv1.ErrorReason
		field       string
		words       string
	}{
		"what breaks a rule of the proto files": {configured(func(i *integrationv1.Integration) { i.TenantId = "common" }),
			integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "integration.tenant_id", "verified domains"},
		"what breaks one of the service": {configured(func(i *integrationv1.Integration) {
			i.Authentication.GetClientSecret().File = "../key"
		}), integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "integration.authentication.client_secret.file", "leads out"},
		"no id": {configured(func(i *integrationv1.Integration) { i.IntegrationId = "" }),
			integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "integration.integration_id", "must be given"},
		"a host that is not allowed": {configured(func(i *integrationv1.Integration) { i.Endpoint = &integrationv1.Endpoint{Host: "evil.test"} }),
			integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED, "endpoint.host", "evil.test:443"},
		"another tenant": {configured(func(i *integrationv1.Integration) { i.TenantId = "other.test" }),
			integrationv1.ErrorReason_ERROR_REASON_IMMUTABLE_FIELD, "tenant_id", "never changes"},
		"another API": {configured(func(i *integrationv1.Integration) { i.Api = integrationv1.Api_API_DEFENDER_FOR_ENDPOINT }),
			integrationv1.ErrorReason_ERROR_REASON_IMMUTABLE_FIELD, "api", "never changes"},
		"an id that was registered over the API": {configured(func(i *integrationv1.Integration) { i.IntegrationId = "by-hand" }),
			integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_EXISTS, "", `"by-hand"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := h.service.Apply(t.Context(), "a.yaml", test.integration)
			failed, ok := errors.AsType[*failure.Error](err)
			if !ok || failed.Reason != test.reason || failed.Metadata["field"] != test.field || !strings.Contains(failed.Message, test.words) {
				t.Errorf("it is answered %v, want %s of %q that says %q", err, test.reason, test.field, test.words)
			}
		})
	}
	if h.get(t, "contoso").GetEtag() != before.GetEtag() || h.get(t, "by-hand").GetEtag() != byHand.GetEtag() {
		t.Error("what was refused changed something")
	}
	if err := h.service.Unapply(t.Context(), "by-hand"); err != nil || h.get(t, "by-hand").GetEtag() != byHand.GetEtag() {
		t.Errorf("what was registered over the API is not the configuration's to delete: %v", err)
	}
}

// What was registered over the API is taken over with its journal where nothing of it changes by that.
func TestApplyTakesOverTheSame(t *testing.T) {
	h := newHarness(t, harnessOptions{configured: true})
	h.register(t, configured())
	h.apply(t, "a.yaml", configured(), server.AppliedTakenOver)
	if got := h.get(t, "contoso"); got.GetManagedBy() != "a.yaml" {
		t.Errorf("it is shown as %v", got)
	}
}

// Servers that are given the same files at once come to one integration, and none of them fails.
func TestApplyAtOnce(t *testing.T) {
	h := newHarness(t, harnessOptions{configured: true})
	for round := range 20 {
		integration := configured(func(i *integrationv1.Integration) { i.Paused = round%2 == 1 })
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := h.service.Apply(context.Background(), "a.yaml", integration); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		_, revision, err := h.store.Record(t.Context(), "contoso")
		if err != nil || revision != uint64(round+1) {
			t.Fatalf("round %d left revision %d: each must write once, %v", round, revision, err)
		}
	}
}

// What the configuration manages is not changed over the API, which names the file; what only reads goes on.
func TestWhatIsManagedIsNotChangedOverTheAPI(t *testing.T) {
	for _, test := range []struct {
		name       string
		configured bool
	}{{"with a configuration", true}, {"without one any more", false}} {
		t.Run(test.name, func(t *testing.T) {
			h := newHarness(t, harnessOptions{configured: test.configured})
			h.apply(t, "a.yaml", configured(), server.AppliedRegistered)
			_, register := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: configured()})
			_, update := h.client.UpdateIntegration(t.Context(), change(&integrationv1.Integration{Paused: true}, "paused"))
			managedBy := h.get(t, "contoso").GetManagedBy()
			_, deleted := h.client.DeleteIntegration(t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "contoso"})
			if !test.configured {
				if register != nil || update != nil || deleted != nil || managedBy != "" {
					t.Errorf("registering %v, updating %v, deleting %v; it is managed by %q after the update", register, update, deleted, managedBy)
				}
				return
			}
			for _, err := range []error{register, update, deleted} {
				info := wantFailure(t, err, codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_MANAGED_BY_CONFIGURATION, "a.yaml", "contoso")
				if info.GetMetadata()["source"] != "a.yaml" || info.GetMetadata()["integration_id"] != "contoso" {
					t.Errorf("metadata %v", info.GetMetadata())
				}
			}
			if got := h.get(t, "contoso"); got.GetPaused() || got.GetManagedBy() != "a.yaml" {
				t.Errorf("it is %v", got)
			}
		})
	}
}

// Who registers an integration cannot say that a file manages it.
func TestManagedByIsSetByTheServiceAlone(t *testing.T) {
	h := newHarness(t, harnessOptions{configured: true})
	got := h.register(t, contoso(func(i *integrationv1.Integration) { i.ManagedBy = "a.yaml" }))
	if got.GetManagedBy() != "" {
		t.Errorf("it is managed by %q", got.GetManagedBy())
	}
	_, err := h.client.UpdateIntegration(t.Context(), change(&integrationv1.Integration{ManagedBy: "a.yaml"}, "managed_by"))
	wantFailure(t, err, codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "only the service sets")
}
