package stream

import (
	"context"
	"crypto/sha256"
	"encoding/binary"

	"google.golang.org/protobuf/proto"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// awaited is a stream's wait for what telemetry holds, behind the entry that would have completed it.
type awaited struct {
	// proof is what that entry proves, devices what it says of looking devices up.
	proof   *integrationv1.CompletedEvent
	devices *storev1.DeviceLookup
	// questions are what was asked, waiting the Actors whose answer is to come, and answers what came. Actors that are one machine
	// under one attack have one question.
	questions []collector.Question
	waiting   map[[16]byte][]*actor
	answers   map[*actor]*integrationv1.Telemetry
}

// end ends a bounded stream by the entry at a sequence, or, where it asks for telemetry, begins to wait for that. With dry it makes no
// events, for rebuilding: then the stream had not ended there.
func (s *session) end(
	ctx context.Context, sequence uint64, proof *integrationv1.CompletedEvent, devices *storev1.DeviceLookup, dry bool,
) ([]event, error) {
	if s.request.GetTelemetry() {
		if err := s.await(ctx, sequence, proof, devices); err != nil || s.awaited != nil {
			return nil, err
		}
	}
	if dry {
		return nil, nil
	}
	return s.complete(ctx, sequence, proof, devices, nil)
}

// await begins to wait for telemetry about the Actors that have traces and of which no alert counts. It follows from the entries before
// the sequence, so that a stream that is rebuilt waits for the same.
func (s *session) await(ctx context.Context, sequence uint64, proof *integrationv1.CompletedEvent, devices *storev1.DeviceLookup) error {
	j, err := s.gather(ctx, sequence)
	if err != nil {
		return err
	}
	w := &awaited{proof: proof, devices: devices, waiting: map[[16]byte][]*actor{}, answers: map[*actor]*integrationv1.Telemetry{}}
	for i, a := range s.actors {
		asks := s.asks(a, s.request.GetActors()[i].GetTraces())
		if asks == nil || j.counts(a) {
			continue
		}
		q := collector.Question{ID: s.questionID(sequence, asks), Asks: asks}
		if len(w.waiting[q.ID]) == 0 {
			w.questions = append(w.questions, q)
			s.feed.listenTo(s.subscriber, q.ID)
		}
		w.waiting[q.ID] = append(w.waiting[q.ID], a)
	}
	if len(w.questions) > 0 {
		s.awaited = w
	}
	return nil
}

// asks returns what telemetry is asked about an Actor; nil where nothing can be: it has no traces, or nothing tells which machine it is.
func (s *session) asks(a *actor, traces *integrationv1.Traces) *defender.TelemetryQuestion {
	if proto.Size(traces) == 0 || a.known.Knowledge == integrationv1.ActorState_KNOWLEDGE_AMBIGUOUS {
		return nil
	}
	q := &defender.TelemetryQuestion{
		Since: s.window.Start.Add(-s.tolerance), Through: s.window.End.Add(s.tolerance), Traces: traces,
	}
	if q.DeviceIDs = a.known.DeviceIDs(); len(q.DeviceIDs) == 0 && a.DeviceID() != "" {
		q.DeviceIDs = []string{a.DeviceID()}
	}
	if len(q.DeviceIDs) == 0 {
		q.FullNames, q.ShortNames = a.Names()
	}
	if len(q.DeviceIDs)+len(q.FullNames)+len(q.ShortNames) == 0 {
		return nil
	}
	return q
}

// questionID names what is asked, behind an entry of this journal.
func (s *session) questionID(sequence uint64, q *defender.TelemetryQuestion) [16]byte {
	h := sha256.New()
	text := func(text string) {
		_ = binary.Write(h, binary.BigEndian, int64(len(text)))
		_, _ = h.Write([]byte(text))
	}
	text(s.feed.identity)
	_ = binary.Write(h, binary.BigEndian, []int64{int64(sequence), q.Since.UnixNano(), q.Through.UnixNano()})
	for _, list := range [][]string{q.DeviceIDs, q.FullNames, q.ShortNames} {
		_ = binary.Write(h, binary.BigEndian, int64(len(list)))
		for _, one := range list {
			text(one)
		}
	}
	// Marshalling a message that came over gRPC cannot fail.
	traces, _ := proto.MarshalOptions{Deterministic: true}.Marshal(q.Traces)
	text(string(traces))
	return [16]byte(h.Sum(nil))
}

// telemetryAnswer takes an answer. With the last one that it waits for the stream is complete. With dry it had not ended there, as where it was
// not asked for telemetry then: it waits for another pair.
func (s *session) telemetryAnswer(ctx context.Context, sequence uint64, answer *storev1.TelemetryAnswer, dry bool) ([]event, error) {
	if s.awaited == nil || len(answer.GetQuestion()) != 16 {
		return nil, nil
	}
	id := [16]byte(answer.GetQuestion())
	actors := s.awaited.waiting[id]
	if len(actors) == 0 {
		return nil, nil
	}
	delete(s.awaited.waiting, id)
	for _, a := range actors {
		s.awaited.answers[a] = answer.GetTelemetry()
	}
	if len(s.awaited.waiting) > 0 {
		return nil, nil
	}
	if dry {
		s.awaited = nil
		return nil, nil
	}
	return s.complete(ctx, sequence, s.awaited.proof, s.awaited.devices, s.awaited.answers)
}
