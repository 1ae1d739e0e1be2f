package connect

import (
	"context"
	"fmt"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The bounds of how far this machine's clock and Microsoft's may differ. Windows of attacks are told by this side's clocks, and
// compared with Microsoft's times.
const (
	skewWarned = 30 * time.Second
	skewFailed = 5 * time.Minute
)

// probeSince is from when on alerts are asked for in the test.
const probeSince = 24 * time.Hour

// alerts reads alerts for real; needs is what failed before.
func (t *test) alerts(needs *stage) *stage {
	return t.run(integrationv1.ConnectivityStage_LINK_ALERTS, apiTarget, needs, func(ctx context.Context, s *stage) {
		var err error
		t.probed, err = t.connection.alertSource.Probe(ctx, time.Now().Add(-probeSince))
		switch {
		case err != nil:
			fail(s, err)
		case t.probed.Alerts == 0:
			s.Seen = "Alerts can be read. None changed in the last 24 hours."
		default:
			s.Seen = "Alerts can be read. One or more changed in the last 24 hours."
		}
	})
}

// deviceStages tries the links to the device source, and returns the stage of the reading; auth is what failed of the way to
// Entra.
func (t *test) deviceStages(auth *stage) *stage {
	c := t.connection
	if c.machineSource == nil {
		s := t.run(integrationv1.ConnectivityStage_LINK_DEVICES, deviceTarget, nil, func(context.Context, *stage) {})
		s.Result, s.Seen = skipped, "The integration has no device source: what raises no alert cannot be judged."
		return s
	}
	host := t.host(deviceTarget)
	token := t.tokenOf(deviceTarget, c.deviceTokens, auth)
	permissions := t.permissions(deviceTarget, c.devices.GetPermissions(), token)
	return t.run(integrationv1.ConnectivityStage_LINK_DEVICES, deviceTarget, firstFailed(token.stage, permissions, host), func(ctx context.Context, s *stage) {
		devices, err := c.machineSource.Probe(ctx)
		switch {
		case err != nil:
			fail(s, err)
			if s.GetReason() == integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING {
				s.Remedy += withoutDevices
			}
		case devices == 0:
			s.Seen = "Devices can be read. There are none."
		default:
			s.Seen = "Devices can be read."
		}
	})
}

// clock compares this machine's clock with the Date of the answer that the alerts came with; needs is what failed before.
func (t *test) clock(needs *stage) {
	t.run(integrationv1.ConnectivityStage_LINK_CLOCK, noTarget, needs, func(_ context.Context, s *stage) {
		// The header was written some time in the round trip, and has whole seconds: only what is beyond both is skew.
		p := t.probed
		ahead := p.Received.Sub(p.Date.Add(time.Second)) - p.RoundTrip
		behind := p.Date.Sub(p.Received)
		skew, direction := max(ahead, 0), "ahead of"
		if behind > skew {
			skew, direction = behind, "behind"
		}
		if skew < time.Second {
			s.Seen = "This machine's clock and Microsoft's agree."
			return
		}
		s.Seen = fmt.Sprintf("This machine's clock is %s %s Microsoft's.", skew.Round(time.Second), direction)
		if skew <= skewWarned {
			return
		}
		s.Result = warned
		s.Reason = integrationv1.ErrorReason_ERROR_REASON_CLOCK_SKEW
		s.Remedy = "Synchronise this machine's clock, and the Actors' and the Director's: alerts are judged by times of both sides."
		if skew > skewFailed {
			s.Result = failed
		}
	})
}

// quota tells whether calls are left, by what the reads met; needs is what failed before the alerts were read.
func (t *test) quota(needs, alerts, devices *stage) {
	t.run(integrationv1.ConnectivityStage_LINK_QUOTA, noTarget, needs, func(_ context.Context, s *stage) {
		for _, read := range []*stage{alerts, devices} {
			switch read.GetReason() {
			case integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT, integrationv1.ErrorReason_ERROR_REASON_THROTTLED:
				s.Result, s.Seen, s.Remedy, s.Reason = failed, read.GetSeen(), read.GetRemedy(), read.GetReason()
				return
			}
		}
		s.Seen = "There are calls left, in this service's own budget and in Microsoft's limits."
	})
}

// lifecycle tells whether Microsoft still offers the API and the device source.
func (t *test) lifecycle() {
	c := t.connection
	t.run(integrationv1.ConnectivityStage_LINK_LIFECYCLE, apiTarget, nil, func(_ context.Context, s *stage) {
		tellLifecycle(s, c.endpoint.GetLifecycle())
		if version := c.integration.GetEndpoint().GetApiVersion(); version == "beta" {
			s.Result = warned
			s.Seen = "The version beta can change at any time; Microsoft does not support it in production."
			s.Remedy = "Set endpoint.api_version to " + c.endpoint.GetEndpoint().GetApiVersion() + "."
		}
	})
	if c.machineSource == nil {
		return
	}
	t.run(integrationv1.ConnectivityStage_LINK_LIFECYCLE, deviceTarget, nil, func(_ context.Context, s *stage) {
		tellLifecycle(s, c.devices.GetLifecycle())
	})
}

func tellLifecycle(s *stage, lifecycle *integrationv1.Lifecycle) {
	s.Seen = lifecycle.GetNote()
	if lifecycle.GetStage() == integrationv1.Lifecycle_STAGE_RETIRING {
		s.Result = warned
		s.Reason = integrationv1.ErrorReason_ERROR_REASON_API_RETIRING
		s.Remedy = "Plan for " + lifecycle.GetRetirementTime().AsTime().Format(time.DateOnly) + ": ask ListEndpoints then for what follows."
	}
}
