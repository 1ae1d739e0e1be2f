package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/defender"
	"defender-integration/defender/graph"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Time limits of the test: of one stage, and of all.
const (
	stageTimeout = 30 * time.Second
	testTimeout  = 2 * time.Minute
)

// stage is a stage as it is being worked out.
type stage = integrationv1.ConnectivityStage

// Short names for what stages say.
const (
	passed  = integrationv1.ConnectivityStage_RESULT_PASSED
	warned  = integrationv1.ConnectivityStage_RESULT_WARNED
	failed  = integrationv1.ConnectivityStage_RESULT_FAILED
	skipped = integrationv1.ConnectivityStage_RESULT_SKIPPED

	noTarget     = integrationv1.ConnectivityStage_TARGET_UNSPECIFIED
	authTarget   = integrationv1.ConnectivityStage_TARGET_AUTHORIZATION
	apiTarget    = integrationv1.ConnectivityStage_TARGET_API
	deviceTarget = integrationv1.ConnectivityStage_TARGET_DEVICE_SOURCE
)

// Test tries each link between this service and the integration's alerts and devices, and returns a stage for each, in the
// order in which they need each other. A stage that another one keeps from being tried is skipped and names it. It makes at
// most two calls at each API, and takes at most two minutes; the end of ctx ends it sooner, and what was not tried by then fails.
func (c *Connection) Test(ctx context.Context) []*integrationv1.ConnectivityStage {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	t := &test{connection: c, ctx: ctx}
	t.run(integrationv1.ConnectivityStage_LINK_CONFIGURATION, noTarget, nil, func(_ context.Context, s *stage) {
		s.Seen = fmt.Sprintf("%s in %s, devices from %s. The settings go together, and this service's operator allows their hosts.",
			c.integration.GetApi(), c.integration.GetCloud(), c.devices.GetKind())
	})
	auth := t.host(authTarget)
	api := t.host(apiTarget)
	token := t.tokenOf(apiTarget, c.alertTokens, auth)
	permissions := t.permissions(apiTarget, c.endpoint.GetPermissions(), token)
	before := firstFailed(token.stage, api, permissions)
	alerts := t.alerts(before)
	devices := t.deviceStages(auth)
	t.clock(firstFailed(before, alerts))
	t.quota(before, alerts, devices)
	t.lifecycle()
	return t.stages
}

// test is a test under way.
type test struct {
	connection *Connection
	ctx        context.Context //nolint:containedctx // A test lives as long as the call that makes it.
	stages     []*stage

	probed graph.Probed
}

// run tries one link, unless another that it needs failed. try sets the result where it is not PASSED, and what was seen.
func (t *test) run(link integrationv1.ConnectivityStage_Link, target integrationv1.ConnectivityStage_Target, needs *stage, try func(context.Context, *stage)) *stage {
	s := &stage{Link: link, Target: target, Result: passed}
	t.stages = append(t.stages, s)
	if needs != nil {
		s.Result = skipped
		s.Seen = fmt.Sprintf("Not tried: %s did not hold.", describe(needs))
		return s
	}
	ctx, cancel := context.WithTimeout(t.ctx, stageTimeout)
	defer cancel()
	began := time.Now()
	try(ctx, s)
	s.Took = durationpb.New(time.Since(began))
	return s
}

// firstFailed returns the first stage that failed; nil where none did.
func firstFailed(stages ...*stage) *stage {
	for _, s := range stages {
		if s != nil && s.GetResult() == failed {
			return s
		}
	}
	return nil
}

// describe names a stage for another that was skipped because of it.
func describe(s *stage) string {
	name := s.GetLink().String()
	if s.GetTarget() != noTarget {
		name += " of " + s.GetTarget().String()
	}
	return name
}

// fail sets a stage's result from an error.
func fail(s *stage, err error) {
	s.Result = failed
	var e *defender.Error
	switch {
	case errors.As(err, &e):
		s.Seen, s.Remedy, s.Reason = e.Problem.GetMessage(), e.Problem.GetRemedy(), e.Problem.GetReason()
		s.UpstreamCode, s.UpstreamRequestId = e.Problem.GetUpstreamCode(), e.Problem.GetUpstreamRequestId()
	case errors.Is(err, context.DeadlineExceeded):
		s.Seen = "There was no answer in time."
		s.Remedy = "Test again. If it stays, check the network between this service and the host."
		s.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE
	default:
		s.Seen = "The test was called off before this was done."
		s.Remedy = "Test again."
		s.Reason = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE
	}
}
