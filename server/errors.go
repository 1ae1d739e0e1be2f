package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// errorDomain is the domain of every ErrorInfo.
const errorDomain = "defender.integration.v1"

// When to come again, where the failure does not say.
const (
	retryAfterDraining = time.Second
	retryAfterStore    = 5 * time.Second
	retryAfterUnread   = time.Second
)

// maxViolationsTold is how many violations stand in a status's message; the details have all.
const maxViolationsTold = 5

// codeOf returns the code of a call that fails with the reason; ok is false for reasons that only stand in a Problem or a stage.
func codeOf(reason integrationv1.ErrorReason) (code codes.Code, ok bool) {
	switch reason {
	case integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		integrationv1.ErrorReason_ERROR_REASON_IMMUTABLE_FIELD,
		integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID,
		integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN,
		integrationv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID:
		return codes.InvalidArgument, true
	case integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND:
		return codes.NotFound, true
	case integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_EXISTS:
		return codes.AlreadyExists, true
	case integrationv1.ErrorReason_ERROR_REASON_ETAG_MISMATCH:
		return codes.Aborted, true
	case integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED,
		integrationv1.ErrorReason_ERROR_REASON_CREDENTIALS_REQUIRED,
		integrationv1.ErrorReason_ERROR_REASON_API_RETIRED,
		integrationv1.ErrorReason_ERROR_REASON_MANAGED_BY_CONFIGURATION:
		return codes.FailedPrecondition, true
	case integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED,
		integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED:
		return codes.OutOfRange, true
	case integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING,
		integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE:
		return codes.Unavailable, true
	case integrationv1.ErrorReason_ERROR_REASON_STREAM_UNREAD,
		integrationv1.ErrorReason_ERROR_REASON_CALLER_LIMIT:
		return codes.ResourceExhausted, true
	case integrationv1.ErrorReason_ERROR_REASON_CALLER_NOT_ALLOWED:
		return codes.PermissionDenied, true
	case integrationv1.ErrorReason_ERROR_REASON_CALLER_UNAUTHENTICATED:
		return codes.Unauthenticated, true
	case integrationv1.ErrorReason_ERROR_REASON_INTERNAL:
		return codes.Internal, true
	default:
		return codes.Internal, false
	}
}

// translate turns what a handler returned into the status that the caller gets, counts it, and logs what the caller does not get.
func translate(logger *slog.Logger, metrics *metrics) interceptor {
	convert := func(ctx context.Context, method string, err error) error {
		if err == nil {
			return nil
		}
		st, cause := toStatus(ctx, err)
		metrics.failed(method, st)
		if cause != nil {
			level := slog.LevelWarn
			if st.Code() == codes.Internal {
				level = slog.LevelError
			}
			logger.LogAttrs(ctx, level, "the cause of a failed call",
				slog.String("code", st.Code().String()), slog.String("error", cause.Error()))
		}
		return st.Err()
	}
	return interceptor{
		unary: func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			response, err := handler(ctx, request)
			if err != nil {
				return nil, convert(ctx, info.FullMethod, err)
			}
			return response, nil
		},
		stream: func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return convert(stream.Context(), info.FullMethod, handler(srv, stream))
		},
	}
}

// toStatus turns an error into a status, and returns what of it belongs into the log and not to the caller.
func toStatus(ctx context.Context, err error) (st *status.Status, cause error) {
	var failed *failure.Error
	var invalid *protovalidate.ValidationError
	switch {
	case errors.As(err, &failed):
		if _, ok := codeOf(failed.Reason); ok {
			return failureStatus(ctx, failed), failed.Cause
		}
	case errors.As(err, &invalid):
		var within []*validate.FieldPathElement
		if errors.As(err, new(*invalidIntegrationError)) {
			within = []*validate.FieldPathElement{{FieldName: new("integration")}}
		}
		return failureStatus(ctx, invalidRequest(invalid, within...)), nil
	case errors.Is(err, errTimeLimit):
		return failureStatus(ctx, storeUnavailable(err)), err
	case errors.Is(err, store.ErrUnavailable):
		return failureStatus(ctx, storeUnavailable(err)), err
	case errors.Is(err, store.ErrVersion):
		return failureStatus(ctx, failure.LaterVersion().Because(err)), err
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, "the call was cancelled"), nil
	case errors.Is(err, context.DeadlineExceeded):
		return status.New(codes.DeadlineExceeded, "the caller's deadline passed"), nil
	}
	// What is a status already comes from gRPC itself: its health and reflection services, and its reading of messages. One that is
	// wrapped does not: it is some client's, such as a driver's, and its text is not for the caller.
	if own, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return own.GRPCStatus(), nil
	}
	internal := failure.New(integrationv1.ErrorReason_ERROR_REASON_INTERNAL,
		"a fault of the service; its log has the cause under the request id %s", requestID(ctx))
	return failureStatus(ctx, internal), err
}

// failureStatus makes a status of a failure whose reason has a code.
func failureStatus(ctx context.Context, f *failure.Error) *status.Status {
	code, _ := codeOf(f.Reason)
	metadata := f.Metadata
	if f.Reason == integrationv1.ErrorReason_ERROR_REASON_INTERNAL {
		metadata = map[string]string{"request_id": requestID(ctx)}
	}
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(&errdetails.ErrorInfo{
		Reason: f.Reason.String(), Domain: errorDomain, Metadata: metadata,
	})}
	if len(f.Fields) > 0 {
		details = append(details, protoadapt.MessageV1Of(badRequest(f.Fields)), protoadapt.MessageV1Of(violations(f.Fields)))
	}
	if wait := retryAfter(f); wait > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)}))
	}
	st := status.New(code, f.Message)
	detailed, err := st.WithDetails(details...)
	if err != nil {
		// It cannot be: the code is not OK, and the details are messages of ours that marshal.
		return st
	}
	return detailed
}

// retryAfter returns when to come again, zero where that is no use.
func retryAfter(f *failure.Error) time.Duration {
	switch {
	case f.RetryAfter > 0:
		return f.RetryAfter
	case f.Reason == integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING:
		return retryAfterDraining
	case f.Reason == integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE:
		return retryAfterStore
	case f.Reason == integrationv1.ErrorReason_ERROR_REASON_STREAM_UNREAD:
		return retryAfterUnread
	default:
		return 0
	}
}

// storeUnavailable is the failure of a call that the store did not serve.
func storeUnavailable(cause error) *failure.Error {
	return failure.New(integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		"the store does not answer or has no room; try again").Because(cause)
}

// invalidIntegrationError says that the integration that an update would make breaks the rules in the proto files. Its paths begin
// inside the integration.
type invalidIntegrationError struct{ *protovalidate.ValidationError }

// Unwrap returns the validation's error.
func (e *invalidIntegrationError) Unwrap() error { return e.ValidationError }

// invalidRequest is the failure of a message that breaks the rules in the proto files. A message that is only a part of its request
// stands there within these fields.
func invalidRequest(invalid *protovalidate.ValidationError, within ...*validate.FieldPathElement) *failure.Error {
	f := &failure.Error{Reason: integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST}
	var texts []string
	for _, violation := range invalid.ToProto().GetViolations() {
		if len(within) > 0 {
			violation = proto.CloneOf(violation)
			violation.Field = &validate.FieldPath{Elements: append(slices.Clone(within), violation.GetField().GetElements()...)}
		}
		path, text := protovalidate.FieldPathString(violation.GetField()), violation.GetMessage()
		f.Fields = append(f.Fields, failure.Field{Path: path, Description: text, Violation: violation})
		if path != "" {
			text = path + ": " + text
		}
		texts = append(texts, text)
	}
	if more := len(texts) - maxViolationsTold; more > 0 {
		texts = append(texts[:maxViolationsTold], fmt.Sprintf("and %d more", more))
	}
	f.Message = strings.Join(texts, "; ")
	return f.With("field", f.Fields[0].Path)
}

// badRequest is the detail that every client knows.
func badRequest(fields []failure.Field) *errdetails.BadRequest {
	detail := &errdetails.BadRequest{}
	for _, field := range fields {
		detail.FieldViolations = append(detail.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: field.Path, Description: field.Description, Reason: field.Violation.GetRuleId(),
		})
	}
	return detail
}

// violations is the detail that clients with protovalidate know.
func violations(fields []failure.Field) *validate.Violations {
	detail := &validate.Violations{}
	for _, field := range fields {
		violation := field.Violation
		if violation == nil {
			violation = &validate.Violation{Field: &validate.FieldPath{}, Message: new(field.Description)}
			for name := range strings.SplitSeq(field.Path, ".") {
				violation.Field.Elements = append(violation.Field.Elements, &validate.FieldPathElement{FieldName: new(name)})
			}
		}
		detail.Violations = append(detail.Violations, violation)
	}
	return detail
}
