package server

import (
	"context"
	"log/slog"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// audit logs who called, what, and how it ended: of each call of an audited method, and of each call that was denied. Of calls that were
// denied, or beyond a limit, it logs no more of one caller than l lets it, and keeps the access log from telling of the others too.
func audit(logger *slog.Logger, table map[string]methodPolicy, l *limiter) interceptor {
	record := func(ctx context.Context, method string, err error) {
		st := status.Convert(err)
		reason := reasonOf(st)
		denied := st.Code() == codes.PermissionDenied || st.Code() == codes.Unauthenticated
		untold := 0
		if denied || reason == integrationv1.ErrorReason_ERROR_REASON_CALLER_LIMIT.String() {
			var ok bool
			if untold, ok = l.tell(callerFrom(ctx).name); !ok {
				callFrom(ctx).untold.Store(true)
				return
			}
		}
		if !denied && !table[method].audited {
			return
		}
		level := slog.LevelInfo
		if denied {
			level = slog.LevelWarn
		}
		attrs := []slog.Attr{
			slog.String("method", method[strings.LastIndexByte(method, '/')+1:]),
			slog.String("caller", callerFrom(ctx).name),
			slog.String("code", st.Code().String()),
		}
		if reason != "" {
			attrs = append(attrs, slog.String("reason", reason))
		}
		if untold > 0 {
			attrs = append(attrs, slog.Int("untold", untold))
		}
		logger.LogAttrs(ctx, level, "audit", attrs...)
	}
	return interceptor{
		unary: func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			response, err := handler(ctx, request)
			record(ctx, info.FullMethod, err)
			return response, err
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			err := handler(srv, stream)
			record(stream.Context(), info.FullMethod, err)
			return err
		},
	}
}

// reasonOf returns the reason that a status carries, empty where it has none.
func reasonOf(st *status.Status) string {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
