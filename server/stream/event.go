package stream

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

const (
	// maxEvent is how large an event of the Actors may be, in bytes: well below the 3 MB that no event passes.
	maxEvent = 2 << 20
	// maxMatches is how large what an alert's event tells of the Actors may be, in bytes: beside it stands what an entry can hold.
	maxMatches = 1536 << 10
)

// alertEvent makes the event of an alert's first revision in the stream.
func (s *session) alertEvent(rev *storev1.Revision, matches []*integrationv1.ActorMatch) *integrationv1.AlertEvent {
	alert := rev.GetAlert()
	boundMatches(matches)
	e := &integrationv1.AlertEvent{
		Kind:            integrationv1.AlertEvent_KIND_NEW,
		Alert:           alert,
		Omission:        rev.GetOmission(),
		Actors:          matches,
		NoLongerMatches: len(matches) == 0 && !s.subscriber.every,
		Activity:        match.ActivityOf(alert, s.window, s.tolerance),
		Outcome:         match.OutcomeOf(alert),
		FirstSeenTime:   rev.GetFirstSeenTime(),
		SeenTime:        rev.GetSeenTime(),
		Late:            match.Late(alert, s.window, s.onTime),
		ArrivedLate:     rev.GetArrivedLate(),
		Away:            rev.GetAway(),

		ActivityByCreation: match.ActivityByCreation(alert),
	}
	if s.request.GetIncludeRaw() {
		e.Raw = rev.GetRaw()
	}
	return e
}

// boundMatches cuts what is told of why each Actor matched until it is not too large: the values that were compared go first, then the
// comparisons and the contradictions. The explanations stay.
func boundMatches(matches []*integrationv1.ActorMatch) {
	for _, cut := range []func(*integrationv1.ActorMatch){
		func(m *integrationv1.ActorMatch) {
			for _, c := range m.GetAttribution().GetComparisons() {
				c.TraceValue, c.DefenderValue = "", ""
			}
		},
		func(m *integrationv1.ActorMatch) { m.Attribution.Comparisons, m.Outcome.Contradictions = nil, nil },
	} {
		size := 0
		for _, m := range matches {
			size += proto.Size(m)
		}
		if size <= maxMatches {
			return
		}
		for _, m := range matches {
			cut(m)
		}
	}
}

// updateEvent makes the event of a later revision. previous is the one sent before it; nil where trimming dropped that.
func (s *session) updateEvent(rev *storev1.Revision, matches []*integrationv1.ActorMatch, previous *storev1.Revision) *integrationv1.AlertEvent {
	e := s.alertEvent(rev, matches)
	e.Kind = integrationv1.AlertEvent_KIND_UPDATED
	if previous != nil {
		before := previous.GetAlert()
		e.ChangedFields = match.ChangedFields(before, rev.GetAlert())
		e.AddedEvidence = match.AddedEvidence(before, rev.GetAlert())
		e.Previous = &integrationv1.PreviousRevision{
			Status:   before.GetStatus(),
			Outcome:  match.OutcomeOf(before).GetOutcome(),
			Activity: match.ActivityOf(before, s.window, s.tolerance),
		}
	}
	return e
}

// tokenAt returns the token of a position; completed is the event that is there, where it is a completed.
func (s *session) tokenAt(at position, completed *integrationv1.CompletedEvent) string {
	t := proto.CloneOf(s.token)
	t.Sequence, t.Ordinal, t.Completed = at.sequence, at.ordinal, completed != nil
	t.NewestEntry = uint64(s.feed.newest.Load())
	if completed != nil {
		t.Verdicts, t.JudgedSequence = packVerdicts(completed.GetVerdicts()), at.sequence
	}
	return encodeToken(t)
}

// response wraps an event of the journal.
func (s *session) response(e event, at position) *integrationv1.StreamAlertsResponse {
	r := &integrationv1.StreamAlertsResponse{
		Reference:   s.request.GetReference(),
		ResumeToken: s.tokenAt(at, e.completed),
	}
	if e.completed != nil {
		r.Event = &integrationv1.StreamAlertsResponse_Completed{Completed: e.completed}
	} else {
		r.Event = &integrationv1.StreamAlertsResponse_Alert{Alert: e.alert}
	}
	return r
}

// progressEvent tells how far collecting is now. A pair is told only when everything before it was sent: until then the newest one
// of its depth that was told stays. A pair of a journal that has replaced the stream's is none of it: what it rests on is not sent here.
func (s *session) progressEvent(now collector.Snapshot, caughtUp bool) *integrationv1.ProgressEvent {
	e := &integrationv1.ProgressEvent{
		Phase:          s.phase(now, caughtUp, time.Now()),
		NextPollTime:   stampOf(now.NextPoll),
		ThrottledUntil: stampOf(now.ThrottledUntil),
		Problem:        now.Problem,
		Budget:         now.Budget,
		CoveredSince:   stampOf(now.Covered),
		ReadingBackTo:  stampOf(now.ReadingBack),
	}
	for _, p := range now.Pairs {
		if p.Identity == s.feed.identity && p.Sequence <= s.position.sequence {
			s.pairs[p.Pair.GetDepth()] = p.Pair
		}
		if passed := s.pairs[p.Pair.GetDepth()]; passed != nil {
			e.Pairs = append(e.Pairs, passed)
		}
	}
	if s.bounded() {
		e.ClosingDueTime = timestamppb.New(s.closing().Due)
	}
	return e
}

// phase returns what the stream does.
func (s *session) phase(now collector.Snapshot, caughtUp bool, at time.Time) integrationv1.ProgressEvent_Phase {
	switch {
	case now.Paused:
		return integrationv1.ProgressEvent_PHASE_PAUSED
	case s.awaited != nil:
		return integrationv1.ProgressEvent_PHASE_HUNTING
	case !caughtUp:
		return integrationv1.ProgressEvent_PHASE_CATCHING_UP
	case !s.bounded() || at.Before(s.window.End):
		return integrationv1.ProgressEvent_PHASE_FOLLOWING
	case at.Before(s.closing().Due):
		return integrationv1.ProgressEvent_PHASE_WAITING
	}
	return integrationv1.ProgressEvent_PHASE_CLOSING
}

// nextPhase returns when time alone makes the phase another; zero where it does not.
func (s *session) nextPhase(at time.Time) time.Time {
	if !s.bounded() {
		return time.Time{}
	}
	for _, t := range []time.Time{s.window.End, s.closing().Due} {
		if t.After(at) {
			return t
		}
	}
	return time.Time{}
}

func texts(keys []match.Key) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = k.String()
	}
	return list
}

func stampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
