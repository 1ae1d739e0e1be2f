package stream_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

func following(actors ...*integrationv1.Actor) *integrationv1.StreamAlertsRequest {
	return &integrationv1.StreamAlertsRequest{IntegrationId: integrationID, Actors: actors}
}

func lastToken(events []*integrationv1.StreamAlertsResponse) string {
	return events[len(events)-1].GetResumeToken()
}

// Trimming repeats the device facts that are in force. They are no news: a stream resumed behind an alert does not get it again.
func TestResumeAcrossTrimmedFact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		request := following(actorNamed("one", "ws-one"))
		c := h.open(request)
		time.Sleep(30 * time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(10 * time.Minute)
		events := c.close()
		time.Sleep(22 * time.Minute)
		again := h.open(resumed(request, lastToken(events)))
		time.Sleep(time.Minute)
		if got := journalled(again.close()); len(got) != 0 {
			t.Errorf("resumed behind a1: %q again (err %v)", got, again.err)
		}
	})
}

// An event of a second look keeps its place, also where an entry that made one before it was trimmed meanwhile.
func TestOrdinalsOutliveTrimming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		request := following(actorNamed("one", "ws-one"))
		c := h.open(request)
		time.Sleep(time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(30 * time.Minute)
		h.source.Put(collectortest.Alert("a2", deviceOne, "", time.Now()), time.Now())
		time.Sleep(10 * time.Minute)
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		time.Sleep(10 * time.Minute)
		events := c.close()
		var token string
		for _, e := range events {
			if e.GetAlert().GetAlert().GetId() == "a1" {
				token = e.GetResumeToken()
			}
		}
		time.Sleep(13 * time.Minute)
		again := h.open(resumed(request, token))
		time.Sleep(time.Minute)
		if got := journalled(again.close()); len(got) != 1 {
			t.Errorf("resumed behind a1: %q, want a2 (err %v)", got, again.err)
		}
	})
}

// With an alert that a second look finds come its later revisions, also one that is about another device.
func TestSecondLookBringsLaterRevisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		c := h.open(following(actorNamed("one", "ws-one")))
		time.Sleep(time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceTwo, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		time.Sleep(10 * time.Minute)
		if got := journalled(c.close()); len(got) != 2 {
			t.Errorf("events %q, want NEW and the later revision that no longer matches", got)
		}
	})
}

// A journal that is renewed under a running stream: nothing that was proven of the old one is told, and the token that works does.
func TestRenewedUnderAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		now := time.Now()
		request := &integrationv1.StreamAlertsRequest{IntegrationId: integrationID, Window: &integrationv1.Window{StartTime: timestamppb.New(now)}}
		h.source.Put(collectortest.Alert("a1", deviceOne, "", now), now)
		c := h.open(request)
		time.Sleep(20 * time.Minute)
		h.store.Cut("uid-1", 1)
		h.source.Put(collectortest.Alert("a2", deviceOne, "", time.Now()), time.Now())
		for range 600 {
			if h.manager.Status("uid-1").GetProblem().GetReason() == integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		h.source.Fail(errors.New("down"))
		<-c.done
		var f *failure.Error
		if !errors.As(c.err, &f) {
			t.Fatalf("ended with %v", c.err)
		}
		time.Sleep(5 * time.Second)
		if pairs := h.manager.Status("uid-1").GetPairs(); len(pairs) != 0 {
			t.Errorf("a new identity, nothing read back yet, and %d pairs are told: %v", len(pairs), pairs)
		}
		h.source.Fail(nil)
		again := h.open(resumed(request, f.Metadata["oldest_resume_token"]))
		time.Sleep(2 * time.Minute)
		got := journalled(again.close())
		if len(got) != 2 {
			t.Errorf("with the oldest token that works (%v): %q, err %v", f.Reason, got, again.err)
		}
	})
}

// A stream of a journal that was replaced is told no pair of the new one: what that rests on does not come on this stream. The streams
// are many, since each has the pair and the end of its journal to choose from.
func TestNoPairOfANewJournalOnAnOldStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		var calls []*call
		for range 32 {
			calls = append(calls, h.open(following()))
		}
		time.Sleep(21 * time.Minute)
		h.store.Cut("uid-1", 1)
		late := time.Now()
		h.source.Put(collectortest.Alert("a1", deviceOne, "", late), late)
		for _, c := range calls {
			<-c.done
			for _, e := range c.events {
				for _, pair := range e.GetProgress().GetPairs() {
					if !pair.GetThrough().AsTime().Before(late) {
						t.Fatalf("a1 was not sent, and the stream is told %v", pair)
					}
				}
			}
		}
	})
}

// The fact that trimming drops need not be the newest about its device.
func TestResumeAcrossTrimmedOlderFact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		device := collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now())
		h.source.SetDevices(device)
		request := following(actorNamed("one", "ws-one"))
		c := h.open(request)
		time.Sleep(30 * time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(5 * time.Minute)
		events := c.close()
		other := h.open(request)
		ill := collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now())
		ill.HealthStatus = integrationv1.HealthStatus_HEALTH_STATUS_INACTIVE
		h.source.SetDevices(ill)
		time.Sleep(27 * time.Minute)
		again := h.open(resumed(request, lastToken(events)))
		time.Sleep(time.Minute)
		other.close()
		if got := journalled(again.close()); len(got) != 0 {
			t.Errorf("resumed behind a1: %q again (err %v)", got, again.err)
		}
	})
}

// A device that had another name before, and that another stream asked for by it, is the Actor's from when it has the Actor's name.
func TestDeviceThatTakesTheActorsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-two.contoso.test", time.Now()))
		other, c := h.open(following(actorNamed("two", "ws-two"))), h.open(following(actorNamed("one", "ws-one")))
		time.Sleep(10 * time.Minute)
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		time.Sleep(10 * time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		other.close()
		if got := journalled(c.close()); !slices.Equal(got, []string{"KIND_NEW a1 A test alert"}) {
			t.Errorf("events %q, want a1", got)
		}
	})
}

// A device that the Actor had, lost and has again is a new one: what came about it meanwhile is sent.
func TestDeviceThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		c := h.open(following(actorNamed("one", "ws-one")))
		time.Sleep(10 * time.Minute)
		h.source.SetDevices()
		time.Sleep(10 * time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(10 * time.Minute)
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		time.Sleep(10 * time.Minute)
		if got := journalled(c.close()); !slices.Equal(got, []string{"KIND_NEW a1 A test alert"}) {
			t.Errorf("events %q, want a1", got)
		}
	})
}

// A device that the Actor's was merged into is the Actor's once it is known itself: what came about it before is sent.
func TestDeviceThatTheActorsWasMergedInto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer h.stop()
		c := h.open(following(actorNamed("one", "ws-one")))
		time.Sleep(time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceTwo, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		merged := collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now())
		merged.MergedIntoDeviceId = deviceTwo
		h.source.SetDevices(merged, collectortest.Device(deviceTwo, "ws-two.contoso.test", time.Now()))
		time.Sleep(10 * time.Minute)
		if got := journalled(c.close()); !slices.Equal(got, []string{"KIND_NEW a1 A test alert"}) {
			t.Errorf("events %q, want a1", got)
		}
	})
}

// An alert whose earlier revision lay before the window is new to a stream, also where trimming has dropped that revision since.
func TestNewThoughAnEarlierRevisionWasTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(50 * time.Minute)
		request := following()
		request.Window = &integrationv1.Window{StartTime: timestamppb.Now()}
		token := lastToken(h.open(request).closeAfter(time.Minute))
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		steady := h.open(resumed(request, token))
		time.Sleep(20 * time.Minute)
		late := h.open(resumed(request, token))
		time.Sleep(time.Minute)
		want := []string{"KIND_NEW a1 A test alert"}
		for _, c := range []*call{steady, late} {
			if got := journalled(c.close()); !slices.Equal(got, want) {
				t.Errorf("events %q, want %q (err %v)", got, want, c.err)
			}
		}
	})
}

// closeAfter ends a stream after a while and returns its events.
func (c *call) closeAfter(d time.Duration) []*integrationv1.StreamAlertsResponse {
	time.Sleep(d)
	return c.close()
}

// A device that was gone before the journal's first entry is nobody's, also where trimming had repeated that it was there, and that stays.
func TestGoneBeforeTheJournalBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge, settings.DeviceInterval, settings.DeviceRefresh = time.Hour, 45*time.Minute, 45*time.Minute
		h := newHouse(t, settings)
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		keeper := h.open(following(actorNamed("one", "ws-one")))
		defer keeper.close()
		time.Sleep(10 * time.Minute)
		h.source.SetDevices() // The look-up after 45 minutes finds it gone, the trimming after an hour repeats that it was there.
		time.Sleep(97 * time.Minute)
		request := following(actorNamed("one", "ws-one"))
		late := h.open(request)
		time.Sleep(time.Second)
		h.source.Put(collectortest.Alert("a", deviceOne, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		if got := journalled(late.close()); len(got) > 0 {
			t.Errorf("%q came to a stream whose Actor has no device (%v)", got, late.err)
		}
	})
}
