package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The Director attacks an Actor, streams what Defender makes of it, and gets a verdict. The service drains once in between.
func Example() {
	conn, stop := connect(&fake{script: func(_ context.Context, call int, request *integrationv1.StreamAlertsRequest, send sendFunc) error {
		if call == 1 {
			send(actors("t0"))
			send(alert(1))
			return draining(20 * time.Millisecond)
		}
		fmt.Println("resumed after", request.GetResumeToken())
		send(actors("t1"))
		send(alert(2))
		send(completed("t3"))
		return nil
	}})
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	stream := client.New(conn).Alerts(&integrationv1.StreamAlertsRequest{
		IntegrationId: "contoso",
		Reference:     "job-1",
		Actors:        []*integrationv1.Actor{{ActorId: "workstation-7", FqHostName: "ws7.contoso.com"}},
		Window:        &integrationv1.Window{StartTime: timestamppb.New(began), EndTime: timestamppb.New(began.Add(10 * time.Minute))},
	})
	for event, err := range stream.Events(ctx) {
		if err != nil {
			fmt.Println("failed:", err)
			return
		}
		switch {
		case event.GetAlert() != nil:
			fmt.Println(event.GetAlert().GetAlert().GetId())
		case event.GetCompleted() != nil:
			for _, verdict := range event.GetCompleted().GetVerdicts() {
				fmt.Println(verdict.GetActorId(), verdict.GetVerdict())
			}
		}
		// Here the Director keeps what the event says together with event.GetResumeToken().
		event.Ack()
	}

	// Output:
	// alert-1
	// resumed after t1
	// alert-2
	// workstation-7 VERDICT_PREVENTED
}

// A Director that was away too long decides itself what to do about the history that is gone.
func ExampleTokenError() {
	conn, stop := connect(&fake{script: func(_ context.Context, _ int, request *integrationv1.StreamAlertsRequest, send sendFunc) error {
		if request.GetResumeToken() == "t1" {
			return failed(codes.OutOfRange, integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED,
				map[string]string{"oldest_resume_token": "t7"})
		}
		send(alert(8))
		send(completed("t9"))
		return nil
	}})
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	request := &integrationv1.StreamAlertsRequest{IntegrationId: "contoso", ResumeToken: "t1"}
	receive := func() error {
		for event, err := range client.New(conn).Alerts(request).Events(ctx) {
			if err != nil {
				return err
			}
			fmt.Println("received", event.GetResumeToken())
			event.Ack()
		}
		return nil
	}

	err := receive()
	if refused, ok := errors.AsType[*client.TokenError](err); ok && refused.OldestToken != "" {
		fmt.Println("some history is gone; going on after", refused.OldestToken)
		request.ResumeToken = refused.OldestToken
		err = receive()
	}
	fmt.Println("error:", err)

	// Output:
	// some history is gone; going on after t7
	// received t8
	// received t9
	// error: <nil>
}

// The reason of a failed call is what a program branches on.
func ExampleReason() {
	conn, stop := connect(&fake{script: func(context.Context, int, *integrationv1.StreamAlertsRequest, sendFunc) error {
		return failed(codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, map[string]string{"integration_id": "contoso"})
	}})
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	stream := client.New(conn).Alerts(&integrationv1.StreamAlertsRequest{IntegrationId: "contoso"})
	for _, err := range stream.Events(ctx) {
		if client.Reason(err) == integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND {
			fmt.Println("register the integration first")
		}
	}

	// Output:
	// register the integration first
}
