package client_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// waitsOf returns how long a client waited between the calls that the script answers with errors.
func waitsOf(t *testing.T, calls int, answer func(call int, send sendFunc) error, options ...client.Option) []time.Duration {
	t.Helper()
	var waits []time.Duration
	synctest.Test(t, func(t *testing.T) {
		f, conn := start(t, func(_ context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
			if call > calls {
				send(completed("end"))
				return nil
			}
			return answer(call, send)
		})
		if _, err := take(t.Context(), client.New(conn, options...).Alerts(request), always, never); err != nil {
			t.Errorf("error %v", err)
		}
		waits = f.waits()
	})
	return waits
}

func between(t *testing.T, what string, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s: waited %v, want %v to %v", what, got, least, most)
	}
}

func TestWaitAsTheServerAsks(t *testing.T) {
	tests := []struct {
		asked, least, most time.Duration
	}{
		{7 * time.Second, 7 * time.Second, 8400 * time.Millisecond},
		{time.Nanosecond, 10 * time.Millisecond, 12 * time.Millisecond},
		{24 * time.Hour, 5 * time.Minute, 6 * time.Minute},
		// Nothing sensible asked: the growing wait.
		{0, 500 * time.Millisecond, time.Second},
		{-time.Second, 500 * time.Millisecond, time.Second},
	}
	for _, test := range tests {
		for _, code := range []codes.Code{codes.Unavailable, codes.ResourceExhausted} {
			waits := waitsOf(t, 1, func(int, sendFunc) error {
				return failed(code, integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, nil, retryIn(test.asked))
			})
			between(t, fmt.Sprintf("%v asked with %v", test.asked, code), waits[0], test.least, test.most)
		}
	}
}

func TestWaitGrowsToItsBound(t *testing.T) {
	waits := waitsOf(t, 8, func(int, sendFunc) error { return status.Error(codes.Unavailable, "") })
	for i, seconds := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
		whole := time.Duration(seconds) * time.Second
		between(t, fmt.Sprintf("wait %d", i), waits[i], whole/2, whole)
	}
}

func TestWaitBeginsAgainAfterAnEvent(t *testing.T) {
	waits := waitsOf(t, 6, func(call int, send sendFunc) error {
		if call == 4 {
			send(alert(1))
		}
		return status.Error(codes.Unavailable, "")
	}, client.WithWaits(10*time.Second, time.Hour))
	for i, seconds := range []int{10, 20, 40, 10, 20, 40} {
		whole := time.Duration(seconds) * time.Second
		between(t, fmt.Sprintf("wait %d", i), waits[i], whole/2, whole)
	}
}

func TestWaitsAreJittered(t *testing.T) {
	seen := map[time.Duration]bool{}
	for _, wait := range waitsOf(t, 20, func(int, sendFunc) error { return draining(time.Minute) }) {
		seen[wait] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 waits with %d lengths", len(seen))
	}
}

func TestWaitsHaveALowerBound(t *testing.T) {
	for _, wait := range waitsOf(t, 5, func(int, sendFunc) error { return status.Error(codes.Unavailable, "") }, client.WithWaits(0, -1)) {
		between(t, "no wait asked for", wait, 5*time.Millisecond, 10*time.Millisecond)
	}
}
