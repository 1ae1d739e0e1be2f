package acceptance_test

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/internal/announce"
)

// manyStreams is how many streams there are besides the first.
const manyStreams = 200

// TestCallsDoNotGrowWithStreams counts what Microsoft is called over the same number of polls, each with new alerts that every
// stream concerned receives, for 1 stream and for 201.
func TestCallsDoNotGrowWithStreams(t *testing.T) {
	t.Parallel()
	polls := 10
	if full() {
		polls = 22
	}
	counts := map[int]map[string]int{}
	for _, streams := range []int{1, 1 + manyStreams} {
		h := newHouse(t, announcing(t))
		l := h.start(t, "--poll-fast", "200ms")
		onPoll := l.passing(t)
		readers := h.follow(t, streams)

		before, after := h.overPolls(t, onPoll, polls, func() {
			for _, device := range defendertest.SampleDevices() {
				h.tenant.AddAlert(defendertest.Alert{Evidence: []defendertest.Evidence{defendertest.DeviceEvidence{Device: device}}})
			}
		})
		for _, alerts := range readers {
			for range polls {
				receive(t, alerts)
			}
		}
		counts[streams] = map[string]int{}
		for route, n := range after {
			if n -= before[route]; n != 0 {
				counts[streams][route] = n
			}
		}
		t.Logf("%d polls for %d streams, each of which received an alert of each poll: calls %v", polls, streams, counts[streams])
	}
	if !maps.Equal(counts[1], counts[1+manyStreams]) {
		t.Errorf("the calls grow with the streams: %v", counts)
	}
	if counts[1][defendertest.RouteAlerts] != polls {
		t.Errorf("%d polls took %v", polls, counts[1])
	}
}

// overPolls calls prepare before each of a number of polls, and returns the calls that Microsoft had got before the first and after
// the last of them. When the service is about to read it calls nothing, so the counts are exact. The first polls of all, which need a token,
// go before.
func (h *house) overPolls(t *testing.T, onPoll *atomic.Pointer[func()], polls int, prepare func()) (before, after map[string]int) {
	t.Helper()
	n, done := -2, make(chan struct{})
	step := func() {
		switch n++; {
		case n < 1:
		case n == 1:
			before = h.calls()
			prepare()
		case n <= polls:
			prepare()
		case n == polls+1:
			after = h.calls()
			close(done)
		}
	}
	onPoll.Store(&step)
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the service does not poll")
	}
	return before, after
}

// passing lets the service pass all points, and calls what is stored in the result each time that it is about to read.
func (l *life) passing(t *testing.T) *atomic.Pointer[func()] {
	onPoll, done := &atomic.Pointer[func()]{}, make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case point := <-l.points:
				if f := onPoll.Load(); f != nil && point == announce.Poll {
					(*f)()
				}
				l.passed()
			case <-l.Done():
				return
			}
		}
	}()
	t.Cleanup(func() {
		l.Kill()
		<-done
	})
	return onPoll
}

// receive takes one alert.
func receive(t *testing.T, alerts <-chan string) {
	t.Helper()
	select {
	case _, ok := <-alerts:
		if !ok {
			t.Fatal("the stream has ended")
		}
	case <-time.After(patience):
		t.Fatal("a stream did not receive its alert")
	}
}

// follow registers the tenant and opens streams, each for an Actor that is one of the tenant's devices, and returns the ids of the
// alerts that each receives, once every stream knows its Actor's device. They end with the test.
func (h *house) follow(t *testing.T, n int) []<-chan string {
	t.Helper()
	h.register(t, h.connect(t), integrationv1.DeviceSource_KIND_MACHINES)
	devices := defendertest.SampleDevices()
	began := h.microsoft.Now()
	var readers []<-chan string
	var known, running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	var c *client.Client
	for i := range n {
		if i%50 == 0 { // the service allows so many streams and more on one connection
			c = h.connect(t)
		}
		alerts := make(chan string, 1000)
		readers = append(readers, alerts)
		known.Add(1)
		request := following(began, &integrationv1.Actor{ActorId: fmt.Sprint("actor-", i), FqHostName: devices[i%len(devices)].DNSName})
		stream := c.Alerts(request)
		running.Go(func() {
			defer close(alerts)
			found := false
			for event, err := range stream.Events(ctx) {
				if err != nil {
					if ctx.Err() == nil {
						t.Errorf("stream %d: %v", i, err)
					}
					break
				}
				for _, a := range event.GetActors().GetActors() {
					if !found && a.GetKnowledge() == integrationv1.ActorState_KNOWLEDGE_KNOWN {
						found = true
						known.Done()
					}
				}
				if a := event.GetAlert(); a != nil {
					alerts <- a.GetAlert().GetId()
				}
				event.Ack()
			}
			if !found {
				known.Done()
			}
		})
	}
	known.Wait()
	return readers
}

// TestClosingReadsAreShared lets 200 bounded streams end within a few seconds of one another, and counts the closing reads.
//
// It measures times, so that nothing else of this package runs beside it. What it compares of them holds however long anything takes.
func TestClosingReadsAreShared(t *testing.T) {
	const (
		interval = 2 * time.Second
		lead     = 6 * time.Second // until the first ends
		spread   = 9 * time.Second
	)
	h := newHouse(t, service(t))
	h.serve(t, nil, "--poll-fast", "200ms", "--closing-interval", interval.String())
	c := h.connect(t)
	h.register(t, c, integrationv1.DeviceSource_KIND_MACHINES)
	devices := defendertest.SampleDevices()
	alert := h.tenant.AddAlert(defendertest.Alert{Evidence: []defendertest.Evidence{defendertest.DeviceEvidence{Device: devices[0]}}})

	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	h.readBack(ctx, t, h.microsoft.Now().Add(-25*time.Hour))
	begin := h.microsoft.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range manyStreams {
		if i%50 == 0 {
			c = h.connect(t)
		}
		// Each window begins long ago, so that no poll reaches back to it, and at a time of its own.
		request := bounded(begin.Add(-24*time.Hour-time.Duration(i)*time.Second), begin.Add(lead+spread*time.Duration(i)/manyStreams),
			&integrationv1.Actor{ActorId: "a", FqHostName: devices[i%2].DNSName})
		stream := c.Alerts(request)
		group.Go(func() error {
			for event, err := range stream.Events(ctx) {
				if err != nil {
					return fmt.Errorf("stream %d: %w", i, err)
				}
				if done := event.GetCompleted(); done != nil {
					return checkCompleted(i, request, done, alert.ID)
				}
			}
			return fmt.Errorf("stream %d ended", i)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	checkClosings(t, h.closings(begin), begin, interval, spread)
}

// readBack has the service read back to a time, for a stream that is there until the test ends, and waits until it has: for windows that begin
// later only closing reads reach so far back from then on.
func (h *house) readBack(ctx context.Context, t *testing.T, to time.Time) {
	t.Helper()
	h.resume(t, following(to))
	read, err := h.microsoft.WaitCalls(ctx, 1, func(c defendertest.Call) bool { return c.Done && readsDeep(c) })
	if err == nil {
		// The service reads one after the other.
		_, err = h.microsoft.WaitCalls(ctx, 1, func(c defendertest.Call) bool {
			return c.Route == defendertest.RouteAlerts && c.Number > read[0].Number
		})
	}
	if err != nil {
		t.Fatalf("waiting for the service to read back: %v", err)
	}
}

// checkCompleted looks whether a stream was completed by a proof that covers it, with the verdict that follows from the alert.
func checkCompleted(i int, request *integrationv1.StreamAlertsRequest, done *integrationv1.CompletedEvent, alertID string) error {
	pair, window, verdict := done.GetPair(), request.GetWindow(), done.GetVerdicts()[0]
	if pair.GetDepth() != integrationv1.Pair_DEPTH_CLOSING || pair.GetSince().AsTime().After(window.GetStartTime().AsTime()) ||
		pair.GetThrough().AsTime().Before(window.GetEndTime().AsTime()) {
		return fmt.Errorf("stream %d with the window %v is completed by %v", i, window, done)
	}
	concerned := i%2 == 0
	if concerned && verdict.GetDecidingAlertId() != alertID || !concerned && verdict.GetVerdict() != integrationv1.Verdict_VERDICT_MISSED {
		return fmt.Errorf("stream %d: the verdict is %v", i, verdict)
	}
	return nil
}

// checkClosings looks whether there was at most one closing read in each interval, and that there were as many as it takes.
func checkClosings(t *testing.T, closings []closing, begin time.Time, interval, spread time.Duration) {
	t.Helper()
	for i := 1; i < len(closings); i++ {
		// From when the one before may have begun: it may have taken any time from there until its call came.
		if gap := closings[i].came.Sub(closings[i-1].after); gap < interval {
			t.Errorf("a closing read came %s after the one before began at the earliest, with an interval of %s", gap, interval)
		}
	}
	offsets := make([]time.Duration, len(closings))
	for i, c := range closings {
		offsets[i] = c.came.Sub(begin).Round(time.Millisecond)
	}
	most := int(spread/interval) + 3
	t.Logf("%d bounded streams that end within %s: %d closing reads, at %v", manyStreams, spread, len(closings), offsets)
	if len(closings) < 2 || len(closings) > most {
		t.Errorf("%d closing reads; from 2 to %d are to be expected", len(closings), most)
	}
}

// closing is when the call of a closing read came, and when the service's call before it did: it makes one after the other, so the read
// began after that.
type closing struct{ came, after time.Time }

// closings returns the closing reads from a time on.
func (h *house) closings(from time.Time) []closing {
	var list []closing
	var before time.Time
	for _, call := range h.microsoft.Calls(nil) {
		if readsDeep(call) && !call.Time.Before(from) {
			list = append(list, closing{call.Time, before})
		}
		// A token is asked for within a read.
		if call.Route != defendertest.RouteToken {
			before = call.Time
		}
	}
	return list
}

// sinceInFilter is since when a call asks for alerts.
var sinceInFilter = regexp.MustCompile(`lastUpdateDateTime ge (\S+)`)

// readsDeep says whether a call asks for alerts that are much older than a poll's overlap.
func readsDeep(call defendertest.Call) bool {
	if call.Route != defendertest.RouteAlerts {
		return false
	}
	found := sinceInFilter.FindStringSubmatch(call.Query.Get("$filter"))
	if found == nil {
		return false
	}
	since, err := time.Parse(time.RFC3339Nano, found[1])
	return err == nil && call.Time.Sub(since) > time.Hour
}
