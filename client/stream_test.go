package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var request = &integrationv1.StreamAlertsRequest{IntegrationId: "contoso", Reference: "job-1"}

// take receives a stream to its end, or until stop says so; it acknowledges the events for which ack says so.
func take(ctx context.Context, stream *client.Stream, ack, stop func(*client.Event) bool) (tokens []string, err error) {
	for event, err := range stream.Events(ctx) {
		if err != nil {
			return tokens, err
		}
		tokens = append(tokens, event.GetResumeToken())
		if ack(event) {
			event.Ack()
		}
		if stop(event) {
			break
		}
	}
	return tokens, nil
}

func always(*client.Event) bool { return true }
func never(*client.Event) bool  { return false }

func at(token string) func(*client.Event) bool {
	return func(e *client.Event) bool { return e.GetResumeToken() == token }
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestStreamEndsWithCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(_ context.Context, _ int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			send(actors("t0"))
			send(alert(1))
			send(completed("t2"))
			return nil
		})
		stream := client.New(conn).Alerts(request)
		got, err := take(t.Context(), stream, always, never)
		if err != nil {
			t.Errorf("error %v", err)
		}
		equal(t, "events", got, []string{"t0", "t1", "t2"})
		equal(t, "calls with tokens", f.tokens(), []string{""})
		if stream.Acknowledged() != "t2" {
			t.Errorf("acknowledged %q", stream.Acknowledged())
		}
	})
}

// TestStreamResumesAfterTheLastAcknowledged breaks the connection after each event.
func TestStreamResumesAfterTheLastAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(_ context.Context, call int, request *integrationv1.StreamAlertsRequest, send sendFunc) error {
			if call == 4 {
				send(completed("t9"))
				return nil
			}
			send(actors("t0"))
			var after int
			if token := request.GetResumeToken(); token != "" {
				if _, err := fmt.Sscanf(token, "t%d", &after); err != nil {
					return err
				}
			}
			send(alert(after + 1))
			send(alert(after + 2))
			return draining(time.Second)
		})
		// Every second alert is acknowledged: t1, then t2, then t3.
		received := 0
		ack := func(e *client.Event) bool {
			if e.GetAlert() == nil {
				return false
			}
			received++
			return received%2 == 1
		}
		got, err := take(t.Context(), client.New(conn).Alerts(request), ack, never)
		if err != nil {
			t.Errorf("error %v", err)
		}
		equal(t, "events: what was not acknowledged comes again", got, []string{"t0", "t1", "t2", "t0", "t2", "t3", "t0", "t3", "t4", "t9"})
		equal(t, "calls with tokens", f.tokens(), []string{"", "t1", "t2", "t3"})
	})
}

func TestStreamBeginsWithTheRequestsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(_ context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			send(actors("t5"))
			if call == 1 {
				return draining(time.Second)
			}
			send(completed("t9"))
			return nil
		})
		own := &integrationv1.StreamAlertsRequest{IntegrationId: "contoso", ResumeToken: "t5"}
		stream := client.New(conn).Alerts(own)
		own.ResumeToken, own.IntegrationId = "changed", "changed"
		if _, err := take(t.Context(), stream, never, never); err != nil {
			t.Errorf("error %v", err)
		}
		equal(t, "calls with tokens", f.tokens(), []string{"t5", "t5"})
		if id := f.requests[1].GetIntegrationId(); id != "contoso" {
			t.Errorf("the request was not copied: %q", id)
		}
	})
}

// TestStreamThatBeginsNowDoesNotBeginAnew reconnects before anything is acknowledged: the token of the first `actors` is used,
// or what came between the connections would be lost.
func TestStreamThatBeginsNowDoesNotBeginAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(_ context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			switch call {
			case 1:
				return draining(time.Second) // Before any event: it has not begun.
			case 2:
				send(actors("t0"))
				send(alert(1))
				return draining(time.Second)
			case 3:
				send(actors("t7")) // The present, told again: no start.
				send(alert(1))
				return draining(time.Second)
			}
			send(completed("t9"))
			return nil
		})
		got, err := take(t.Context(), client.New(conn).Alerts(request), never, never)
		if err != nil {
			t.Errorf("error %v", err)
		}
		equal(t, "events", got, []string{"t0", "t1", "t7", "t1", "t9"})
		equal(t, "calls with tokens", f.tokens(), []string{"", "", "t0", "t0"})
	})
}

func TestAckIsCumulativeAndNeverGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(ctx context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			if call == 1 {
				for n := range 4 {
					send(alert(n))
				}
				send(&integrationv1.StreamAlertsResponse{Event: &integrationv1.StreamAlertsResponse_Progress{}}) // Without a token.
				return draining(time.Second)
			}
			send(alert(3))
			<-ctx.Done()
			return ctx.Err()
		})
		stream := client.New(conn).Alerts(request)
		var events []*client.Event
		for event, err := range stream.Events(t.Context()) {
			if err != nil {
				t.Fatalf("error %v", err)
			}
			events = append(events, event)
			switch len(events) {
			case 5:
				events[2].Ack()
				events[1].Ack() // Earlier.
				event.Ack()     // Without a token.
			case 6: // After the reconnection.
				events[3].Ack() // It comes again, or did.
				if stream.Acknowledged() != "t2" {
					t.Errorf("acknowledged %q", stream.Acknowledged())
				}
				event.Ack()
			}
			if len(events) == 6 {
				break
			}
		}
		equal(t, "calls with tokens", f.tokens(), []string{"", "t2"})
		if stream.Acknowledged() != "t3" {
			t.Errorf("acknowledged %q", stream.Acknowledged())
		}
	})
}

func TestLeavingTheLoopEndsTheCallAndComingBackResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(ctx context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			if call == 2 {
				send(completed("t2"))
				return nil
			}
			send(alert(1))
			<-ctx.Done()
			return ctx.Err()
		})
		stream := client.New(conn).Alerts(request)
		if got, err := take(t.Context(), stream, always, at("t1")); err != nil || len(got) != 1 {
			t.Errorf("events %q, error %v", got, err)
		}
		synctest.Wait()
		f.mu.Lock()
		if len(f.ended) != 1 || !errors.Is(f.ended[0], context.Canceled) {
			t.Errorf("the call ended with %v", f.ended)
		}
		f.mu.Unlock()
		got, err := take(t.Context(), stream, always, never)
		if err != nil {
			t.Errorf("error %v", err)
		}
		equal(t, "events", got, []string{"t2"})
		equal(t, "calls with tokens", f.tokens(), []string{"", "t1"})
	})
}

func TestHowACompletedStreamEndsChangesNothing(t *testing.T) {
	ends := map[string]func(context.Context) error{
		"UNAVAILABLE":   func(context.Context) error { return draining(time.Second) },
		"INTERNAL":      func(context.Context) error { return status.Error(codes.Internal, "") },
		"it never ends": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, conn := start(t, func(ctx context.Context, _ int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
					send(completed("t1"))
					return end(ctx)
				})
				got, err := take(t.Context(), client.New(conn).Alerts(request), never, never)
				if err != nil {
					t.Errorf("error %v", err)
				}
				equal(t, "events", got, []string{"t1"})
				equal(t, "calls with tokens", f.tokens(), []string{""})
			})
		})
	}
}

// TestServerThatVanishesAndComesBack cuts the connection without a status, and serves again later.
func TestServerThatVanishesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reached := make(chan struct{})
		first := &fake{script: func(ctx context.Context, _ int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			send(alert(1))
			close(reached)
			<-ctx.Done()
			return ctx.Err()
		}}
		second := &fake{script: func(_ context.Context, _ int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			send(completed("t2"))
			return nil
		}}
		p := &pipe{}
		stopFirst := p.serve(first)
		conn := p.dial()
		stopSecond := make(chan func(), 1)
		go func() {
			<-reached
			time.Sleep(time.Second) // Fake time: the event has arrived.
			stopFirst()
			time.Sleep(10 * time.Minute)
			stopSecond <- p.serve(second)
		}()
		got, err := take(t.Context(), client.New(conn).Alerts(request), always, never)
		if err != nil {
			t.Errorf("error %v", err)
		}
		equal(t, "events", got, []string{"t1", "t2"})
		equal(t, "calls with tokens", second.tokens(), []string{"t1"})
		_ = conn.Close()
		(<-stopSecond)()
	})
}

func TestEndWithoutCompletedIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(_ context.Context, _ int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			send(alert(1))
			return nil
		})
		_, err := take(t.Context(), client.New(conn).Alerts(request), always, never)
		if !errors.Is(err, client.ErrEndedEarly) {
			t.Errorf("error %v", err)
		}
		equal(t, "calls with tokens", f.tokens(), []string{""})
	})
}

func TestStreamEndsWithItsContext(t *testing.T) {
	t.Run("while it receives", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, conn := start(t, func(ctx context.Context, _ int, _ *integrationv1.StreamAlertsRequest, _ sendFunc) error {
				<-ctx.Done()
				return ctx.Err()
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			if _, err := take(ctx, client.New(conn).Alerts(request), always, never); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
	})
	t.Run("while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, conn := start(t, func(context.Context, int, *integrationv1.StreamAlertsRequest, sendFunc) error {
				return draining(time.Hour)
			})
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, io.ErrClosedPipe)
			defer cancel()
			begin := time.Now()
			if _, err := take(ctx, client.New(conn).Alerts(request), always, never); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("error %v", err)
			}
			if took := time.Since(begin); took != time.Minute {
				t.Errorf("it took %v", took)
			}
		})
	})
}

// TestLargestEventPasses has an event that is larger than the connection's own limit.
func TestLargestEventPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(_ context.Context, _ int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			event := alert(1)
			event.GetAlert().Raw = bytes.Repeat([]byte("x"), 3<<20)
			send(event)
			send(completed("t2"))
			return nil
		}, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1024)))
		got, err := take(t.Context(), client.New(conn).Alerts(request), always, never)
		if err != nil {
			t.Errorf("error %v", err)
		}
		equal(t, "events", got, []string{"t1", "t2"})
		equal(t, "calls with tokens", f.tokens(), []string{""})
	})
}

func TestReconnectionsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conn := start(t, func(_ context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			if call == 1 {
				return draining(time.Second)
			}
			send(completed("t1"))
			return nil
		})
		var out bytes.Buffer
		c := client.New(conn, client.WithLogger(slog.New(slog.NewTextHandler(&out, nil))))
		if _, err := take(t.Context(), c.Alerts(request), always, never); err != nil {
			t.Errorf("error %v", err)
		}
		for _, want := range []string{"integration_id=contoso", "reference=job-1", "reason=ERROR_REASON_SERVER_DRAINING"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the log lacks %q: %s", want, &out)
			}
		}
	})
}

func TestServiceReachesTheOtherCalls(t *testing.T) {
	_, conn := start(t, nil)
	_, err := client.New(conn).Service().GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: "contoso"})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("error %v", err)
	}
}

// TestStreamThatWasLeftUnreadResumes ends a stream as the service does when its caller was away for too long: it goes on after what was
// acknowledged, when the service says.
func TestStreamThatWasLeftUnreadResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const asked = 7 * time.Second
		f, conn := start(t, func(_ context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			if call == 1 {
				send(actors("t0"))
				send(alert(1))
				send(alert(2))
				return failed(codes.ResourceExhausted, integrationv1.ErrorReason_ERROR_REASON_STREAM_UNREAD,
					map[string]string{"limit": "2m0s"}, retryIn(asked))
			}
			send(alert(3))
			send(completed("t4"))
			return nil
		})
		var log bytes.Buffer
		stream := client.New(conn, client.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))).Alerts(request)
		var got []string
		for event, err := range stream.Events(t.Context()) {
			if err != nil {
				t.Fatalf("error %v", err)
			}
			got = append(got, event.GetResumeToken())
			event.Ack()
			time.Sleep(time.Hour) // What had arrived is handed over however late, and only then the reason.
		}
		equal(t, "events", got, []string{"t0", "t1", "t2", "t3", "t4"})
		equal(t, "calls with tokens", f.tokens(), []string{"", "t2"})
		if wait := f.waits()[0] - 3*time.Hour; wait < asked || wait > asked+asked/5 {
			t.Errorf("it waited for %s, and was asked for %s", wait, asked)
		}
		if !strings.Contains(log.String(), "reason=ERROR_REASON_STREAM_UNREAD") {
			t.Errorf("the log says: %s", log.String())
		}
	})
}
