package failure_test

import (
	"errors"
	"testing"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

func TestErrorKeepsTheCauseOutOfTheMessage(t *testing.T) {
	cause := errors.New("driver text")
	err := failure.New(integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, "the store does not answer").
		Because(cause).With("a", "b").With("c", "d").After(time.Second)

	if err.Message != "the store does not answer" {
		t.Errorf("message = %q", err.Message)
	}
	if got, want := err.Error(), "ERROR_REASON_STORE_UNAVAILABLE: the store does not answer: driver text"; got != want {
		t.Errorf("text for the log = %q, want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if len(err.Metadata) != 2 || err.RetryAfter != time.Second {
		t.Errorf("metadata %v, retry after %v", err.Metadata, err.RetryAfter)
	}
}

func TestInvalidNamesTheField(t *testing.T) {
	err := failure.Invalid("update_mask", "names %q, which is no field", "colour")
	if got, want := err.Message, `update_mask: names "colour", which is no field`; got != want {
		t.Errorf("message = %q, want %q", got, want)
	}
	if err.Metadata["field"] != "update_mask" || len(err.Fields) != 1 || err.Fields[0].Path != "update_mask" {
		t.Errorf("field is not named: %v %v", err.Metadata, err.Fields)
	}
}
