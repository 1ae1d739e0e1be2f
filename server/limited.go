package server

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
)

// isProbe says whether a method belongs to the health service. It is never limited: a server whose callers are at their limits is well,
// and who restarts it for that makes it worse.
func isProbe(method string) bool {
	return strings.HasPrefix(method, "/"+healthv1.Health_ServiceDesc.ServiceName+"/")
}

// limit refuses what is more than callers may take.
func limit(l *limiter) interceptor {
	return only(interceptor{
		unary: func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := l.call(callerFrom(ctx).name); err != nil {
				return nil, err
			}
			if err := l.sized(request); err != nil {
				return nil, err
			}
			return handler(ctx, request)
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			limited := &limitedStream{ServerStream: stream, limiter: l}
			defer limited.close()
			if info.IsClientStream {
				if err := limited.open(); err != nil {
					return err
				}
			}
			return handler(srv, limited)
		},
	}, func(method string) bool { return !isProbe(method) })
}

// sized returns why a request is too large; nil where it is not. It takes any request: what is no message of protobuf is refused later.
// What is larger than [MaxRequestBytes] never comes here: gRPC refuses it in its own words, without a reason of ours.
func (l *limiter) sized(request any) error {
	if message, ok := request.(proto.Message); ok {
		return l.request(proto.Size(message))
	}
	return nil
}

// limitedStream is a stream that is counted, and whose caller's messages have a limit. One that has a single request is counted when that
// has come, for only then is it known whether its caller may have it: who may not takes nothing away from those who may.
type limitedStream struct {
	grpc.ServerStream
	limiter *limiter
	// counted is with whom it is counted; nil before.
	counted *taken
}

func (s *limitedStream) open() (err error) {
	s.counted, err = s.limiter.openStream(callerFrom(s.Context()).name)
	return err
}

func (s *limitedStream) close() {
	if s.counted != nil {
		s.limiter.closeStream(s.counted)
	}
}

// RecvMsg receives a message that is not too large.
func (s *limitedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	if s.counted == nil {
		if err := s.open(); err != nil {
			return err
		}
	}
	return s.limiter.sized(message)
}
