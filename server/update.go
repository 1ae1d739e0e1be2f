package server

import (
	"bytes"
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
		if err := s.unmanaged(current.Record); err != nil {
			return err
		}
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
			Integration: s.shown(ctx, store.Versioned{Record: updated, Revision: revision}),
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
	record *storev1.Record, from *integrationv1.Integration, mask fieldMask,
) (*storev1.Record, error) {
	before := settingsOf(record.GetIntegration())
	merged := proto.CloneOf(before)
	mask.apply(merged.ProtoReflect(), from.ProtoReflect())
	if merged.GetDeviceSource().GetKind() != before.GetDeviceSource().GetKind() {
		// Another kind is at another place: of what was filled in for the one before, nothing is its.
		merged = proto.CloneOf(before)
		merged.DeviceSource = nil
		mask.apply(merged.ProtoReflect(), from.ProtoReflect())
	}
	given := secretsOf(merged)
	if err := s.validator.Validate(merged); err != nil {
		if invalid := (*protovalidate.ValidationError)(nil); errors.As(err, &invalid) {
			return nil, &invalidIntegrationError{invalid}
		}
		return nil, err
	}
	if mask.within("display_name", "paused", "polling") {
		// No connection is made from these: they can be changed however the rest is.
		return changed(record, merged, record.GetSealedSecrets()), checkPolling(merged)
	}
	after, err := s.complete(settingsOf(merged))
	if err != nil {
		return nil, err
	}
	stored, err := s.open(record)
	if err != nil {
		return nil, err
	}
	secrets, err := mergeSecrets(before, after, stored, given)
	if err != nil {
		return nil, err
	}
	sealed := record.GetSealedSecrets()
	same := sameSecrets(stored, secrets)
	if same && proto.Equal(before, after) {
		return record, nil
	}
	if err := s.check(after, secrets); err != nil {
		return nil, err
	}
	if !same {
		if sealed, err = s.Sealer.Seal(secrets, record.GetUid()); err != nil {
			return nil, err
		}
	}
	return changed(record, after, sealed), nil
}

// changed returns the record with other settings and secrets; the same record where the settings are the same, and the secrets as sealed.
func changed(record *storev1.Record, after *integrationv1.Integration, sealed []byte) *storev1.Record {
	if bytes.Equal(sealed, record.GetSealedSecrets()) && proto.Equal(settingsOf(record.GetIntegration()), after) {
		return record
	}
	integration := proto.CloneOf(after)
	integration.CreateTime = record.GetIntegration().GetCreateTime()
	integration.UpdateTime = timestamppb.Now()
	return &storev1.Record{
		Format: recordFormat, Uid: record.GetUid(), Integration: integration, SealedSecrets: sealed,
	}
}

// redirected returns the field whose change makes secrets or tokens go to another host, or lets others read them, empty where there
// is none. A secret goes to the authorization URL; the tokens that it yields go to the API and to the device source; all of it
// through the proxy, and to whom the trusted authorities vouch for.
func redirected(before, after *integrationv1.Integration) (field string) {
	switch {
	case before.GetAuthentication().GetAuthorizationUrl() != after.GetAuthentication().GetAuthorizationUrl():
		return "authentication.authorization_url"
	case origin(before.GetEndpoint()) != origin(after.GetEndpoint()):
		return "endpoint"
	case origin(before.GetDeviceSource().GetEndpoint()) != origin(after.GetDeviceSource().GetEndpoint()) &&
		after.GetDeviceSource().GetKind() != integrationv1.DeviceSource_KIND_NONE:
		return "device_source.endpoint"
	case !proto.Equal(before.GetProxy(), after.GetProxy()):
		return "proxy"
	case !proto.Equal(before.GetTrust(), after.GetTrust()):
		return "trust"
	default:
		return ""
	}
}

// origin returns scheme, host and port of an endpoint.
func origin(endpoint *integrationv1.Endpoint) string {
	return endpoint.GetProtocol().String() + " " + net.JoinHostPort(endpoint.GetHost(), strconv.Itoa(int(endpoint.GetPort())))
}
