package client

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// errorDomain is the domain of the service's reasons.
const errorDomain = "defender.integration.v1"

// TokenError says that the service refused the resume token. What to do is the caller's decision, for history may be lost: with
// OldestToken the stream goes on from the oldest event that is still there.
type TokenError struct {
	// Reason is one of the RESUME_TOKEN reasons.
	Reason integrationv1.ErrorReason
	// Token is the token that was refused, or that the stream would have resumed with.
	Token string
	// OldestToken is the oldest token of this request that works; set for RESUME_TOKEN_EXPIRED and RESUME_TOKEN_JOURNAL_REPLACED.
	OldestToken string
	// Differs names the part of the request that the token does not go with; set for RESUME_TOKEN_FOREIGN.
	Differs string
	// Err is the call's error, with its status.
	Err error
}

// Error returns the reason in words.
func (e *TokenError) Error() string { return fmt.Sprintf("the resume token was refused: %v", e.Err) }

// Unwrap returns the call's error.
func (e *TokenError) Unwrap() error { return e.Err }

// Reason returns the reason that a failed call of the service carries, ERROR_REASON_UNSPECIFIED where it carries none, as when the
// error came from the network or from another service, or where this version does not know it.
func Reason(err error) integrationv1.ErrorReason {
	return integrationv1.ErrorReason(integrationv1.ErrorReason_value[errorInfo(err).GetReason()])
}

// errorInfo returns the service's ErrorInfo of a failed call, nil where there is none.
func errorInfo(err error) *errdetails.ErrorInfo {
	// Convert finds the status of a wrapped error too.
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info
		}
	}
	return nil
}

// typed returns a TokenError where a resume token was refused, the error itself otherwise.
func typed(err error, token string) error {
	reason := Reason(err)
	switch reason {
	case integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID,
		integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN,
		integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED,
		integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED:
		metadata := errorInfo(err).GetMetadata()
		return &TokenError{
			Reason: reason, Token: token, OldestToken: metadata["oldest_resume_token"], Differs: metadata["differs"], Err: err,
		}
	default:
		return err
	}
}
