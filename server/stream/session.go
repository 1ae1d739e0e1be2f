package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/collector"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// The defaults of a request.
const (
	defaultWait      = time.Hour
	defaultTolerance = 5 * time.Minute
	defaultOnTime    = 30 * time.Minute
)

// session is one stream. It belongs to one goroutine.
//
// Its state follows from the request and the entries before its position: who the Actors are by the device facts, and which
// alerts were sent. That is why a session can be rebuilt anywhere by passing those entries again without sending.
type session struct {
	request *integrationv1.StreamAlertsRequest
	api     integrationv1.Api // the integration's, which never changes
	window  match.Window
	// explicit says that the request names the window's start: the stream sends from the journal's first entry on, and passes by
	// what was last updated before the window. Otherwise it sends what comes behind the token's start.
	explicit                bool
	wait, tolerance, onTime time.Duration
	minConfidence           integrationv1.Confidence

	feed       *feed
	subscriber *subscriber
	actors     []*actor
	byKey      map[match.Key][]*actor

	start     uint64 // what completes the stream lies behind it
	position  position
	token     *storev1.ResumeToken                             // of this stream, but for the position
	name      uint64                                           // by which a pair names it
	joined    *storev1.Served                                  // as what it takes part here; nil where the server is alone
	sent      map[string]uint64                                // by alert key: the sequence of the revision sent last; unused where every device is asked for
	passing   time.Time                                        // when the entry was made that is passed now
	delivered map[string]time.Time                             // by alert key, of a bounded stream: when the entry was made at which it was first sent
	begun     []string                                         // the alerts that were first sent since the sequences to come were asked for
	awaited   *awaited                                         // what of telemetry it waits for; nil while it does not
	shown     int                                              // how often a device was learned from alerts
	heard     int                                              // how often from facts
	fresh     bool                                             // it was begun without a token
	told      uint64                                           // the first entry when the session was begun, or last looked for a gap
	pairs     map[integrationv1.Pair_Depth]*integrationv1.Pair // the newest of each depth behind which all was sent
}

// actor is an Actor of the request and what the entries before the session's position make of it.
type actor struct {
	*match.Actor
	index      int // in the request
	facts      map[string]*integrationv1.Device
	shown      map[string]*shown  // by device, what alerts' evidence showed
	known      match.Resolution   // by the facts: what a verdict rests on
	resolution match.Resolution   // what alerts are matched by: where no fact fits, by what alerts have shown
	lookedFor  map[match.Key]bool // the devices whose entries were looked through; false where one was only merged into it
	heard      map[string]uint64  // by device, the entry of the fact that was taken of it
}

// newSession makes a session at its start: behind the sequence `start`, in a window that begins at `begin` where the request
// names no start.
func newSession(request *integrationv1.StreamAlertsRequest, f *feed, token *storev1.ResumeToken) *session {
	s := &session{
		request:   request,
		explicit:  request.GetWindow().GetStartTime() != nil,
		window:    match.WindowOf(request.GetWindow()),
		wait:      orDefault(request.GetWait(), defaultWait),
		tolerance: orDefault(request.GetTolerance(), defaultTolerance),
		onTime:    orDefault(request.GetOnTime(), defaultOnTime),
		feed:      f,

		minConfidence: minConfidenceOf(request),
		subscriber: &subscriber{
			wake:    make(chan struct{}, 1),
			every:   len(request.GetActors()) == 0,
			bounded: request.GetWindow().GetEndTime() != nil,
			keys:    map[match.Key]struct{}{},
			alerts:  map[string]struct{}{},
		},
		byKey:    map[match.Key][]*actor{},
		start:    token.GetStartSequence(),
		token:    token,
		name:     collector.StreamName(slices.Concat(keysOf(request)...)),
		position: position{0, wholeEntry},
		sent:     map[string]uint64{},

		delivered: map[string]time.Time{},
		pairs:     map[integrationv1.Pair_Depth]*integrationv1.Pair{},
	}
	if !s.explicit {
		s.window.Start = token.GetStartTime().AsTime()
	}
	if s.subscriber.every {
		// What was learned of devices before does not concern it.
		s.position.sequence = s.scanFrom() - 1
	}
	f.subscribe(s.subscriber)
	for i, a := range request.GetActors() {
		one := &actor{Actor: match.NewActor(a), index: i, facts: map[string]*integrationv1.Device{}, lookedFor: map[match.Key]bool{}, heard: map[string]uint64{}}
		s.actors = append(s.actors, one)
		for _, k := range one.Keys() {
			s.concern(k, one)
		}
	}
	return s
}

func orDefault(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}

// minConfidenceOf returns how surely an alert must be about the attack to count.
func minConfidenceOf(request *integrationv1.StreamAlertsRequest) integrationv1.Confidence {
	return max(request.GetMinConfidence(), match.DefaultMinConfidence)
}

// concern makes a key one of an Actor's.
func (s *session) concern(key match.Key, a *actor) {
	if slices.Contains(s.byKey[key], a) {
		return
	}
	s.byKey[key] = append(s.byKey[key], a)
	s.feed.listen(s.subscriber, key, "")
}

// close lets go of the feed.
func (s *session) close() { s.feed.unsubscribe(s.subscriber) }

// bounded says whether the stream has an end.
func (s *session) bounded() bool { return s.subscriber.bounded }

// closing is what a bounded stream waits for.
func (s *session) closing() collector.Closing {
	return collector.Closing{Since: s.window.Start.Add(-s.tolerance), Due: s.window.End.Add(s.wait)}
}

// event is what an entry makes a stream send.
type event struct {
	// ordinal is the event's place among the entry's: ascending, and the same whatever was trimmed meanwhile.
	ordinal   uint32
	alert     *integrationv1.AlertEvent
	completed *integrationv1.CompletedEvent
}

// ordinalOf returns the ordinal of the event that an entry makes of an earlier one.
func ordinalOf(sequence, earlier uint64) uint32 {
	return wholeEntry - uint32(min(sequence-earlier, wholeEntry-1))
}

// pass takes the next entry that concerns the stream, and returns the events that it makes. It is the only thing that changes the
// session's state; with dry it makes no events, for rebuilding.
func (s *session) pass(ctx context.Context, p store.Positioned, dry bool) ([]event, error) {
	s.passing = p.Entry.GetEntryTime().AsTime()
	switch body := p.Entry.GetBody().(type) {
	case *storev1.Entry_Revision:
		return s.newRevision(ctx, p.Sequence, body.Revision, dry)
	case *storev1.Entry_DeviceFact:
		return s.deviceFact(ctx, p.Sequence, body.DeviceFact, dry)
	case *storev1.Entry_Pair:
		if !s.completedBy(p.Sequence, body.Pair) {
			return nil, nil
		}
		return s.end(ctx, p.Sequence, &integrationv1.CompletedEvent{
			Proof: &integrationv1.CompletedEvent_Pair{Pair: body.Pair.GetPair()},
		}, body.Pair.GetDevices(), dry)
	case *storev1.Entry_FailedClosing:
		if !s.failedBy(p.Sequence, body.FailedClosing) {
			return nil, nil
		}
		return s.end(ctx, p.Sequence, &integrationv1.CompletedEvent{
			Proof: &integrationv1.CompletedEvent_FailedClosing{FailedClosing: body.FailedClosing.GetProblem()},
		}, body.FailedClosing.GetDevices(), dry)
	case *storev1.Entry_TelemetryAnswer:
		return s.telemetryAnswer(ctx, p.Sequence, body.TelemetryAnswer, dry)
	}
	return nil, nil
}

// completedBy says whether a pair completes the stream: not so where the facts about its Actors' devices may not stand before it, since
// nobody was there who waited for it with these Actors.
func (s *session) completedBy(sequence uint64, proof *storev1.PairProof) bool {
	if !s.bounded() || sequence <= s.start || s.awaited != nil {
		return false
	}
	if proof.GetWaiting() != nil {
		if _, named := slices.BinarySearch(proof.GetWaiting().GetStreams(), s.name); !named {
			return false
		}
	}
	c, pair := s.closing(), proof.GetPair()
	return !pair.GetSince().AsTime().After(c.Since) && !pair.GetThrough().AsTime().Before(c.Due)
}

// failedBy says whether a failed closing ends the stream.
func (s *session) failedBy(sequence uint64, f *storev1.FailedClosing) bool {
	if !s.bounded() || sequence <= s.start || s.awaited != nil {
		return false
	}
	c := s.closing()
	return c.Since.Equal(f.GetSince().AsTime()) && c.Due.Equal(f.GetDue().AsTime())
}

// newRevision takes a revision. Where its evidence shows a device of an Actor's of which nothing else tells, the stream looks through
// the entries about that device that it has passed, as for a device fact.
func (s *session) newRevision(ctx context.Context, sequence uint64, rev *storev1.Revision, dry bool) ([]event, error) {
	again, err := s.learn(ctx, sequence, rev)
	if err != nil {
		return nil, err
	}
	own, err := s.revision(ctx, sequence, rev, dry)
	if err != nil {
		return nil, err
	}
	var events []event
	if own != nil {
		events = append(events, event{ordinal: 1, alert: own})
	}
	earlier, err := s.lookAgain(ctx, sequence, again, dry)
	return append(events, earlier...), err
}

// learn takes what a revision's evidence shows of the Actors' devices, and returns the earlier revisions about those that are new.
func (s *session) learn(ctx context.Context, sequence uint64, rev *storev1.Revision) ([]uint64, error) {
	if s.subscriber.every || sequence < s.scanFrom() {
		return nil, nil
	}
	devices := match.ShownDevices(rev.GetAlert())
	var again []uint64
	for _, a := range s.candidates(match.AlertKeys(rev.GetAlert())) {
		if !a.learn(sequence, rev.GetKey(), devices) {
			continue
		}
		s.shown++
		earlier, err := s.secondLook(ctx, a, sequence)
		if err != nil {
			return nil, err
		}
		again = append(again, earlier...)
	}
	return again, nil
}

// revision returns the event of a revision; nil where it does not concern the stream.
func (s *session) revision(ctx context.Context, sequence uint64, rev *storev1.Revision, dry bool) (*integrationv1.AlertEvent, error) {
	if s.subscriber.every {
		return s.anyRevision(ctx, rev)
	}
	if sequence < s.scanFrom() {
		return nil, nil
	}
	before, was := s.sent[rev.GetKey()]
	if was && before >= sequence {
		// A newer revision was sent when a device fact was learned.
		return nil, nil
	}
	if !was && !s.inReach(rev) {
		return nil, nil
	}
	matches := s.match(rev.GetAlert())
	if len(matches) == 0 && !was {
		return nil, nil
	}
	s.sent[rev.GetKey()] = sequence
	if !was {
		s.feed.listen(s.subscriber, match.Key{}, rev.GetKey())
		s.begun = append(s.begun, rev.GetKey())
		if s.bounded() {
			s.delivered[rev.GetKey()] = s.passing
		}
	}
	if dry {
		return nil, nil
	}
	if !was {
		return s.alertEvent(rev, matches), nil
	}
	previous, err := s.feed.entry(ctx, before)
	if err != nil && !errors.Is(err, store.ErrTrimmed) {
		return nil, err
	}
	return s.updateEvent(rev, matches, previous.Entry.GetRevision()), nil
}

// anyRevision returns the event of a revision for a stream of every device. It needs no memory of what was sent: the revision
// before was, if it lies in the stream at all.
func (s *session) anyRevision(ctx context.Context, rev *storev1.Revision) (*integrationv1.AlertEvent, error) {
	if !s.inReach(rev) {
		return nil, nil
	}
	if rev.GetPreviousSequence() < s.scanFrom() {
		return s.alertEvent(rev, nil), nil
	}
	previous, err := s.feed.entry(ctx, rev.GetPreviousSequence())
	switch {
	case errors.Is(err, store.ErrTrimmed):
		// What was trimmed was last updated before the floor.
		if _, _, floor := s.feed.bounds(); s.explicit && !s.window.Start.Add(-s.tolerance).Before(floor) {
			return s.alertEvent(rev, nil), nil
		}
		return s.updateEvent(rev, nil, nil), nil
	case err != nil:
		return nil, err
	case !s.inReach(previous.Entry.GetRevision()):
		return s.alertEvent(rev, nil), nil
	}
	return s.updateEvent(rev, nil, previous.Entry.GetRevision()), nil
}

// inReach says whether a revision can be about the window: what was last updated before it cannot.
func (s *session) inReach(rev *storev1.Revision) bool {
	return !s.explicit || !rev.GetUpdatedTime().AsTime().Before(s.window.Start.Add(-s.tolerance))
}

// match returns the Actors that an alert matches and how, in the request's order. What it costs does not depend on how many Actors the alert
// does not concern.
func (s *session) match(alert *integrationv1.Alert) []*integrationv1.ActorMatch {
	devices := match.DevicesOf(alert)
	candidates := s.candidates(devices.Keys())
	if len(candidates) == 0 {
		return nil
	}
	activity := match.ActivityOf(alert, s.window, s.tolerance)
	var matches []*integrationv1.ActorMatch
	for _, a := range candidates {
		own := devices.ActivityFor(a.Actor, a.resolution, activity, s.window, s.tolerance)
		if m := devices.MatchAttack(a.Actor, a.resolution, own, s.minConfidence); m != nil {
			m.Activity = own
			matches = append(matches, m)
		}
	}
	return matches
}

// candidates returns the Actors that have one of the keys, in the request's order. What it costs does not depend on the others.
func (s *session) candidates(keys []match.Key) []*actor {
	var found []*actor
	for _, k := range keys {
		found = append(found, s.byKey[k]...)
	}
	slices.SortFunc(found, func(a, b *actor) int { return a.index - b.index })
	return slices.Compact(found)
}

// join puts the later revisions of the alerts that have begun among the sequences to come, through where those reach.
func (s *session) join(sequences []uint64, after, through uint64) []uint64 {
	for _, key := range s.begun {
		if later := s.feed.revisions(key, after, through); len(later) > 0 {
			sequences = append(slices.Clone(sequences), later...)
			slices.Sort(sequences)
			sequences = slices.Compact(sequences)
		}
	}
	s.begun = s.begun[:0]
	return sequences
}

// scanFrom is the first sequence whose revision may concern the stream. Device facts do from the beginning.
func (s *session) scanFrom() uint64 {
	if s.explicit {
		return 1
	}
	return s.token.GetStartSequence() + 1
}
