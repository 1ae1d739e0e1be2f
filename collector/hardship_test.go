package collector_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
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

// odd is a source that fails, or takes its time, by how far back it is asked, and whose clock differs.
type odd struct {
	*collectortest.Source
	mu    sync.Mutex
	fail  func(since time.Time) error
	delay func(since time.Time) time.Duration
	skew  time.Duration
}

func (o *odd) Alerts() defender.AlertSource { return o }
func (o *odd) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	o.mu.Lock()
	fail, delay, skew := o.fail, o.delay, o.skew
	o.mu.Unlock()
	if delay != nil {
		time.Sleep(delay(since))
	}
	if fail != nil {
		if err := fail(since); err != nil {
			return defender.Read{}, err
		}
	}
	r, err := o.Source.ReadAlerts(ctx, since, known, yield)
	r.Through = r.Through.Add(skew)
	return r, err
}

// An entry as large as one may be is stored, and holds up nothing behind it.
func TestEntryAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		a := titled("size0", "x", time.Now())
		a.Description = strings.Repeat("y", 495_000)
		b.source.Put(a, time.Now())
		time.Sleep(2 * time.Minute)
		size := proto.Size(b.entries()[0].Entry)
		a = titled("size1", "x", time.Now())
		a.Description = strings.Repeat("y", 495_000+(store.MaxEntrySize-5-size)/2)
		b.source.Put(a, time.Now())
		b.source.Put(titled("zz", "behind", time.Now().Add(time.Millisecond)), time.Now())
		time.Sleep(30 * time.Minute)
		if got := b.revisions(); len(got) != 3 {
			t.Errorf("revisions %q, want 3", got)
		}
	})
}

// A closing read that always fails does not keep polls from being made.
func TestFailingClosingStarvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		b := newBench(t, settings)
		b.stop()
		now := time.Now()
		o := &odd{Source: b.source}
		o.fail = func(since time.Time) error {
			if since.Before(now.Add(-3 * time.Hour)) {
				return &defender.Error{Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INSTANT_TOO_FULL}, Permanent: true}
			}
			return nil
		}
		b.startOdd(settings, o)
		defer func() { b.stop() }()
		m, _, err := b.collector().Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		time.Sleep(time.Minute)
		m.SetClosing(collector.Closing{Since: now.Add(-5 * time.Hour), Due: time.Now()})
		time.Sleep(time.Second)
		b.source.Put(titled("a", "new", time.Now()), time.Now())
		time.Sleep(10 * time.Minute)
		if got := b.revisions(); len(got) != 1 {
			t.Errorf("ten minutes on, revisions %q", got)
		}
	})
}

func (b *bench) startOdd(settings collector.Settings, o *odd) { b.startOn(settings, o, b.store) }

func (b *bench) startOn(settings collector.Settings, o collector.Source, s store.Store) {
	b.manager = collector.NewManager(collector.Options{
		Settings: settings, Store: s,
		Connect: func(_ *storev1.Record, spend defender.SpendFunc) (collector.Source, error) {
			b.source.SetSpend(spend)
			return o, nil
		},
		DeviceKeys: func(d *integrationv1.Device) []string { return []string{d.GetDeviceDnsName()} },
		Log:        slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.manager.Run(ctx) })
	b.stop = func() { cancel(); running.Wait() }
}

// unreadable is a store whose second watch cannot read a record, and leaves it out.
type unreadable struct {
	store.Store
	mu      sync.Mutex
	watches int
	end     context.CancelFunc
}

func (u *unreadable) WatchRecords(ctx context.Context) (<-chan store.Change, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.watches++
	ctx, u.end = context.WithCancel(ctx)
	in, err := u.Store.WatchRecords(ctx)
	if err != nil || u.watches == 1 {
		return in, err
	}
	out := make(chan store.Change)
	go func() {
		defer close(out)
		for c := range in {
			if c.Record != nil {
				continue
			}
			select {
			case out <- c:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

func TestUnreadableRecordKeepsItsJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		u := &unreadable{Store: b.store}
		b.startOn(collector.DefaultSettings(), b.source, u)
		defer func() { b.stop() }()
		b.source.Put(titled("a", "kept", time.Now()), time.Now())
		time.Sleep(time.Minute)
		u.mu.Lock()
		u.end()
		u.mu.Unlock()
		time.Sleep(time.Minute)
		if got := b.revisions(); len(got) != 1 {
			t.Errorf("the record is still registered, and its journal has %q", got)
		}
	})
}

// What Microsoft said holds, whatever of the integration is updated.
func TestUpdateKeepsRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		b.source.Fail(&defender.Error{Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED}, RetryAt: time.Now().Add(30 * time.Minute)})
		time.Sleep(2 * time.Minute)
		before := len(b.source.Reads())
		for range 5 {
			r, rev, _ := b.store.Record(t.Context(), "contoso")
			r.Integration.DisplayName += "x"
			r.Integration.UpdateTime = timestamppb.Now()
			if _, err := b.store.UpdateRecord(t.Context(), r, rev); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := len(b.source.Reads()) - before; n != 0 {
			t.Errorf("%d reads before Microsoft's time", n)
		}
	})
}

// A pair comes with the facts for streams that joined before it and are still catching up.
func TestPairComesWithFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		o := &odd{Source: b.source}
		o.delay = func(since time.Time) time.Duration {
			if time.Since(since) > time.Hour {
				return 20 * time.Second // a re-read of many pages
			}
			return 0
		}
		b.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		b.startOdd(collector.DefaultSettings(), o)
		defer func() { b.stop() }()
		other, _, _ := b.collector().Join(t.Context(), [][]string{{"other"}})
		defer other.Leave()
		time.Sleep(10*time.Minute + 5*time.Second) // inside the re-read
		m, checkpoint, err := b.collector().Join(t.Context(), [][]string{{"ws-one.contoso.test"}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		time.Sleep(time.Minute)
		fact := false
		for _, p := range b.entries() {
			if p.Sequence <= checkpoint.GetLastSequence() {
				continue
			}
			fact = fact || p.Entry.GetDeviceFact() != nil
			if p.Entry.GetPair() != nil && !fact {
				t.Errorf("the pair at %d comes after joining (%d) and before the fact", p.Sequence, checkpoint.GetLastSequence())
			}
		}
	})
}

// A closing read is tried for as long as it is to be by Microsoft's clock, also where this machine's is 20 minutes ahead.
func TestClosingByMicrosoftsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		o := &odd{Source: b.source, skew: -20 * time.Minute}
		o.delay = func(time.Time) time.Duration { return time.Second }
		b.startOdd(collector.DefaultSettings(), o)
		defer func() { b.stop() }()
		m, _, err := b.collector().Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		m.SetClosing(collector.Closing{Since: time.Now().Add(-time.Hour), Due: time.Now()})
		time.Sleep(25 * time.Minute)
		for _, p := range b.entries() {
			if f := p.Entry.GetFailedClosing(); f != nil {
				t.Errorf("failed at %v after the start, due in %v by Microsoft's clock: %v", p.Entry.GetEntryTime().AsTime(), 20*time.Minute, f.GetProblem().GetMessage())
			}
		}
	})
}

// A read that waited before it called, for the budget or a token, does not make Microsoft's clock seem ahead: the closing read is made once,
// when the window has ended.
func TestClosingIsNotEarlyByWhatAPollWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		due := time.Now().Add(10 * time.Minute)
		start := due.Add(-5 * time.Hour)
		var closings []time.Time
		o := &odd{Source: b.source}
		o.delay = func(since time.Time) time.Duration {
			if since.Equal(start) {
				closings = append(closings, time.Now())
				return 0
			}
			return 40 * time.Second
		}
		b.startOdd(collector.DefaultSettings(), o)
		defer func() { b.stop() }()
		m, _, err := b.collector().Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		m.SetClosing(collector.Closing{Since: start, Due: due})
		time.Sleep(20 * time.Minute)
		m.Leave()
		if len(closings) != 1 || closings[0].Before(due) {
			t.Errorf("closing reads at %v, want one, at %s or later", closings, due)
		}
	})
}

// A process that knows nothing of Microsoft's clock, since all its reads fail, goes by what the one before it knew.
func TestClosingByTheClockThatWasKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		b := newStillBench(t)
		o := &odd{Source: b.source, skew: -20 * time.Minute}
		b.startOdd(settings, o)
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		b.stop()
		o.mu.Lock()
		o.fail = func(time.Time) error { return errors.New("refused") }
		o.mu.Unlock()
		b.startOdd(settings, o)
		m, _, err := b.collector().Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		due := time.Now()
		m.SetClosing(collector.Closing{Since: due.Add(-time.Hour), Due: due})
		time.Sleep(settings.ClosingLimit + 21*time.Minute)
		var failed []time.Duration
		for _, p := range b.entries() {
			if p.Entry.GetFailedClosing() != nil {
				failed = append(failed, p.Entry.GetEntryTime().AsTime().Add(o.skew).Sub(due))
			}
		}
		if len(failed) != 1 || failed[0] < settings.ClosingLimit || failed[0] > settings.ClosingLimit+time.Minute {
			t.Errorf("given up after %v by Microsoft's clock, want once and after %v", failed, settings.ClosingLimit)
		}
	})
}

// fullStore is a store whose journals take nothing.
type fullStore struct{ store.Store }

func (s fullStore) Journal(ctx context.Context, uid string) (store.Journal, error) {
	j, err := s.Store.Journal(ctx, uid)
	return fullJournal{j}, err
}

type fullJournal struct{ store.Journal }

func (fullJournal) Append(context.Context, []*storev1.Entry) (uint64, error) {
	return 0, store.ErrUnavailable
}

// Streams that come and go do not cut the wait after a failing store short: each try would end in a call at Microsoft.
func TestStreamsDoNotHurryAFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		b.startOn(collector.DefaultSettings(), b.source, fullStore{b.store})
		defer func() { b.stop() }()
		b.source.Put(titled("a", "x", time.Now()), time.Now())
		time.Sleep(2 * time.Minute)
		before := len(b.source.Reads())
		for range 300 {
			m, _, err := b.collector().Join(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			m.Leave()
			time.Sleep(time.Second)
		}
		if reads := len(b.source.Reads()) - before; reads < 1 || reads > 10 {
			t.Errorf("%d reads in five minutes of a failing store, want about one a minute", reads)
		}
	})
}

// stuckLedgers is a store that keeps no ledger.
type stuckLedgers struct{ store.Store }

func (stuckLedgers) PutLedger(context.Context, string, *storev1.Ledger, uint64) (uint64, error) {
	return 0, store.ErrUnavailable
}

// A call that cannot be counted is not made, and told as a failure of the store, not of Microsoft.
func TestCallThatCannotBeCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		b.startOn(collector.DefaultSettings(), b.source, stuckLedgers{b.store})
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		status := b.collector().Status()
		if status.GetState() != integrationv1.IntegrationStatus_STATE_FAILING ||
			status.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE || len(status.GetPairs()) != 0 {
			t.Errorf("the status is %v", status)
		}
	})
}
