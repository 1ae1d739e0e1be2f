package server

import (
	"context"
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// validateRequests checks each request against the rules in the proto files.
func validateRequests(validator protovalidate.Validator) interceptor {
	check := func(_ context.Context, request any) error {
		message, ok := request.(proto.Message)
		if !ok {
			return fmt.Errorf("the request is a %T, which is no protobuf message", request)
		}
		return validator.Validate(message, protovalidate.WithFilter(protovalidate.FilterFunc(rulesApply)))
	}
	return interceptor{
		unary: func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := check(ctx, request); err != nil {
				return nil, err
			}
			return handler(ctx, request)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, &checkedStream{ServerStream: stream, check: check})
		},
	}
}

// checkedStream checks each message that it receives.
type checkedStream struct {
	grpc.ServerStream
	check func(ctx context.Context, request any) error
}

// RecvMsg receives a message and checks it.
func (s *checkedStream) RecvMsg(message any) error {
	if err := s.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	return s.check(s.Context(), message)
}

// rulesApply says which rules hold for a request. An update carries only the fields that it changes, so its integration is
// checked when it is merged with what is there.
func rulesApply(_ protoreflect.Message, descriptor protoreflect.Descriptor) bool {
	return descriptor.FullName() != updatedIntegrationField
}

// updatedIntegrationField is the field of an update that the rules for a whole integration do not hold for.
const updatedIntegrationField = protoreflect.FullName("defender.integration.v1.UpdateIntegrationRequest.integration")
