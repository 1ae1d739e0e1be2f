package stream_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// completedOf returns the completed event of a stream that has ended.
func completedOf(t *testing.T, c *call) *integrationv1.CompletedEvent {
	t.Helper()
	<-c.done
	if c.err != nil {
		t.Fatal(c.err)
	}
	return c.events[len(c.events)-1].GetCompleted()
}

// windowFrom returns the request with a window that begins at a time.
func windowFrom(request *integrationv1.StreamAlertsRequest, start time.Time, length time.Duration) *integrationv1.StreamAlertsRequest {
	request.Window = &integrationv1.Window{StartTime: timestamppb.New(start), EndTime: timestamppb.New(start.Add(length))}
	return request
}

// changed returns an alert with a change.
func changed(alert *integrationv1.Alert, change func(*integrationv1.Alert)) *integrationv1.Alert {
	change(alert)
	return alert
}

// startedBefore makes an alert's activity begin before it was created.
func startedBefore(d time.Duration) func(*integrationv1.Alert) {
	return func(a *integrationv1.Alert) {
		a.FirstActivityTime = timestamppb.New(a.GetCreatedTime().AsTime().Add(-d))
	}
}

// wantBetween wants a step to have taken a time, or a little longer: up to a poll's interval.
func wantBetween(t *testing.T, step string, got *durationpb.Duration, want time.Duration) {
	t.Helper()
	if got == nil || got.AsDuration() < want || got.AsDuration() > want+12*time.Second {
		t.Errorf("%s took %v, want %v", step, got.AsDuration(), want)
	}
}

// The way of the deciding alert is told step by step, and follows from the journal: a stream that was cut at any event and resumed, after
// a restart too, tells the same.
func TestLatencies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.DeviceRefresh = 3 * time.Minute
		h := newHouse(t, settings)
		defer func() { h.stop() }()
		now := time.Now()
		at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", at(3600)))
		h.source.Put(changed(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", at(60)), startedBefore(15*time.Second)), at(90))
		// Its second revision is read later, and changes nothing of the way that it took.
		h.source.Put(changed(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", at(60)), func(a *integrationv1.Alert) {
			startedBefore(15 * time.Second)(a)
			a.LastUpdateTime = timestamppb.New(at(300))
		}), at(300))
		// Only the device source tells that it is about the Actor, and that three minutes later.
		h.source.Put(changed(collectortest.Alert("a2", deviceTwo, "", at(60)), startedBefore(20*time.Second)), at(65))
		request := windowFrom(boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("two", "ws-two.contoso.test")), now, 10*time.Minute)
		c := h.open(request)
		time.Sleep(2 * time.Minute)
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", at(3600)), collectortest.Device(deviceTwo, "ws-two.contoso.test", at(3600)))
		completed := completedOf(t, c)
		one, two := completed.GetVerdicts()[0], completed.GetVerdicts()[1]
		if one.GetDecidingAlertId() != "a1" || two.GetDecidingAlertId() != "a2" {
			t.Fatalf("verdicts %v", completed)
		}
		wantBetween(t, "a1, activity to created", one.GetLatencies().GetActivityToCreated(), 15*time.Second)
		wantBetween(t, "a1, created to visible", one.GetLatencies().GetCreatedToVisible(), 30*time.Second)
		wantBetween(t, "a1, visible to delivered", one.GetLatencies().GetVisibleToDelivered(), 0)
		wantBetween(t, "a2, activity to created", two.GetLatencies().GetActivityToCreated(), 20*time.Second)
		wantBetween(t, "a2, created to visible", two.GetLatencies().GetCreatedToVisible(), 5*time.Second)
		if waited := two.GetLatencies().GetVisibleToDelivered().AsDuration(); waited < time.Minute || waited > 5*time.Minute {
			t.Errorf("a2, visible to delivered took %v, want what the device's fact was waited for", waited)
		}
		for _, v := range completed.GetVerdicts() {
			if away := v.GetLatencies().GetAway(); away == nil || away.AsDuration() != 0 {
				t.Errorf("%s: nobody read for %v", v.GetActorId(), away)
			}
		}
		h.stop()
		h.start(settings)
		for i, e := range c.events[:len(c.events)-1] {
			again := completedOf(t, h.open(resumed(request, e.GetResumeToken())))
			for j, v := range again.GetVerdicts() {
				if want := completed.GetVerdicts()[j].GetLatencies(); !proto.Equal(v.GetLatencies(), want) {
					t.Errorf("behind event %d: %s has %v, want %v", i, v.GetActorId(), v.GetLatencies(), want)
				}
			}
		}
	})
}

// That this service was down is told with the alert and its way, and is not Microsoft's lateness.
func TestAwayIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		time.Sleep(5 * time.Minute)
		h.stop()
		began := time.Now()
		created := began.Add(10 * time.Minute)
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", began.Add(3*time.Hour)))
		h.source.Put(changed(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", created), func(a *integrationv1.Alert) {
			a.LastUpdateTime = timestamppb.New(created.Add(20 * time.Minute))
		}), created)
		time.Sleep(time.Hour)
		h.start(collector.DefaultSettings())
		c := h.open(windowFrom(boundedRequest(actorNamed("one", "ws-one.contoso.test")), began, time.Hour))
		verdict := completedOf(t, c).GetVerdicts()[0]
		wantBetween(t, "created to visible", verdict.GetLatencies().GetCreatedToVisible(), 50*time.Minute)
		if away, whole := verdict.GetLatencies().GetAway().AsDuration(), verdict.GetLatencies().GetCreatedToVisible().AsDuration(); away < whole-2*time.Second || away > whole {
			t.Errorf("nobody read for %v of %v", away, whole)
		}
		alerts := 0
		for _, e := range c.events {
			if a := e.GetAlert(); a != nil {
				alerts++
				if away := a.GetAway().AsDuration(); away < 50*time.Minute-2*time.Second || a.GetArrivedLate() {
					t.Errorf("nobody read for %v, arrived late %t", away, a.GetArrivedLate())
				}
			}
		}
		if alerts != 1 {
			t.Errorf("%d alerts were sent", alerts)
		}
	})
}

// Where trimming dropped an alert's first revision, or the whole alert before it came again, it is not known when it became visible,
// whoever is asked: the stream that saw it, or one that was resumed behind it.
func TestLatenciesBehindTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = time.Hour
		h := newHouse(t, settings)
		defer func() { h.stop() }()
		now := time.Now()
		h.source.SetDevices(
			collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(9*time.Hour)), collectortest.Device(deviceTwo, "ws-two.contoso.test", now.Add(9*time.Hour)))
		put := func(id, device, name string, updated time.Time) {
			h.source.Put(changed(collectortest.Alert(id, device, name, now.Add(time.Minute)), func(a *integrationv1.Alert) {
				a.LastUpdateTime = timestamppb.New(updated)
			}), updated)
		}
		put("first trimmed", deviceOne, "ws-one.contoso.test", now.Add(time.Minute))
		put("first trimmed", deviceOne, "ws-one.contoso.test", now.Add(55*time.Minute))
		put("wholly trimmed", deviceTwo, "ws-two.contoso.test", now.Add(time.Minute))
		put("wholly trimmed", deviceTwo, "ws-two.contoso.test", now.Add(80*time.Minute))
		request := windowFrom(boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("two", "ws-two.contoso.test")), now, time.Hour)
		request.Wait = durationpb.New(30 * time.Minute)
		c := h.open(request)
		time.Sleep(85 * time.Minute)
		journal, err := h.store.Journal(t.Context(), "uid-1")
		if err != nil {
			t.Fatal(err)
		}
		if stats, err := journal.Stats(t.Context()); err != nil || stats.First == 1 {
			t.Fatalf("nothing was trimmed: %v, %v", stats, err)
		}
		seen := c.seen()
		resumed := h.open(resumed(request, seen[len(seen)-1].GetResumeToken()))
		for name, stream := range map[string]*call{"running": c, "resumed": resumed} {
			for i, id := range []string{"first trimmed", "wholly trimmed"} {
				v := completedOf(t, stream).GetVerdicts()[i]
				want := &integrationv1.Latencies{ActivityToCreated: durationpb.New(0)}
				if v.GetDecidingAlertId() != id || !proto.Equal(v.GetLatencies(), want) {
					t.Errorf("%s: %v", name, v)
				}
			}
		}
	})
}

// Of a re-used alert the way is that of the revision that brought the activity into the window, whether an earlier one is known or not: what
// changes later is no part of it.
func TestLatenciesOfReusedAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
		h.source.SetDevices(
			collectortest.Device(deviceOne, "ws-one.contoso.test", at(3600)), collectortest.Device(deviceTwo, "ws-two.contoso.test", at(3600)))
		put := func(id, device, name string, updated, activity int) {
			h.source.Put(changed(collectortest.Alert(id, device, name, now.Add(-48*time.Hour)), func(a *integrationv1.Alert) {
				a.LastUpdateTime, a.LastActivityTime = timestamppb.New(at(updated)), timestamppb.New(at(activity))
				a.GetEvidence()[1].CreatedTime = timestamppb.New(at(activity))
			}), at(updated))
		}
		put("known before", deviceOne, "ws-one.contoso.test", 2, -24*3600)
		put("known before", deviceOne, "ws-one.contoso.test", 30, 20)
		put("known before", deviceOne, "ws-one.contoso.test", 120, 20)
		put("not known before", deviceTwo, "ws-two.contoso.test", 30, 20)
		put("not known before", deviceTwo, "ws-two.contoso.test", 120, 20)
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("two", "ws-two.contoso.test"))
		c := h.open(request)
		completed := completedOf(t, c)
		for i, id := range []string{"known before", "not known before"} {
			v := completed.GetVerdicts()[i]
			if v.GetDecidingAlertId() != id {
				t.Fatalf("verdict %v", v)
			}
			if got := v.GetLatencies().GetActivityToCreated().AsDuration(); got != 10*time.Second {
				t.Errorf("%s: activity to update took %v", id, got)
			}
			wantBetween(t, id+", update to visible", v.GetLatencies().GetCreatedToVisible(), 0)
			wantBetween(t, id+", visible to delivered", v.GetLatencies().GetVisibleToDelivered(), 0)
		}
		for i, e := range c.events[:len(c.events)-1] {
			again := completedOf(t, h.open(resumed(request, e.GetResumeToken())))
			for j, v := range again.GetVerdicts() {
				if want := completed.GetVerdicts()[j].GetLatencies(); !proto.Equal(v.GetLatencies(), want) {
					t.Errorf("behind event %d: %s has %v, want %v", i, v.GetActorId(), v.GetLatencies(), want)
				}
			}
		}
	})
}

// attacked is an Actor that an attack with a process ran on.
func attacked(actor *integrationv1.Actor, processID int64, created time.Time) *integrationv1.Actor {
	actor.Traces = &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{ProcessId: processID, ProcessCreationTime: timestamppb.New(created)}}}
	return actor
}

// sawProcess adds evidence of a process to an alert, which Defender only detected.
func sawProcess(deviceID string, processID int64, created time.Time) func(*integrationv1.Alert) {
	return func(a *integrationv1.Alert) {
		a.Evidence = append(a.Evidence, &integrationv1.Evidence{
			Type: "processEvidence", CreatedTime: a.GetCreatedTime(), Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{
				MdeDeviceId: deviceID, ProcessId: processID, ProcessCreationTime: timestamppb.New(created),
				DetectionStatus: integrationv1.DetectionStatus_DETECTION_STATUS_DETECTED,
			}},
		})
	}
}

// The alert that is most surely about the attack decides, by what happened to the attack's own process; min_confidence says what counts.
func TestMinConfidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		at := now.Add(20 * time.Second)
		h.source.SetDevices(
			collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(time.Hour)), collectortest.Device(deviceTwo, "ws-two.contoso.test", now.Add(time.Hour)))
		h.source.Put(collectortest.Alert("prevented", deviceOne, "ws-one.contoso.test", at), at)
		h.source.Put(changed(collectortest.Alert("surely", deviceOne, "ws-one.contoso.test", at), sawProcess(deviceOne, 4711, at)), at)
		h.source.Put(collectortest.Alert("unsure", deviceTwo, "ws-two.contoso.test", at), at)
		for _, test := range []struct {
			least integrationv1.Confidence
			want  []string
		}{
			{0, []string{
				"one VERDICT_DETECTED by surely CONFIDENCE_CERTAIN OUTCOME_DETECTED of prevented,surely",
				"two VERDICT_PREVENTED by unsure CONFIDENCE_DEVICE_ONLY OUTCOME_PREVENTED of unsure",
			}},
			{integrationv1.Confidence_CONFIDENCE_STRONG, []string{
				"one VERDICT_DETECTED by surely CONFIDENCE_CERTAIN OUTCOME_DETECTED of surely",
				"two VERDICT_MISSED by  CONFIDENCE_UNSPECIFIED OUTCOME_UNSPECIFIED of ",
			}},
		} {
			request := boundedRequest(attacked(actorNamed("one", "ws-one.contoso.test"), 4711, at), attacked(actorNamed("two", "ws-two.contoso.test"), 4711, at))
			windowFrom(request, now, time.Minute)
			request.MinConfidence = test.least
			completed := completedOf(t, h.open(request))
			var got []string
			for _, v := range completed.GetVerdicts() {
				got = append(got, fmt.Sprintf("%s %s by %s %s %s of %s", v.GetActorId(), v.GetVerdict(), v.GetDecidingAlertId(), v.GetConfidence(), v.GetOutcome(),
					strings.Join(v.GetCountingAlertIds(), ",")))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: verdicts\n got %q\nwant %q", test.least, got, test.want)
			}
			if missed := completed.GetVerdicts()[1]; test.least != 0 && !strings.Contains(missed.GetExplanation(), "min_confidence asks (STRONG); 1 alert is less surely so") {
				t.Errorf("missed: %s", missed.GetExplanation())
			}
		}
	})
}

// With explain, the end says which collected alerts do not count, and why: of every device, each by its last revision, and none from after
// the end.
func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", at(3600)))
		put := func(id, device, name string, seconds int, change ...func(*integrationv1.Alert)) {
			a := collectortest.Alert(id, device, name, at(seconds))
			for _, f := range change {
				f(a)
			}
			h.source.Put(a, a.GetLastUpdateTime().AsTime())
		}
		put("counts", deviceOne, "ws-one.contoso.test", 10)
		put("after", deviceOne, "ws-one.contoso.test", 60+400)
		put("another's", deviceTwo, "ws-two.contoso.test", 20)
		put("same label", deviceTwo, "ws-one.fabrikam.test", 20)
		put("without a device", "", "", 30, func(a *integrationv1.Alert) { a.Evidence = a.GetEvidence()[1:] })
		// At first it counts; then its activity is found to have begun long before.
		put("not any more", deviceOne, "ws-one.contoso.test", 15)
		put("not any more", deviceOne, "ws-one.contoso.test", 15, func(a *integrationv1.Alert) {
			long := timestamppb.New(now.Add(-48 * time.Hour))
			a.FirstActivityTime, a.LastActivityTime, a.LastUpdateTime = long, long, timestamppb.New(at(90))
		})
		// Nothing of what was last updated before the window can be about it.
		put("before", deviceTwo, "ws-two.contoso.test", -3600)
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("three", "ws-three.contoso.test"))
		request.Wait = durationpb.New(10 * time.Minute)
		plain := completedOf(t, h.open(request))
		request = proto.CloneOf(request)
		request.Explain = true
		put("too late", deviceTwo, "ws-two.contoso.test", int(time.Since(now).Seconds()))
		time.Sleep(time.Minute)
		explained := h.open(request)
		completed := completedOf(t, explained)
		for _, v := range plain.GetVerdicts() {
			if v.GetNearMisses() != nil || v.GetUncounted() != nil {
				t.Errorf("without explain: %v", v)
			}
		}
		const (
			device   = "COUNTING_CRITERION_DEVICE"
			activity = "COUNTING_CRITERION_ACTIVITY"
		)
		want := map[string][]string{
			"one": {activity + " after", activity + " not any more", device + " same label", device + " another's", device + " without a device", device + " too late"},
			"three": {
				device + " another's", device + " counts", device + " same label", device + " without a device",
				device + " after", device + " too late", device + " not any more",
			},
		}
		for _, v := range completed.GetVerdicts() {
			var got []string
			for _, m := range v.GetNearMisses() {
				got = append(got, m.GetCriterion().String()+" "+m.GetAlertId())
				if m.GetTitle() != "A test alert" || m.GetCreatedTime() == nil || m.GetExplanation() == "" || m.GetWantedValue() == "" {
					t.Errorf("%s: %v", v.GetActorId(), m)
				}
			}
			if !slices.Equal(got, want[v.GetActorId()]) || len(v.GetUncounted()) != 0 {
				t.Errorf("%s: near misses\n got %q %v\nwant %q", v.GetActorId(), got, v.GetUncounted(), want[v.GetActorId()])
			}
		}
		// A stream that is resumed says the same.
		again := completedOf(t, h.open(resumed(request, explained.events[0].GetResumeToken())))
		for i, v := range again.GetVerdicts() {
			if !proto.Equal(v, completed.GetVerdicts()[i]) {
				t.Errorf("resumed\n got %v\nwant %v", v, completed.GetVerdicts()[i])
			}
		}
	})
}

// With a thousand Actors the end stays below what a client takes, and what does not fit is counted.
func TestExplainOfAThousandActors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		const actors, alerts = 1000, 500
		request := boundedRequest()
		request.Explain = true
		for i := range actors {
			request.Actors = append(request.Actors, actorNamed(fmt.Sprintf("%s-%d", strings.Repeat("a", 120), i), fmt.Sprintf("ws-%d.%s.test", i, strings.Repeat("c", 200))))
		}
		id := strings.Repeat("i", 480)
		for i := range alerts {
			a := collectortest.Alert(fmt.Sprintf("%s-%d", id, i), fmt.Sprintf("%040x", i+1), fmt.Sprintf("ws-%d.%s.test", i, strings.Repeat("d", 200)), now.Add(time.Second))
			a.Title = strings.Repeat("ÿ", 400)
			h.source.Put(a, now)
		}
		completed := completedOf(t, h.open(request))
		if size := proto.Size(completed); size > 3_000_000 || len(completed.GetVerdicts()) != actors {
			t.Errorf("%d bytes for %d verdicts", size, len(completed.GetVerdicts()))
		}
		for _, v := range completed.GetVerdicts() {
			left := int64(alerts - len(v.GetNearMisses()))
			for _, u := range v.GetUncounted() {
				left -= u.GetAlerts()
			}
			if left != 0 {
				t.Fatalf("%d alerts are neither told nor counted: %v", left, v)
			}
		}
	})
}
