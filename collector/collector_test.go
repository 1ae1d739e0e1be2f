package collector_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

const deviceOne = "1111111111111111111111111111111111111111"

// bench is a collector on a memory store, in fake time.
type bench struct {
	t       *testing.T
	store   *store.Memory
	source  *collectortest.Source
	connect atomic.Pointer[error] // why no adapter can be made; nil while one can
	manager *collector.Manager
	stop    func()
}

func newBench(t *testing.T, settings collector.Settings) *bench {
	t.Helper()
	b := newStillBench(t)
	b.start(settings)
	return b
}

// newStillBench is a bench whose collector was not started yet.
func newStillBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, store: store.NewMemory(), source: &collectortest.Source{}}
	_, err := b.store.CreateRecord(t.Context(), &storev1.Record{Format: 1, Uid: "uid", Integration: &integrationv1.Integration{
		IntegrationId: "contoso", TenantId: "contoso.test",
		Authentication: &integrationv1.Authentication{ClientId: "app"},
		DeviceSource:   &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES},
		CreateTime:     timestamppb.Now(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) start(settings collector.Settings) {
	b.manager = collector.NewManager(collector.Options{
		Settings: settings,
		Store:    b.store,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			if err := b.connect.Load(); err != nil {
				return nil, *err
			}
			b.source.SetSpend(spend)
			return b.source, nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string { return []string{d.GetDeviceDnsName()} },
		Wanted:     func(keys []string) defender.Wanted { return defender.Wanted{FullNames: keys} },
		Log:        slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.manager.Run(ctx) })
	b.stop = func() {
		cancel()
		running.Wait()
	}
}

func (b *bench) collector() *collector.Collector {
	b.t.Helper()
	c, err := b.manager.Collector(b.t.Context(), "contoso", "uid")
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// entries reads the whole journal.
func (b *bench) entries() []store.Positioned {
	b.t.Helper()
	journal, err := b.store.Journal(b.t.Context(), "uid")
	if err != nil {
		b.t.Fatal(err)
	}
	stats, err := journal.Stats(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	var all []store.Positioned
	for p, err := range journal.Read(b.t.Context(), stats.First, stats.Last) {
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// revisions returns what revisions the journal has, as id and title.
func (b *bench) revisions() []string {
	var list []string
	for _, p := range b.entries() {
		if rev := p.Entry.GetRevision(); rev != nil {
			list = append(list, rev.GetKey()+" "+rev.GetAlert().GetTitle())
		}
	}
	return list
}

// titled returns an alert with a title and a last update.
func titled(id, title string, updated time.Time) *integrationv1.Alert {
	a := collectortest.Alert(id, deviceOne, "ws-one.contoso.test", updated)
	a.Title = title
	return a
}

func TestARevisionEntersOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		now := time.Now()
		at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
		b.source.Put(titled("a", "first", at(10)), at(20))
		b.source.Put(titled("a", "second", at(10)), at(100)) // the same time, other content: new
		b.source.Put(titled("a", "first", at(10)), at(200))  // content seen before: dropped
		b.source.Put(titled("a", "third", at(150)), at(300)) // newer: new
		b.source.Put(titled("a", "older", at(140)), at(400)) // older than what is there: dropped
		b.source.Put(titled("b", "late", at(150)), at(450))  // visible late, inside the overlap: new
		want := []string{"a first", "a second", "a third", "b late"}
		for _, restart := range []bool{false, true, true} {
			if restart {
				b.stop()
				b.start(collector.DefaultSettings())
			}
			time.Sleep(9 * time.Minute)
			synctest.Wait()
			if got := b.revisions(); !slices.Equal(got, want) {
				t.Errorf("revisions = %q, want %q", got, want)
			}
		}
	})
}

func TestRereadsFindWhatIsLaterThanTheOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		now := time.Now()
		b.source.Put(titled("two hours", "late", now), now.Add(100*time.Minute))
		b.source.Put(titled("a day", "late", now), now.Add(22*time.Hour))
		time.Sleep(2 * time.Hour)
		if got, want := b.revisions(), []string{"two hours late"}; !slices.Equal(got, want) {
			t.Errorf("after two hours: %q, want %q", got, want)
		}
		time.Sleep(21 * time.Hour)
		if got, want := b.revisions(), []string{"two hours late", "a day late"}; !slices.Equal(got, want) {
			t.Errorf("after a day: %q, want %q", got, want)
		}
	})
}

// Trimming moves the floor: what it dropped cannot enter again, and the device facts in force stay.
func TestTrimming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		b := newBench(t, settings)
		defer b.stop()
		now := time.Now()
		b.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now))
		b.source.Put(titled("old", "kept two hours", now), now)
		c := b.collector()
		member, _, err := c.Join(t.Context(), [][]string{{"ws-one.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		time.Sleep(59 * time.Minute)
		if got := b.revisions(); len(got) != 1 {
			t.Fatalf("revisions = %q before the age", got)
		}
		time.Sleep(5 * time.Hour)
		if got := b.revisions(); len(got) != 0 {
			t.Errorf("revisions = %q after the age, though every re-read returned it again", got)
		}
		facts := 0
		for _, p := range b.entries() {
			if p.Entry.GetDeviceFact() != nil {
				facts++
			}
		}
		if facts != 1 {
			t.Errorf("%d device facts after trimming, want the one in force", facts)
		}
		journal, _ := b.store.Journal(t.Context(), "uid")
		if floor := journal.Checkpoint().GetFloorTime().AsTime(); !floor.After(now) || floor.After(now.Add(time.Millisecond)) {
			t.Errorf("floor = %v, want just past %v", floor, now)
		}
		for _, since := range b.source.Reads()[400:] {
			if since.Before(now.Add(100 * time.Nanosecond)) {
				t.Fatalf("a read since %v goes below the floor", since)
			}
		}
	})
}

func TestThrottledUntilMicrosoftSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		time.Sleep(90 * time.Second)
		until := time.Now().Add(10 * time.Minute)
		b.source.Fail(&defender.Error{
			Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED, Message: "429"}, RetryAt: until,
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		calls := len(b.source.Reads())
		status := b.manager.Status("uid")
		if status.GetState() != integrationv1.IntegrationStatus_STATE_THROTTLED || !status.GetThrottledUntil().AsTime().Equal(until) {
			t.Errorf("status = %v, want throttled until %v", status, until)
		}
		time.Sleep(time.Until(until) - time.Second)
		if got := len(b.source.Reads()); got != calls {
			t.Errorf("%d calls before the time that Microsoft said", got-calls)
		}
		b.source.Fail(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if status := b.manager.Status("uid"); status.GetState() != integrationv1.IntegrationStatus_STATE_ACTIVE || status.GetProblem() != nil {
			t.Errorf("status = %v, want active", status)
		}
	})
}

// A problem keeps the time that it began, and the wait between tries grows to its bound.
func TestFailingBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		b.source.Fail(errors.New("broken"))
		time.Sleep(2 * time.Minute)
		began, before := time.Now(), len(b.source.Reads())
		time.Sleep(time.Hour)
		calls := len(b.source.Reads()) - before
		if calls < 40 || calls > 75 {
			t.Errorf("%d calls in an hour of failing, want about one a minute", calls)
		}
		if since := b.manager.Status("uid").GetProblem().GetSince().AsTime(); since.After(began) {
			t.Errorf("the problem is dated %v, and began before %v", since, began)
		}
	})
}

// A pair that completes a stream comes with the devices' last reports, for the streams that joined before it.
func TestClosingBringsTheLastReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		now := time.Now()
		b.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now))
		member, _, err := b.collector().Join(t.Context(), [][]string{{"ws-one.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer member.Leave()
		member.SetClosing(collector.Closing{Since: now.Add(-time.Hour), Due: now.Add(10 * time.Minute)})
		time.Sleep(8 * time.Minute)
		b.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(9*time.Minute)))
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		entries := b.entries()
		var kinds []string
		for _, p := range entries {
			switch {
			case p.Entry.GetDeviceFact() != nil:
				kinds = append(kinds, "fact "+p.Entry.GetDeviceFact().GetDevice().GetLastSeenTime().AsTime().Sub(now).String())
			case p.Entry.GetPair() != nil:
				kinds = append(kinds, p.Entry.GetPair().GetPair().GetDepth().String())
			}
		}
		want := []string{"fact 0s", "DEPTH_REREAD", "fact 9m0s", "DEPTH_CLOSING"}
		if !slices.Equal(kinds, want) {
			t.Errorf("entries = %q, want %q", kinds, want)
		}
		pair := entries[len(entries)-1].Entry.GetPair().GetPair()
		if pair.GetThrough().AsTime().Before(now.Add(10 * time.Minute)) {
			t.Errorf("the closing read's pair is %v: it began before it was due", pair)
		}
	})
}

// Closing reads are shared: at most one begins in an interval, however the streams that wait for one end.
func TestClosingReadsKeepTheirInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		b := newBench(t, settings)
		defer b.stop()
		now := time.Now()
		var last time.Time
		for i := range 100 {
			member, _, err := b.collector().Join(t.Context(), [][]string{{"ws-one.contoso.test"}})
			if err != nil {
				t.Fatal(err)
			}
			defer member.Leave()
			last = now.Add(10*time.Minute + time.Duration(i)*3*time.Second)
			member.SetClosing(collector.Closing{Since: now.Add(-48*time.Hour - time.Duration(i)*time.Second), Due: last})
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		var through []time.Time
		for _, p := range b.entries() {
			if pair := p.Entry.GetPair().GetPair(); pair.GetDepth() == integrationv1.Pair_DEPTH_CLOSING {
				through = append(through, pair.GetThrough().AsTime())
			}
		}
		for i := 1; i < len(through); i++ {
			// Through is whole seconds of Microsoft's clock.
			if gap := through[i].Sub(through[i-1]); gap < settings.ClosingInterval-time.Second {
				t.Errorf("a closing read began %s after the one before", gap)
			}
		}
		if len(through) < 5 || len(through) > 15 || through[len(through)-1].Before(last) {
			t.Errorf("closing reads through %v for streams that end through %v", through, last)
		}
	})
}

// A revision that is too large for an entry loses its raw bytes, then evidence, and says so.
func TestTooLargeForAnEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer b.stop()
		now := time.Now()
		large := titled("large", "large", now)
		for range 40 {
			e := proto.CloneOf(large.GetEvidence()[1])
			e.RemediationStatusDetails = string(slices.Repeat([]byte("x"), 50_000))
			large.Evidence = append(large.Evidence, e)
		}
		b.source.Put(large, now)
		huge := titled("huge", "huge", now)
		huge.Description = string(slices.Repeat([]byte("y"), 3_000_000))
		b.source.Put(huge, now)
		time.Sleep(2 * time.Minute)
		entries := b.entries()
		if len(entries) != 2 {
			t.Fatalf("%d entries, want 2", len(entries))
		}
		for _, p := range entries {
			rev := p.Entry.GetRevision()
			o := rev.GetOmission()
			if proto.Size(p.Entry) > store.MaxEntrySize || !o.GetRawOmitted() || len(rev.GetRaw()) != 0 || o.GetRawSize() < 2_000_000 {
				t.Errorf("%s: size %d, omission %v", rev.GetKey(), proto.Size(p.Entry), o)
			}
			if rev.GetKey() == "large" && int(o.GetEvidenceOmitted())+len(rev.GetAlert().GetEvidence()) != 42 {
				t.Errorf("evidence: %d kept and %d omitted of 42", len(rev.GetAlert().GetEvidence()), o.GetEvidenceOmitted())
			}
		}
	})
}
