package collector_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// updatedLater returns an alert that was created at one time and last updated at another.
func updatedLater(id string, created, updated time.Time) *integrationv1.Alert {
	a := titled(id, "x", updated)
	a.CreatedTime = timestamppb.New(created)
	return a
}

// lastRevision returns the last revision that the journal has of an alert.
func (b *bench) lastRevision(id string) *storev1.Revision {
	var last *storev1.Revision
	for _, p := range b.entries() {
		if rev := p.Entry.GetRevision(); rev.GetKey() == id {
			last = rev
		}
	}
	return last
}

// wantAway wants nobody to have read for a time before an alert's last revision was read, and no longer than what lies between two
// polls, and what of polling was not made durable. Microsoft's clock is known to a second or two.
func (b *bench) wantAway(id string, want time.Duration) {
	b.t.Helper()
	rev := b.lastRevision(id)
	if rev.GetAway() == nil {
		b.t.Errorf("%s: it is not told for how long nobody read: %v", id, rev)
		return
	}
	if got := rev.GetAway().AsDuration(); got < want-2*time.Second || got > want+2*time.Minute+10*time.Second || want == 0 && got != 0 {
		b.t.Errorf("%s: nobody read for %v, want %v", id, got, want)
	}
}

// absences are how an hour goes by in which nobody reads.
var absences = map[string]func(b *bench, hour func()){
	"down": func(b *bench, hour func()) {
		b.stop()
		hour()
		b.start(collector.DefaultSettings())
	},
	"killed and failing": func(b *bench, hour func()) {
		b.stop()
		b.source.Fail(errors.New("broken"))
		b.start(collector.DefaultSettings())
		hour()
		b.source.Fail(nil)
	},
	"paused": func(b *bench, hour func()) {
		b.change(func(i *integrationv1.Integration) { i.Paused = true })
		hour()
		b.change(func(i *integrationv1.Integration) { i.Paused = false })
	},
	"throttled": func(b *bench, hour func()) {
		b.source.Fail(&defender.Error{
			Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED}, RetryAt: time.Now().Add(time.Hour),
		})
		hour()
		b.source.Fail(nil)
	},
	"failing": func(b *bench, hour func()) {
		b.source.Fail(errors.New("broken"))
		hour()
		b.source.Fail(nil)
	},
	"not connected": func(b *bench, hour func()) {
		broken := errors.New("no such file")
		b.connect.Store(&broken)
		b.change(func(i *integrationv1.Integration) { i.Authentication.ClientId = "another" })
		hour()
		b.connect.Store(nil)
	},
	"the journal not written": func(b *bench, hour func()) {
		b.store.SetUnavailable(true)
		hour()
		b.store.SetUnavailable(false)
	},
}

// Nobody reads while the service is down, paused, throttled or failing: that is told of each revision that came meanwhile, counted from
// its last update, or from the creation of an alert of which nothing had been read. It is never Microsoft's lateness.
func TestAway(t *testing.T) {
	for name, absent := range absences {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newStillBench(t)
				before := time.Now()
				b.source.Put(titled("before", "x", before), before)
				b.source.Put(titled("updated", "x", before), before)
				b.start(collector.DefaultSettings())
				defer func() { b.stop() }()
				time.Sleep(10 * time.Minute)
				began := time.Now()
				absent(b, func() {
					at := func(minutes int) time.Time { return began.Add(time.Duration(minutes) * time.Minute) }
					b.source.Put(titled("inside", "x", at(20)), at(20))
					b.source.Put(updatedLater("created and updated inside", at(20), at(50)), at(20))
					b.source.Put(updatedLater("updated", before, at(40)), at(40))
					b.source.Put(titled("shown inside", "x", at(-3)), at(30))
					b.source.Put(titled("shown after", "x", at(20)), at(90))
					time.Sleep(time.Hour)
				})
				time.Sleep(2 * time.Hour)
				now := time.Now()
				b.source.Put(titled("after", "x", now), now)
				b.source.Put(titled("shown late", "x", now.Add(-time.Minute)), now.Add(90*time.Minute))
				time.Sleep(2 * time.Hour)
				b.wantAway("inside", 40*time.Minute)
				b.wantAway("created and updated inside", 40*time.Minute)
				b.wantAway("updated", 20*time.Minute)
				b.wantAway("shown inside", time.Hour)
				b.wantAway("shown after", 40*time.Minute)
				b.wantAway("before", 0)
				b.wantAway("after", 0)
				b.wantAway("shown late", 0)
				for id, late := range map[string]bool{"inside": false, "updated": false, "shown after": true, "after": false, "shown late": true} {
					if got := b.lastRevision(id).GetArrivedLate(); got != late {
						t.Errorf("%s arrived late: %t", id, got)
					}
				}
			})
		})
	}
}

// A deeper read that Microsoft throttles keeps polls from coming: nobody reads then, though no poll failed.
func TestAwayByADeeperRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.SlowInterval = 7 * time.Minute // polls come between the re-reads
		b := newStillBench(t)
		registry := b.startMeasured(settings)
		defer b.stop()
		time.Sleep(9 * time.Minute)
		reads := len(b.source.Reads())
		until := time.Now().Add(time.Hour)
		b.source.Fail(&defender.Error{Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED}, RetryAt: until})
		time.Sleep(2 * time.Minute)
		b.source.Fail(nil)
		if made := b.source.Reads()[reads:]; len(made) != 1 || time.Since(made[0]) < settings.Rereads[0].Span {
			t.Fatalf("the reads since %v were made, want one re-read", made)
		}
		b.source.Put(titled("inside", "x", until.Add(-30*time.Minute)), until.Add(-30*time.Minute))
		b.source.Put(titled("shown after", "x", until.Add(-30*time.Minute)), until.Add(15*time.Minute))
		time.Sleep(time.Until(until) + 40*time.Minute)
		b.wantAway("inside", 30*time.Minute)
		b.wantAway("shown after", 30*time.Minute)
		if n := sums(t, registry)["defender_integration_revision_lateness_seconds"]; n != 0 {
			t.Errorf("being away was counted %v times as lateness", n)
		}
	})
}

// filling is a store whose journals take nothing while it is full.
type filling struct {
	store.Store
	full atomic.Bool
}

func (s *filling) Journal(ctx context.Context, uid string) (store.Journal, error) {
	j, err := s.Store.Journal(ctx, uid)
	return &fillingJournal{j, s}, err
}

type fillingJournal struct {
	store.Journal
	store *filling
}

func (j *fillingJournal) Append(ctx context.Context, entries []*storev1.Entry) (uint64, error) {
	if j.store.full.Load() {
		return 0, store.ErrUnavailable
	}
	return j.Journal.Append(ctx, entries)
}

// What is read while the journal takes nothing is lost, and is read again: nobody read it then.
func TestAwayWhileTheJournalIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		full := &filling{Store: b.store}
		b.startOn(collector.DefaultSettings(), b.source, full)
		defer func() { b.stop() }()
		time.Sleep(10 * time.Minute)
		full.full.Store(true)
		b.source.Put(titled("inside", "x", time.Now()), time.Now())
		time.Sleep(time.Hour)
		full.full.Store(false)
		time.Sleep(10 * time.Minute)
		b.wantAway("inside", time.Hour)
		if b.lastRevision("inside").GetArrivedLate() {
			t.Error("what the journal did not take arrived late")
		}
	})
}

// What was updated where reads did not reach yet, or where Microsoft failed on it, nobody read until then.
func TestAwayBeforeReadsReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		source := &patchy{Source: b.source}
		b.startOn(collector.DefaultSettings(), source, b.store)
		defer func() { b.stop() }()
		registered := time.Now()
		b.source.Put(titled("before it was registered", "x", registered.Add(-48*time.Hour)), registered.Add(-48*time.Hour))
		source.set(span{registered.Add(20 * time.Minute), registered.Add(21 * time.Minute)})
		failed := registered.Add(20*time.Minute + 30*time.Second)
		b.source.Put(titled("failed on", "x", failed), failed)
		time.Sleep(time.Hour)
		if rev := b.lastRevision("before it was registered"); rev != nil {
			t.Fatalf("nobody asked for %v", rev)
		}
		member, _, err := b.collector().Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		member.SetReach(registered.Add(-72 * time.Hour))
		source.set()
		time.Sleep(30 * time.Minute)
		b.wantAway("before it was registered", 49*time.Hour)
		b.wantAway("failed on", 39*time.Minute+30*time.Second)
		if b.lastRevision("failed on").GetArrivedLate() {
			t.Error("what Microsoft failed on arrived late")
		}
	})
}

// Of what tells no last update, and of an alert from below the floor, it is not known for how long nobody read.
func TestAwayIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		b := newStillBench(t)
		b.start(settings)
		began := time.Now()
		b.source.Put(titled("trimmed", "x", began), began)
		time.Sleep(5 * time.Hour)
		if rev := b.lastRevision("trimmed"); rev != nil {
			t.Fatalf("it was not trimmed: %v", rev)
		}
		b.source.Put(updatedLater("trimmed", began.Add(-time.Second), time.Now()), time.Now())
		time.Sleep(5 * time.Minute)
		b.stop()
		source := &timeless{Source: b.source}
		b.startOn(settings, source, b.store)
		defer func() { b.stop() }()
		source.set("x")
		time.Sleep(5 * time.Minute)
		b.wantAway("t", 0) // since it was created
		source.set("y")
		time.Sleep(5 * time.Minute)
		for _, id := range []string{"trimmed", "t"} {
			if rev := b.lastRevision(id); rev == nil || rev.GetAway() != nil {
				t.Errorf("%s: nobody read for %v", id, rev.GetAway())
			}
		}
	})
}
