package match_test

import (
	"slices"
	"strings"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func TestTitlesThatContradict(t *testing.T) {
	tests := []struct {
		title    string
		evidence *integrationv1.Evidence
		want     string // the word that the title says; empty where nothing contradicts.
	}{
		{"An attack was blocked", file(sawIt, 0), "blocked"},
		{"BLOCKED: an attack", file(sawIt, remediatedIt), "blocked"},
		{"'Mimikatz' was prevented", file(sawIt, 0), "prevented"},
		{"'Mimikatz' was prevented", process(blockedIt, 0), "prevented"},
		{"'prevented'", file(sawIt, 0), "prevented"},
		{"blocked or prevented", file(sawIt, 0), "prevented"},
		{"An attack was blocked", file(noDetection, noRemediation), "blocked"},
		{"An attack was blocked", nil, "blocked"},
		{"An attack was blocked", file(blockedIt, 0), ""},
		{"An attack was blocked", file(preventedIt, 0), ""},
		{"'Mimikatz' was prevented", file(preventedIt, 0), ""},
		{"An attack was not blocked", file(sawIt, 0), ""},
		{"It could not be prevented", file(sawIt, 0), ""},
		{"It wasn't blocked", file(sawIt, 0), ""},
		{"It wasn’t blocked", file(sawIt, 0), ""},
		{"Never blocked", file(sawIt, 0), ""},
		{"Not seen before: it was blocked", file(sawIt, 0), "blocked"},
		{"An unblocked port, a blocker, blocking", file(sawIt, 0), ""},
		{"An attack was detected", file(preventedIt, 0), ""},
		{"", file(sawIt, 0), ""},
	}
	for _, test := range tests {
		alert := alertOnA()
		if test.evidence != nil {
			alert = alertOnA(test.evidence)
		}
		alert.Title = test.title
		for _, got := range []*integrationv1.OutcomeAssessment{match.OutcomeOf(alert), attackOn(t, nil, alert).GetOutcome()} {
			said := ""
			if len(got.GetContradictions()) > 0 {
				_, rest, _ := strings.Cut(got.GetContradictions()[0], `" says `)
				said, _, _ = strings.Cut(rest, ";")
			}
			if said != test.want || len(got.GetContradictions()) > 1 {
				t.Errorf("%q over %v: %q, want %q", test.title, got.GetOutcome(), got.GetContradictions(), test.want)
			}
		}
	}
}

func TestStatusesThatContradict(t *testing.T) {
	const (
		isBlocked   = integrationv1.RemediationStatus_REMEDIATION_STATUS_BLOCKED
		isPrevented = integrationv1.RemediationStatus_REMEDIATION_STATUS_PREVENTED
		isActive    = integrationv1.RemediationStatus_REMEDIATION_STATUS_ACTIVE
		isPartly    = integrationv1.RemediationStatus_REMEDIATION_STATUS_PARTIALLY_REMEDIATED
		isNotFound  = integrationv1.RemediationStatus_REMEDIATION_STATUS_NOT_FOUND
	)
	tests := []struct {
		detection   integrationv1.DetectionStatus
		remediation integrationv1.RemediationStatus
		disagree    bool
	}{
		{preventedIt, isActive, true},
		{blockedIt, isPartly, true},
		{preventedIt, isBlocked, true},
		{blockedIt, isPrevented, true},
		{sawIt, isBlocked, true},
		{sawIt, isPrevented, true},
		{preventedIt, isPrevented, false},
		{blockedIt, isBlocked, false},
		{sawIt, isActive, false},
		{preventedIt, noRemediation, false},
		{noDetection, isBlocked, false},
		// What was cleaned up, or was gone, may have been stopped before.
		{preventedIt, remediatedIt, false},
		{blockedIt, remediatedIt, false},
		{sawIt, remediatedIt, false},
		{blockedIt, isNotFound, false},
	}
	for _, test := range tests {
		got := match.OutcomeOf(alertOf(file(test.detection, test.remediation))).GetContradictions()
		if (len(got) > 0) != test.disagree {
			t.Errorf("%v and %v: %q", test.detection, test.remediation, got)
		}
	}
	// Only those of the evidence that decides.
	if got := match.OutcomeOf(alertOf(file(preventedIt, isActive), process(sawIt, 0))).GetContradictions(); len(got) > 0 {
		t.Errorf("of evidence that does not decide: %q", got)
	}
}

// TestContradictionsInWords gives an alert all of them at once: they stand in a fixed order and change nothing.
func TestContradictionsInWords(t *testing.T) {
	traces := processTrace(&integrationv1.ProcessTrace{ProcessId: 4711, ProcessCreationTime: at(0)})
	alert := alertOnA(
		process(sawIt, integrationv1.RemediationStatus_REMEDIATION_STATUS_BLOCKED, createdAs(noon)),
		file(sawIt, 0, malicious), file(sawIt, 0), file(sawIt, remediatedIt),
	)
	alert.Title = "An attack was prevented"
	got := attackOn(t, traces, alert).GetOutcome()
	want := []string{
		`The title "An attack was prevented" says prevented; the outcome is blocked, since titles decide nothing.`,
		`The process "cmd.exe" (process id 4711) has two statuses that disagree (detection status detected, remediation status blocked).`,
		`The file "evil.exe", which is not the attack's own process, tells that it was remediated (/evidence/3).`,
		`The file "evil.exe", which is not the attack's own process, tells that it was detected (/evidence/1 and 1 more).`,
	}
	if got.GetOutcome() != blocked || got.GetEvidencePath() != "/evidence/0" || !slices.Equal(got.GetContradictions(), want) {
		t.Errorf("outcome %v by %q with\n%s", got.GetOutcome(), got.GetEvidencePath(), strings.Join(got.GetContradictions(), "\n"))
	}
	if want := `The process "cmd.exe" (process id 4711): Defender stopped it while it ran (detection status detected, remediation status blocked). ` +
		`It is the attack's own process.`; got.GetExplanation() != want {
		t.Errorf("explanation %s", got.GetExplanation())
	}
}

func TestDetectionsWhoseTitleContradicts(t *testing.T) {
	for _, test := range []struct {
		title     string
		succeeded *bool
		want      int
	}{{"It was blocked", new(false), 1}, {"It was blocked", nil, 1}, {"It was prevented", new(true), 1}, {"It was seen", new(false), 0}} {
		alert := alertOnA()
		alert.Title, alert.Siem = test.title, &integrationv1.SiemDetection{RemediationIsSuccess: test.succeeded}
		for _, got := range []*integrationv1.OutcomeAssessment{match.OutcomeOf(alert), attackOn(t, nil, alert).GetOutcome()} {
			if len(got.GetContradictions()) != test.want {
				t.Errorf("%q: %v", test.title, got)
			}
		}
	}
}
