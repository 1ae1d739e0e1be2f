// Package failure is the error that the server and what stands directly below it (the streams) speak with: a reason of the
// contract, words for the caller, and metadata. It knows nothing of gRPC; package server turns it into a status in one place.
package failure

import (
	"fmt"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Error is why a call fails, in words that the caller may read: they hold no secret, no token and no text of a driver.
type Error struct {
	// Reason is what a program branches on. It decides the call's code.
	Reason integrationv1.ErrorReason
	// Message is one sentence for a person: what is wrong, and what to do about it.
	Message string
	// Metadata goes into the google.rpc.ErrorInfo; the reason's comment in errors.proto names its keys. It may be nil.
	Metadata map[string]string
	// Fields are the request's fields that are wrong, the first one first. They go into a google.rpc.BadRequest.
	Fields []Field
	// RetryAfter is when to come again, for the reasons that pass by themselves; zero takes the server's default.
	RetryAfter time.Duration
	// Cause goes to the log and never to the caller; it may be nil.
	Cause error
}

// Field is one field of a request and what is wrong with it.
type Field struct {
	// Path names the field as it stands in the proto files, such as `integration.endpoint.host`.
	Path string
	// Description is what is wrong with it.
	Description string
	// Violation is the rule in the proto files that is broken; nil where the rule does not stand there.
	Violation *validate.Violation
}

// New returns an Error with a formatted message.
func New(reason integrationv1.ErrorReason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// With adds a key to the metadata and returns the same Error.
func (e *Error) With(key, value string) *Error {
	if e.Metadata == nil {
		e.Metadata = make(map[string]string, 1)
	}
	e.Metadata[key] = value
	return e
}

// Because sets the cause and returns the same Error.
func (e *Error) Because(cause error) *Error {
	e.Cause = cause
	return e
}

// After sets when to come again and returns the same Error.
func (e *Error) After(wait time.Duration) *Error {
	e.RetryAfter = wait
	return e
}

// Invalid returns the Error of a request with a wrong field: the reason INVALID_REQUEST, the path as metadata `field`, and the
// field's violation.
func Invalid(path, format string, args ...any) *Error {
	description := fmt.Sprintf(format, args...)
	e := New(integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, "%s: %s", path, description).With("field", path)
	e.Fields = []Field{{Path: path, Description: description}}
	return e
}

// IntegrationNotFound returns the Error of an id that no integration has, or that none has any more.
func IntegrationNotFound(id string) *Error {
	return New(integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, "no integration has the id %q", id).
		With("integration_id", id)
}

// Draining returns the Error that ends streams and refuses calls while the server stops.
func Draining() *Error {
	return New(integrationv1.ErrorReason_ERROR_REASON_SERVER_DRAINING, "the server is about to stop; try another, or this one again")
}

// LaterVersion returns the Error of a call that needs what a later version of the service stored.
func LaterVersion() *Error {
	return New(integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		"a later version of this service wrote what is stored, and this version cannot read it; run that version, or a later one")
}

// Unread returns the Error that ends a stream of which the caller has read nothing for that long.
func Unread(limit time.Duration) *Error {
	return New(integrationv1.ErrorReason_ERROR_REASON_STREAM_UNREAD,
		"the stream was left unread for %s, so it was ended; resume it with the last token that was read", limit).
		With("limit", limit.String())
}

// Error returns the reason, the message and the cause, for the log.
func (e *Error) Error() string {
	text := e.Reason.String() + ": " + e.Message
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }
