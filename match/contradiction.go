package match

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// contradictionOfTitle says in words that the alert's title claims a stronger outcome than the one that decides; empty where it does
// not.
func contradictionOfTitle(title string, outcome integrationv1.Outcome) string {
	claimed, word := claimOf(title)
	if word == "" || claimed >= outcome { // The enumeration lists them from the strongest.
		return ""
	}
	return fmt.Sprintf("%s says %s; the outcome is %s, since titles decide nothing.", named("The title", title), word, spellOutcome(outcome))
}

// claimOf returns the outcome that a title claims, and the word by which it does; none where the word stands behind a negation.
func claimOf(title string) (integrationv1.Outcome, string) {
	claims := []struct {
		word    string
		outcome integrationv1.Outcome
	}{{"prevented", integrationv1.Outcome_OUTCOME_PREVENTED}, {"blocked", integrationv1.Outcome_OUTCOME_BLOCKED}}
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool { return !unicode.IsLetter(r) && r != '\'' && r != '’' })
	for _, claim := range claims {
		for i, word := range words {
			if strings.Trim(word, "'’") == claim.word && !slices.ContainsFunc(words[max(0, i-2):i], isNegation) {
				return claim.outcome, claim.word
			}
		}
	}
	return integrationv1.Outcome_OUTCOME_UNKNOWN, ""
}

func isNegation(word string) bool {
	return word == "not" || word == "never" || word == "cannot" || strings.HasSuffix(word, "n't") || strings.HasSuffix(word, "n’t")
}

// contradictionOfStatuses says in words that the two statuses of the deciding evidence disagree; empty where they do not. What was
// cleaned up, or was not there to be, may have been stopped or only seen before.
func contradictionOfStatuses(evidence *integrationv1.Evidence) string {
	detection := outcomeOfDetectionStatus(detectionStatus(evidence))
	remediation := outcomeOfRemediationStatus(evidence.GetRemediationStatus())
	switch {
	case detection == integrationv1.Outcome_OUTCOME_UNKNOWN, remediation == integrationv1.Outcome_OUTCOME_UNKNOWN, detection == remediation,
		remediation == integrationv1.Outcome_OUTCOME_REMEDIATED,
		evidence.GetRemediationStatus() == integrationv1.RemediationStatus_REMEDIATION_STATUS_NOT_FOUND:
		return ""
	}
	return fmt.Sprintf("%s has two statuses that disagree %s.", describe(evidence), spellStatuses(evidence))
}

// contradictionsOfOthers says in words what other files and processes than the attack's own tell, for each outcome that is another.
func contradictionsOfOthers(others []*thing, outcome integrationv1.Outcome) []string {
	byOutcome := map[integrationv1.Outcome][]*thing{}
	for _, t := range others {
		if t.told() && t.outcome != outcome {
			byOutcome[t.outcome] = append(byOutcome[t.outcome], t)
		}
	}
	var texts []string
	for other := integrationv1.Outcome_OUTCOME_PREVENTED; other < integrationv1.Outcome_OUTCOME_UNKNOWN; other++ {
		telling := byOutcome[other]
		if len(telling) == 0 {
			continue
		}
		where := telling[0].path()
		if more := len(telling) - 1; more > 0 {
			where += fmt.Sprintf(" and %d more", more)
		}
		texts = append(texts, fmt.Sprintf("%s, which is not the attack's own process, tells that it was %s (%s).",
			describe(telling[0].evidence), spellOutcome(other), where))
	}
	return texts
}

func spellOutcome(outcome integrationv1.Outcome) string { return spell(outcome.String(), "OUTCOME_") }
