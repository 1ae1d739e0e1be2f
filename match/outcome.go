package match

import (
	"fmt"
	"strings"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// OutcomeOf returns how the attack ended, going by the evidence of files and processes of an alert, those inside of malware too.
// Titles decide nothing. Of a detection of the SIEM API, whose evidence has no statuses, its flags tell; see [outcomeOfDetection].
//
// Each such piece of evidence tells its outcome by its detection status (prevented, blocked), else by its remediation status.
// Where some carry the verdict malicious or suspicious, only those decide. The weakest decides, since what was merely detected
// did run; among equals the one that was added first.
func OutcomeOf(alert *integrationv1.Alert) *integrationv1.OutcomeAssessment {
	if alert.GetSiem() != nil {
		return outcomeOfDetection(alert.GetSiem())
	}
	var all, incriminated []decision
	for located := range eachEvidence(alert) {
		if !isFileOrProcess(located.evidence) {
			continue
		}
		d := decision{located: located, outcome: outcomeOfEvidence(located.evidence)}
		all = append(all, d)
		if isIncriminated(located.evidence) {
			incriminated = append(incriminated, d)
		}
	}
	deciding, which := all, "pieces of evidence of files and processes"
	if len(incriminated) > 0 {
		deciding, which = incriminated, "files and processes that Defender takes for malicious or suspicious"
	}

	var weakest *decision
	telling := 0
	for i := range deciding {
		d := &deciding[i]
		if d.outcome == integrationv1.Outcome_OUTCOME_UNKNOWN {
			continue
		}
		telling++
		if weakest == nil || d.weakerThan(weakest) {
			weakest = d
		}
	}
	if weakest == nil {
		return unknownOutcome(len(alert.GetEvidence()), len(deciding), which)
	}
	explanation := fmt.Sprintf("%s: %s.", describe(weakest.evidence), reasonFor(weakest.evidence, weakest.outcome))
	if telling > 1 {
		explanation += fmt.Sprintf(" It is the weakest outcome among %d %s that tell one.", telling, which)
	}
	return &integrationv1.OutcomeAssessment{
		Outcome:      weakest.outcome,
		EvidencePath: weakest.path(),
		Explanation:  explanation,
	}
}

// decision is a piece of evidence and the outcome that it tells.
type decision struct {
	located
	outcome integrationv1.Outcome
}

// weakerThan says that the outcome is weaker, or as weak and earlier.
func (d *decision) weakerThan(other *decision) bool {
	if d.outcome != other.outcome {
		return d.outcome > other.outcome // The enumeration lists them from the strongest.
	}
	mine, others := d.created(), other.created()
	return !mine.IsZero() && (others.IsZero() || mine.Before(others))
}

func (d *decision) created() time.Time { return timeOf(d.evidence.GetCreatedTime()) }

func unknownOutcome(evidence, deciding int, which string) *integrationv1.OutcomeAssessment {
	explanation := fmt.Sprintf("None of the %d %s tells how it ended: no detection or remediation status is set.", deciding, which)
	switch {
	case evidence == 0:
		explanation = "The alert has no evidence, so nothing tells how it ended."
	case deciding == 0:
		explanation = "The alert has no evidence of a file or process, so nothing tells how it ended."
	}
	return &integrationv1.OutcomeAssessment{Outcome: integrationv1.Outcome_OUTCOME_UNKNOWN, Explanation: explanation}
}

func isFileOrProcess(evidence *integrationv1.Evidence) bool {
	return evidence.GetFile() != nil || evidence.GetProcess() != nil
}

func isIncriminated(evidence *integrationv1.Evidence) bool {
	verdict := evidence.GetVerdict()
	return verdict == integrationv1.EvidenceVerdict_EVIDENCE_VERDICT_MALICIOUS ||
		verdict == integrationv1.EvidenceVerdict_EVIDENCE_VERDICT_SUSPICIOUS
}

func detectionStatus(evidence *integrationv1.Evidence) integrationv1.DetectionStatus {
	if file := evidence.GetFile(); file != nil {
		return file.GetDetectionStatus()
	}
	return evidence.GetProcess().GetDetectionStatus()
}

// outcomeOfEvidence returns the outcome that a file's or process's evidence tells; OUTCOME_UNKNOWN where it tells none.
// Statuses mean what Microsoft says of them
// (https://learn.microsoft.com/en-us/graph/api/resources/security-alertevidence), except that the remediation status `none`,
// "no threats were found", stands on fresh evidence of live threats too and so tells nothing.
func outcomeOfEvidence(evidence *integrationv1.Evidence) integrationv1.Outcome {
	detection := detectionStatus(evidence)
	switch detection {
	case integrationv1.DetectionStatus_DETECTION_STATUS_PREVENTED:
		return integrationv1.Outcome_OUTCOME_PREVENTED
	case integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED:
		return integrationv1.Outcome_OUTCOME_BLOCKED
	}
	switch evidence.GetRemediationStatus() {
	case integrationv1.RemediationStatus_REMEDIATION_STATUS_PREVENTED:
		return integrationv1.Outcome_OUTCOME_PREVENTED
	case integrationv1.RemediationStatus_REMEDIATION_STATUS_BLOCKED:
		return integrationv1.Outcome_OUTCOME_BLOCKED
	case integrationv1.RemediationStatus_REMEDIATION_STATUS_REMEDIATED:
		return integrationv1.Outcome_OUTCOME_REMEDIATED
	case integrationv1.RemediationStatus_REMEDIATION_STATUS_NOT_FOUND,
		integrationv1.RemediationStatus_REMEDIATION_STATUS_ACTIVE,
		integrationv1.RemediationStatus_REMEDIATION_STATUS_PENDING_APPROVAL,
		integrationv1.RemediationStatus_REMEDIATION_STATUS_DECLINED,
		integrationv1.RemediationStatus_REMEDIATION_STATUS_UNREMEDIATED,
		integrationv1.RemediationStatus_REMEDIATION_STATUS_RUNNING,
		integrationv1.RemediationStatus_REMEDIATION_STATUS_PARTIALLY_REMEDIATED:
		return integrationv1.Outcome_OUTCOME_DETECTED
	}
	if detection == integrationv1.DetectionStatus_DETECTION_STATUS_DETECTED {
		return integrationv1.Outcome_OUTCOME_DETECTED
	}
	return integrationv1.Outcome_OUTCOME_UNKNOWN
}

// reasonFor says in words why evidence tells its outcome.
func reasonFor(evidence *integrationv1.Evidence, outcome integrationv1.Outcome) string {
	detection := spell(detectionStatus(evidence).String(), "DETECTION_STATUS_")
	remediation := spell(evidence.GetRemediationStatus().String(), "REMEDIATION_STATUS_")
	statuses := fmt.Sprintf("(detection status %s, remediation status %s)", detection, remediation)
	switch outcome {
	case integrationv1.Outcome_OUTCOME_PREVENTED:
		return "Defender kept it from running " + statuses
	case integrationv1.Outcome_OUTCOME_BLOCKED:
		return "Defender stopped it while it ran " + statuses
	case integrationv1.Outcome_OUTCOME_REMEDIATED:
		return "Defender cleaned it up afterwards " + statuses
	default:
		return "Defender saw it, and nothing says that it was stopped, or cleaned up wholly " + statuses
	}
}

// spell returns an enumeration's value as a person reads it: `PARTIALLY_REMEDIATED` as "partially remediated".
func spell(value, prefix string) string {
	word := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(value, prefix), "_", " "))
	if word == "unspecified" {
		return "not set"
	}
	return word
}

// maxQuoted is how many characters of a name stand in an explanation.
const maxQuoted = 128

// describe names a file or process. What a machine chose, such as a file's name, is quoted.
func describe(evidence *integrationv1.Evidence) string {
	if file := evidence.GetFile(); file != nil {
		return named("The file", file.GetFileDetails().GetFileName())
	}
	process := evidence.GetProcess()
	text := named("The process", process.GetImageFile().GetFileName())
	if id := process.GetProcessId(); id != 0 {
		text += fmt.Sprintf(" (process id %d)", id)
	}
	return text
}

func named(what, name string) string {
	if name == "" {
		return what
	}
	if runes := []rune(name); len(runes) > maxQuoted {
		name = string(runes[:maxQuoted]) + "…"
	}
	return fmt.Sprintf("%s %q", what, name)
}
