package rest

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// What looks like the end of an API is told as that where Microsoft has announced one, and not before its day where it could be
// something else: a refusal that is told so is not tried again.
func TestRetirement(t *testing.T) {
	const (
		retired = integrationv1.ErrorReason_ERROR_REASON_API_RETIRED
		refused = integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED
		segment = `{"error":{"code":"BadRequest","message":"Resource not found for the segment 'alerts'."}}`
	)
	lifecycle := func(stage integrationv1.Lifecycle_Stage, in time.Duration) *integrationv1.Lifecycle {
		return &integrationv1.Lifecycle{Stage: stage, RetirementTime: timestamppb.New(time.Now().Add(in)), Note: "It ends."}
	}
	before := lifecycle(integrationv1.Lifecycle_STAGE_RETIRING, time.Hour)
	after := lifecycle(integrationv1.Lifecycle_STAGE_RETIRING, -time.Hour)
	current := &integrationv1.Lifecycle{Stage: integrationv1.Lifecycle_STAGE_CURRENT, Note: "No end is announced."}
	tests := []struct {
		name      string
		lifecycle *integrationv1.Lifecycle
		status    int
		body      string
		want      integrationv1.ErrorReason
	}{
		{"gone, before the day", before, 410, ``, retired},
		{"gone, after it", after, 410, ``, retired},
		{"gone, with no end announced", current, 410, ``, refused},
		{"gone, with nothing known", nil, 410, ``, refused},
		{"not found, before the day", before, 404, ``, refused},
		{"not found, after it", after, 404, ``, retired},
		{"not found, with no end announced", current, 404, ``, refused},
		{"no such path, before the day", before, 400, segment, refused},
		{"no such path, after it", after, 400, segment, retired},
		{"another 400, after it", after, 400, `{"error":{"code":"BadRequest","message":"Invalid filter."}}`, refused},
		{"forbidden, after it", after, 403, ``, integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			t.Cleanup(server.Close)
			client, _ := newTestClient(t, server.URL)
			client.config.Lifecycle = tt.lifecycle
			_, _, err := get(t, client)
			if e := wantError(t, err); e.Problem.GetReason() != tt.want || !e.Permanent || e.Problem.GetRemedy() == "" {
				t.Errorf("error is %v (permanent %t), want %s", e.Problem, e.Permanent, tt.want)
			}
		})
	}
}
