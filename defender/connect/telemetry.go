package connect

import (
	"context"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// withoutTelemetry is what follows where telemetry cannot be asked.
const withoutTelemetry = " Until then verdicts rest on alerts alone: what was blocked or recorded without an alert is judged as missed."

// telemetry asks whether the application may hunt, by a query that needs no table, and then whether the tables are there. needs is what
// failed before: it is asked where alerts are read, and only for what raised none. No integration needs telemetry, so that what a tenant
// does not permit, or does not have, is a warning; where it may be asked and does not answer, that fails.
func (t *test) telemetry(needs *stage) *stage {
	source := t.connection.telemetry
	if source == nil {
		return t.leaveOut(integrationv1.ConnectivityStage_LINK_TELEMETRY, apiTarget,
			"Telemetry is asked over API_GRAPH_SECURITY alone: verdicts rest on alerts alone.")
	}
	return t.run(integrationv1.ConnectivityStage_LINK_TELEMETRY, apiTarget, needs, func(ctx context.Context, s *stage) {
		if err := source.Permission(ctx); err != nil {
			fail(s, err)
			if s.GetReason() == integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING {
				s.Result = warned
				s.Remedy += withoutTelemetry
			}
			return
		}
		missing, err := source.ProbeTables(ctx)
		switch {
		case err != nil:
			fail(s, err)
			if len(missing) > 0 && s.GetReason() == integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED {
				// It is one table after the other that is missing, up to the last.
				s.Result = warned
			}
		case len(missing) > 0:
			s.Result, s.Reason = warned, integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED
			s.Seen = "The application may hunt. The tenant has no table " + strings.Join(missing, " and no ") + "; the others can be read."
			s.Remedy = "Check that the tenant has Defender for Endpoint Plan 2, and that a device is onboarded that reports such events. Until then " +
				"verdicts rest on alerts and on the other tables."
		default:
			s.Seen = "Telemetry can be asked: the application may hunt, and the tables of events are there."
		}
	})
}
