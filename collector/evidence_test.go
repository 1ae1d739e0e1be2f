package collector_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// An alert that comes without its evidence is no revision, and the read that met it no pair; all others go through. With its evidence
// it is taken; where Microsoft says nothing else for ten minutes, as it is.
func TestAlertWithoutEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		c := b.collector()
		time.Sleep(time.Minute)
		now := time.Now()
		bare := func(id string) *integrationv1.Alert {
			a := titled(id, "bare", now)
			a.Evidence = nil
			return a
		}
		b.source.Put(bare("soon whole"), now)
		b.source.Put(titled("beside it", "whole", now), now)
		b.source.Put(titled("soon whole", "whole", now), now.Add(5*time.Minute))
		time.Sleep(4 * time.Minute)
		if got, want := b.revisions(), []string{"beside it whole"}; !slices.Equal(got, want) {
			t.Errorf("revisions %q, want %q", got, want)
		}
		s, _ := c.Snapshot()
		if s.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_EVIDENCE_MISSING {
			t.Errorf("the problem told is %v", s.Problem)
		}
		for _, p := range s.Pairs {
			if p.Pair.GetThrough().AsTime().After(now) {
				t.Errorf("the pair %v passes an alert that was not taken", p.Pair)
			}
		}
		time.Sleep(4 * time.Minute)
		if got, want := b.revisions(), []string{"beside it whole", "soon whole whole"}; !slices.Equal(got, want) {
			t.Errorf("with its evidence: revisions %q, want %q", got, want)
		}
		if s, _ = c.Snapshot(); s.Problem != nil {
			t.Errorf("the problem told is %v still", s.Problem)
		}
		now = time.Now()
		b.source.Put(bare("never whole"), now)
		time.Sleep(9 * time.Minute)
		if got := b.revisions(); len(got) != 2 {
			t.Errorf("too soon: revisions %q", got)
		}
		time.Sleep(4 * time.Minute)
		if got, want := b.revisions(), []string{"beside it whole", "soon whole whole", "never whole bare"}; !slices.Equal(got, want) {
			t.Errorf("after ten minutes: revisions %q, want %q", got, want)
		}
		time.Sleep(20 * time.Minute)
		if s, _ = c.Snapshot(); s.Problem != nil || len(b.revisions()) != 3 {
			t.Errorf("taken once and for all: %q, %v", b.revisions(), s.Problem)
		}
	})
}

// An alert without its evidence that only closing reads reach keeps the proof away no longer than one that polls reach: polls say nothing
// of it.
func TestAlertWithoutEvidenceFurtherBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		c := b.collector()
		time.Sleep(time.Minute)
		now := time.Now()
		old := titled("never whole", "bare", now.Add(-30*time.Hour))
		old.Evidence = nil
		b.source.Put(old, now)
		m, _, err := c.Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		m.SetClosing(collector.Closing{Since: now.Add(-40 * time.Hour), Due: now})
		proven := func() bool {
			return slices.ContainsFunc(b.entries(), func(p store.Positioned) bool {
				return p.Entry.GetPair().GetPair().GetDepth() == integrationv1.Pair_DEPTH_CLOSING
			})
		}
		time.Sleep(9 * time.Minute)
		if got := b.revisions(); len(got) > 0 || proven() {
			t.Errorf("too soon: revisions %q, proven: %t", got, proven())
		}
		time.Sleep(3 * time.Minute)
		if got, want := b.revisions(), []string{"never whole bare"}; !slices.Equal(got, want) || !proven() {
			t.Errorf("after ten minutes: revisions %q, want %q; proven: %t", got, want, proven())
		}
	})
}

// Why no closing read succeeded is told, also where polls are good all the time.
func TestWhyAClosingFailedWhilePollsAreGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.ClosingLimit = settings.EvidenceWait / 2
		b := newBench(t, settings)
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		now := time.Now()
		old := titled("without", "bare", now.Add(-30*time.Hour))
		old.Evidence = nil
		b.source.Put(old, now)
		m, _, err := b.collector().Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		m.SetClosing(collector.Closing{Since: now.Add(-40 * time.Hour), Due: now})
		time.Sleep(settings.ClosingLimit + time.Minute)
		var told []integrationv1.ErrorReason
		for _, p := range b.entries() {
			if f := p.Entry.GetFailedClosing(); f != nil {
				told = append(told, f.GetProblem().GetReason())
			}
		}
		if want := []integrationv1.ErrorReason{integrationv1.ErrorReason_ERROR_REASON_EVIDENCE_MISSING}; !slices.Equal(told, want) {
			t.Errorf("failed closings tell %v, want %v", told, want)
		}
	})
}
