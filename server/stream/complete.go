package stream

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// judgement gathers what a bounded stream is judged by: of each alert its last revision before the closing.
type judgement struct {
	alerts map[*actor][]match.Judged
	// last is the sequence of that revision, by alert key.
	last map[string]uint64
	// all and counting count alerts, each once.
	all, counting int64
}

// counts says whether an alert counts for an Actor.
func (j *judgement) counts(a *actor) bool {
	return slices.ContainsFunc(j.alerts[a], func(judged match.Judged) bool { return judged.Match.GetCounts() })
}

// complete judges all entries of the window with the facts at the closing's own position, and what telemetry answered about Actors, where
// it was asked.
func (s *session) complete(
	ctx context.Context, sequence uint64, proof *integrationv1.CompletedEvent, devices *storev1.DeviceLookup,
	telemetry map[*actor]*integrationv1.Telemetry,
) ([]event, error) {
	e := proto.CloneOf(proof)
	j, err := s.gather(ctx, sequence)
	if err != nil {
		return nil, err
	}
	e.Alerts, e.CountingAlerts = j.all, j.counting
	closing := s.proof(e)
	lookup := match.Lookup{API: s.api, Kind: devices.GetKind(), Problem: devices.GetProblem(), Rhythm: defender.RhythmOf(devices.GetKind())}
	if t := devices.GetLookedUpTime(); t != nil {
		lookup.Time = t.AsTime()
	}
	for _, a := range s.actors {
		own := lookup
		// What was looked up of others, or before the window was over, tells nothing of this Actor in it.
		if !collector.Asked(devices, texts(a.Keys())) || own.Time.Add(min(s.tolerance, defaultTolerance)).Before(s.window.End) {
			own.Time = time.Time{}
		}
		verdict := match.Judge(match.Case{
			ActorID:    a.ID(),
			Alerts:     j.alerts[a],
			Resolution: a.known,
			Lookup:     own,
			Proof:      closing,
			Window:     s.window,
			Tolerance:  s.tolerance,
			OnTime:     s.onTime,

			MinConfidence: s.minConfidence,
			Telemetry:     telemetry[a],
		})
		if key := verdict.GetDecidingAlertId(); key != "" {
			if verdict.Latencies, err = s.latencies(ctx, key, j.last[key]); err != nil {
				return nil, err
			}
		}
		e.Verdicts = append(e.Verdicts, verdict)
	}
	if err := s.amend(ctx, e.GetVerdicts(), j.last); err != nil {
		return nil, err
	}
	if s.request.GetExplain() {
		if err := s.explain(ctx, sequence, e); err != nil {
			return nil, err
		}
	}
	fitCompleted(e)
	return []event{{ordinal: 1, completed: e}}, nil
}

// proof returns what proves that collecting was complete.
func (s *session) proof(e *integrationv1.CompletedEvent) match.Proof {
	proof := match.Proof{Pair: e.GetPair()}
	if failed := e.GetFailedClosing(); failed != nil {
		proof.Incomplete, proof.Remedy = failed.GetMessage(), failed.GetRemedy()
		proof.Again = failed.GetReason() != integrationv1.ErrorReason_ERROR_REASON_HISTORY_GONE
		return proof
	}
	since, floor := s.closing().Since, s.feed.journal.Checkpoint().GetFloorTime().AsTime()
	if since.Before(floor) {
		// The pair is true, and what it rests on was there. Some of it may have been trimmed before it was gathered.
		proof.Incomplete = "the window begins at " + since.UTC().Format(time.RFC3339) + ", and of what was last updated before " +
			floor.UTC().Format(time.RFC3339) + " the journal no longer has everything"
		proof.Remedy = "Keep more of the journal, or ask before it is trimmed."
	}
	return proof
}

// gather looks through every entry of the stream before a sequence.
func (s *session) gather(ctx context.Context, before uint64) (*judgement, error) {
	j := &judgement{alerts: map[*actor][]match.Judged{}, last: map[string]uint64{}}
	var order []string
	for from := s.scanFrom() - 1; from < before; {
		sequences, through := s.feed.next(s.subscriber, from)
		from = through
		for _, sequence := range sequences {
			if sequence >= before {
				break
			}
			p, err := s.feed.entry(ctx, sequence)
			if errors.Is(err, store.ErrTrimmed) {
				continue
			}
			if err != nil {
				return nil, err
			}
			rev := p.Entry.GetRevision()
			if rev == nil || !s.inReach(rev) {
				continue
			}
			if _, ok := j.last[rev.GetKey()]; !ok {
				order = append(order, rev.GetKey())
			}
			j.last[rev.GetKey()] = sequence
		}
	}
	actors := make(map[string]*actor, len(s.actors))
	for _, a := range s.actors {
		actors[a.ID()] = a
	}
	for _, key := range order {
		p, err := s.feed.entry(ctx, j.last[key])
		if errors.Is(err, store.ErrTrimmed) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.judge(j, actors, p.Entry.GetRevision())
	}
	return j, nil
}

// judge adds an alert's last revision to a judgement. actors are the Actors by their ids.
func (s *session) judge(j *judgement, actors map[string]*actor, rev *storev1.Revision) {
	alert := rev.GetAlert()
	if s.subscriber.every {
		j.all++
		return
	}
	matches := s.match(alert)
	if len(matches) == 0 {
		return
	}
	j.all++
	activity, late := match.ActivityOf(alert, s.window, s.tolerance), match.Late(alert, s.window, s.onTime)
	devices := match.DevicesOf(alert)
	counts := false
	for _, m := range matches {
		a := actors[m.GetActorId()]
		judged := match.JudgedOf(alert, m, devices.ActivityFor(a.Actor, a.resolution, activity, s.window, s.tolerance), late)
		judged.AlertID = rev.GetKey()
		j.alerts[a] = append(j.alerts[a], judged)
		counts = counts || m.GetCounts()
	}
	if counts {
		j.counting++
	}
}
