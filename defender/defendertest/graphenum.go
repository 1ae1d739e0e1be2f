package defendertest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// preferUnknownMembers is the preference with which Graph sends the members of an enum that were added later. Without it they
// are sent as unknownFutureValue (https://learn.microsoft.com/en-us/graph/best-practices-concept#handling-future-members-in-evolvable-enumerations).
const preferUnknownMembers = "include-unknown-enum-members"

func wantsUnknownMembers(h http.Header) bool {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(preference), preferUnknownMembers) {
				return true
			}
		}
	}
	return false
}

// laterMembers are the members that Graph v1.0 declares after unknownFutureValue, by the property that holds them (its metadata
// of August 2026, microsoft.graph.security).
func laterMembers(property string) []string {
	switch property {
	case "serviceSource":
		return []string{"microsoftDefenderForCloud", "microsoftSentinel", "microsoftInsiderRiskManagement", "microsoftThreatIntelligence", "microsoftSecurityForAI"}
	case "detectionSource":
		return []string{
			"microsoftDefenderForCloud", "microsoftDefenderForIoT", "microsoftDefenderForServers", "microsoftDefenderForStorage",
			"microsoftDefenderForDNS", "microsoftDefenderForDatabases", "microsoftDefenderForContainers", "microsoftDefenderForNetwork",
			"microsoftDefenderForAppService", "microsoftDefenderForKeyVault", "microsoftDefenderForResourceManager",
			"microsoftDefenderForApiManagement", "nrtAlerts", "scheduledAlerts", "microsoftDefenderThreatIntelligenceAnalytics",
			"builtInMl", "microsoftInsiderRiskManagement", "microsoftThreatIntelligence", "microsoftDefenderForAIServices",
			"securityCopilot", "microsoftSentinel",
		}
	case "remediationStatus":
		return []string{"active", "pendingApproval", "declined", "unremediated", "running", "partiallyRemediated"}
	}
	return nil
}

// withoutUnknownMembers is what a caller gets that does not ask for later members.
func (r *revision) withoutUnknownMembers() []byte {
	r.plain.once.Do(func() { r.plain.bytes = hideLaterMembers(r.raw) })
	return r.plain.bytes
}

// hideLaterMembers replaces later members by unknownFutureValue and leaves every other byte as it is, also those after a fault
// in the JSON.
func hideLaterMembers(raw []byte) []byte {
	var out []byte
	copied := 0
	decoder := json.NewDecoder(bytes.NewReader(raw))
	// objects says for each open container whether it is an object; isName whether the next string is a member's name.
	var objects []bool
	isName, name := false, ""
	for {
		token, err := decoder.Token()
		if err != nil {
			break
		}
		if delimiter, ok := token.(json.Delim); ok {
			if delimiter == '{' || delimiter == '[' {
				objects = append(objects, delimiter == '{')
			} else {
				objects = objects[:len(objects)-1]
			}
			isName, name = len(objects) > 0 && objects[len(objects)-1], ""
			continue
		}
		value, isText := token.(string)
		if isName {
			isName, name = false, value
			continue
		}
		if isText && slices.Contains(laterMembers(name), value) {
			end := int(decoder.InputOffset())
			start := bytes.LastIndexByte(raw[:end-1], '"')
			out = append(append(out, raw[copied:start]...), `"unknownFutureValue"`...)
			copied = end
		}
		isName, name = len(objects) > 0 && objects[len(objects)-1], ""
	}
	if copied == 0 {
		return raw
	}
	return append(out, raw[copied:]...)
}
