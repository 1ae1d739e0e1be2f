package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// maxAttempts is how often a change is tried again that another change overtook, where the caller gave no etag.
const maxAttempts = 5

// journalTimeLimit is how long deleting a journal may take once its record is gone.
const journalTimeLimit = 30 * time.Second

// DeleteIntegration deletes an integration with its journal.
func (s *Service) DeleteIntegration(
	ctx context.Context, request *integrationv1.DeleteIntegrationRequest,
) (*integrationv1.DeleteIntegrationResponse, error) {
	if err := s.delete(ctx, request.GetIntegrationId(), request.GetEtag(), s.unmanaged); err != nil {
		return nil, err
	}
	return &integrationv1.DeleteIntegrationResponse{}, nil
}

// delete deletes an integration with its journal, unless may returns an error for its record, which it returns then.
func (s *Service) delete(ctx context.Context, id, etag string, may func(*storev1.Record) error) error {
	deleted, err := s.withCurrent(ctx, id, etag, func(current store.Versioned) error {
		if err := may(current.Record); err != nil {
			return err
		}
		return s.Records.DeleteRecord(ctx, id, current.Revision)
	})
	if err != nil {
		return err
	}
	// The record goes first: with it go its collector and its streams, and no stream sees a journal vanish below an integration
	// that is there. From here on the caller's going away changes nothing.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), journalTimeLimit)
	defer cancel()
	if err := s.Records.DeleteJournal(ctx, deleted.Record.GetUid()); err != nil {
		// The integration is deleted and nothing can reach the journal any more, so the call did what it promised; what is left
		// is room that is not freed.
		s.Logger.LogAttrs(ctx, slog.LevelError, "the journal of a deleted integration could not be deleted",
			slog.String("journal", deleted.Record.GetUid()), slog.String("error", err.Error()))
	}
	return nil
}

// withCurrent reads the record of an integration, holds its revision against the etag where the caller gave one, and calls change.
// Where another change came between, it begins again, unless there is an etag to hold to. It returns the record that change was
// called with last.
func (s *Service) withCurrent(
	ctx context.Context, id, etag string, change func(current store.Versioned) error,
) (store.Versioned, error) {
	for range maxAttempts {
		current, err := s.record(ctx, id)
		if err != nil {
			return current, err
		}
		if etag != "" && etag != etagOf(current.Revision) {
			return current, etagMismatch(id, current.Revision)
		}
		err = change(current)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return current, failure.IntegrationNotFound(id)
		case !errors.Is(err, store.ErrConflict):
			return current, err
		}
	}
	return store.Versioned{}, failure.New(integrationv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH,
		"integration %q is being changed by others all the time; try again", id).With("integration_id", id)
}

// etagMismatch is the failure of a change to a version that is not the current one.
func etagMismatch(id string, revision uint64) *failure.Error {
	current := etagOf(revision)
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH,
		"integration %q changed since that etag was read; its etag is %q now: read it again and decide anew", id, current).
		With("integration_id", id).With("etag", current)
}
