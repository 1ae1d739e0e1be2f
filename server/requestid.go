package server

import (
	"context"
	"crypto/rand"
	"regexp"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// requestIDHeader carries the id of a call, in both directions.
const requestIDHeader = "x-request-id"

// requestIDForm is what a caller's own id may look like: it is echoed and logged, so it is short and plain.
var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/=+-]{0,127}$`)

// identify gives each call its id, the caller's own where that is well formed, sends it back as a header, and puts the call into
// the context for the log.
func identify() interceptor {
	return interceptor{
		unary: func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			id := chooseRequestID(ctx)
			// It fails only when the headers are sent already, which no handler has had the chance to do.
			_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, id))
			return handler(withCall(ctx, &call{requestID: id, conn: callerFrom(ctx).conn}), request)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			id := chooseRequestID(stream.Context())
			_ = stream.SetHeader(metadata.Pairs(requestIDHeader, id))
			return handler(srv, &middleware.WrappedServerStream{
				ServerStream:   stream,
				WrappedContext: withCall(stream.Context(), &call{requestID: id, conn: callerFrom(stream.Context()).conn}),
			})
		},
	}
}

// chooseRequestID returns the caller's id where it sent exactly one that is well formed, and else a new one.
func chooseRequestID(ctx context.Context) string {
	if given := metadata.ValueFromIncomingContext(ctx, requestIDHeader); len(given) == 1 && requestIDForm.MatchString(given[0]) {
		return given[0]
	}
	return rand.Text()
}
