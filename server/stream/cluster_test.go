package stream_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Leases are shared out evenly over the servers, again when one comes, goes in order, or dies; each integration has one collector at most,
// and all the time but for what a lease takes.
func TestLeasesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const integrations = 20
		f := newFleet(t, 3, integrations, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		if got := f.shares(integrations); !even(got, integrations) {
			t.Fatalf("three that came together have %v of %d", got, integrations)
		}
		f.start()
		pause(10 * time.Second)
		if got := f.shares(integrations); !even(got, integrations) {
			t.Fatalf("with a fourth they have %v", got)
		}
		f.servers[1].stop()
		pause(2 * time.Second)
		if got := f.shares(integrations); !even(slices.Delete(got, 1, 2), integrations) {
			t.Fatalf("without the second, which went in order, they have %v", got)
		}
		f.servers[0].kill()
		pause(fleetLease / 2)
		if got := f.shares(integrations); sum(got) >= integrations {
			t.Fatalf("of the first, which was killed, somebody had something before its lease was over: %v", got)
		}
		pause(fleetLease/2 + 2*time.Second)
		if got := f.shares(integrations); !even(got[2:], integrations) {
			t.Fatalf("without the first, which was killed, they have %v", got)
		}
	})
}

// even says whether shares are of everything, and differ by one at most.
func even(shares []int, of int) bool {
	return sum(shares) == of && slices.Max(shares)-slices.Min(shares) <= 1
}

func sum(list []int) int {
	total := 0
	for _, n := range list {
		total += n
	}
	return total
}

// actorsOf returns the last event of the Actors.
func actorsOf(events []*integrationv1.StreamAlertsResponse) *integrationv1.ActorsEvent {
	var last *integrationv1.ActorsEvent
	for _, e := range events {
		if e.GetActors() != nil {
			last = e.GetActors()
		}
	}
	return last
}

// Streams on any server get what the one collects: what each wants is merged, so that one look-up and one closing read serve all, and
// calls do not grow with servers. What each is told of its Actors comes from the journal.
func TestStreamsOnEveryServer(t *testing.T) {
	calls := map[int]int{}
	for _, servers := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			f := newFleet(t, servers, 1, collector.DefaultSettings())
			defer f.close()
			pause(5 * time.Second)
			now := time.Now()
			hosts := []string{"ws-one.contoso.test", "ws-two.contoso.test", "ws-three.contoso.test"}
			ids := []string{deviceOne, deviceTwo, deviceThree}
			var devices []*integrationv1.Device
			for i, host := range hosts {
				devices = append(devices, collectortest.Device(ids[i], host, now.Add(time.Hour)))
			}
			f.source.SetDevices(devices...)
			f.source.Put(collectortest.Alert("a1", ids[0], "", now.Add(10*time.Second)), now.Add(12*time.Second))
			f.source.Put(collectortest.Alert("a2", ids[1], hosts[1], now.Add(20*time.Second)), now.Add(22*time.Second))
			var open []*call
			for i, host := range hosts {
				open = append(open, f.servers[i%servers].open(boundedRequest(actorNamed("actor", host))))
			}
			pause(9 * time.Second)
			for i, c := range open {
				actors := actorsOf(c.seen())
				if len(actors.GetActors()) != 1 || actors.GetActors()[0].GetKnowledge() != integrationv1.ActorState_KNOWLEDGE_KNOWN ||
					actors.GetActors()[0].GetDevices()[0].GetDevice().GetMdeDeviceId() != ids[i] {
					t.Errorf("the stream for %s is told %v", hosts[i], actors)
				}
			}
			want := []integrationv1.Verdict{
				integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Verdict_VERDICT_MISSED,
			}
			proofs := map[string]bool{}
			for i, c := range open {
				completed := completedOf(t, c)
				if got := completed.GetVerdicts()[0].GetVerdict(); got != want[i] {
					t.Errorf("the stream for %s got %s, want %s", hosts[i], got, want[i])
				}
				proofs[completed.GetPair().String()] = true
			}
			if len(proofs) != 1 {
				t.Errorf("%d pairs completed streams that were due together", len(proofs))
			}
			calls[servers] = len(f.calls)
		})
	}
	if calls[3] > calls[1]+2 {
		t.Errorf("%d calls with three servers, %d with one", calls[3], calls[1])
	}
}

// The server that collects dies, or goes in order, while streams on others wait: they stay, and complete, with each alert once.
func TestTakeOver(t *testing.T) {
	for name, end := range map[string]func(*server){"killed": (*server).kill, "stopped": (*server).stop} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, 3, 1, collector.DefaultSettings())
				defer f.close()
				pause(5 * time.Second)
				now := time.Now()
				f.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(time.Hour)))
				for i, id := range []string{"a1", "a2", "a3"} {
					at := now.Add(time.Duration(5+20*i) * time.Second)
					f.source.Put(collectortest.Alert(id, deviceOne, "ws-one.contoso.test", at), at)
				}
				c := f.other(0).open(boundedRequest(actorNamed("one", "ws-one.contoso.test")))
				following := f.other(0).open(&integrationv1.StreamAlertsRequest{
					IntegrationId: integrationID, Actors: []*integrationv1.Actor{actorNamed("one", "ws-one.contoso.test")},
				})
				pause(20 * time.Second)
				old := f.holder(0)
				end(old)
				if name == "stopped" {
					pause(2 * time.Second)
				} else {
					pause(fleetLease + 2*time.Second)
				}
				if holder := f.holder(0); holder == nil || holder == old {
					t.Fatal("nobody has taken over")
				}
				completed := completedOf(t, c)
				if got := journalled(c.events); completed.GetPair() == nil || len(got) != 4 || completed.GetAlerts() != 3 {
					t.Errorf("the bounded stream got %q and %v", got, completed)
				}
				following.cancel()
				<-following.done
				if got := journalled(following.events); len(got) != 3 {
					t.Errorf("the following stream got %q", got)
				}
			})
		})
	}
}

// A stream that is cut on one server and resumed on another says the same from there on, wherever it is cut.
func TestResumeOnAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 1, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		now := time.Now()
		for i, id := range []string{"a1", "a2", "a3"} {
			at := now.Add(time.Duration(5+i) * time.Second)
			alert := collectortest.Alert(id, deviceOne, "", at)
			f.source.Put(alert, at)
			alert.Title, alert.LastUpdateTime = "Changed", timestamppb.New(at.Add(time.Minute))
			f.source.Put(alert, at.Add(time.Minute))
		}
		request := boundedRequest(actorNamed("one", "ws-one.contoso.test"), actorNamed("two", "ws-two.contoso.test"))
		whole := f.other(0).open(request)
		// Beside it, one that is cut at each of its events, and goes on elsewhere each time.
		cut := make(chan []*integrationv1.StreamAlertsResponse, 1)
		go func() {
			var events []*integrationv1.StreamAlertsResponse
			next := request
			for i := 0; ; i++ {
				one := f.servers[i%len(f.servers)].open(next)
				for {
					time.Sleep(300 * time.Millisecond)
					one.mu.Lock()
					n := len(journalled(one.events))
					one.mu.Unlock()
					select {
					case <-one.done:
					default:
						if n == 0 {
							continue
						}
					}
					break
				}
				got := one.close()
				for at, e := range got {
					events = append(events, e)
					if len(journalled([]*integrationv1.StreamAlertsResponse{e})) > 0 {
						got = got[:at+1] // All that came after it was lost on the way.
						break
					}
				}
				if got[len(got)-1].GetCompleted() != nil {
					cut <- events
					return
				}
				next = resumed(request, got[len(got)-1].GetResumeToken())
			}
		}()
		time.Sleep(30 * time.Second)
		f.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(time.Hour)))
		completedOf(t, whole)
		want := journalled(whole.events)
		if len(want) != 8 {
			t.Fatalf("the stream got %q", want)
		}
		if got := journalled(<-cut); !slices.Equal(got, want) {
			t.Errorf("cut at each event it got %q, want %q", got, want)
		}
		// Afterwards, from each token of the one on every server.
		for at, e := range whole.events {
			left := journalled(whole.events[at+1:])
			for _, s := range f.servers {
				again := s.open(resumed(request, e.GetResumeToken()))
				if e.GetCompleted() != nil {
					again.close()
					continue
				}
				completedOf(t, again)
				if got := journalled(again.events); !slices.Equal(got, left) {
					t.Errorf("resumed at server %d from event %d it got %q, want %q", s.number, at, got, left)
				}
				if !proto.Equal(again.events[len(again.events)-1].GetCompleted(), whole.events[len(whole.events)-1].GetCompleted()) {
					t.Errorf("resumed at server %d from event %d it completed otherwise", s.number, at)
				}
			}
		}
	})
}

// A token is as good on a server that has not been told yet of what it is a token of.
func TestResumeOnAServerThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 1, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		behind := f.other(0)
		request := &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Window: &integrationv1.Window{StartTime: timestamppb.Now()},
		}
		before := behind.open(request) // It has read the journal.
		pause(time.Second)
		behind.store.SetBehind(true)
		c := f.holder(0).open(request)
		now := time.Now()
		f.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now), now)
		pause(time.Minute)
		events := c.close()
		if got := journalled(events); len(got) != 1 {
			t.Fatalf("the stream got %q", got)
		}
		if got := journalled(before.close()); len(got) != 0 {
			t.Fatalf("the server that is behind told %q", got)
		}
		again := behind.open(resumed(request, events[len(events)-1].GetResumeToken()))
		pause(time.Second)
		behind.store.SetBehind(false)
		f.source.Put(collectortest.Alert("a2", deviceOne, "ws-one.contoso.test", time.Now()), time.Now())
		pause(time.Minute)
		if got := journalled(again.close()); again.err != nil && !errors.Is(again.err, context.Canceled) || len(got) != 1 {
			t.Errorf("resumed it got %q, %v", got, again.err)
		}
	})
}

// While a server is out of touch for longer than a lease, the others take it for dead: it stops what it collects in time, its streams are
// told, end when it is back, and go on by their tokens, with each alert once. A pair that was made without what they want is none of theirs.
func TestServerOutOfTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 1, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		now := time.Now()
		f.source.SetDevices(
			collectortest.Device(deviceOne, "ws-one.contoso.test", now.Add(time.Hour)), collectortest.Device(deviceTwo, "ws-two.contoso.test", now.Add(time.Hour)))
		away := f.holder(0)
		request, other := boundedRequest(actorNamed("one", "ws-one.contoso.test")), boundedRequest(actorNamed("two", "ws-two.contoso.test"))
		c, beside := away.open(request), f.other(0).open(other)
		pause(170 * time.Second)
		away.store.SetUnavailable(true)
		lost := time.Now().Add(fleetLease)
		// The closing read is due while it is away: another server makes it, for the streams that it knows of.
		made := completedOf(t, beside).GetPair()
		for _, e := range c.seen() {
			if e.GetCompleted() != nil {
				t.Fatal("the stream of a server that is out of touch completed")
			}
		}
		for _, call := range f.calls {
			if call.server == away.number && !call.at.Before(lost) {
				t.Errorf("the server called at %s, when its lease was over", call.at)
			}
		}
		away.store.SetUnavailable(false)
		<-c.done
		if c.err == nil {
			t.Fatal("the stream completed with what was made without it")
		}
		pause(time.Second)
		completed := completedOf(t, away.open(resumed(request, c.events[len(c.events)-1].GetResumeToken())))
		if got := completed.GetVerdicts()[0].GetVerdict(); got != integrationv1.Verdict_VERDICT_MISSED || proto.Equal(completed.GetPair(), made) {
			t.Errorf("the stream that was resumed got %s by %v; without it %v was made", got, completed.GetPair(), made)
		}
	})
}

// A server that was stopped right before it appends, and goes on when its lease is another's, is refused by the journal: nothing of what it
// was about to append is told, it stops, and takes what it is dealt anew.
func TestLateAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 1, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		late := f.holder(0)
		c := f.other(0).open(&integrationv1.StreamAlertsRequest{IntegrationId: integrationID})
		pause(time.Second)
		now := time.Now()
		late.gate.close()
		f.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now), now)
		pause(30 * time.Second) // A poll has it, and is about to append it.
		if got := journalled(c.seen()); len(got) != 0 {
			t.Fatalf("the gate let %q through", got)
		}
		late.store.SetUnavailable(true)
		pause(3 * fleetLease)
		next := f.servers[(late.number+1)%3].count("defender_integration_lease_takeovers_total") +
			f.servers[(late.number+2)%3].count("defender_integration_lease_takeovers_total")
		if got := journalled(c.seen()); next != 1 || len(got) != 1 {
			t.Fatalf("%d have taken over, and told %q", next, got)
		}
		late.store.SetUnavailable(false)
		late.gate.open()
		pause(30 * time.Second)
		if got := late.count("defender_integration_fenced_writes_total"); got != 1 {
			t.Errorf("%d late writes were refused, want 1", got)
		}
		f.holder(0) // One at most.
		if got := journalled(c.close()); len(got) != 1 {
			t.Errorf("the stream got %q", got)
		}
	})
}

// The budget is one, over servers that take over from each other, and with calls that are made where nobody collects.
func TestBudgetIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const allowed = 12
		settings := collector.DefaultSettings()
		settings.FastInterval, settings.Rereads = 2*time.Second, nil
		settings.Budgets = map[defender.Limit][]collector.Allowance{
			defender.LimitGraphAlerts: {{Period: time.Minute, Calls: allowed, Reserve: 3}},
			defender.LimitEndpoint:    {{Period: time.Minute, Calls: 100}},
		}
		f := newFleet(t, 3, 1, settings)
		defer f.close()
		pause(5 * time.Second)
		record, _, err := f.store.Record(t.Context(), integrationID)
		if err != nil {
			t.Fatal(err)
		}
		stay := f.other(0)
		c := stay.open(&integrationv1.StreamAlertsRequest{IntegrationId: integrationID})
		defer c.close()
		spend := stay.manager.Spender(record.GetIntegration())
		made, refused := 0, 0
		for i := range 300 {
			time.Sleep(time.Second)
			switch i {
			case 70:
				// The server on which the tests are made is never the one that goes.
				if holder := f.holder(0); holder != stay {
					holder.kill()
					f.start()
				}
			case 140:
				if holder := f.holder(0); holder != stay {
					holder.stop()
					f.start()
				}
			}
			if i%5 != 0 {
				continue
			}
			if err := spend(t.Context(), defender.LimitGraphAlerts); err != nil {
				refused++
				continue
			}
			made++
			f.mu.Lock()
			f.calls = append(f.calls, spent{time.Now(), stay.number, defender.LimitGraphAlerts})
			f.mu.Unlock()
		}
		if most := f.most(defender.LimitGraphAlerts, time.Minute); most > allowed || most < allowed/2 {
			t.Errorf("%d calls in a minute, %d are allowed", most, allowed)
		}
		if made == 0 || refused == 0 {
			t.Errorf("%d calls were made where nobody collects, and %d refused", made, refused)
		}
	})
}

// What streams on three servers want of the one collector is merged there: history is read back to once, from the earliest that any asks
// for; telemetry is asked in one call; and one closing read, soon after it is due, answers all.
func TestWishesAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 3, 1, collector.DefaultSettings())
		defer f.close()
		x := &telemetry{}
		f.source.SetTraces(x.find)
		pause(5 * time.Second)
		now := time.Now()
		names := []string{"one", "two", "three"}
		var devices []*integrationv1.Device
		for i, id := range []string{deviceOne, deviceTwo, deviceThree} {
			devices = append(devices, collectortest.Device(id, "ws-"+names[i]+".contoso.test", now.Add(time.Hour)))
		}
		f.source.SetDevices(devices...)
		var open []*call
		var earliest time.Time
		for i, s := range f.servers {
			request := boundedRequest(tracesOf(actorNamed("actor", "ws-"+names[i])))
			request.Telemetry = true
			start := now.Add(-time.Duration(i+1) * time.Hour)
			request.Window.StartTime, request.Window.EndTime = timestamppb.New(start), timestamppb.New(now.Add(time.Minute))
			earliest = start.Add(-5 * time.Minute)
			for range 3 {
				open = append(open, s.open(request))
			}
		}
		pause(4 * time.Second)
		if wishes := f.wishes(); wishes != 2 {
			t.Errorf("%d servers' wishes were taken in, want 2", wishes)
		}
		<-open[0].done
		back := 0
		for _, since := range f.source.Reads() {
			if since.Equal(earliest) {
				back++
			}
		}
		if back != 2 {
			t.Errorf("%d reads reached back to the earliest start, want one that reads back and the closing", back)
		}
		for i, c := range open {
			completed := completedOf(t, c)
			if late := completed.GetPair().GetThrough().AsTime().Sub(now.Add(3 * time.Minute)); late < 0 || late > 15*time.Second {
				t.Errorf("stream %d completed by a read %s after it was due", i, late)
			}
			want := []integrationv1.Verdict{
				integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Verdict_VERDICT_LOGGED, integrationv1.Verdict_VERDICT_MISSED,
			}[i/3]
			if got := completed.GetVerdicts()[0].GetVerdict(); got != want {
				t.Errorf("stream %d got %s, want %s", i, got, want)
			}
		}
		if x.calls != 1 || len(x.asked) != 3 {
			t.Errorf("telemetry was asked %d questions in %d calls", len(x.asked), x.calls)
		}
		pause(time.Second)
		if wishes := f.wishes(); wishes != 0 {
			t.Errorf("%d servers' wishes are there when no stream is", wishes)
		}
	})
}
