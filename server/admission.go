package server

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// need is what a call must be allowed. The zero value is that of a call of which nothing is known yet.
type need struct {
	// policy is the method's, method its short name.
	policy methodPolicy
	method string
	// integration is the one that the request names.
	integration string
}

// errTimeLimit is the cause of a call's context that passed the method's time limit: not the caller's own deadline.
var errTimeLimit = errors.New("the method's time limit passed")

// enforce refuses who may not call, and gives unary calls the method's time limit. It notes for the log what a request is about before it
// decides on it.
func enforce(g *guard, table map[string]methodPolicy) interceptor {
	return interceptor{
		unary: func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			policy := table[info.FullMethod]
			if err := g.admit(ctx, info.FullMethod, policy, request); err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeoutCause(ctx, policy.timeLimit, errTimeLimit)
			defer cancel()
			response, err := handler(ctx, request)
			if err != nil && errors.Is(context.Cause(ctx), errTimeLimit) {
				err = errors.Join(errTimeLimit, err)
			}
			return response, err
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			policy := table[info.FullMethod]
			if !policy.named {
				if err := g.admit(stream.Context(), info.FullMethod, policy, nil); err != nil {
					return err
				}
				return handler(srv, stream)
			}
			return handler(srv, &admittedStream{ServerStream: stream, admit: func(ctx context.Context, request any) error {
				return g.admit(ctx, info.FullMethod, policy, request)
			}})
		},
	}
}

// admittedStream is a stream whose messages say what it is about.
type admittedStream struct {
	grpc.ServerStream
	admit func(ctx context.Context, request any) error
}

// RecvMsg receives a message, and fails where the caller may not ask for that.
func (s *admittedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	return s.admit(s.Context(), message)
}

// admit returns an error unless the call is allowed now. From then on it is allowed for as long as recheck finds it so.
func (g *guard) admit(ctx context.Context, method string, policy methodPolicy, request any) error {
	c := callFrom(ctx)
	if c != nil && request != nil {
		c.note(request)
	}
	if c == nil || c.conn == nil {
		if policy.callers == callersAny {
			return nil
		}
		// The listeners let nobody through without a handshake of ours, so this is a fault of ours, and the caller learns no more than
		// that it is not known.
		return failure.New(integrationv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED, "it is not known who calls")
	}
	need := need{policy: policy, method: method[strings.LastIndexByte(method, '/')+1:], integration: integrationOf(request)}
	// First it is kept and then decided on: what is in force may change in between, and recheck sees it then.
	c.require(need)
	if failed := g.verify(c.conn, g.clock()); failed != nil {
		return failed
	}
	if failed := g.allow(c.conn, need); failed != nil {
		return failed
	}
	if failed := ownCredentials(g.grants(c.conn), c.conn.identities[0], need, request); failed != nil {
		return failed
	}
	c.hold(g.grants(c.conn))
	return nil
}
