package match_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func TestOutcomeOfDetections(t *testing.T) {
	tests := []struct {
		succeeded, executing *bool
		action               string
		want                 integrationv1.Outcome
		path, words          string
	}{
		{nil, nil, "", integrationv1.Outcome_OUTCOME_UNKNOWN, "", "does not tell how it ended"},
		{nil, new(true), "", integrationv1.Outcome_OUTCOME_DETECTED, "/WasExecutingWhileDetected", "nothing says that it was stopped"},
		{nil, new(false), "", integrationv1.Outcome_OUTCOME_DETECTED, "/WasExecutingWhileDetected", "RemediationIsSuccess not set"},
		{new(false), nil, "", integrationv1.Outcome_OUTCOME_DETECTED, "/RemediationIsSuccess", "could not remediate"},
		{new(false), new(true), "quarantine", integrationv1.Outcome_OUTCOME_DETECTED, "/RemediationIsSuccess", `RemediationAction "quarantine"`},
		{new(true), nil, "", integrationv1.Outcome_OUTCOME_REMEDIATED, "/RemediationIsSuccess", "cleaned it up"},
		{new(true), new(true), "", integrationv1.Outcome_OUTCOME_BLOCKED, "/RemediationIsSuccess", "while it ran"},
		{new(true), new(false), "", integrationv1.Outcome_OUTCOME_PREVENTED, "/RemediationIsSuccess", "kept it from running"},
	}
	for _, tt := range tests {
		// The evidence's statuses are not the API's: they decide nothing here.
		got := match.OutcomeOf(&integrationv1.Alert{
			Siem: &integrationv1.SiemDetection{
				RemediationIsSuccess: tt.succeeded, WasExecutingWhileDetected: tt.executing, RemediationAction: tt.action,
			},
			Evidence: []*integrationv1.Evidence{{RemediationStatus: integrationv1.RemediationStatus_REMEDIATION_STATUS_PREVENTED, Detail: &integrationv1.Evidence_File{}}},
		})
		if got.GetOutcome() != tt.want || got.GetEvidencePath() != tt.path || !strings.Contains(got.GetExplanation(), tt.words) {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

// A detection has no time of creation: it is late by when Defender's back end processed it.
func TestDetectionsThatAreLate(t *testing.T) {
	end := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	window := match.Window{Start: end.Add(-time.Minute), End: end}
	for after, want := range map[time.Duration]bool{time.Minute: false, time.Hour: true} {
		alert := &integrationv1.Alert{LastUpdateTime: timestamppb.New(end.Add(after)), Siem: &integrationv1.SiemDetection{}}
		if got := match.Late(alert, window, 30*time.Minute); got != want {
			t.Errorf("processed %s after the window: late %t", after, got)
		}
		alert.Siem = nil
		if match.Late(alert, window, 30*time.Minute) {
			t.Errorf("an alert is late by its last update")
		}
	}
}
