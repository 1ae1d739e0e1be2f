package server

import (
	"context"
	"crypto/rand"
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// recordFormat is the version of the format of a record.
const recordFormat = 1

// RegisterIntegration registers an integration.
func (s *Service) RegisterIntegration(
	ctx context.Context, request *integrationv1.RegisterIntegrationRequest,
) (*integrationv1.RegisterIntegrationResponse, error) {
	settings, secrets, err := s.checked(request.GetIntegration())
	if err != nil {
		return nil, err
	}
	there, err := s.registered(ctx, settings, secrets)
	if err != nil {
		return nil, err
	}
	switch {
	case there != nil:
	case request.GetValidateOnly():
		return &integrationv1.RegisterIntegrationResponse{Integration: settings}, nil
	default:
		if there, err = s.create(ctx, settings, secrets); err != nil {
			return nil, err
		}
	}
	return &integrationv1.RegisterIntegrationResponse{Integration: s.shown(ctx, *there)}, nil
}

// registered returns the record that has the id already, nil where there is none, and a failure where its settings or secrets are
// others, or the configuration manages it.
func (s *Service) registered(
	ctx context.Context, settings *integrationv1.Integration, secrets *storev1.Secrets,
) (*store.Versioned, error) {
	id := settings.GetIntegrationId()
	record, revision, err := s.Records.Record(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.unmanaged(record); err != nil {
		return nil, err
	}
	stored, err := s.open(record)
	if err != nil {
		return nil, err
	}
	// Both are compared in any case: how long it takes tells nothing of the secret.
	same := sameSecrets(stored, secrets)
	if !proto.Equal(settingsOf(record.GetIntegration()), settings) || !same {
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_EXISTS,
			"an integration with the id %q and other settings exists; update it, or choose another id", id).
			With("integration_id", id)
	}
	return &store.Versioned{Record: record, Revision: revision}, nil
}

// create stores a new record. Where another call did so just before, it returns what registered returns.
func (s *Service) create(
	ctx context.Context, settings *integrationv1.Integration, secrets *storev1.Secrets,
) (*store.Versioned, error) {
	record, err := s.newRecord(settings, secrets)
	if err != nil {
		return nil, err
	}
	revision, err := s.Records.CreateRecord(ctx, record)
	if errors.Is(err, store.ErrExists) {
		there, err := s.registered(ctx, settings, secrets)
		if err == nil && there == nil {
			err = errors.New("the record exists and is not there: it was deleted meanwhile")
		}
		return there, err
	}
	if err != nil {
		return nil, err
	}
	return &store.Versioned{Record: record, Revision: revision}, nil
}

// newRecord makes a record with a journal of its own, its secrets sealed.
func (s *Service) newRecord(settings *integrationv1.Integration, secrets *storev1.Secrets) (*storev1.Record, error) {
	uid := rand.Text()
	sealed, err := s.Sealer.Seal(secrets, uid)
	if err != nil {
		return nil, err
	}
	integration := proto.CloneOf(settings)
	integration.CreateTime = timestamppb.Now()
	integration.UpdateTime = integration.GetCreateTime()
	return &storev1.Record{Format: recordFormat, Uid: uid, Integration: integration, SealedSecrets: sealed}, nil
}
