package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"defender-integration/server/failure"
)

// defaultUnreadLimit is how long a caller may leave a stream unread.
const defaultUnreadLimit = 2 * time.Minute

// maxUnreadGrace bounds how long a stream that was ended as unread may stay unread: as long again as it had, but no longer than this.
const maxUnreadGrace = 30 * time.Second

// unreadWatch ends streams that nobody reads.
type unreadWatch struct {
	// limit is how long a message may wait for the caller to read those before it.
	limit   time.Duration
	logger  *slog.Logger
	metrics *metrics
}

// readable ends a stream with STREAM_UNREAD when a message has waited for longer than the limit for the caller to read those before
// it, and closes the connection when the caller does not even read what was sent by then. Unary calls are left alone: what waits of
// them is one answer.
//
// gRPC alone would let both wait for ever: a Send blocks until the caller reads, and the status of a stream that has ended stands
// behind its messages, and with it its memory, its place among the connection's streams and the server's graceful stop. There only
// the end of the connection helps, which ends the connection's other streams too.
func readable(w *unreadWatch) interceptor {
	return interceptor{
		unary: func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, request)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			out := &readStream{ServerStream: stream, outbox: newOutbox(w.metrics), limit: w.limit}
			err := handler(srv, out)
			return w.ended(stream.Context(), out, err)
		},
	}
}

// ended sees to a stream whose handler returned err, and returns what the stream ends with.
func (w *unreadWatch) ended(ctx context.Context, stream *readStream, err error) error {
	within := w.limit
	if stream.unread {
		err, within = failure.Unread(w.limit), min(w.limit, maxUnreadGrace)
		w.logger.LogAttrs(ctx, slog.LevelWarn, "a stream is left unread, and ends", slog.String("limit", w.limit.String()))
		w.metrics.unread.Inc()
	}
	stream.outbox.afterwards(within, func(waiting int) {
		stream.outbox.settle()
		w.cut(ctx, waiting)
	})
	if ctx.Err() != nil {
		stream.outbox.settle() // The caller or the connection is gone.
	}
	return err
}

// cut closes the connection of a stream that has ended and is not read.
func (w *unreadWatch) cut(ctx context.Context, waiting int) {
	who := callerFrom(ctx)
	if who.conn == nil || !who.conn.cut() {
		return // It is gone already, and the stream with it.
	}
	w.logger.LogAttrs(ctx, slog.LevelWarn, "a stream has ended and stays unread; its connection is closed",
		slog.String("caller", who.name), slog.Int("unread_bytes", waiting))
	w.metrics.cut.Inc()
}

// readStream is a stream whose messages wait for the caller to read.
type readStream struct {
	grpc.ServerStream
	outbox *outbox
	limit  time.Duration
	// unread says that the caller has not read, for longer than the limit.
	unread bool
}

// SendMsg sends a message as soon as the caller has read enough of those before it. It fails after the limit, when the stream's context
// ends, and with context.Canceled when the connection breaks.
func (s *readStream) SendMsg(message any) error {
	if err := s.outbox.await(s.Context(), s.limit); err != nil {
		s.unread = errors.Is(err, errNoRoom)
		return err
	}
	if m, ok := message.(proto.Message); ok {
		message = &outgoing{Message: m, outbox: s.outbox}
	}
	err := s.ServerStream.SendMsg(message)
	if status.Code(err) == codes.Unavailable {
		// The connection broke. gRPC ends the stream's context too, but a moment later.
		return context.Canceled
	}
	return err
}
