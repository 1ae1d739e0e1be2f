package stream_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// A stream forgets the alerts that trimming dropped, as one that is resumed then never knew of them: both tell the same of what comes
// later, and one that runs for long does not remember ever more.
func TestTrimmedAlertsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		request := following(actorNamed("one", "ws-one"))
		running, ended := h.open(request), h.open(request)
		time.Sleep(time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(30 * time.Minute)
		h.source.Put(collectortest.Alert("a2", deviceOne, "", time.Now()), time.Now())
		time.Sleep(35 * time.Minute)
		before := ended.close()
		// The revision of a1 that was sent is gone, that of a2 is not; neither alert is about the Actor's device any more.
		again := h.open(resumed(request, lastToken(before)))
		h.source.Put(collectortest.Alert("a1", deviceTwo, "", time.Now()), time.Now())
		h.source.Put(collectortest.Alert("a2", deviceTwo, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(time.Minute)
		want := []string{"KIND_UPDATED a2 A test alert", "KIND_NEW a1 A test alert"}
		if got := journalled(again.close()); !slices.Equal(got, want) {
			t.Errorf("the stream that was resumed: %q, want %q (err %v)", got, want, again.err)
		}
		if got := journalled(running.close())[2:]; !slices.Equal(got, want) {
			t.Errorf("the stream that ran: %q, want %q (err %v)", got, want, running.err)
		}
	})
}

// A stream whose first event is not taken while the journal is trimmed has missed nothing that is about its window, and knows its Actor's
// device still: no gap is told, and it is judged.
func TestTrimmedWhileAStreamBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer h.stop()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", time.Now()))
		first := h.open(following(actorNamed("one", "ws-one")))
		defer first.close()
		time.Sleep(time.Minute)
		h.source.Put(collectortest.Alert("a1", deviceOne, "", time.Now()), time.Now())
		time.Sleep(54 * time.Minute)

		request := boundedRequest(actorNamed("one", "ws-one"))
		request.Tolerance = durationpb.New(0)
		var events []*integrationv1.StreamAlertsResponse
		err := h.streams.Stream(t.Context(), request, func(r *integrationv1.StreamAlertsResponse) error {
			if len(events) == 0 {
				time.Sleep(10 * time.Minute)
			}
			events = append(events, r)
			return nil
		})
		for _, e := range events {
			if gap := e.GetGap(); gap != nil {
				t.Errorf("a gap: %v", gap)
			}
		}
		if got, want := journalled(events), []string{"one VERDICT_MISSED"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q (err %v): %v", got, want, err, events[len(events)-1])
		}
	})
}
