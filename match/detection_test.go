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

// The explanation says what the time of a detection is.
func TestVerdictByADetection(t *testing.T) {
	end := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	judge := func(alert *integrationv1.Alert) string {
		window := match.Window{Start: end.Add(-time.Minute), End: end}
		return match.Judge(match.Case{
			ActorID: "a", Window: window, OnTime: time.Minute,
			Alerts: []match.Judged{match.JudgedOf(alert, &integrationv1.ActorMatch{ActorId: "a", Counts: true, Outcome: match.OutcomeOf(alert)},
				integrationv1.Activity_ACTIVITY_IN_WINDOW, match.Late(alert, window, time.Minute))},
		}).GetExplanation()
	}
	at := timestamppb.New(end.Add(time.Hour))
	if text := judge(&integrationv1.Alert{Id: "d", LastUpdateTime: at, Siem: &integrationv1.SiemDetection{}}); !strings.Contains(text, "processed at 2026-03-01T13:00:00") ||
		!strings.Contains(text, "No alert that counts was processed within 1m") {
		t.Errorf("a detection: %s", text)
	}
	if text := judge(&integrationv1.Alert{Id: "a", CreatedTime: at}); !strings.Contains(text, "created at 2026-03-01T13:00:00") {
		t.Errorf("an alert: %s", text)
	}
}

// Through SIEM nobody is MISSED, however complete collecting and however well the device.
func TestNothingIsMissedThroughSIEM(t *testing.T) {
	end := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	c := match.Case{
		ActorID: "a", Window: match.Window{Start: end.Add(-time.Minute), End: end},
		Lookup: match.Lookup{Kind: integrationv1.DeviceSource_KIND_MACHINES, Time: end.Add(time.Hour), Rhythm: 26 * time.Hour},
		Proof: match.Proof{Pair: &integrationv1.Pair{
			Since: timestamppb.New(end.Add(-time.Hour)), Through: timestamppb.New(end.Add(time.Hour)),
		}},
		Resolution: match.Resolution{Knowledge: integrationv1.ActorState_KNOWLEDGE_KNOWN, Preferred: &integrationv1.Device{
			MdeDeviceId: "d", OnboardingStatus: integrationv1.OnboardingStatus_ONBOARDING_STATUS_ONBOARDED,
			HealthStatus: integrationv1.HealthStatus_HEALTH_STATUS_ACTIVE, LastSeenTime: timestamppb.New(end),
		}},
	}
	if got := match.Judge(c); got.GetVerdict() != integrationv1.Verdict_VERDICT_MISSED {
		t.Fatalf("without an API: %v", got)
	}
	c.Lookup.API = integrationv1.Api_API_SIEM
	got := match.Judge(c)
	if got.GetVerdict() != integrationv1.Verdict_VERDICT_CANNOT_JUDGE ||
		got.GetCannotJudgeReason() != integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_API_PROVES_NO_ABSENCE || !strings.Contains(got.GetExplanation(), "proves nothing") {
		t.Errorf("through SIEM: %v", got)
	}
	if judgeable, reason := match.Judgeable(c.Resolution, c.Lookup, c.Window); judgeable || reason != got.GetCannotJudgeReason() {
		t.Errorf("judgeable %t, %s", judgeable, reason)
	}
}
