package demo

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// integrationID is what the tenant is registered as.
const integrationID = "demo"

// director is the platform's side: it knows the service by its gRPC API alone.
type director struct {
	client   *client.Client
	narrator *narrator
	script   *script
}

func newDirector(l *line, narrator *narrator, script *script) *director {
	return &director{
		client: client.New(l, client.WithWaits(100*time.Millisecond, time.Second)), narrator: narrator, script: script,
	}
}

// register registers the simulated tenant.
func (d *director) register(ctx context.Context, settings *integrationv1.Integration) error {
	response, err := d.client.Service().RegisterIntegration(ctx, &integrationv1.RegisterIntegrationRequest{Integration: settings})
	if err != nil {
		return fmt.Errorf("register the tenant: %w", err)
	}
	d.narrator.registered(response.GetIntegration())
	return nil
}

// test tests the connectivity.
func (d *director) test(ctx context.Context) error {
	response, err := d.client.Service().TestConnectivity(ctx, &integrationv1.TestConnectivityRequest{
		Subject: &integrationv1.TestConnectivityRequest_IntegrationId{IntegrationId: integrationID},
	})
	if err != nil {
		return fmt.Errorf("test the connectivity: %w", err)
	}
	d.narrator.tested(response)
	if health := response.GetTest().GetHealth(); health != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
		return fmt.Errorf("the connectivity is %s", wordOf(health))
	}
	return nil
}

// request asks for what Defender makes of an attack that begins at a time.
func (d *director) request(a *attack, began time.Time) *integrationv1.StreamAlertsRequest {
	actor := proto.CloneOf(a.actor)
	if a.traces != nil {
		actor.Traces = a.traces(began)
	}
	return &integrationv1.StreamAlertsRequest{
		IntegrationId: integrationID,
		Reference:     "attack-" + a.actor.GetActorId(),
		Actors:        []*integrationv1.Actor{actor},
		Window: &integrationv1.Window{
			StartTime: timestamppb.New(began), EndTime: timestamppb.New(began.Add(d.script.window)),
		},
		Wait:      durationpb.New(d.script.wait),
		Tolerance: durationpb.New(d.script.tolerance),
		OnTime:    durationpb.New(d.script.onTime),

		MinConfidence: a.minConfidence,
		Explain:       true,
		Telemetry:     a.telemetry,
	}
}
