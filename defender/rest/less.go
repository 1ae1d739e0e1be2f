package rest

import (
	"errors"
	"net"

	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// LessMayHelp says whether err is a failure that a query which asks for less may avoid: Microsoft's own, an answer that broke off, or
// one that did not come in time. A host that cannot be connected to fails on every query.
func LessMayHelp(err error) bool {
	e, ok := errors.AsType[*defender.Error](err)
	if !ok {
		return false
	}
	switch e.Problem.GetReason() {
	case integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED:
		return true
	case integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE:
		var late interface{ Timeout() bool }
		var dialling *net.OpError
		return errors.As(e.Err, &late) && late.Timeout() && !errors.As(e.Err, &dialling)
	}
	return false
}
