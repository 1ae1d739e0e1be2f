package match

import (
	"fmt"
	"strings"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The flags of a detection, as JSON Pointers into the element.
const (
	pathRemediationIsSuccess      = "/RemediationIsSuccess"
	pathWasExecutingWhileDetected = "/WasExecutingWhileDetected"
)

// outcomeOfDetection returns how the attack ended, going by the flags of a detection of the SIEM API. Only Defender Antivirus sets
// them; where they are not set nothing is known, and it does not follow that nothing was stopped
// (https://learn.microsoft.com/en-us/defender-endpoint/configure-siem).
//
// A remediation that succeeded prevented what was not executing when it was detected, and blocked what was; where that is not
// known, it cleaned up. Anything else was detected. A title that contradicts the flags is told.
func outcomeOfDetection(alert *integrationv1.Alert) *integrationv1.OutcomeAssessment {
	assessed := outcomeOfFlags(alert.GetSiem())
	assessed.Contradictions = appendTold(nil, contradictionOfTitle(alert.GetTitle(), assessed.GetOutcome()))
	return assessed
}

// outcomeOfFlags returns the outcome that a detection's flags tell.
func outcomeOfFlags(siem *integrationv1.SiemDetection) *integrationv1.OutcomeAssessment {
	assessed := func(outcome integrationv1.Outcome, path, why string) *integrationv1.OutcomeAssessment {
		return &integrationv1.OutcomeAssessment{
			Outcome: outcome, EvidencePath: path, Explanation: "Defender Antivirus " + why + " " + flags(siem) + ".",
		}
	}
	succeeded, executing := siem.RemediationIsSuccess, siem.WasExecutingWhileDetected
	switch {
	case succeeded == nil && executing == nil:
		return &integrationv1.OutcomeAssessment{
			Outcome: integrationv1.Outcome_OUTCOME_UNKNOWN,
			Explanation: "The detection does not tell how it ended: through the SIEM API only those of Defender Antivirus do, " +
				"by RemediationIsSuccess and WasExecutingWhileDetected.",
		}
	case succeeded == nil:
		return assessed(integrationv1.Outcome_OUTCOME_DETECTED, pathWasExecutingWhileDetected,
			"detected it, and nothing says that it was stopped")
	case !*succeeded:
		return assessed(integrationv1.Outcome_OUTCOME_DETECTED, pathRemediationIsSuccess, "detected it, and could not remediate it")
	case executing == nil:
		return assessed(integrationv1.Outcome_OUTCOME_REMEDIATED, pathRemediationIsSuccess, "cleaned it up")
	case *executing:
		return assessed(integrationv1.Outcome_OUTCOME_BLOCKED, pathRemediationIsSuccess, "stopped it while it ran")
	default:
		return assessed(integrationv1.Outcome_OUTCOME_PREVENTED, pathRemediationIsSuccess, "kept it from running")
	}
}

// flags quotes what a detection's outcome rests on.
func flags(siem *integrationv1.SiemDetection) string {
	told := func(flag *bool) string {
		if flag == nil {
			return "not set"
		}
		return fmt.Sprint(*flag)
	}
	parts := []string{
		"RemediationIsSuccess " + told(siem.RemediationIsSuccess),           //nolint:protogetter // Not set is not false.
		"WasExecutingWhileDetected " + told(siem.WasExecutingWhileDetected), //nolint:protogetter // Not set is not false.
	}
	if action := siem.GetRemediationAction(); action != "" {
		parts = append(parts, named("RemediationAction", action))
	}
	return "(" + strings.Join(parts, ", ") + ")"
}
