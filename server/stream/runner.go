package stream

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/internal/announce"
	"defender-integration/store"
)

const (
	// heartbeat is the longest time between two progress events.
	heartbeat = 30 * time.Second
)

// SendFunc sends one event. It may block for as long as the caller does not read.
type SendFunc = func(*integrationv1.StreamAlertsResponse) error

// runner runs a session: it pulls the entries, sends what they make, and tells the present in between.
type runner struct {
	session   *session
	member    *collector.Member
	collector *collector.Collector
	metrics   *metrics
	send      SendFunc

	phase    integrationv1.ProgressEvent_Phase // what it is counted in
	caughtUp bool
	actors   *integrationv1.ActorsEvent
	shown    int  // how often the session had learned of a device from alerts when they were told
	facts    int  // and how often from facts, where another server looks devices up
	told     bool // and whether what that found was known
	progress *integrationv1.ProgressEvent
	beat     time.Time // when progress was last sent
}

// rebuild brings a session to the position of a token, by passing what lies before it again.
func (s *session) rebuild(ctx context.Context, to position) error {
	if s.subscriber.every {
		s.position = to
		return nil
	}
	if err := s.recall(ctx); err != nil {
		return err
	}
	for s.position.sequence < to.sequence {
		sequences, through := s.feed.next(s.subscriber, s.position.sequence)
		for len(sequences) > 0 {
			sequence := sequences[0]
			if sequence > to.sequence || (sequence == to.sequence && to.ordinal != wholeEntry) {
				// The entry itself is passed by the runner, which leaves out the events that were sent.
				s.position = to
				return nil
			}
			again, err := s.passEntry(ctx, sequence)
			if err != nil {
				return err
			}
			s.position = position{sequence, wholeEntry}
			if again {
				through = sequence
				break
			}
			sequences = s.join(sequences[1:], sequence, through)
		}
		s.position = position{min(through, to.sequence), wholeEntry}
	}
	if s.position.sequence == to.sequence {
		s.position = to
	}
	return nil
}

// passEntry passes an entry without sending. It says whether the stream has new keys, so that what follows must be looked up
// again.
func (s *session) passEntry(ctx context.Context, sequence uint64) (bool, error) {
	p, err := s.feed.entry(ctx, sequence)
	if errors.Is(err, store.ErrTrimmed) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	before := s.subscriber.size()
	_, err = s.pass(ctx, p, true)
	return s.subscriber.size() != before, err
}

// run sends until the stream is complete, or something ends it.
func (r *runner) run(ctx context.Context) error {
	now, _ := r.collector.Snapshot()
	if err := r.tellActors(ctx, now); err != nil {
		return err
	}
	if err := r.tellFloor(); err != nil {
		return err
	}
	for {
		completed, err := r.drain(ctx)
		if completed || err != nil {
			return err
		}
		now, changed := r.collector.Snapshot()
		if came, err := r.awaitFacts(ctx, now); err != nil {
			return err
		} else if came {
			continue
		}
		if err := r.tellPresent(ctx, now); err != nil {
			return err
		}
		if err := r.wait(ctx, changed); err != nil {
			return err
		}
	}
}

// drain sends everything that the journal has for the stream.
func (r *runner) drain(ctx context.Context) (completed bool, err error) {
	s := r.session
	for {
		if err := r.tellGap(ctx); err != nil {
			return false, err
		}
		from := s.position.sequence
		if s.position.ordinal != wholeEntry {
			from--
		}
		sequences, through := s.feed.next(s.subscriber, from)
		asked, again := len(sequences), false
		for len(sequences) > 0 {
			sequence := sequences[0]
			before := s.subscriber.size()
			completed, err := r.entry(ctx, sequence)
			if errors.Is(err, store.ErrTrimmed) {
				// The feed is about to be told.
				if err := s.feed.awaitTrim(ctx, sequence); err != nil {
					return false, err
				}
				again = true
				break
			}
			if completed || err != nil {
				return completed, err
			}
			if s.subscriber.size() != before {
				again = true
				break
			}
			sequences = s.join(sequences[1:], sequence, through)
		}
		if again {
			continue
		}
		if through > s.position.sequence || s.position.ordinal != wholeEntry {
			s.position = position{max(through, s.position.sequence), wholeEntry}
		}
		if asked < batch {
			return false, nil
		}
		if time.Since(r.beat) >= heartbeat {
			now, _ := r.collector.Snapshot()
			if err := r.tellProgress(now); err != nil {
				return false, err
			}
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
}

// entry sends the events of one entry, those left out that were sent before.
func (r *runner) entry(ctx context.Context, sequence uint64) (completed bool, err error) {
	s := r.session
	p, err := s.feed.entry(ctx, sequence)
	if err != nil {
		return false, err
	}
	events, err := s.pass(ctx, p, false)
	if err != nil {
		return false, err
	}
	var sent uint32
	if s.position.sequence == sequence {
		sent = s.position.ordinal
	}
	for i, e := range events {
		if e.ordinal <= sent {
			continue
		}
		at := position{sequence, e.ordinal}
		if i == len(events)-1 {
			at.ordinal = wholeEntry
		}
		announce.Point(announce.Send)
		if err := r.deliver(s.response(e, at)); err != nil {
			return false, err
		}
		if r.caughtUp {
			r.metrics.delivered(p.Entry)
		}
		s.position = at
		if e.completed != nil {
			return true, nil
		}
	}
	s.position = position{sequence, wholeEntry}
	return false, nil
}

// wait waits until there may be something to send.
func (r *runner) wait(ctx context.Context, changed <-chan struct{}) error {
	s := r.session
	now := time.Now()
	until := r.beat.Add(heartbeat)
	if next := s.nextPhase(now); !next.IsZero() && next.Before(until) {
		until = next
	}
	timer := time.NewTimer(until.Sub(now))
	defer timer.Stop()
	select {
	case <-s.subscriber.wake:
	case <-changed:
	case <-timer.C:
	case <-s.feed.done:
		return s.feed.err
	case <-r.collector.Done():
		return collector.ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// tellPresent tells what is so now, where it is other than what was told.
func (r *runner) tellPresent(ctx context.Context, now collector.Snapshot) error {
	if !r.caughtUp {
		r.caughtUp = true
		if r.session.explicit {
			r.member.SetReach(r.session.closing().Since)
		}
		if r.session.bounded() {
			r.member.SetClosing(r.session.closing())
		}
	}
	if w := r.session.awaited; w != nil {
		r.member.Ask(w.questions)
	}
	if err := r.tellActors(ctx, now); err != nil {
		return err
	}
	progress := r.session.progressEvent(now, r.caughtUp)
	r.enter(r.session.request.GetIntegrationId(), progress.GetPhase())
	if time.Since(r.beat) < heartbeat && proto.Equal(progress, r.progress) {
		return nil
	}
	return r.tellProgress(now)
}

func (r *runner) tellProgress(now collector.Snapshot) error {
	r.progress, r.beat = r.session.progressEvent(now, r.caughtUp), time.Now()
	return r.tell(&integrationv1.StreamAlertsResponse{
		Event: &integrationv1.StreamAlertsResponse_Progress{Progress: r.progress},
	})
}

// tellActors tells what is known of the Actors' devices, where it is other than what was told.
func (r *runner) tellActors(ctx context.Context, now collector.Snapshot) error {
	facts, told := 0, false
	if now.Elsewhere != nil {
		facts, told = r.session.heard, r.session.toldOf(now.Elsewhere)
	}
	if r.actors != nil && r.shown == r.session.shown && r.facts == facts && r.told == told &&
		timeOf(r.actors.GetLookedUpTime()).Equal(lookedUp(now)) && proto.Equal(r.actors.GetProblem(), now.DeviceProblem) {
		return nil
	}
	before := r.actors
	actors, err := r.session.actorsEvent(ctx, now, before)
	if err != nil {
		return err
	}
	r.facts, r.told = facts, told
	if r.actors, r.shown = actors, r.session.shown; before != nil && sameActors(before, actors) {
		return nil
	}
	return r.tell(&integrationv1.StreamAlertsResponse{
		Event: &integrationv1.StreamAlertsResponse_Actors{Actors: r.actors},
	})
}

// awaitFacts waits, for a moment, until the feed has what another server's look-up found, and says whether there is more to send then.
func (r *runner) awaitFacts(ctx context.Context, now collector.Snapshot) (came bool, err error) {
	s := r.session
	if now.Elsewhere == nil || now.Elsewhere.Identity != s.feed.identity || now.Elsewhere.Sequence <= s.position.sequence {
		return false, nil
	}
	bounded, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err = s.feed.await(bounded, now.Elsewhere.Sequence)
	if err != nil && bounded.Err() != nil {
		return false, ctx.Err() // It is told as pending until then.
	}
	return err == nil, err
}

// lookedUp returns when the devices were last looked up; zero where they never were.
func lookedUp(now collector.Snapshot) time.Time {
	switch {
	case now.Elsewhere != nil:
		return now.Elsewhere.Time
	case now.Devices != nil:
		return now.Devices.LookedUp
	}
	return time.Time{}
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// sameActors says whether two events tell the same, but for when the devices were looked up.
func sameActors(a, b *integrationv1.ActorsEvent) bool {
	return proto.Equal(
		&integrationv1.ActorsEvent{Actors: a.GetActors(), Problem: a.GetProblem()},
		&integrationv1.ActorsEvent{Actors: b.GetActors(), Problem: b.GetProblem()},
	)
}

// tell sends an event of the present, with the token of where the stream stands.
func (r *runner) tell(response *integrationv1.StreamAlertsResponse) error {
	response.Reference = r.session.request.GetReference()
	response.ResumeToken = r.session.tokenAt(r.session.position, nil)
	return r.deliver(response)
}

// deliver sends an event and counts it.
func (r *runner) deliver(response *integrationv1.StreamAlertsResponse) error {
	err := r.send(response)
	if err == nil {
		r.metrics.sent(response)
	}
	return err
}

// enter counts the stream in a phase.
func (r *runner) enter(id string, phase integrationv1.ProgressEvent_Phase) {
	r.metrics.phases.move(id, r.phase, phase)
	r.phase = phase
}

// tellFloor tells a stream whose window begins below the floor that history is gone.
func (r *runner) tellFloor() error {
	s := r.session
	first, _, floor := s.feed.bounds()
	if !s.fresh || !s.explicit || first <= 1 || !s.window.Start.Add(-s.tolerance).Before(floor) {
		return nil
	}
	return r.gap(floor, "The window begins before what the journal still holds: it cannot be judged whole.")
}

// tellGap tells a stream that trimming overtook that history is gone.
func (r *runner) tellGap(ctx context.Context) error {
	s := r.session
	first, _, floor := s.feed.bounds()
	if first <= s.told {
		return nil
	}
	behind, missed := s.position.sequence+1 < first, s.missed(first, floor)
	s.told = first
	if err := s.forget(ctx, first); err != nil {
		return err
	}
	if behind {
		s.position = position{first - 1, wholeEntry}
	}
	if behind || !r.caughtUp {
		// What was dropped while the session was begun or rebuilt may hold facts that it has not taken.
		if err := s.recall(ctx); err != nil {
			return err
		}
	}
	if !behind || !missed {
		return nil
	}
	return r.gap(floor, "The journal was trimmed before this stream had read it.")
}

// missed says whether what was dropped before the first entry could have been sent by a stream that had not passed it: not so where all
// of it lies before the stream's start, or was last updated before its window, and is no later revision of an alert that was sent.
func (s *session) missed(first uint64, floor time.Time) bool {
	if !s.explicit {
		return s.scanFrom() < first
	}
	return len(s.sent) > 0 || s.window.Start.Add(-s.tolerance).Before(floor)
}

func (r *runner) gap(floor time.Time, explanation string) error {
	return r.tell(&integrationv1.StreamAlertsResponse{
		Event: &integrationv1.StreamAlertsResponse_Gap{Gap: &integrationv1.GapEvent{FloorTime: stampOf(floor), Explanation: explanation}},
	})
}
