package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// integrationIDForm is what an integration's id looks like; the rule for callers stands in integration.proto.
var integrationIDForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// etagOf returns a revision as the text that callers see.
func etagOf(revision uint64) string { return strconv.FormatUint(revision, 10) }

// settingsOf returns a copy of what a caller sent with only the settings left: neither secrets nor what the service says.
func settingsOf(integration *integrationv1.Integration) *integrationv1.Integration {
	settings := proto.CloneOf(integration)
	redact(settings.ProtoReflect())
	settings.Etag, settings.CreateTime, settings.UpdateTime, settings.Status = "", nil, nil, nil
	return settings
}

// open opens the secrets of a record.
func (s *Service) open(record *storev1.Record) (*storev1.Secrets, error) {
	secrets, err := s.Sealer.Open(record.GetSealedSecrets(), record.GetUid())
	if err != nil {
		return nil, fmt.Errorf("open the secrets of integration %q: %w", record.GetIntegration().GetIntegrationId(), err)
	}
	return secrets, nil
}

// shown returns a record as callers see it: with etag and status, without secrets.
func (s *Service) shown(ctx context.Context, v store.Versioned) *integrationv1.Integration {
	integration := proto.CloneOf(v.Record.GetIntegration())
	// A record holds no secrets; that none is returned does not rest on it.
	redact(integration.ProtoReflect())
	integration.Etag = etagOf(v.Revision)
	integration.Status = s.Collectors.Status(v.Record.GetUid())
	if integration.GetStatus() == nil {
		state := integrationv1.IntegrationStatus_STATE_ACTIVE
		if integration.GetPaused() {
			state = integrationv1.IntegrationStatus_STATE_PAUSED
		}
		integration.Status = &integrationv1.IntegrationStatus{State: state, StateSince: integration.GetUpdateTime()}
	}
	integration.Status.Warnings = warnings(integration)
	// What a test once said is not worth failing for: the call may have changed something already.
	test, err := s.Records.LastTest(ctx, v.Record.GetUid())
	if err != nil {
		s.Logger.LogAttrs(ctx, slog.LevelError, "the last test of an integration cannot be read",
			slog.String("integration_id", integration.GetIntegrationId()), slog.String("cause", err.Error()))
	}
	integration.Status.LastTest = test
	return integration
}

// warnings are what does not stand in the way of an integration, and will need doing.
func warnings(integration *integrationv1.Integration) []*integrationv1.Problem {
	found := defender.Find(integration.GetApi(), integration.GetCloud())
	var all []*integrationv1.Problem
	for _, lifecycle := range []*integrationv1.Lifecycle{
		found.GetLifecycle(), defender.DeviceSourceOf(found, integration.GetDeviceSource().GetKind()).GetLifecycle(),
	} {
		if warning := defender.Retiring(lifecycle); warning != nil {
			all = append(all, warning)
		}
	}
	return all
}

// complete returns settings with the defaults filled in, and a failure where they do not go together or are not allowed.
func (s *Service) complete(settings *integrationv1.Integration) (*integrationv1.Integration, error) {
	if err := checkPolling(settings); err != nil {
		return nil, err
	}
	if retired := defender.Retired(settings.GetApi()); retired != nil {
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_API_RETIRED, "integration.api: %s", retired.GetNote()).
			With("api", settings.GetApi().String()).With("successor", retired.GetSuccessor().String())
	}
	completed := defender.Complete(settings)
	found := defender.Find(completed.GetApi(), completed.GetCloud())
	if found == nil {
		return nil, failure.Invalid("integration.cloud", "Microsoft does not offer %s in %s; ListEndpoints shows what it offers",
			completed.GetApi(), completed.GetCloud())
	}
	source := completed.GetDeviceSource()
	if defender.DeviceSourceOf(found, source.GetKind()) == nil {
		return nil, failure.Invalid("integration.device_source.kind", "%s does not go with %s; ListEndpoints shows what does",
			source.GetKind(), completed.GetApi())
	}
	if source.GetKind() == integrationv1.DeviceSource_KIND_NONE {
		// Nothing is looked up, so there is no place where.
		source.Endpoint, source.Scope = nil, ""
	}
	if err := errors.Join(s.checkFiles(completed), checkTrust(completed)); err != nil {
		return nil, err
	}
	err := s.Allowed.Check(completed)
	if refused := (*defender.NotAllowedError)(nil); errors.As(err, &refused) {
		return nil, failure.New(integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED,
			"%s: this service does not allow %s; %s", refused.Field, refused.Endpoint, refused.Remedy).
			With("field", refused.Field).With("endpoint", refused.Endpoint)
	}
	return completed, err
}

func checkPolling(settings *integrationv1.Integration) error {
	fast, slow := settings.GetPolling().GetFastInterval(), settings.GetPolling().GetSlowInterval()
	if fast != nil && slow != nil && fast.AsDuration() > slow.AsDuration() {
		return failure.Invalid("integration.polling.fast_interval", "must not be longer than slow_interval")
	}
	return nil
}
