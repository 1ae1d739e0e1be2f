package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// While alerts come and the journal is trimmed every minute, streams catch up at every pace: each has every revision once and in order
// from where it was told of a gap, and where it was told of none, all of them. A token from the middle of it gives the rest exactly, or is
// refused with one that works.
func TestTrimmingUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		settings.RetentionAge = 10 * time.Minute
		h := newHouse(t, settings)
		defer func() { h.stop() }()
		began := time.Now()
		h.source.SetDevices(collectortest.Device(deviceOne, "ws-one.contoso.test", began))
		const alerts = 400 // one in five seconds
		var order []string
		for i := range alerts {
			at := began.Add(time.Duration(i) * 5 * time.Second)
			// By the device's id alone, which only facts tell: trimming repeats those.
			h.source.Put(collectortest.Alert(fmt.Sprintf("a%03d", i), deviceOne, "", at), at)
			order = append(order, fmt.Sprintf("KIND_NEW a%03d A test alert", i))
		}
		request := following(actorNamed("one", "ws-one"))
		request.Window = &integrationv1.Window{StartTime: timestamppb.New(began)}
		every := proto.CloneOf(request)
		every.Actors = nil
		var calls []*call
		keeper := h.open(request) // So that the device is looked up from the start.
		for i := range 50 {
			time.Sleep(10 * time.Second)
			// From one that takes what comes to one that takes twelve seconds over each event, and so falls behind what is kept.
			one := request
			if i%5 == 0 {
				one = every
			}
			calls = append(calls, h.openSlow(one, time.Duration(i)*250*time.Millisecond))
		}
		time.Sleep(26 * time.Minute) // A minute longer than alerts come.
		gaps := 0
		for i, c := range append(calls, keeper) {
			events := c.close()
			gaps += wantInOrder(t, i, events, order, began)
		}
		if gaps == 0 {
			t.Error("trimming overtook no stream: the test shows nothing")
		}
		resumeTrimmed(t, h, request, keeper.events, order)
	})
}

// wantInOrder wants each alert once and in order, with none left out but at a gap, and returns how many gaps there were.
func wantInOrder(t *testing.T, stream int, events []*integrationv1.StreamAlertsResponse, order []string, began time.Time) (gaps int) {
	t.Helper()
	next, gap := 0, false
	for _, e := range events {
		switch {
		case e.GetGap() != nil:
			gaps, gap = gaps+1, true
			if !e.GetGap().GetFloorTime().AsTime().After(began) {
				t.Errorf("stream %d: a gap without a floor: %v", stream, e)
			}
		case e.GetAlert() != nil:
			at := slices.Index(order, journalled([]*integrationv1.StreamAlertsResponse{e})[0])
			if at != next && (!gap || at < next) {
				t.Errorf("stream %d: alert %d came, want %d (a gap was told: %v)", stream, at, next, gap)
			}
			next, gap = at+1, false
		}
	}
	return gaps
}

// resumeTrimmed resumes with tokens from all over the journal, most of it gone.
func resumeTrimmed(t *testing.T, h *house, request *integrationv1.StreamAlertsRequest, events []*integrationv1.StreamAlertsResponse, order []string) {
	t.Helper()
	refused, honoured := 0, 0
	for i := 0; i < len(events); i += 25 {
		sent := len(journalled(events[:i+1]))
		c := h.open(resumed(request, events[i].GetResumeToken()))
		time.Sleep(time.Second)
		got := journalled(c.close())
		token, ok := oldestOf(c.err)
		if !ok {
			honoured++
			if !slices.Equal(got, order[sent:]) {
				t.Errorf("resumed behind alert %d: %d events, want %d (%v)", sent, len(got), len(order)-sent, c.err)
			}
			continue
		}
		refused++
		oldest := h.open(resumed(request, token))
		time.Sleep(time.Second)
		rest := journalled(oldest.close())
		if token, ok := oldestOf(oldest.err); ok {
			// The journal was trimmed in between, which comes once a minute.
			oldest = h.open(resumed(request, token))
			time.Sleep(time.Second)
			rest = journalled(oldest.close())
		}
		if slices.ContainsFunc(oldest.events, func(e *integrationv1.StreamAlertsResponse) bool { return e.GetGap() != nil }) {
			continue // Or while it was read, which is told; the test's other streams show what comes then.
		}
		if len(rest) == 0 || len(rest) > len(order)-sent || !slices.Equal(rest, order[len(order)-len(rest):]) {
			t.Errorf("with the oldest token that works: %d events (%v)", len(rest), oldest.err)
		}
	}
	if refused == 0 || honoured == 0 {
		t.Errorf("%d tokens were refused, %d honoured: the test shows nothing", refused, honoured)
	}
}

// oldestOf returns the oldest token that works, where a stream was refused with one.
func oldestOf(err error) (string, bool) {
	f, ok := errors.AsType[*failure.Error](err)
	if !ok || f.Reason != integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED {
		return "", false
	}
	return f.Metadata["oldest_resume_token"], true
}
