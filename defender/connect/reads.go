package connect

import (
	"context"
	"fmt"
	"strings"
	"time"

	"defender-integration/defender"
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
		probed, err := t.connection.alertSource.Probe(ctx, time.Now().Add(-probeSince))
		switch {
		case err != nil:
			fail(s, err)
			if s.GetReason() == integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED {
				s.Remedy = t.otherScope(apiTarget) + s.GetRemedy()
			}
			return
		case probed.Elements == 0:
			s.Seen = "Alerts can be read. None changed in the last 24 hours."
		default:
			s.Seen = "Alerts can be read. One or more changed in the last 24 hours."
		}
		t.probed = probed
	})
}

// deviceStages tries the links to the device source, and returns the stage of the reading. toEntra is what failed of the way to
// Entra, alertToken the token for alerts.
func (t *test) deviceStages(toEntra *stage, alertToken tokenStage) *stage {
	c := t.connection
	if c.deviceSource == nil {
		return t.leaveOut(integrationv1.ConnectivityStage_LINK_DEVICES, deviceTarget,
			"The integration has no device source: what raises no alert cannot be judged.")
	}
	host := t.host(deviceTarget)
	token := alertToken
	if c.deviceTokens == c.alertTokens {
		token.stage = t.run(integrationv1.ConnectivityStage_LINK_TOKEN, deviceTarget, alertToken.failed(), func(_ context.Context, s *stage) {
			s.Seen = "It is the token for alerts."
		})
	} else {
		token = t.tokenOf(deviceTarget, c.deviceTokens, toEntra, alertToken.stage)
	}
	permissions := t.permissions(deviceTarget, c.devices.GetPermissions(), token)
	return t.run(integrationv1.ConnectivityStage_LINK_DEVICES, deviceTarget, firstFailed(token.stage, permissions, host), func(ctx context.Context, s *stage) {
		devices, err := c.deviceSource.Probe(ctx)
		switch {
		case err != nil:
			fail(s, err)
			if s.GetReason() == integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING {
				s.Remedy += withoutDevices
			}
		case devices.Elements == 0:
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

// quota tells how many calls are left, by this service's budget and by what the reads met.
func (t *test) quota(alerts *stage, others ...*stage) {
	t.run(integrationv1.ConnectivityStage_LINK_QUOTA, noTarget, nil, func(_ context.Context, s *stage) {
		for _, read := range append([]*stage{alerts}, others...) {
			switch read.GetReason() {
			case integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT, integrationv1.ErrorReason_ERROR_REASON_THROTTLED:
				skip(s, read, "Nothing more is told")
				return
			}
		}
		var left []string
		if t.connection.config.Left != nil {
			for _, b := range t.connection.config.Left() {
				left = append(left, fmt.Sprintf("%d of %d calls in %s of %s", b.GetLeft(), b.GetAllowed(), spanOf(b.GetPeriod().AsDuration()), b.GetLimit()))
			}
		}
		if cause := causeOf(alerts); len(left) == 0 && cause != nil {
			skip(s, cause, "Not tried")
			return
		}
		if len(left) == 0 {
			s.Seen = "Nothing was refused for too many calls."
			return
		}
		s.Seen = "Of this service's own budget, which is below Microsoft's limits, are left " + strings.Join(left, ", ") + "."
	})
}

// spanOf writes a round span of time.
func spanOf(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"0s", "0m"} {
		if before, ok := strings.CutSuffix(text, zero); ok && strings.HasSuffix(before, "m") || ok && strings.HasSuffix(before, "h") {
			text = before
		}
	}
	return text
}

// lifecycle tells whether Microsoft still offers the API and the device source.
func (t *test) lifecycle() {
	c := t.connection
	t.run(integrationv1.ConnectivityStage_LINK_LIFECYCLE, apiTarget, nil, func(_ context.Context, s *stage) {
		tellLifecycle(s, c.endpoint.GetLifecycle())
		if version := c.integration.GetEndpoint().GetApiVersion(); version == "beta" {
			s.Result = warned
			s.Reason = integrationv1.ErrorReason_ERROR_REASON_API_RETIRING
			s.Seen = "The version beta can change at any time; Microsoft does not support it in production."
			s.Remedy = "Set endpoint.api_version to " + c.endpoint.GetEndpoint().GetApiVersion() + "."
		}
	})
	if c.deviceSource == nil {
		return
	}
	t.run(integrationv1.ConnectivityStage_LINK_LIFECYCLE, deviceTarget, nil, func(_ context.Context, s *stage) {
		tellLifecycle(s, c.devices.GetLifecycle())
	})
}

func tellLifecycle(s *stage, lifecycle *integrationv1.Lifecycle) {
	s.Seen = lifecycle.GetNote()
	if warning := defender.Retiring(lifecycle); warning != nil {
		s.Result, s.Reason, s.Remedy = warned, warning.GetReason(), warning.GetRemedy()
	}
}
