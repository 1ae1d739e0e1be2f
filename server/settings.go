package server

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/proto"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
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
	settings.Etag, settings.CreateTime, settings.UpdateTime, settings.Status, settings.ManagedBy = "", nil, nil, nil, ""
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
			slog.String("integration_id", integration.GetIntegrationId()), slog.String("error", err.Error()))
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
