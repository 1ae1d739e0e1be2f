package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// UNAVAILABLE is retried whatever else it says, RESOURCE_EXHAUSTED where it says when to come again, and nothing else is.
func TestWhatIsRetried(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		for name, details := range map[string][]protoadapt.MessageV1{"without RetryInfo": nil, "with RetryInfo": {retryIn(time.Second)}} {
			t.Run(code.String()+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, conn := start(t, func(_ context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
						if call == 1 {
							return failed(code, integrationv1.ErrorReason_ERROR_REASON_CALLER_LIMIT, nil, details...)
						}
						send(completed("t1"))
						return nil
					})
					_, err := take(t.Context(), client.New(conn).Alerts(request), always, never)
					want := 1
					if code == codes.Unavailable || code == codes.ResourceExhausted && details != nil {
						want = 2
						if err != nil {
							t.Errorf("error %v", err)
						}
					} else if status.Code(err) != code || client.Reason(err) != integrationv1.ErrorReason_ERROR_REASON_CALLER_LIMIT {
						t.Errorf("error %v", err)
					}
					if got := len(f.tokens()); got != want {
						t.Errorf("%d calls, want %d", got, want)
					}
				})
			})
		}
	}
}

func TestRefusedTokens(t *testing.T) {
	tests := []struct {
		reason   integrationv1.ErrorReason
		code     codes.Code
		metadata map[string]string
	}{
		{integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_INVALID, codes.InvalidArgument, nil},
		{integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_FOREIGN, codes.InvalidArgument, map[string]string{"differs": "actors"}},
		{integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_EXPIRED, codes.OutOfRange, map[string]string{"oldest_resume_token": "t4"}},
		{integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED, codes.OutOfRange, map[string]string{"oldest_resume_token": "t0"}},
	}
	for _, test := range tests {
		t.Run(test.reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, conn := start(t, func(_ context.Context, call int, _ *integrationv1.StreamAlertsRequest, send sendFunc) error {
					if call == 1 {
						send(alert(1))
						return draining(time.Second)
					}
					return failed(test.code, test.reason, test.metadata)
				})
				stream := client.New(conn).Alerts(request)
				got, err := take(t.Context(), stream, always, never)
				equal(t, "events", got, []string{"t1"})
				equal(t, "calls with tokens: never begun anew", f.tokens(), []string{"", "t1"})
				var refused *client.TokenError
				if !errors.As(err, &refused) {
					t.Fatalf("error %v", err)
				}
				if refused.Reason != test.reason || refused.Token != "t1" || refused.OldestToken != test.metadata["oldest_resume_token"] ||
					refused.Differs != test.metadata["differs"] {
					t.Errorf("refused %+v", refused)
				}
				if status.Code(err) != test.code || client.Reason(err) != test.reason || !strings.Contains(err.Error(), "in words") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

func TestReason(t *testing.T) {
	notFound := failed(codes.NotFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND, nil)
	foreign, err := status.New(codes.NotFound, "").WithDetails(&errdetails.ErrorInfo{
		Reason: "ERROR_REASON_INTEGRATION_NOT_FOUND", Domain: "googleapis.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	newer, err := status.New(codes.NotFound, "").WithDetails(&errdetails.ErrorInfo{
		Reason: "ERROR_REASON_OF_A_LATER_VERSION", Domain: "defender.integration.v1",
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		err  error
		want integrationv1.ErrorReason
	}{
		{"a reason", notFound, integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND},
		{"in a wrapped error", fmt.Errorf("registering: %w", notFound), integrationv1.ErrorReason_ERROR_REASON_INTEGRATION_NOT_FOUND},
		{"another service's reason", foreign.Err(), 0},
		{"a later version's reason", newer.Err(), 0},
		{"a status without details", status.Error(codes.Unavailable, ""), 0},
		{"no status", errors.New("other"), 0},
		{"no error", nil, 0},
	}
	for _, test := range tests {
		if got := client.Reason(test.err); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
