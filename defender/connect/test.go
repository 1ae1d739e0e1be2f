package connect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
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

// Test makes a connection of settings that are not in use and tests it, as [Connection.Test] does. Where none can be made, that is
// the one stage that there is.
func Test(ctx context.Context, config Config) *integrationv1.ConnectivityTest {
	began := time.Now()
	c, err := New(config)
	if err == nil {
		defer c.Close()
		return c.Test(ctx)
	}
	s := &stage{Link: integrationv1.ConnectivityStage_LINK_CONFIGURATION}
	if notAllowed, ok := errors.AsType[*defender.NotAllowedError](err); ok {
		err = &defender.Error{Problem: notAllowed.Problem()}
	}
	fail(s, err)
	return result(began, []*stage{s})
}

// sentence begins with a capital letter and ends in a full stop, as what is told must for the next sentence to follow it: Microsoft's
// words, with which it may end, are as they come.
func sentence(text string) string {
	if text == "" {
		return text
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}

// Test tries each link between this service and the integration's alerts and devices, and returns what it came to, with a stage for
// each link in the order in which they need each other. A stage that another one keeps from being tried is skipped and names it.
// It makes at most two calls at each API, besides those that tell which tables of telemetry there are, and takes at most two minutes; the end of ctx ends it sooner, and what was not tried by
// then fails.
func (c *Connection) Test(ctx context.Context) *integrationv1.ConnectivityTest {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	t := &test{connection: c, ctx: ctx}
	t.run(integrationv1.ConnectivityStage_LINK_CONFIGURATION, noTarget, nil, func(_ context.Context, s *stage) {
		s.Seen = fmt.Sprintf("%s in %s, devices from %s. The settings go together, and this service's operator allows their hosts.",
			c.integration.GetApi(), c.integration.GetCloud(), c.devices.GetKind())
	})
	credential := t.credential()
	toEntra := firstFailed(credential, t.authorizationHost())
	toAlerts := t.host(apiTarget)
	token := t.tokenOf(apiTarget, c.alertTokens, toEntra, nil)
	permissions := t.permissions(apiTarget, c.endpoint.GetPermissions(), token)
	alerts := t.alerts(firstFailed(token.failed(), permissions, toAlerts))
	devices := t.deviceStages(toEntra, token)
	telemetry := t.telemetry(firstFailed(alerts))
	t.clock(causeOf(alerts))
	t.quota(alerts, devices, telemetry)
	t.lifecycle()
	return result(began, t.stages)
}

// result sums up.
func result(began time.Time, stages []*stage) *integrationv1.ConnectivityTest {
	test := &integrationv1.ConnectivityTest{
		TestTime: timestamppb.New(began), Took: durationpb.New(time.Since(began)), Stages: stages,
		Health: integrationv1.ConnectivityTest_HEALTH_HEALTHY, Summary: "Every link holds.",
	}
	warnings := 0
	for _, s := range stages {
		switch s.GetResult() {
		case failed:
			test.Health = integrationv1.ConnectivityTest_HEALTH_UNHEALTHY
			test.Summary = strings.TrimSpace(fmt.Sprintf("%s: %s %s", describe(s), s.GetSeen(), s.GetRemedy()))
			return test
		case warned:
			warnings++
		}
	}
	switch warnings {
	case 0:
	case 1:
		test.Summary = "Every link holds; one stage has a warning."
	default:
		test.Summary = fmt.Sprintf("Every link holds; %d stages have warnings.", warnings)
	}
	return test
}

// test is a test under way.
type test struct {
	connection *Connection
	ctx        context.Context //nolint:containedctx // A test lives as long as the call that makes it.
	stages     []*stage

	// unreached are the hosts that were not reached, for causes that differ.
	unreached []unreached
	probed    defender.Probed
}

// run tries one link, unless another that it needs failed. try sets the result where it is not PASSED, and what was seen.
func (t *test) run(link integrationv1.ConnectivityStage_Link, target integrationv1.ConnectivityStage_Target, needs *stage, try func(context.Context, *stage)) *stage {
	s := &stage{Link: link, Target: target, Result: passed}
	t.stages = append(t.stages, s)
	if needs != nil {
		skip(s, needs, "Not tried")
		return s
	}
	ctx, cancel := context.WithTimeout(t.ctx, stageTimeout)
	defer cancel()
	ctx, span := defender.StartSpan(ctx, "test "+describe(s))
	defer span.End()
	began := time.Now()
	try(ctx, s)
	s.Took = durationpb.New(time.Since(began))
	if s.GetResult() == failed {
		span.SetAttributes(attribute.String("error.type", s.GetReason().String()))
		span.SetStatus(codes.Error, s.GetReason().String())
	}
	return s
}

// leaveOut adds a stage that the settings leave out, and says why.
func (t *test) leaveOut(link integrationv1.ConnectivityStage_Link, target integrationv1.ConnectivityStage_Target, why string) *stage {
	s := &stage{Link: link, Target: target, Result: skipped, Seen: why}
	t.stages = append(t.stages, s)
	return s
}

// skip makes a stage one that another's failure skipped.
func skip(s, because *stage, how string) {
	s.Result = skipped
	s.Cause = &integrationv1.ConnectivityStage_Cause{Link: because.GetLink(), Target: because.GetTarget()}
	s.Seen = fmt.Sprintf("%s: %s failed.", how, describe(because))
}

// firstFailed returns the first stage that failed; nil where none did. A stage that was skipped because of another's failure stands
// for that one.
func firstFailed(stages ...*stage) *stage {
	for _, s := range stages {
		if cause := causeOf(s); cause != nil {
			return cause
		}
	}
	return nil
}

// causeOf returns what stands for a stage's failure: itself, or the stage that it was skipped for; nil where there is none.
func causeOf(s *stage) *stage {
	switch {
	case s.GetResult() == failed:
		return s
	case s.GetCause() != nil:
		return &stage{Link: s.GetCause().GetLink(), Target: s.GetCause().GetTarget(), Result: failed}
	}
	return nil
}

// describe names a stage in words.
func describe(s *stage) string {
	name := strings.TrimPrefix(s.GetLink().String(), "LINK_")
	if s.GetLink() == integrationv1.ConnectivityStage_LINK_CREDENTIAL {
		// It is nothing of the host's that it is sent to.
		return name
	}
	of := map[integrationv1.ConnectivityStage_Target]string{
		authTarget: " of the authorization host", apiTarget: " of the API", deviceTarget: " of the device source",
	}[s.GetTarget()]
	return name + of
}

// afterTest returns a remedy as it is after a test, which is not tried again by itself as collecting is.
func afterTest(remedy string) string {
	for _, collecting := range []string{"It is tried again.", "It goes on by itself.", "Wait: it goes on by itself."} {
		if more, ok := strings.CutPrefix(remedy, collecting); ok {
			return "Test again in a while." + more
		}
	}
	return remedy
}

// fail sets a stage's result from an error.
func fail(s *stage, err error) {
	s.Result = failed
	var e *defender.Error
	switch {
	case errors.As(err, &e):
		s.Seen, s.Remedy, s.Reason = sentence(e.Problem.GetMessage()), afterTest(sentence(e.Problem.GetRemedy())), e.Problem.GetReason()
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
