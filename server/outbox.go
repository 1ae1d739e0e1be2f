package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

const (
	// outboxRoom is from how many waiting bytes on a stream gives gRPC no further message. gRPC has a bound of its own, 64 KiB, at
	// which a Send blocks whatever happens to its context: below it, none ever does.
	outboxRoom = 32 << 10
	// messageHeader is what gRPC puts before each message, in bytes.
	messageHeader = 5
	// smallestBuffer is from which capacity on gRPC says when it has no more use for a buffer, in bytes.
	smallestBuffer = 1<<10 + 1
)

// errNoRoom says that nothing left an outbox for too long.
var errNoRoom = errors.New("nothing left the outbox for too long")

// outbox is what gRPC was given of a stream and has not put on the wire yet, since the caller does not read as fast. gRPC tells of a
// message that it is gone by freeing its buffer, whose pool this is.
//
// gRPC frees nothing of a connection that breaks; that ends the stream's context instead.
type outbox struct {
	// left holds something when a message has left since it was last looked at.
	left chan struct{}
	// metrics count what waits in all outboxes together.
	metrics *metrics

	mu sync.Mutex
	// waiting is what waits, in bytes.
	waiting int
	// watch rings when nothing has left for as long as within, once the handler has returned; nil before. moved is when something last
	// did.
	watch  *time.Timer
	within time.Duration
	moved  time.Time
	// settled says that the stream is over and gRPC may free nothing more of it: what waits is counted no more.
	settled bool
}

func newOutbox(metrics *metrics) *outbox {
	return &outbox{left: make(chan struct{}, 1), metrics: metrics}
}

// await waits until there is room for a message. It returns errNoRoom when nothing has left for as long as limit, and ctx's error when
// ctx ends.
func (o *outbox) await(ctx context.Context, limit time.Duration) error {
	if o.hasRoom() {
		return nil
	}
	o.metrics.blocked.Inc()
	defer o.metrics.blocked.Dec()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for !o.hasRoom() {
		select {
		case <-o.left:
			timer.Reset(limit)
		case <-timer.C:
			return errNoRoom
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (o *outbox) hasRoom() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.waiting < outboxRoom
}

// marshal makes the bytes of a message, in a buffer of their size: gRPC's pools have few sizes, and a stream that is not read would
// hold three times as much.
func (o *outbox) marshal(message proto.Message) (mem.BufferSlice, error) {
	data := make([]byte, 0, max(proto.Size(message), smallestBuffer))
	data, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(data, message)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(len(data) + messageHeader)
	return mem.BufferSlice{mem.NewBuffer(&data, o)}, nil
}

// Put takes the buffer of a message that is gone.
func (o *outbox) Put(data *[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.add(-len(*data) - messageHeader)
	switch {
	case o.watch == nil:
	case o.waiting == 0:
		o.watch.Stop()
	default:
		o.moved = time.Now()
		o.watch.Reset(o.within)
	}
	select {
	case o.left <- struct{}{}:
	default:
	}
}

// add counts what waits. It needs the lock.
func (o *outbox) add(bytes int) {
	o.waiting += bytes
	if !o.settled {
		o.metrics.waiting.Add(float64(bytes))
	}
}

// settle counts what waits no more among what waits in all outboxes.
func (o *outbox) settle() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.settled {
		o.metrics.waiting.Sub(float64(o.waiting))
		o.settled = true
	}
}

// Get makes a buffer; a pool must be able to.
func (o *outbox) Get(length int) *[]byte { return new(make([]byte, length)) }

// afterwards looks after what waits when the handler has returned: the stream's status waits behind it, and gRPC holds both for as
// long as the caller likes. It calls stuck, once, when nothing has left for so long.
func (o *outbox) afterwards(within time.Duration, stuck func(waiting int)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting == 0 {
		return
	}
	o.within, o.moved = within, time.Now()
	o.watch = time.AfterFunc(within, func() {
		o.mu.Lock()
		waiting, still := o.waiting, time.Since(o.moved) >= within
		o.mu.Unlock()
		if waiting > 0 && still {
			stuck(waiting)
		}
	})
}

// outgoing is a message on its way through an outbox. For any other codec it is the message.
type outgoing struct {
	proto.Message
	outbox *outbox
}

// codec is gRPC's codec for messages, but for those on their way through an outbox.
type codec struct{ encoding.CodecV2 }

// Marshal makes the bytes of a message.
func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	if out, ok := message.(*outgoing); ok {
		return out.outbox.marshal(out.Message)
	}
	return c.CodecV2.Marshal(message)
}
