package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// presentInterval is the least time between two times that the other servers are told how an integration does.
const presentInterval = time.Second

// LookUp is what is known of the last look-up of the devices where another server makes it: what it found is in the journal.
type LookUp struct {
	// Time is when it began, by that server's clock; zero before the first.
	Time time.Time
	// Identity and Sequence are the journal's identity, and the sequence through which it has what was found.
	Identity string
	Sequence uint64

	asked []*storev1.Served
}

// Asked says whether the look-up asked for the keys of a stream that became a member as that.
func (l *LookUp) Asked(joined *storev1.Served) bool {
	return slices.ContainsFunc(l.asked, func(s *storev1.Served) bool {
		return s.GetServer() == joined.GetServer() && s.GetGeneration() >= joined.GetGeneration()
	})
}

// presentOf returns what the other servers are told of how an integration does.
func (s *Snapshot) presentOf(holder uint64) *storev1.Present {
	p := &storev1.Present{
		Holder: holder, State: s.state, StateSince: stampOf(s.since), LastGoodTime: stampOf(s.lastGood), Problem: s.Problem,
		NextPollTime: stampOf(s.NextPoll), ThrottledUntil: stampOf(s.ThrottledUntil), Budget: s.Budget,
		CoveredSince: stampOf(s.Covered), ReadingBackTo: stampOf(s.ReadingBack), DeviceProblem: s.DeviceProblem,
		Asked: s.lookUp.asked, FactsIdentity: s.lookUp.Identity, FactsSequence: s.lookUp.Sequence, LookedUpTime: stampOf(s.lookUp.Time),
	}
	for _, pair := range s.Pairs {
		p.Pairs = append(p.Pairs, &storev1.PairAt{Pair: pair.Pair, Identity: pair.Identity, Sequence: pair.Sequence})
	}
	return p
}

// take makes the present what another server tells of it.
func (s *Snapshot) take(p *storev1.Present) {
	s.state, s.since, s.lastGood = p.GetState(), timeOf(p.GetStateSince()), timeOf(p.GetLastGoodTime())
	s.Problem, s.NextPoll, s.ThrottledUntil = p.GetProblem(), timeOf(p.GetNextPollTime()), timeOf(p.GetThrottledUntil())
	s.Budget, s.Covered, s.ReadingBack = p.GetBudget(), timeOf(p.GetCoveredSince()), timeOf(p.GetReadingBackTo())
	s.DeviceProblem = p.GetDeviceProblem()
	s.Elsewhere = &LookUp{
		Time: timeOf(p.GetLookedUpTime()), Identity: p.GetFactsIdentity(), Sequence: p.GetFactsSequence(), asked: p.GetAsked(),
	}
	s.Pairs = nil
	for _, pair := range p.GetPairs() {
		s.Pairs = append(s.Pairs, PairAt{Pair: pair.GetPair(), Identity: pair.GetIdentity(), Sequence: pair.GetSequence()})
	}
}

// tellOthers tells the other servers how the integration does, until ctx ends. Nothing is told when the lease may be another's.
func (c *Collector) tellOthers(ctx context.Context, h *hold) {
	key, revision := presentKey(c.uid), c.cluster.presentRevision(c.uid)
	var told *storev1.Present
	var at time.Time
	for {
		now, changed := c.Snapshot()
		present := now.presentOf(c.cluster.id)
		again := noteLife / renewals
		if h.good() && (!proto.Equal(present, told) || time.Since(at) >= again) {
			err := c.cluster.inTurn(ctx, func() (err error) {
				if !h.good() {
					return fmt.Errorf("the lease is over: %w", ErrStopped)
				}
				now, changed = c.Snapshot()
				present, at = now.presentOf(c.cluster.id), time.Now()
				revision, err = c.putNote(ctx, key, &storev1.Note{Body: &storev1.Note_Present{Present: present}}, revision)
				return err
			})
			if err == nil {
				told = present
			} else if ctx.Err() == nil {
				c.log.WarnContext(ctx, "the other servers cannot be told how the integration does", "error", err)
				again = c.settings.RetryMax
			}
		}
		select {
		case <-changed:
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(presentInterval):
		case <-ctx.Done():
			return
		}
	}
}

// putNote puts a note that only this server writes now, and returns its revision: by the one that it was last seen to have, and else by the
// one that it has.
func (c *Collector) putNote(ctx context.Context, key string, note *storev1.Note, revision uint64) (uint64, error) {
	notes := c.options.Store
	put, err := notes.PutNote(ctx, key, note, revision, noteLife)
	if !errors.Is(err, store.ErrConflict) {
		return max(put, revision), err
	}
	_, has, err := notes.Note(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrVersion) {
		return revision, err
	}
	put, err = notes.PutNote(ctx, key, note, has, noteLife)
	return max(put, has), err
}

// presentProblem is what is told while no server says how the integration does.
func (c *Collector) presentProblem() *integrationv1.Problem {
	p := &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		Message: "No server collects for this integration at the moment: it is being taken over.",
		Remedy:  "Wait: another server takes it within the time of a lease. If this stays, see in the servers' logs what keeps them from it.",
	}
	if !c.cluster.inTime() {
		p.Message = "This server has lost touch with the store that it shares with others."
		p.Remedy = "See that the NATS cluster runs and can be reached. It is tried again by itself."
	}
	return p
}

// noteLookUp takes note of what the other servers are told of the last look-up of the devices: whose keys it asked for, and where what it
// found is in the journal. The caller holds appending.
func (c *Collector) noteLookUp(asked []*storev1.Served) {
	if c.cluster == nil {
		return
	}
	c.update(func(s *Snapshot) {
		s.lookUp = LookUp{
			Time: s.Devices.LookedUp, Identity: c.checkpoint.GetIdentity(), Sequence: c.checkpoint.GetLastSequence(), asked: asked,
		}
	})
}

// takeOver is the entry that says that this server collects from here on.
func (c *Collector) takeOver() *storev1.Entry {
	return &storev1.Entry{
		EntryTime: timestamppb.Now(),
		Body:      &storev1.Entry_TakeOver{TakeOver: &storev1.TakeOver{Holder: c.cluster.id}},
	}
}
