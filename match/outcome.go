package match

import (
	"fmt"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// OutcomeOf returns how the attack ended, going by the evidence of files and processes of an alert, those inside of malware too.
// Titles decide nothing; where one contradicts the outcome, that is told. Of a detection of the SIEM API, whose evidence has no
// statuses, its flags tell; see [outcomeOfDetection].
//
// Each piece of evidence tells its outcome by its detection status (prevented, blocked), else by its remediation status. Of several
// about one file or process, the one that was added last tells, and one without a status changes nothing. Where some files or processes
// are malicious or suspicious and tell an outcome, only those decide. The weakest decides, since what was merely detected did run;
// among equals the one that was told first.
//
// So what is added to an alert makes its outcome weaker in two ways alone: it tells a weaker one itself, or it takes a file or process
// for malicious that tells a weaker one.
//
// How the attack on an Actor ended is told by [AlertDevices.MatchAttack].
func OutcomeOf(alert *integrationv1.Alert) *integrationv1.OutcomeAssessment {
	if alert.GetSiem() != nil {
		return outcomeOfDetection(alert)
	}
	return outcomeOfThings(alert, thingsOf(alert), nil)
}

// outcomeOfThings returns how the attack ended, going by these files and processes of the alert. own says that one of them is the attack's
// own process: where any of those tells an outcome, they alone decide, and what others tell contradicts them. It is nil where nothing is
// known of the attack.
func outcomeOfThings(alert *integrationv1.Alert, things []*thing, own func(*thing) bool) *integrationv1.OutcomeAssessment {
	deciding, others, which := decidingOf(things, own)
	if len(deciding) == 0 {
		assessed := unknownOutcome(len(alert.GetEvidence()) > 0, len(things) > 0)
		assessed.Contradictions = appendTold(nil, contradictionOfTitle(alert.GetTitle(), assessed.GetOutcome()))
		return assessed
	}
	weakest := deciding[0]
	for _, t := range deciding[1:] {
		if t.weakerThan(weakest) {
			weakest = t
		}
	}
	assessed := &integrationv1.OutcomeAssessment{
		Outcome:      weakest.outcome,
		EvidencePath: weakest.path(),
		Explanation:  explainOutcome(weakest, len(deciding), which),
	}
	assessed.Contradictions = appendTold(assessed.GetContradictions(), contradictionOfTitle(alert.GetTitle(), assessed.GetOutcome()))
	assessed.Contradictions = appendTold(assessed.GetContradictions(), contradictionOfStatuses(weakest.evidence))
	assessed.Contradictions = append(assessed.Contradictions, contradictionsOfOthers(others, assessed.GetOutcome())...)
	return assessed
}

// appendTold appends a text that is not empty.
func appendTold(texts []string, text string) []string {
	if text == "" {
		return texts
	}
	return append(texts, text)
}

// Which files and processes decide.
const (
	amongAll          = "files and processes"
	amongIncriminated = "files and processes that Defender takes for malicious or suspicious"
	amongOwn          = "processes of the attack itself"
)

// decidingOf returns the files and processes that decide, which tell an outcome each, and which they are. Where they are the attack's own
// processes, it returns the others too.
func decidingOf(things []*thing, own func(*thing) bool) (deciding, others []*thing, which string) {
	var all, incriminated []*thing
	for _, t := range things {
		if !t.told() {
			continue
		}
		all = append(all, t)
		if t.incriminated {
			incriminated = append(incriminated, t)
		}
		if own != nil && own(t) {
			deciding = append(deciding, t)
		} else {
			others = append(others, t)
		}
	}
	switch {
	case len(deciding) > 0:
		return deciding, others, amongOwn
	case len(incriminated) > 0:
		return incriminated, nil, amongIncriminated
	default:
		return all, nil, amongAll
	}
}

// explainOutcome says in words why the weakest of as many decides.
func explainOutcome(weakest *thing, deciding int, which string) string {
	text := fmt.Sprintf("%s: %s.", describe(weakest.evidence), reasonFor(weakest.evidence, weakest.outcome))
	if which == amongOwn {
		text += " It is the attack's own process."
	}
	if weakest.telling > 1 {
		text += fmt.Sprintf(" Of the %d pieces of evidence about it that tell an outcome, this was added last.", weakest.telling)
	}
	if deciding > 1 {
		text += fmt.Sprintf(" It is the weakest outcome among %d %s that tell one.", deciding, which)
	}
	return text
}

// unknownOutcome says that nothing tells how it ended: the alert may have evidence, and some of it of files or processes that are meant.
func unknownOutcome(evidence, things bool) *integrationv1.OutcomeAssessment {
	explanation := "No evidence of a file or process tells how it ended: no detection or remediation status is set."
	switch {
	case !evidence:
		explanation = "The alert has no evidence, so nothing tells how it ended."
	case !things:
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
	detection := outcomeOfDetectionStatus(detectionStatus(evidence))
	remediation := outcomeOfRemediationStatus(evidence.GetRemediationStatus())
	// What was detected may have been stopped or cleaned up all the same.
	if detection < integrationv1.Outcome_OUTCOME_DETECTED || remediation == integrationv1.Outcome_OUTCOME_UNKNOWN {
		return detection
	}
	return remediation
}

// outcomeOfDetectionStatus returns the outcome that a detection status tells by itself.
func outcomeOfDetectionStatus(status integrationv1.DetectionStatus) integrationv1.Outcome {
	switch status {
	case integrationv1.DetectionStatus_DETECTION_STATUS_PREVENTED:
		return integrationv1.Outcome_OUTCOME_PREVENTED
	case integrationv1.DetectionStatus_DETECTION_STATUS_BLOCKED:
		return integrationv1.Outcome_OUTCOME_BLOCKED
	case integrationv1.DetectionStatus_DETECTION_STATUS_DETECTED:
		return integrationv1.Outcome_OUTCOME_DETECTED
	default:
		return integrationv1.Outcome_OUTCOME_UNKNOWN
	}
}

// outcomeOfRemediationStatus returns the outcome that a remediation status tells by itself.
func outcomeOfRemediationStatus(status integrationv1.RemediationStatus) integrationv1.Outcome {
	switch status {
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
	default:
		return integrationv1.Outcome_OUTCOME_UNKNOWN
	}
}

// reasonFor says in words why evidence tells its outcome.
func reasonFor(evidence *integrationv1.Evidence, outcome integrationv1.Outcome) string {
	statuses := spellStatuses(evidence)
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

// spellStatuses quotes what a file's or process's outcome rests on.
func spellStatuses(evidence *integrationv1.Evidence) string {
	return fmt.Sprintf("(detection status %s, remediation status %s)",
		spell(detectionStatus(evidence).String(), "DETECTION_STATUS_"),
		spell(evidence.GetRemediationStatus().String(), "REMEDIATION_STATUS_"))
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
