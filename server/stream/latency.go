package stream

import (
	"context"
	"errors"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// latencies returns how long the steps of an alert's way took, of which the last revision stands at a sequence. They follow from the
// journal: a stream that was resumed tells the same. Where trimming dropped its first revision, and where the journal does not tell for
// how long nobody read before that one, such as of an alert that had been trimmed wholly, it is not known when it became visible.
func (s *session) latencies(ctx context.Context, key string, sequence uint64) (*integrationv1.Latencies, error) {
	p, err := s.feed.entry(ctx, sequence)
	if errors.Is(err, store.ErrTrimmed) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	last := p.Entry.GetRevision()
	if match.ActivityOf(last.GetAlert(), s.window, s.tolerance) == integrationv1.Activity_ACTIVITY_REACTIVATED {
		return s.latenciesOfReused(ctx, key, p)
	}
	first, err := s.firstRevision(ctx, key, p.Sequence, last)
	if err != nil {
		return nil, err
	}
	if first.GetAway() == nil {
		return match.LatenciesOf(last.GetAlert(), time.Time{}, time.Time{}, nil), nil
	}
	return match.LatenciesOf(last.GetAlert(), first.GetSeenTime().AsTime(), s.delivered[key], first.GetAway()), nil
}

// mostRevisions bounds how many revisions of an alert are looked at.
const mostRevisions = 100

// latenciesOfReused returns them of an alert that was re-used for the window, by the first of its revisions that has activity inside, of
// the last ones. Where the revision before that one is not there any more, it is not known that it was the first.
func (s *session) latenciesOfReused(ctx context.Context, key string, last store.Positioned) (*integrationv1.Latencies, error) {
	sequences, err := s.lastSequences(ctx, key, last)
	if err != nil {
		return nil, err
	}
	beforeKnown := false
	for _, sequence := range sequences {
		p, err := s.feed.entry(ctx, sequence)
		if errors.Is(err, store.ErrTrimmed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		brought := p.Entry.GetRevision()
		if match.ActivityOf(brought.GetAlert(), s.window, s.tolerance) != integrationv1.Activity_ACTIVITY_REACTIVATED {
			beforeKnown = true
			continue
		}
		if brought.GetAway() == nil || brought.GetPreviousSequence() != 0 && !beforeKnown {
			break
		}
		delivered := s.delivered[key]
		if entered := p.Entry.GetEntryTime().AsTime(); delivered.Before(entered) {
			delivered = entered // An earlier revision was sent before.
		}
		return match.LatenciesOfReused(brought.GetAlert(), brought.GetSeenTime().AsTime(), delivered, brought.GetAway()), nil
	}
	return &integrationv1.Latencies{}, nil
}

// lastSequences returns the sequences of an alert's last revisions, through the last one, ascending: its first one too where they are few.
func (s *session) lastSequences(ctx context.Context, key string, last store.Positioned) ([]uint64, error) {
	later := s.feed.revisions(key, 0, last.Sequence)
	switch {
	case len(later) == 0:
		return []uint64{last.Sequence}, nil
	case len(later) > mostRevisions:
		return later[len(later)-mostRevisions:], nil
	}
	second, err := s.feed.entry(ctx, later[0])
	if errors.Is(err, store.ErrTrimmed) {
		return later, nil
	}
	if err != nil {
		return nil, err
	}
	return append([]uint64{second.Entry.GetRevision().GetPreviousSequence()}, later...), nil
}

// firstRevision returns an alert's first revision, going by its last one, at a sequence; nil where trimming dropped it.
func (s *session) firstRevision(ctx context.Context, key string, sequence uint64, last *storev1.Revision) (*storev1.Revision, error) {
	if last.GetPreviousSequence() == 0 {
		return last, nil
	}
	// The feed knows of the revisions after the first. What lies before the earliest of them is the first, or was trimmed.
	later := s.feed.revisions(key, 0, sequence)
	if len(later) == 0 {
		return nil, nil
	}
	p, err := s.feed.entry(ctx, later[0])
	if err == nil {
		p, err = s.feed.entry(ctx, p.Entry.GetRevision().GetPreviousSequence())
	}
	if errors.Is(err, store.ErrTrimmed) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return p.Entry.GetRevision(), nil
}
