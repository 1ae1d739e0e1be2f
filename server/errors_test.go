package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
	"defender-integration/store"
)

// The comment of each reason in errors.proto says the code of a call that fails with it, or that it stands in a Problem or a stage
// only. This holds the code to the comments.
func TestEveryReasonHasTheCodeThatItsCommentSays(t *testing.T) {
	source, err := os.ReadFile("../proto/defender/integration/v1/errors.proto")
	if err != nil {
		t.Fatal(err)
	}
	codeWord := regexp.MustCompile(`Code ([A-Z_]+)`)
	valueLine := regexp.MustCompile(`^  (ERROR_REASON_[A-Z_]+) = \d+;`)
	comment, seen := "", 0
	for line := range strings.Lines(string(source)) {
		value := valueLine.FindStringSubmatch(line)
		if value == nil {
			comment += line
			continue
		}
		seen++
		reason := integrationv1.ErrorReason(integrationv1.ErrorReason_value[value[1]])
		code, ok := codeOf(reason)
		var want codes.Code
		if said := codeWord.FindStringSubmatch(comment); said != nil {
			if err := want.UnmarshalJSON([]byte(`"` + said[1] + `"`)); err != nil {
				t.Fatal(err)
			}
			if !ok || code != want {
				t.Errorf("%s: code %s, its comment says %s", reason, code, want)
			}
		} else if ok {
			t.Errorf("%s has the code %s, its comment has none", reason, code)
		}
		comment = ""
	}
	if want := len(integrationv1.ErrorReason_name); seen != want {
		t.Errorf("found %d reasons in the file, there are %d", seen, want)
	}
}

func TestToStatus(t *testing.T) {
	ctx := withCall(t.Context(), &call{requestID: "request-1"})
	driver := errors.New("dial tcp 10.1.2.3:4222: connection refused")
	tests := map[string]struct {
		err    error
		code   codes.Code
		reason string
		says   string
		logged bool
	}{
		"a failure": {failure.IntegrationNotFound("a"), codes.NotFound, "ERROR_REASON_INTEGRATION_NOT_FOUND", `"a"`, false},
		"a wrapped failure with a cause": {fmt.Errorf("outer: %w", failure.Draining().Because(driver)),
			codes.Unavailable, "ERROR_REASON_SERVER_DRAINING", "about to stop", true},
		"a store without an answer": {fmt.Errorf("%w: %w", store.ErrUnavailable, driver),
			codes.Unavailable, "ERROR_REASON_STORE_UNAVAILABLE", "the store", true},
		"our own time limit": {errors.Join(errTimeLimit, context.DeadlineExceeded),
			codes.Unavailable, "ERROR_REASON_STORE_UNAVAILABLE", "the store", true},
		"cancelled":             {fmt.Errorf("read: %w", context.Canceled), codes.Canceled, "", "cancelled", false},
		"the caller's deadline": {fmt.Errorf("read: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "", "deadline", false},
		"gRPC's own":            {status.Error(codes.NotFound, "unknown service"), codes.NotFound, "", "unknown service", false},
		"what a later version stored": {fmt.Errorf("record: %w: %w", store.ErrVersion, driver),
			codes.Unavailable, "ERROR_REASON_STORE_UNAVAILABLE", "run that version", true},
		"a status inside an error of ours": {fmt.Errorf("store: %w", status.Error(codes.NotFound, driver.Error())),
			codes.Internal, "ERROR_REASON_INTERNAL", "request-1", true},
		"anything else": {driver, codes.Internal, "ERROR_REASON_INTERNAL", "request-1", true},
		"a reason that is no call's": {failure.New(integrationv1.ErrorReason_ERROR_REASON_THROTTLED, "%v", driver),
			codes.Internal, "ERROR_REASON_INTERNAL", "request-1", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			st, cause := toStatus(ctx, test.err)
			var info *errdetails.ErrorInfo
			for _, d := range st.Details() {
				if found, ok := d.(*errdetails.ErrorInfo); ok {
					info = found
				}
			}
			if st.Code() != test.code || info.GetReason() != test.reason || !strings.Contains(st.Message(), test.says) {
				t.Errorf("%s %s %q", st.Code(), info.GetReason(), st.Message())
			}
			if strings.Contains(st.String(), "10.1.2.3") {
				t.Errorf("the caller reads the driver's text: %s", st)
			}
			if (cause != nil) != test.logged {
				t.Errorf("for the log: %v", cause)
			}
			if test.reason == "ERROR_REASON_INTERNAL" && info.GetMetadata()["request_id"] != "request-1" {
				t.Errorf("metadata %v", info.GetMetadata())
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		f    *failure.Error
		want time.Duration
	}{
		{failure.Draining(), retryAfterDraining},
		{failure.Draining().After(time.Minute), time.Minute},
		{storeUnavailable(nil), retryAfterStore},
		{failure.Unread(time.Minute), retryAfterUnread},
		{failure.IntegrationNotFound("a"), 0},
	} {
		if got := retryAfter(test.f); got != test.want {
			t.Errorf("%v: %v, want %v", test.f, got, test.want)
		}
	}
}
