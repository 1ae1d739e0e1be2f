package server

import (
	"context"
	"errors"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"

	"defender-integration/server/failure"
)

// drainable ends streams when the context `draining` ends: the stream's own context is cancelled, and whatever its handler makes
// of that, the caller gets SERVER_DRAINING. Unary calls are left to finish.
//
// Without it an open stream, and a Health.Watch above all (https://github.com/grpc/grpc-go/issues/8882), holds the server's
// graceful stop until its deadline.
func drainable(draining context.Context) interceptor {
	return interceptor{
		unary: func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, request)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ctx, cancel := context.WithCancelCause(stream.Context())
			defer cancel(nil)
			defer context.AfterFunc(draining, func() { cancel(errDraining) })()

			wrapped := &middleware.WrappedServerStream{ServerStream: stream, WrappedContext: ctx}
			var err error
			if info.IsClientStream {
				err = interruptible(ctx, func() error { return handler(srv, wrapped) })
			} else {
				err = handler(srv, wrapped)
			}
			if err != nil && errors.Is(context.Cause(ctx), errDraining) {
				return failure.Draining()
			}
			return err
		},
	}
}

// errDraining is the cause of the contexts that draining cancels.
var errDraining = errors.New("the server drains")

// interruptible runs a handler that may wait for its caller's next message, which no context interrupts, and returns as soon as
// ctx ends. The handler's own wait ends right after: gRPC fails the receiving side of a stream that has its status.
func interruptible(ctx context.Context, handler func() error) error {
	done := make(chan error, 1)
	go func() { done <- handler() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
