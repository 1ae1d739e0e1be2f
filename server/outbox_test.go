package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// gRPC tells of no smaller buffer that it is gone: an outbox would seem full for ever.
func TestEveryMessageThatLeavesIsCounted(t *testing.T) {
	for _, size := range []int{0, 1, 100, 1 << 10, 100 << 10} {
		o := newOutbox(testMetrics(t))
		out := &outgoing{Message: &integrationv1.StreamAlertsResponse{Reference: string(make([]byte, size))}, outbox: o}
		bytes, err := codec{}.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.Len() + messageHeader; bytes.Len() < size || o.waiting != want {
			t.Errorf("%d bytes wait of a message of %d, want %d", o.waiting, bytes.Len(), want)
		}
		bytes.Ref()
		bytes.Free()
		if o.waiting == 0 {
			t.Errorf("a message of %d bytes left before all were done with it", size)
		}
		bytes.Free()
		if o.waiting != 0 {
			t.Errorf("%d bytes wait after a message of %d left", o.waiting, size)
		}
	}
	if mem.IsBelowBufferPoolingThreshold(smallestBuffer) {
		t.Error("gRPC does not tell when a buffer of the smallest size is gone")
	}
}

// A caller that reads one message just before each limit is given its time, also where the room for another comes only much later,
// behind a large message; one that reads nothing is not.
func TestTheLimitBeginsAnewWithEachMessageThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutbox(testMetrics(t))
		var sent []mem.BufferSlice
		for _, size := range []int{5 << 10, 5 << 10, 5 << 10, 200 << 10} {
			bytes, err := o.marshal(&integrationv1.StreamAlertsResponse{Reference: string(make([]byte, size))})
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, bytes)
		}
		go func() {
			for _, bytes := range sent {
				time.Sleep(time.Minute - time.Nanosecond)
				bytes.Free()
			}
		}()
		began := time.Now()
		if err := o.await(t.Context(), time.Minute); err != nil || time.Since(began) < 3*time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, err := o.marshal(&integrationv1.StreamAlertsResponse{Reference: string(make([]byte, outboxRoom))}); err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		if err := o.await(t.Context(), time.Minute); !errors.Is(err, errNoRoom) || time.Since(began) > 2*time.Minute {
			t.Errorf("nothing is read: after %v: %v", time.Since(began), err)
		}
	})
}

// brokenStream is a stream whose connection broke, and whose context does not know it yet.
type brokenStream struct{ grpc.ServerStream }

func (brokenStream) Context() context.Context { return context.Background() }
func (brokenStream) SendMsg(any) error {
	return status.Error(codes.Unavailable, "transport is closing")
}

// A caller whose connection breaks has gone, which is nothing that the service cannot do.
func TestABrokenConnectionIsTheCallersEnd(t *testing.T) {
	stream := &readStream{ServerStream: brokenStream{}, outbox: newOutbox(testMetrics(t)), limit: time.Minute}
	if err := stream.SendMsg(&integrationv1.StreamAlertsResponse{}); !errors.Is(err, context.Canceled) {
		t.Errorf("sending failed with %v", err)
	}
}

// testMetrics returns metrics that nobody reads.
func testMetrics(t *testing.T) *metrics {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return m
}
