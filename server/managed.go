package server

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// Applied is what applying an integration of the configuration came to.
type Applied string

// What it can come to.
const (
	// AppliedNothing changed nothing: it was there already, just so.
	AppliedNothing Applied = "unchanged"
	// AppliedRegistered made a new one.
	AppliedRegistered Applied = "registered"
	// AppliedUpdated changed the one that was there. Its journal stays.
	AppliedUpdated Applied = "updated"
	// AppliedTakenOver put one that was registered over the API, with just these settings and no secret in the registry, under the
	// configuration. Its journal stays.
	AppliedTakenOver Applied = "taken over"
)

// Apply has an integration be as the configuration says, by the rules that hold for RegisterIntegration and UpdateIntegration. source is
// what the configuration calls the file that it stands in. Several servers may apply the same at once: each brings about what the others
// do, and what is so already is not written again.
//
// The error is a *failure.Error where the settings cannot be had: they are not valid, change what never changes, or the id is that of an
// integration with other settings that was registered over the API, which is not taken over.
func (s *Service) Apply(ctx context.Context, source string, integration *integrationv1.Integration) (Applied, error) {
	settings, secrets, err := s.completed(integration)
	if err != nil {
		return "", err
	}
	for range maxAttempts {
		applied, err := s.apply(ctx, source, settings, secrets)
		// Another server, or a call, came between. What it did is looked at anew.
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
			return applied, err
		}
	}
	return "", failure.New(integrationv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH,
		"integration %q is being changed by others all the time", settings.GetIntegrationId())
}

// apply tries once what Apply does. It returns the store's own error where a change came between.
func (s *Service) apply(ctx context.Context, source string, settings *integrationv1.Integration, secrets *storev1.Secrets) (Applied, error) {
	record, revision, err := s.Records.Record(ctx, settings.GetIntegrationId())
	if errors.Is(err, store.ErrNotFound) {
		if record, err = s.newRecord(settings, secrets); err != nil {
			return "", err
		}
		record.Integration.ManagedBy = source
		_, err = s.Records.CreateRecord(ctx, record)
		return AppliedRegistered, err
	}
	if err != nil {
		return "", err
	}
	updated, err := s.reconfigured(record, settings, secrets)
	if err != nil {
		return "", err
	}
	if updated == record && record.GetIntegration().GetManagedBy() == source {
		return AppliedNothing, nil
	}
	updated = proto.CloneOf(updated)
	updated.Integration.ManagedBy = source
	applied := AppliedUpdated
	if record.GetIntegration().GetManagedBy() == "" {
		applied = AppliedTakenOver
	}
	_, err = s.Records.UpdateRecord(ctx, updated, revision)
	return applied, err
}

// reconfigured returns the record with the settings and secrets of the configuration, the same record where they are the same, and a
// failure where it cannot have them.
func (s *Service) reconfigured(
	record *storev1.Record, settings *integrationv1.Integration, secrets *storev1.Secrets,
) (*storev1.Record, error) {
	stored, err := s.open(record)
	if err != nil {
		return nil, err
	}
	before, sealed := record.GetIntegration(), record.GetSealedSecrets()
	if !sameSecrets(stored, secrets) {
		// The configuration brings all that there is, so nothing stored goes where it was not sent before.
		if sealed, err = s.Sealer.Seal(secrets, record.GetUid()); err != nil {
			return nil, err
		}
	}
	updated := changed(record, settings, sealed)
	id := settings.GetIntegrationId()
	switch {
	case updated == record:
		return record, nil
	case before.GetManagedBy() == "":
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_EXISTS,
			"an integration with the id %q and other settings, or with a secret in the registry, was registered over the API, and is not taken "+
				"over: give it these settings with UpdateIntegration first, delete it, or choose another id", id).With("integration_id", id)
	}
	for _, fixed := range []struct {
		field string
		same  bool
	}{
		{"api", before.GetApi() == settings.GetApi()},
		{"cloud", before.GetCloud() == settings.GetCloud()},
		{"tenant_id", before.GetTenantId() == settings.GetTenantId()},
	} {
		if !fixed.same {
			return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_IMMUTABLE_FIELD,
				"%s of integration %q never changes: give the new one another id, or take this one out of the configuration first, which deletes "+
					"it with its journal", fixed.field, id).With("field", fixed.field)
		}
	}
	return updated, nil
}

// Managed returns the integrations that the configuration manages: the file of each, by its id.
func (s *Service) Managed(ctx context.Context) (map[string]string, error) {
	managed := make(map[string]string)
	for after := ""; ; {
		records, err := s.Records.Records(ctx, after, defaultPageSize)
		if err != nil || len(records) == 0 {
			return managed, err
		}
		for _, found := range records {
			after = found.Record.GetIntegration().GetIntegrationId()
			if source := found.Record.GetIntegration().GetManagedBy(); source != "" {
				managed[after] = source
			}
		}
	}
}

// Unapply deletes an integration that the configuration managed, with its journal. It is no error if there is none, or none that the
// configuration manages.
func (s *Service) Unapply(ctx context.Context, id string) error {
	err := s.delete(ctx, id, "", func(record *storev1.Record) error {
		if record.GetIntegration().GetManagedBy() == "" {
			return failure.IntegrationNotFound(id)
		}
		return nil
	})
	failed, ok := errors.AsType[*failure.Error](err)
	if ok && failed.Reason == integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND {
		return nil
	}
	return err
}

// unmanaged returns a failure where a record cannot be changed over the API, since the configuration manages it.
func (s *Service) unmanaged(record *storev1.Record) error {
	id, source := record.GetIntegration().GetIntegrationId(), record.GetIntegration().GetManagedBy()
	if source == "" || !s.Configured {
		return nil
	}
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_MANAGED_BY_CONFIGURATION,
		"integration %q is managed by the service's configuration and is changed there alone: in the file %s of --integrations", id, source).
		With("integration_id", id).With("source", source)
}
