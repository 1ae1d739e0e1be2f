package server_test

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

func TestDeleteDeletesRecordAndJournal(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso())
	record, _, err := h.store.Record(t.Context(), "contoso")
	if err != nil {
		t.Fatal(err)
	}
	journal, err := h.store.Journal(t.Context(), record.GetUid())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.client.DeleteIntegration(t.Context(), &integrationv1.DeleteIntegrationRequest{IntegrationId: "contoso"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.store.Record(t.Context(), "contoso"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the record is still there: %v", err)
	}
	if _, err := journal.Wait(t.Context(), "", 0, journal.Checkpoint().GetFloorTime().AsTime()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the journal is still there: %v", err)
	}
}

func TestDeleteRefusals(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.register(t, contoso())
	tests := map[string]struct {
		request *integrationv1.DeleteIntegrationRequest
		code    codes.Code
		reason  integrationv1.ErrorReason
		words   string
	}{
		"no id":    {&integrationv1.DeleteIntegrationRequest{}, codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "integration_id"},
		"nobody's": {&integrationv1.DeleteIntegrationRequest{IntegrationId: "nobody"}, codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, `"nobody"`},
		"old etag": {&integrationv1.DeleteIntegrationRequest{IntegrationId: "contoso", Etag: "0"}, codes.Aborted, integrationv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH, "read it again"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.client.DeleteIntegration(t.Context(), test.request)
			wantFailure(t, err, test.code, test.reason, test.words)
		})
	}
	if _, _, err := h.store.Record(t.Context(), "contoso"); err != nil {
		t.Errorf("what was refused deleted the record: %v", err)
	}
}

func TestAStoreThatDoesNotAnswerIsUnavailable(t *testing.T) {
	h := newHarness(t, harnessOptions{})
	h.store.SetUnavailable(true)
	_, err := h.client.GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
	wantFailure(t, err, codes.Unavailable, integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, "try again")
	wantRetry(t, err)
	if lines := h.log.lines(`"the cause of a failed call"`, `"request_id"`, `"contoso"`); len(lines) != 1 {
		t.Errorf("the log has the cause %d times, want once", len(lines))
	}
}
