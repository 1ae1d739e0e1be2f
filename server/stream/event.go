package stream

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// maxActorDevices is how many devices *actors* tells of one Actor.
const maxActorDevices = 16

// alertEvent makes the event of a revision. before is the sequence of the revision sent before; 0 where there was none.
func (s *session) alertEvent(
	ctx context.Context, rev *storev1.Revision, matches []*integrationv1.ActorMatch, before uint64,
) (*integrationv1.AlertEvent, error) {
	alert := rev.GetAlert()
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
	}
	if s.request.GetIncludeRaw() {
		e.Raw = rev.GetRaw()
	}
	if before == 0 {
		return e, nil
	}
	e.Kind = integrationv1.AlertEvent_KIND_UPDATED
	p, err := s.feed.entry(ctx, before)
	if errors.Is(err, store.ErrTrimmed) {
		// What it was is gone: that it is other stands, in what does not.
		return e, nil
	}
	if err != nil {
		return nil, err
	}
	e.ChangedFields = match.ChangedFields(p.Entry.GetRevision().GetAlert(), alert)
	return e, nil
}

// tokenAt returns the token of a position.
func (s *session) tokenAt(at position, completed bool) string {
	t := proto.Clone(s.token).(*storev1.ResumeToken)
	t.Sequence, t.Ordinal, t.Completed = at.sequence, at.ordinal, completed
	return encodeToken(t)
}

// response wraps an event of the journal.
func (s *session) response(e event, at position) *integrationv1.StreamAlertsResponse {
	r := &integrationv1.StreamAlertsResponse{
		Reference:   s.request.GetReference(),
		ResumeToken: s.tokenAt(at, e.completed != nil),
	}
	if e.completed != nil {
		r.Event = &integrationv1.StreamAlertsResponse_Completed{Completed: e.completed}
	} else {
		r.Event = &integrationv1.StreamAlertsResponse_Alert{Alert: e.alert}
	}
	return r
}

// actorsEvent tells what is known of the Actors' devices now. It goes by the present, not by the journal.
func (s *session) actorsEvent(now collector.Snapshot) *integrationv1.ActorsEvent {
	e := &integrationv1.ActorsEvent{Problem: now.DeviceProblem}
	lookup := match.Lookup{Kind: now.DeviceSource, Problem: now.DeviceProblem, Rhythm: defender.RhythmOf(now.DeviceSource)}
	if now.Devices != nil {
		lookup.Time = now.Devices.LookedUp
		e.LookedUpTime = timestamppb.New(now.Devices.LookedUp)
	}
	for _, a := range s.actors {
		resolution := match.Resolve(a.Actor, now.Devices.Fitting(texts(a.Keys())))
		state := &integrationv1.ActorState{
			ActorId:   a.request.GetActorId(),
			Knowledge: resolution.Knowledge,
			Devices:   resolution.Devices[:min(len(resolution.Devices), maxActorDevices)],
		}
		switch {
		case now.DeviceSource == integrationv1.DeviceSource_KIND_NONE:
			state.Knowledge = integrationv1.ActorState_KNOWLEDGE_NO_DEVICE_SOURCE
		case now.Devices == nil:
			state.Knowledge = integrationv1.ActorState_KNOWLEDGE_PENDING
		}
		state.Judgeable, state.CannotJudgeReason = match.Judgeable(resolution, lookup, s.window)
		e.Actors = append(e.Actors, state)
	}
	return e
}

// progressEvent tells how far collecting is now. A pair is told only when everything before it was sent.
func (s *session) progressEvent(now collector.Snapshot, caughtUp bool) *integrationv1.ProgressEvent {
	e := &integrationv1.ProgressEvent{
		Phase:          s.phase(now, caughtUp, time.Now()),
		NextPollTime:   stampOf(now.NextPoll),
		ThrottledUntil: stampOf(now.ThrottledUntil),
		Problem:        now.Problem,
	}
	for _, p := range now.Pairs {
		if p.Sequence <= s.position.sequence {
			e.Pairs = append(e.Pairs, p.Pair)
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

func compare(a, b string) int { return strings.Compare(a, b) }
