package endpoint

import (
	"strings"

	"defender-integration/defender/lenient"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// severities are the words for severities (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts).
func severities() lenient.Names[integrationv1.Severity] {
	return lenient.NamesOf(lenient.Names[integrationv1.Severity]{"UnSpecified": integrationv1.Severity_SEVERITY_UNKNOWN})
}

// determinations are the words for determinations: of the list's page, of the page on updating, where the two differ
// (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts, …/update-alert), and of old alerts.
func determinations() lenient.Names[integrationv1.Determination] {
	return lenient.NamesOf(lenient.Names[integrationv1.Determination]{
		"NotAvailable":          integrationv1.Determination_DETERMINATION_UNKNOWN,
		"CompromisedUser":       integrationv1.Determination_DETERMINATION_COMPROMISED_ACCOUNT,
		"ConfirmedUserActivity": integrationv1.Determination_DETERMINATION_CONFIRMED_ACTIVITY,
		"Clean":                 integrationv1.Determination_DETERMINATION_NOT_MALICIOUS,
		"InsufficientData":      integrationv1.Determination_DETERMINATION_NOT_ENOUGH_DATA_TO_VALIDATE,
	})
}

// word is the field of a word from an open set that the contract tells in Graph's words: graph has Graph's by this API's, in lower
// case. A word that is not in it stays as it is.
func word(graph map[string]string, at func(*row) text) lenient.Field[*row] {
	return func(v lenient.Value, r *row) {
		said := v.Text()
		if known, ok := graph[strings.ToLower(said)]; ok {
			said = known
		}
		*at(r) = said
	}
}

// detectionSources are Graph's words for sources of detection: both are told by what the portal calls them
// (https://learn.microsoft.com/en-us/defender-endpoint/alerts-queue,
// https://learn.microsoft.com/en-us/graph/api/resources/security-alert#detectionsource-values). Graph has none for ThirdPartySensors.
func detectionSources() map[string]string {
	return map[string]string{
		"windowsdefenderatp":         "microsoftDefenderForEndpoint",
		"windowsdefenderav":          "antivirus",
		"windowsdefendersmartscreen": "smartScreen",
		"automatedinvestigation":     "automatedInvestigation",
		"customdetection":            "customDetection",
		"customerti":                 "customTi",
		"mtp":                        "microsoft365Defender",
		"officeatp":                  "microsoftDefenderForOffice365",
		"threatexperts":              "microsoftThreatExperts",
	}
}

// investigationStates are Graph's words for the states of an investigation, which differ in their case alone
// (https://learn.microsoft.com/en-us/defender-endpoint/api/alerts,
// https://learn.microsoft.com/en-us/graph/api/resources/security-alert#investigationstate-values).
func investigationStates() map[string]string {
	states := map[string]string{}
	for _, state := range []string{
		"unknown", "terminated", "successfullyRemediated", "benign", "failed", "partiallyRemediated", "running", "pendingApproval",
		"pendingResource", "partiallyInvestigated", "terminatedByUser", "terminatedBySystem", "queued", "innerFailure", "preexistingAlert",
		"unsupportedOs", "unsupportedAlertType", "suppressedAlert",
	} {
		states[strings.ToLower(state)] = state
	}
	return states
}
