package server

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// gRPC tells of no smaller buffer that it is gone: an outbox would seem full for ever.
func TestEveryMessageThatLeavesIsCounted(t *testing.T) {
	for _, size := range []int{0, 1, 100, 1 << 10, 100 << 10} {
		o := newOutbox()
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
		o := newOutbox()
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
