package rest

import (
	"context"
	"errors"
	"net"
	"testing"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func TestLessMayHelp(t *testing.T) {
	problem := func(reason integrationv1.ErrorReason, cause error) error {
		return &defender.Error{Problem: &integrationv1.Problem{Reason: reason}, Err: cause}
	}
	const unreachable = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"none of Microsoft's":    {context.DeadlineExceeded, false},
		"failed":                 {problem(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED, nil), true},
		"invalid":                {problem(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER, nil), false},
		"no answer in time":      {problem(unreachable, context.DeadlineExceeded), true},
		"connection refused":     {problem(unreachable, &net.OpError{Op: "dial", Err: errors.New("refused")}), false},
		"connecting took long":   {problem(unreachable, &net.OpError{Op: "dial", Err: context.DeadlineExceeded}), false},
		"unreachable, who knows": {problem(unreachable, nil), false},
	} {
		if got := LessMayHelp(tt.err); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}
