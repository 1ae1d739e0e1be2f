package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// silent is a stream of which nothing comes until it is closed.
type silent struct {
	grpc.ServerStream
	closed chan struct{}
}

func (s silent) RecvMsg(any) error {
	<-s.closed
	return errors.New("closed")
}

// A request that does not come is not waited for without end, nor beyond the end of its stream.
func TestARequestThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := silent{closed: make(chan struct{})}
		defer close(wire.closed)
		ctx, end := context.WithCancelCause(t.Context())
		stream := &requestStream{middleware.WrappedServerStream{ServerStream: wire, WrappedContext: ctx}}
		began := time.Now()
		err := stream.RecvMsg(nil)
		failed, ok := errors.AsType[*failure.Error](err)
		if !ok || failed.Reason != integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST || time.Since(began) != requestLimit {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		end(failure.Draining())
		if err := stream.RecvMsg(nil); failure.Draining().Error() != err.Error() {
			t.Errorf("of a stream that was ended: %v", err)
		}
	})
}
