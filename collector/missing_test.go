package collector_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// span is a range of last updates.
type span struct{ start, end time.Time }

// patchy is a source that passes over ranges of last updates, in order, as the adapter does where Microsoft fails on them.
type patchy struct {
	*collectortest.Source
	mu    sync.Mutex
	fails []span
}

func (p *patchy) Alerts() defender.AlertSource { return p }

func (p *patchy) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	p.mu.Lock()
	fails := p.fails
	p.mu.Unlock()
	read, err := p.Source.ReadAlerts(ctx, since, known, func(e *defender.Element) error {
		for _, f := range fails {
			if !e.Updated.Before(f.start) && e.Updated.Before(f.end) {
				return nil
			}
		}
		return yield(e)
	})
	var missing []*integrationv1.TimeRange
	for _, f := range fails {
		if since.Before(f.end) {
			missing = append(missing, &integrationv1.TimeRange{StartTime: timestamppb.New(f.start), EndTime: timestamppb.New(f.end)})
		}
	}
	if err == nil && missing != nil {
		err = &defender.Error{Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED, Missing: missing,
		}}
	}
	return read, err
}

func (p *patchy) set(fails ...span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = fails
}

// Where Microsoft fails on some alerts, all others are collected without a delay, no pair says that those were read, and what is missing
// is told until a read has it. Polls do not reach further back for it, and what lies behind it is proven.
func TestWhatIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		b := newBench(t, settings)
		b.stop()
		source := &patchy{Source: b.source}
		b.startOn(settings, source, b.store)
		defer func() { b.stop() }()
		c := b.collector()
		member, _, err := c.Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		time.Sleep(2 * time.Minute)

		start := time.Now()
		end := start.Add(time.Second)
		source.set(span{start, end})
		b.source.Put(titled("fails", "x", start), start)
		b.source.Put(titled("beside it", "x", end), end)
		time.Sleep(20 * time.Second)
		if got, want := b.revisions(), []string{"beside it x"}; !slices.Equal(got, want) {
			t.Errorf("revisions %q, want %q", got, want)
		}
		told := func() *integrationv1.Problem {
			s, _ := c.Snapshot()
			for _, p := range s.Pairs {
				from, through := p.Pair.GetSince().AsTime(), p.Pair.GetThrough().AsTime()
				if !from.After(start) && through.After(start) && len(b.revisions()) < 2 {
					t.Errorf("the pair since %v through %v passes what was not read", from, through)
				}
			}
			return s.Problem
		}
		if p := told(); len(p.GetMissing()) != 1 || !p.GetMissing()[0].GetStartTime().AsTime().Equal(start) {
			t.Errorf("told is %v", p)
		}
		if state := c.Status().GetState(); state != integrationv1.IntegrationStatus_STATE_FAILING {
			t.Errorf("the state is %v", state)
		}
		if s, _ := c.Snapshot(); !s.Covered.Equal(end) || time.Until(s.NextPoll) > settings.FastInterval {
			t.Errorf("covered since %v, want %v; the next poll in %v", s.Covered, end, time.Until(s.NextPoll))
		}

		// One closing from before it cannot be answered, one from behind it is.
		through := time.Now()
		before, _, err := c.Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer before.Leave()
		before.SetClosing(collector.Closing{Since: start.Add(-time.Second), Due: through})
		member.SetClosing(collector.Closing{Since: end, Due: through})
		time.Sleep(8 * time.Minute)
		shallow := 0
		reads := b.source.Reads()
		for _, since := range reads[len(reads)-10:] {
			if time.Since(since) < settings.Overlap+2*time.Minute {
				shallow++
			}
		}
		if shallow < 5 {
			t.Errorf("of ten reads only %d are polls that reach no further back than the overlap", shallow)
		}
		told()
		time.Sleep(10 * time.Minute)
		var answered, failed bool
		for _, p := range b.entries() {
			pair := p.Entry.GetPair().GetPair()
			answered = answered || pair != nil && !pair.GetSince().AsTime().After(end) && !pair.GetThrough().AsTime().Before(through)
			if f := p.Entry.GetFailedClosing(); f != nil {
				failed = f.GetSince().AsTime().Equal(start.Add(-time.Second)) &&
					f.GetProblem().GetReason() == integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED
			}
		}
		if !answered || !failed {
			t.Errorf("the closing from behind it was answered: %t; the one from before it failed for it: %t", answered, failed)
		}
		if p := told(); p == nil {
			t.Error("what is missing is told no more, and is missing still")
		}

		// Another range beside it does not take its place, nor does what heals there end it.
		second := time.Now()
		source.set(span{start, end}, span{second, second.Add(time.Second)})
		time.Sleep(30 * time.Second)
		if p := told(); len(p.GetMissing()) != 2 || !p.GetMissing()[0].GetStartTime().AsTime().Equal(start) {
			t.Errorf("told is %v, want both ranges", p)
		}
		source.set(span{start, end})
		time.Sleep(30 * time.Second)
		if p := told(); len(p.GetMissing()) != 1 || !p.GetMissing()[0].GetStartTime().AsTime().Equal(start) {
			t.Errorf("told is %v, want the first range still", p)
		}

		source.set()
		time.Sleep(11 * time.Minute)
		if got, want := b.revisions(), []string{"beside it x", "fails x"}; !slices.Equal(got, want) {
			t.Errorf("once it can be read: revisions %q, want %q", got, want)
		}
		if p := told(); p != nil {
			t.Errorf("told still: %v", p)
		}
	})
}

// What Microsoft fails on in what streams ask for is not read back to all the time: all else was read. It is asked for again now and
// then, and once it can be read, all is covered.
func TestReadingBackPassesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.Rereads = nil
		b := newBench(t, settings)
		b.stop()
		source := &patchy{Source: b.source}
		b.startOn(settings, source, b.store)
		defer func() { b.stop() }()
		c := b.collector()
		time.Sleep(time.Minute)
		began := time.Now()
		reach, end := began.Add(-30*time.Hour), began.Add(-20*time.Hour)
		source.set(span{end.Add(-time.Second), end})
		b.source.Put(titled("fails", "x", end.Add(-time.Second)), began)
		b.source.Put(titled("before it", "x", end.Add(-time.Hour)), began)
		m, _, err := c.Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		m.SetReach(reach)
		deep := func() int {
			n := 0
			for _, since := range b.source.Reads() {
				if since.Equal(reach) {
					n++
				}
			}
			return n
		}
		time.Sleep(50 * time.Minute)
		s, _ := c.Snapshot()
		if deep() != 1 || !s.Covered.Equal(end) || !s.ReadingBack.Equal(reach) {
			t.Errorf("read back %d times, covered since %v, reading back to %v", deep(), s.Covered, s.ReadingBack)
		}
		source.set()
		time.Sleep(20 * time.Minute)
		if s, _ = c.Snapshot(); deep() != 2 || !s.Covered.Equal(reach) || !s.ReadingBack.IsZero() {
			t.Errorf("once it can be read: read back %d times, covered since %v, reading back to %v", deep(), s.Covered, s.ReadingBack)
		}
		if got, want := b.revisions(), []string{"before it x", "fails x"}; !slices.Equal(got, want) {
			t.Errorf("revisions %q, want %q", got, want)
		}
	})
}
