package stream

import (
	"context"
	"errors"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// The bounds of near misses.
const (
	completedMisses = 2000 // over all Actors
	mostMisses      = 10   // of an Actor
)

// explain tells of each Actor which collected alerts do not count, going by all in reach, each by its last revision before a sequence.
func (s *session) explain(ctx context.Context, before uint64, e *integrationv1.CompletedEvent) error {
	if len(s.actors) == 0 {
		return nil
	}
	actors := make([]*match.Actor, len(s.actors))
	for i, a := range s.actors {
		actors[i] = a.Actor
	}
	near := match.NewNearMisses(actors, s.window, s.tolerance, s.minConfidence, min(max(completedMisses/len(actors), 1), mostMisses))
	err := s.lastRevisions(ctx, before, func(rev *storev1.Revision) {
		alert := rev.GetAlert()
		near.Add(rev.GetKey(), alert, s.match(alert), match.ActivityOf(alert, s.window, s.tolerance))
	})
	if err != nil {
		return err
	}
	for _, verdict := range e.GetVerdicts() {
		verdict.NearMisses, verdict.Uncounted = near.Of(verdict.GetActorId())
	}
	return nil
}

// lastRevisions reads the journal before a sequence, and gives out the last revision of each alert in reach, one at a time.
func (s *session) lastRevisions(ctx context.Context, before uint64, yield func(*storev1.Revision)) error {
	for next := s.first(); next < before; {
		for p, err := range s.feed.journal.Read(ctx, next, before-1) {
			if errors.Is(err, store.ErrTrimmed) {
				// The feed is about to be told.
				if err := s.feed.awaitTrim(ctx, next); err != nil {
					return err
				}
				next = s.first()
				break
			}
			if err != nil {
				return err
			}
			next = p.Sequence + 1
			if rev := p.Entry.GetRevision(); rev != nil && s.inReach(rev) && len(s.feed.revisions(rev.GetKey(), p.Sequence, before-1)) == 0 {
				yield(rev)
			}
		}
		if s.feed.journal.Checkpoint().GetIdentity() != s.feed.identity {
			return errReplaced
		}
	}
	return nil
}
