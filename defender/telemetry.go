package defender

import (
	"context"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TelemetrySource looks for the traces of attacks in the telemetry of one tenant.
type TelemetrySource interface {
	// FindTraces looks for what fits each question, and gives the answers in the order of the questions. It makes as few calls as
	// the limits of one query allow: their number does not grow with the questions but by their size. Asked, Rows and More of an answer
	// are set as [integrationv1.Telemetry] says; its Problem says why it could not be answered, or not wholly, as where the tenant
	// lacks a table. The error is an *Error where none could be.
	FindTraces(ctx context.Context, questions []*TelemetryQuestion) ([]*integrationv1.Telemetry, error)
}

// TelemetryQuestion is what is asked about the attack on one Actor.
type TelemetryQuestion struct {
	// Since and Through bound the time of the events, both included: the window, and the tolerance at both ends.
	Since, Through time.Time
	// DeviceIDs are the Actor's devices in Defender for Endpoint. FullNames and ShortNames are its names, where no device is known.
	DeviceIDs, FullNames, ShortNames []string
	// Traces is what is known of the attack.
	Traces *integrationv1.Traces
}
