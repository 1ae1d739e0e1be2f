package stream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/server/stream"
	"defender-integration/store"
)

// An append that fails after some of it was stored, or all: each revision reaches the stream once.
func TestAppendFails(t *testing.T) {
	for stored := range 4 {
		t.Run(fmt.Sprint(stored, " stored"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t, collector.DefaultSettings())
				defer h.stop()
				c := h.open(&integrationv1.StreamAlertsRequest{IntegrationId: integrationID})
				time.Sleep(5 * time.Second)
				now := time.Now()
				var want []string
				for i := range 3 {
					id := fmt.Sprint("a", i)
					h.source.Put(collectortest.Alert(id, deviceOne, "", now.Add(time.Duration(i)*time.Millisecond)), now)
					want = append(want, "KIND_NEW "+id+" A test alert")
				}
				h.store.FailAppend("uid-1", stored, store.ErrUnavailable)
				time.Sleep(5 * time.Minute)
				if got := journalled(c.close()); !slices.Equal(got, want) {
					t.Errorf("events = %q, want %q", got, want)
				}
			})
		})
	}
}

// A damaged journal is told: the running stream ends, its token is refused, and what was collected is read back.
func TestDamagedJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		for i := range 3 {
			h.source.Put(collectortest.Alert(fmt.Sprint("a", i), deviceOne, "", now.Add(time.Duration(i)*time.Second)), now.Add(5*time.Second))
		}
		request := &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Window: &integrationv1.Window{StartTime: timestamppb.New(now)},
		}
		c := h.open(request)
		time.Sleep(time.Hour)
		events := c.close()
		want := []string{"KIND_NEW a0 A test alert", "KIND_NEW a1 A test alert", "KIND_NEW a2 A test alert"}
		if got := journalled(events); !slices.Equal(got, want) {
			t.Fatalf("events = %q, want %q", got, want)
		}
		h.stop()
		h.store.Damage("uid-1", 2)
		h.start(collector.DefaultSettings())
		time.Sleep(time.Minute)
		again := h.open(resumed(request, events[len(events)-1].GetResumeToken()))
		<-again.done
		var f *failure.Error
		if !errors.As(again.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED {
			t.Fatalf("resumed: %v", again.err)
		}
		anew := h.open(resumed(request, f.Metadata["oldest_resume_token"]))
		time.Sleep(time.Minute)
		if got := journalled(anew.close()); !slices.Equal(got, want) {
			t.Errorf("read back: %q, want %q", got, want)
		}
	})
}

// renewing is a store whose journals have another identity once an entry is asked for while it is armed.
type renewing struct {
	store.Store
	armed, renewed atomic.Bool
}

func (r *renewing) Journal(ctx context.Context, uid string) (store.Journal, error) {
	journal, err := r.Store.Journal(ctx, uid)
	return &renewed{journal, r}, err
}

// renewed is a journal of such a store.
type renewed struct {
	store.Journal
	store *renewing
}

func (j *renewed) Get(ctx context.Context, sequence uint64) (store.Positioned, error) {
	if j.store.armed.Load() {
		j.store.renewed.Store(true)
	}
	return j.Journal.Get(ctx, sequence)
}

func (j *renewed) Checkpoint() *storev1.Checkpoint {
	checkpoint := j.Journal.Checkpoint()
	if j.store.renewed.Load() {
		checkpoint = proto.CloneOf(checkpoint)
		checkpoint.Identity = "another"
	}
	return checkpoint
}

// A journal that is replaced while a stream is resumed is no fault of the service's: the caller is to come again.
func TestReplacedWhileAStreamBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		ctx, cancel := context.WithCancel(context.Background())
		renewing := &renewing{Store: h.store}
		h.streams = stream.New(ctx, stream.Options{Store: renewing, Collectors: h.manager, Log: slog.New(slog.DiscardHandler)})
		defer func() {
			cancel()
			h.streams.Wait()
		}()
		request := following(actorNamed("one", "ws-one.contoso.test"))
		c := h.open(request)
		time.Sleep(time.Second)
		h.source.Put(collectortest.Alert("a", deviceOne, "ws-one.contoso.test", time.Now()), time.Now())
		time.Sleep(time.Minute)
		events := c.close()
		renewing.armed.Store(true)
		again := h.open(resumed(request, events[len(events)-1].GetResumeToken()))
		<-again.done
		var f *failure.Error
		if !errors.As(again.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE {
			t.Errorf("it ended with %v", again.err)
		}
	})
}

// A stream that trimming overtook is told that history is gone, and one whose window begins below the floor cannot be judged.
func TestHistoryThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		now := time.Now()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(3*time.Hour)))
		h.source.Put(collectortest.Alert("a", deviceOne, "ws-one.contoso.test", now.Add(30*time.Minute)), now.Add(30*time.Minute))
		time.Sleep(3 * time.Hour)
		c := h.open(&integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID,
			Actors:        []*integrationv1.Actor{actorNamed("one", "ws-one.contoso.test")},
			Window:        &integrationv1.Window{StartTime: timestamppb.New(now), EndTime: timestamppb.New(now.Add(time.Hour))},
		})
		<-c.done
		if c.err != nil {
			t.Fatal(c.err)
		}
		gaps := 0
		for _, e := range c.events {
			if e.GetGap() != nil {
				gaps++
			}
		}
		if gaps != 1 {
			t.Errorf("%d gaps were told, want 1", gaps)
		}
		last := c.events[len(c.events)-1].GetCompleted()
		if got := last.GetFailedClosing().GetReason(); got != integrationv1.ErrorReason_ERROR_REASON_HISTORY_GONE {
			t.Errorf("the closing failed for %v", got)
		}
		if v := last.GetVerdicts()[0]; v.GetCannotJudgeReason() != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE {
			t.Errorf("verdict = %v", v)
		}
	})
}

// A pair that was made while the window's alerts were there proves no absence to a stream that comes to it after they were trimmed.
func TestWhatThePairRestsOnIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		h.source.Put(collectortest.Alert("a", deviceOne, "ws-one.contoso.test", time.Now()), time.Now().Add(30*time.Second))
		beside := h.open(following(actorNamed("one", "ws-one.contoso.test"))) // so that devices are looked up
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		c, same := h.open(request), h.open(request)
		time.Sleep(time.Second)
		token := lastToken(c.close())
		completedOf(t, same)
		time.Sleep(58 * time.Minute) // The alert is gone, and the pair that the other stream waited for is there.
		expired := h.open(resumed(request, token))
		<-expired.done
		oldest, ok := oldestOf(expired.err)
		if !ok {
			t.Fatalf("resumed with a token from before what was trimmed: %v", expired.err)
		}
		again := h.open(resumed(request, oldest))
		<-again.done
		if got := journalled(beside.close()); !slices.Equal(got, []string{"KIND_NEW a A test alert"}) {
			t.Errorf("the stream beside it has %q", got)
		}
		last := again.events[len(again.events)-1].GetCompleted()
		if last.GetPair() == nil {
			t.Fatalf("it ended with %v, %v", last, again.err)
		}
		v := last.GetVerdicts()[0]
		if v.GetVerdict() != integrationv1.Verdict_VERDICT_CANNOT_JUDGE ||
			v.GetCannotJudgeReason() != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_COLLECTION_INCOMPLETE {
			t.Errorf("verdict = %v", v)
		}
	})
}

// A token below the oldest entry is refused, and the error has the oldest that works.
func TestTokenBelowTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		request := &integrationv1.StreamAlertsRequest{IntegrationId: integrationID}
		c := h.open(request)
		time.Sleep(time.Second)
		token := c.close()[0].GetResumeToken()
		time.Sleep(5 * time.Hour)
		again := h.open(resumed(request, token))
		<-again.done
		var f *failure.Error
		if !errors.As(again.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED {
			t.Fatalf("resumed: %v", again.err)
		}
		works := h.open(resumed(request, f.Metadata["oldest_resume_token"]))
		time.Sleep(time.Second)
		if events := works.close(); len(events) == 0 {
			t.Errorf("the oldest token that works: %v", works.err)
		}
	})
}

// A stream whose window begins below the floor fails alone: others of the same time get their own closing read.
func TestFailedClosingLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		began := time.Now()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", began.Add(3*time.Hour)))
		h.source.Put(collectortest.Alert("a", deviceOne, "ws-one.contoso.test", began.Add(30*time.Minute)), began.Add(30*time.Minute))
		time.Sleep(3 * time.Hour)
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		below := resumed(request, "")
		below.Window.StartTime = timestamppb.New(began)
		fresh, old := h.open(request), h.open(below)
		<-fresh.done
		<-old.done
		if got, want := journalled(fresh.events), []string{"one VERDICT_MISSED"}; !slices.Equal(got, want) {
			t.Errorf("the stream of a fresh window: %q, want %q", got, want)
		}
		if got, want := journalled(old.events), []string{"one VERDICT_CANNOT_JUDGE"}; !slices.Equal(got, want) {
			t.Errorf("the stream below the floor: %q, want %q", got, want)
		}
	})
}

// The token of a stream's first event works, also where the journal was trimmed before the stream began.
func TestFirstTokenWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		time.Sleep(5 * time.Hour)
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		c := h.open(request)
		time.Sleep(time.Second)
		again := h.open(resumed(request, c.close()[0].GetResumeToken()))
		time.Sleep(time.Second)
		if again.close(); !errors.Is(again.err, context.Canceled) {
			t.Errorf("resumed with the first event's token: %v", again.err)
		}
	})
}

// A pause from before a closing read was due does not lengthen the time that it is tried.
func TestPausedBeforeItWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"))
		request.Window.EndTime = timestamppb.New(time.Now().Add(3 * time.Hour))
		c := h.open(request)
		time.Sleep(time.Minute)
		h.pause(true)
		time.Sleep(2 * time.Hour)
		h.pause(false)
		time.Sleep(time.Minute)
		h.source.Fail(errors.New("broken"))
		<-c.done
		if after := time.Since(request.GetWindow().GetEndTime().AsTime().Add(2 * time.Minute)); after > 16*time.Minute {
			t.Errorf("the closing failed %v after it was due, want 15 minutes", after)
		}
	})
}
