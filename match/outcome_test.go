package match_test

import (
	"strings"
	"testing"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// Statuses and outcomes in short.
const (
	noDetection = integrationv1.DetectionStatus_DETECTION_STATUS_UNSPECIFIED
	sawIt       = integrationv1.DetectionStatus_DETECTION_STATUS_DETECTED
	blockedIt   = integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED
	preventedIt = integrationv1.DetectionStatus_DETECTION_STATUS_PREVENTED

	noRemediation = integrationv1.RemediationStatus_REMEDIATION_STATUS_NONE
	remediatedIt  = integrationv1.RemediationStatus_REMEDIATION_STATUS_REMEDIATED

	prevented  = integrationv1.Outcome_OUTCOME_PREVENTED
	blocked    = integrationv1.Outcome_OUTCOME_BLOCKED
	remediated = integrationv1.Outcome_OUTCOME_REMEDIATED
	detected   = integrationv1.Outcome_OUTCOME_DETECTED
	untold     = integrationv1.Outcome_OUTCOME_UNKNOWN
)

// TestOutcomeOfStatuses is the whole table of the two statuses, for a file and for a process.
func TestOutcomeOfStatuses(t *testing.T) {
	// By remediation status, where the detection status tells nothing, and where it is detected.
	byRemediation := map[integrationv1.RemediationStatus][2]integrationv1.Outcome{
		integrationv1.RemediationStatus_REMEDIATION_STATUS_UNSPECIFIED:          {untold, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_UNRECOGNIZED:         {untold, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_NONE:                 {untold, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_REMEDIATED:           {remediated, remediated},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_PREVENTED:            {prevented, prevented},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_BLOCKED:              {blocked, blocked},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_NOT_FOUND:            {detected, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_ACTIVE:               {detected, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_PENDING_APPROVAL:     {detected, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_DECLINED:             {detected, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_UNREMEDIATED:         {detected, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_RUNNING:              {detected, detected},
		integrationv1.RemediationStatus_REMEDIATION_STATUS_PARTIALLY_REMEDIATED: {detected, detected},
	}
	for value, name := range integrationv1.RemediationStatus_name {
		remediation := integrationv1.RemediationStatus(value)
		want, ok := byRemediation[remediation]
		if !ok {
			t.Errorf("%s stands in no row", name)
			continue
		}
		byDetection := map[integrationv1.DetectionStatus]integrationv1.Outcome{
			noDetection: want[0], integrationv1.DetectionStatus_DETECTION_STATUS_UNRECOGNIZED: want[0],
			sawIt: want[1], blockedIt: blocked, preventedIt: prevented,
		}
		if len(byDetection) != len(integrationv1.DetectionStatus_name) {
			t.Errorf("%d of %d detection statuses", len(byDetection), len(integrationv1.DetectionStatus_name))
		}
		for detection, want := range byDetection {
			for _, evidence := range []*integrationv1.Evidence{file(detection, remediation), process(detection, remediation)} {
				if got := match.OutcomeOf(alertOf(evidence)); got.GetOutcome() != want {
					t.Errorf("%v, %v: %v, want %v", detection, remediation, got.GetOutcome(), want)
				}
			}
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	suspicious := func(e *integrationv1.Evidence) { e.Verdict = integrationv1.EvidenceVerdict_EVIDENCE_VERDICT_SUSPICIOUS }
	tests := []struct {
		name     string
		evidence []*integrationv1.Evidence
		want     integrationv1.Outcome
		path     string
	}{
		{"no evidence tells nothing", nil, untold, ""},
		{"devices and users tell nothing, whatever was done about them", []*integrationv1.Evidence{{
			RemediationStatus: remediatedIt,
			Detail:            &integrationv1.Evidence_Device{Device: &integrationv1.DeviceEvidence{}},
		}}, untold, ""},
		{"evidence without statuses tells nothing", []*integrationv1.Evidence{file(noDetection, noRemediation)}, untold, ""},
		{
			"the weakest decides: what was merely detected did run",
			[]*integrationv1.Evidence{file(preventedIt, 0), process(blockedIt, 0), file(sawIt, remediatedIt), process(sawIt, 0)}, detected, "/evidence/3",
		},
		{"remediated is weaker than blocked", []*integrationv1.Evidence{file(sawIt, remediatedIt), process(blockedIt, 0)}, remediated, "/evidence/0"},
		{"blocked is weaker than prevented", []*integrationv1.Evidence{file(preventedIt, 0), process(blockedIt, 0)}, blocked, "/evidence/1"},
		{"what tells nothing does not decide", []*integrationv1.Evidence{process(noDetection, noRemediation), file(preventedIt, 0)}, prevented, "/evidence/1"},
		{
			"what is malicious decides over what is not",
			[]*integrationv1.Evidence{process(sawIt, 0), file(preventedIt, 0, malicious)}, prevented, "/evidence/1",
		},
		{
			"what is suspicious does so too",
			[]*integrationv1.Evidence{process(sawIt, 0), file(preventedIt, 0, malicious), process(blockedIt, 0, suspicious)}, blocked, "/evidence/2",
		},
		{
			"if what is malicious tells nothing, the rest decides",
			[]*integrationv1.Evidence{process(sawIt, 0), file(noDetection, noRemediation, malicious)}, detected, "/evidence/0",
		},
		{
			"among equals the one that was added first",
			[]*integrationv1.Evidence{file(sawIt, 0), file(sawIt, 0, added(noon.Add(time.Hour))), file(sawIt, 0, added(noon))}, detected, "/evidence/2",
		},
		{"among equals without a time the first", []*integrationv1.Evidence{file(sawIt, 0), file(sawIt, 0)}, detected, "/evidence/0"},
		{
			"a file inside of malware",
			[]*integrationv1.Evidence{onDevice(idA, "pc1"), malware([]*integrationv1.Evidence{file(preventedIt, 0), file(sawIt, 0)}, nil)}, detected, "/evidence/1/files/1",
		},
		{
			"a process inside of malware",
			[]*integrationv1.Evidence{malware([]*integrationv1.Evidence{file(preventedIt, 0)}, []*integrationv1.Evidence{process(blockedIt, 0)})}, blocked, "/evidence/0/processes/0",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			alert := alertOf(test.evidence...)
			// Words in the title decide nothing.
			alert.Title = "An attack was blocked and prevented"
			got := match.OutcomeOf(alert)
			if got.GetOutcome() != test.want || got.GetEvidencePath() != test.path {
				t.Errorf("outcome %v by %q, want %v by %q", got.GetOutcome(), got.GetEvidencePath(), test.want, test.path)
			}
			if got.GetExplanation() == "" {
				t.Error("no explanation")
			}
		})
	}
}

func TestOutcomeExplains(t *testing.T) {
	tests := []struct {
		evidence []*integrationv1.Evidence
		want     string
	}{
		{nil, "The alert has no evidence, so nothing tells how it ended."},
		{[]*integrationv1.Evidence{onDevice(idA, "")}, "The alert has no evidence of a file or process, so nothing tells how it ended."},
		{
			[]*integrationv1.Evidence{file(noDetection, noRemediation)},
			"No evidence of a file or process tells how it ended: no detection or remediation status is set.",
		},
		{
			[]*integrationv1.Evidence{file(preventedIt, 0)},
			`The file "evil.exe": Defender kept it from running (detection status prevented, remediation status not set).`,
		},
		{
			[]*integrationv1.Evidence{process(blockedIt, noRemediation, malicious), file(preventedIt, 0, malicious)},
			`The process "cmd.exe" (process id 4711): Defender stopped it while it ran (detection status blocked, remediation status none). ` +
				`It is the weakest outcome among 2 files and processes that Defender takes for malicious or suspicious that tell one.`,
		},
		{
			[]*integrationv1.Evidence{{
				RemediationStatus: integrationv1.RemediationStatus_REMEDIATION_STATUS_PARTIALLY_REMEDIATED,
				Detail:            &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{}},
			}},
			`The file: Defender saw it, and nothing says that it was stopped, or cleaned up wholly (detection status not set, remediation status partially remediated).`,
		},
	}
	for _, test := range tests {
		if got := match.OutcomeOf(alertOf(test.evidence...)).GetExplanation(); got != test.want {
			t.Errorf("explanation\n got %s\nwant %s", got, test.want)
		}
	}
}

func TestOutcomeQuotesAndBoundsNames(t *testing.T) {
	evidence := file(sawIt, 0)
	evidence.GetFile().FileDetails.FileName = "a\n\"prevented\"" + strings.Repeat("ä", 10_000)
	got := match.OutcomeOf(alertOf(evidence)).GetExplanation()
	if len(got) > 1000 || strings.Contains(got, "\n") || !strings.Contains(got, `a\n\"prevented\"`) {
		t.Errorf("explanation of %d bytes: %.200s", len(got), got)
	}
}
