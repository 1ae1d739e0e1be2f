package server

import (
	"context"
	"errors"
	"net"
	"strconv"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// UpdateIntegration changes an integration.
func (s *Service) UpdateIntegration(
	ctx context.Context, request *integrationv1.UpdateIntegrationRequest,
) (*integrationv1.UpdateIntegrationResponse, error) {
	given := request.GetIntegration()
	if given == nil {
		return nil, failure.Invalid("integration", "value is required")
	}
	if given.GetIntegrationId() == "" {
		return nil, failure.Invalid("integration.integration_id", "must say which integration is to be changed")
	}
	mask, err := parseMask(request.GetUpdateMask().GetPaths())
	if err != nil {
		return nil, err
	}
	var response *integrationv1.UpdateIntegrationResponse
	_, err = s.withCurrent(ctx, given.GetIntegrationId(), given.GetEtag(), func(current store.Versioned) error {
		updated, err := s.merge(current.Record, given, mask)
		if err != nil {
			return err
		}
		revision := current.Revision
		if updated != current.Record && !request.GetValidateOnly() {
			if revision, err = s.Records.UpdateRecord(ctx, updated, revision); err != nil {
				return err
			}
		}
		response = &integrationv1.UpdateIntegrationResponse{
			Integration: s.shown(store.Versioned{Record: updated, Revision: revision}),
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return response, nil
}

// merge returns the record with the masked fields changed and checked; the same record where nothing changes.
func (s *Service) merge(
	record *storev1.Record, given *integrationv1.Integration, mask fieldMask,
) (*storev1.Record, error) {
	before := settingsOf(record.GetIntegration())
	merged := proto.CloneOf(before)
	mask.apply(merged.ProtoReflect(), given.ProtoReflect())
	secrets := secretsOf(merged)
	if err := s.validator.Validate(merged); err != nil {
		if invalid := (*protovalidate.ValidationError)(nil); errors.As(err, &invalid) {
			return nil, &invalidIntegrationError{invalid}
		}
		return nil, err
	}
	after, err := s.complete(settingsOf(merged))
	if err != nil {
		return nil, err
	}
	if field := redirected(before, after); field != "" && secrets.GetClientSecret() == "" {
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_CREDENTIALS_REQUIRED,
			"a change of %s decides where credentials and tokens are sent, so the same request must bring %s, and name it in update_mask",
			field, secretField).With("field", secretField)
	}
	return s.replaced(record, before, after, secrets)
}

// replaced returns a record with new settings, and with new secrets where there are any; the same record where both are as before.
func (s *Service) replaced(
	record *storev1.Record, before, after *integrationv1.Integration, secrets *storev1.Secrets,
) (*storev1.Record, error) {
	sealed := record.GetSealedSecrets()
	if secrets.GetClientSecret() != "" {
		stored, err := s.open(record)
		if err != nil {
			return nil, err
		}
		if !sameSecrets(stored, secrets) {
			if sealed, err = s.Sealer.Seal(secrets, record.GetUid()); err != nil {
				return nil, err
			}
		}
	}
	if proto.Equal(before, after) && string(sealed) == string(record.GetSealedSecrets()) {
		return record, nil
	}
	integration := proto.CloneOf(after)
	integration.CreateTime = record.GetIntegration().GetCreateTime()
	integration.UpdateTime = timestamppb.Now()
	return &storev1.Record{
		Format: recordFormat, Uid: record.GetUid(), Integration: integration, SealedSecrets: sealed,
	}, nil
}

// redirected returns the field whose change makes secrets or tokens go to another host, empty where there is none. A secret goes to
// the authorization URL; the tokens that it yields go to the API and to the device source.
func redirected(before, after *integrationv1.Integration) (field string) {
	switch {
	case before.GetAuthentication().GetAuthorizationUrl() != after.GetAuthentication().GetAuthorizationUrl():
		return "authentication.authorization_url"
	case origin(before.GetEndpoint()) != origin(after.GetEndpoint()):
		return "endpoint"
	case origin(before.GetDeviceSource().GetEndpoint()) != origin(after.GetDeviceSource().GetEndpoint()) &&
		after.GetDeviceSource().GetKind() != integrationv1.DeviceSource_KIND_NONE:
		return "device_source.endpoint"
	default:
		return ""
	}
}

// origin returns scheme, host and port of an endpoint.
func origin(endpoint *integrationv1.Endpoint) string {
	return endpoint.GetProtocol().String() + " " + net.JoinHostPort(endpoint.GetHost(), strconv.Itoa(int(endpoint.GetPort())))
}
