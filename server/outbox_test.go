package server

import (
	"testing"

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
