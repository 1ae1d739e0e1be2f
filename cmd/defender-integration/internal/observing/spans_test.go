package observing_test

import (
	"bytes"
	"encoding/hex"
	"slices"
	"testing"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
)

// The names of the spans of calls.
const (
	testSpan   = "defender.integration.v1.IntegrationService/TestConnectivity"
	streamSpan = "defender.integration.v1.IntegrationService/StreamAlerts"
)

// wantSpans checks the way from a call to Microsoft and from a stream to the read that it waits for, and that no span has a secret.
func (h *house) wantSpans(t *testing.T) {
	for _, want := range [][]string{
		{"ask for a token", "test TOKEN of the API", testSpan},
		{"call Microsoft Graph's list of alerts", "test ALERTS of the API", testSpan},
		{"call Microsoft Graph's list of alerts", "closing read"},
		{"append", "closing read"},
		{"call Microsoft Graph's list of alerts", "poll"},
		{streamSpan},
		{streamSpan + " ends", streamSpan},
		{"look devices up"},
	} {
		if !slices.ContainsFunc(h.spans.named(want[0]), func(span *tracev1.Span) bool { return slices.Equal(h.spans.path(span), want) }) {
			t.Errorf("there is no span %v; those of that name have %v", want, h.paths(want[0]))
		}
	}
	h.wantTestSpan(t)
	h.wantLinks(t)
	failed := 0
	for _, span := range slices.Concat(h.spans.named("poll"), h.spans.named("reread")) {
		if attribute(span, "integration_id") != "contoso" {
			t.Errorf("a read of %q", attribute(span, "integration_id"))
		}
		if span.GetStatus().GetCode() == tracev1.Status_STATUS_CODE_ERROR {
			failed++
			// One is called off as the integration is deleted, which is no failure.
			if reason := attribute(span, "error.type"); reason != "ERROR_REASON_UPSTREAM_FAILED" {
				t.Errorf("a failed read tells %q", reason)
			}
		}
	}
	if failed == 0 {
		t.Error("no read tells that it failed")
	}
	for _, secret := range h.secrets.lines() {
		if len(secret) < 16 || bytes.Contains(h.spans.whole, []byte(secret)) {
			t.Errorf("the secret %.8s… is in a span, or none", secret)
		}
	}
	for _, text := range []string{"$filter", "Bearer", "client_assertion", "filter="} {
		if bytes.Contains(h.spans.whole, []byte(text)) {
			t.Errorf("%q is in a span", text)
		}
	}
}

// paths returns the ways of all spans of a name.
func (h *house) paths(name string) [][]string {
	var all [][]string
	for _, span := range h.spans.named(name) {
		if path := h.spans.path(span); !slices.ContainsFunc(all, func(other []string) bool { return slices.Equal(other, path) }) {
			all = append(all, path)
		}
	}
	return all
}

// wantTestSpan checks the span of TestConnectivity: it is its caller's.
func (h *house) wantTestSpan(t *testing.T) {
	t.Helper()
	spans := h.spans.named(testSpan)
	if len(spans) != 1 {
		t.Fatalf("%d spans of the test", len(spans))
	}
	if id := hex.EncodeToString(spans[0].GetTraceId()); id != trace {
		t.Errorf("the test is in the trace %s, want its caller's", id)
	}
	for key, want := range map[string]string{"integration_id": "contoso", "request_id": "the-test", "rpc.response.status_code": "OK"} {
		if got := attribute(spans[0], key); got != want {
			t.Errorf("the test's span: %s is %q, want %q", key, got, want)
		}
	}
}

// wantLinks checks that a closing read is linked to the stream that waited for it.
func (h *house) wantLinks(t *testing.T) {
	t.Helper()
	for _, read := range h.spans.named("closing read") {
		for _, link := range read.GetLinks() {
			for _, stream := range h.spans.named(streamSpan) {
				if bytes.Equal(link.GetSpanId(), stream.GetSpanId()) && attribute(stream, "reference") == "judged" {
					return
				}
			}
		}
	}
	t.Error("no closing read is linked to the stream that waited for it")
}
