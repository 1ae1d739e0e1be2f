package endpoint

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"defender-integration/defender/defendertest"
	"defender-integration/defender/reading"
	"defender-integration/defender/reading/readingtest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// decode is a new decoder's Decode, as readingtest wants it.
func decode() readingtest.Decode {
	d := NewDecoder()
	return func(raw []byte) (*integrationv1.Alert, string, [sha256.Size]byte, error) {
		decoded, err := d.Decode(raw)
		return decoded.Alert, decoded.Key, decoded.ContentHash, err
	}
}

func mustDecode(t *testing.T, raw string) reading.Decoded {
	t.Helper()
	decoded, err := NewDecoder().Decode([]byte(raw))
	if err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return decoded
}

// whole puts members into an alert that has what is required; without evidence of their own they get an empty list.
func whole(members string) string {
	if !strings.Contains(members, `"evidence"`) {
		members += `,"evidence":[]`
	}
	return `{"id":"a","lastUpdateTime":"2026-01-02T03:04:05.1234567Z",` + members + `}`
}

func TestDecode(t *testing.T) {
	const process = `{"entityType":"Process","processId":`
	tests := []struct {
		// field is a path among readingtest.Fields, want what stands there; where want is empty, nothing stands there or below. odd
		// is what readingtest.Oddities writes.
		name, raw, field, want, odd string
	}{
		{"no object", `7`, "id", "", "WRONG_TYPE  7"},
		{"empty object", `{}`, "service_source", "microsoftDefenderForEndpoint", "MISSING_FIELD /id; MISSING_FIELD /lastUpdateTime; MISSING_FIELD /evidence"},
		{"not expanded", `{"id":"a","lastUpdateTime":"2026-01-02T03:04:05Z"}`, "id", "a", "MISSING_FIELD /evidence"},
		{"evidence is null", whole(`"evidence":null`), "id", "a", "MISSING_FIELD /evidence"},
		{"no evidence is none", whole(`"title":"x"`), "title", "x", ""},
		{"null id", `{"id":null,"lastUpdateTime":"2026-01-01T00:00:00Z","evidence":[]}`, "id", "", "MISSING_FIELD /id"},
		{"names are exact", whole(`"ID":"b","Title":"x"`), "id", "a", "UNKNOWN_PROPERTY /ID b; UNKNOWN_PROPERTY /Title x"},
		{"last of equal keys wins", whole(`"title":"x","title":"y"`), "title", "y", ""},
		{"annotations", whole(`"@odata.context":"x"`), "id", "a", ""},
		{"unknown property", whole(`"newThing":{"a":[1]}`), "id", "a", `UNKNOWN_PROPERTY /newThing {"a":[1]}`},

		{"incident as a number", whole(`"incidentId":1126`), "incident_id", "1126", ""},
		{"incident as a string", whole(`"incidentId":"1126"`), "incident_id", "1126", ""},
		{"investigation is known", whole(`"investigationId":7`), "id", "a", ""},
		{"related user as an object", whole(`"relatedUser":{"userName":"alex","domainName":"CONTOSO"}`), "related_user.domain_name", "CONTOSO", ""},
		{"related user as a string", whole(`"relatedUser":"CONTOSO\\alex"`), "related_user.account_name", "alex", ""},
		{"its domain", whole(`"relatedUser":"CONTOSO\\alex"`), "related_user.domain_name", "CONTOSO", ""},
		{"related user without a domain", whole(`"relatedUser":"alex"`), "related_user.account_name", "alex", ""},
		{"related user of nothing", whole(`"relatedUser":{"userName":null,"domainName":""}`), "related_user", "", ""},
		{"related users", whole(`"relatedUser":["alex"]`), "related_user", "", `WRONG_TYPE /relatedUser ["alex"]`},
		{"unknown property of a user", whole(`"relatedUser":{"userName":"alex","sid":"S-1"}`), "related_user.account_name", "alex", "UNKNOWN_PROPERTY /relatedUser/sid S-1"},
		{"techniques as a string", whole(`"mitreTechniques":"T1059"`), "mitre_techniques.0", "T1059", "WRONG_TYPE /mitreTechniques T1059"},
		{"comment's time as documented", whole(`"comments":[{"comment":"x","createTime":"2026-01-01T00:00:00Z"}]`), "comments.0.created_time", "2026-01-01T00:00:00Z", ""},
		{"time without a zone", whole(`"firstEventTime":"2026-01-01T00:00:00.12"`), "first_activity_time", "2026-01-01T00:00:00.12Z", ""},
		{"unreadable time", whole(`"firstEventTime":"soon"`), "first_activity_time", "", "BAD_TIME /firstEventTime soon"},
		{"bytes that are not UTF-8", whole("\"title\":\"a\xffb\""), "title", "a\uFFFDb", "INVALID_UTF8 /title a\uFFFDb"},

		{"machine", whole(`"machineId":"0a1b"`), "evidence.0.device.mde_device_id", "0a1b", ""},
		{"machine without an id", whole(`"computerDnsName":"WS-01"`), "evidence.0.device.device_dns_name", "WS-01", ""},
		{"machine behind the evidence", whole(`"machineId":"0a1b","evidence":[{"entityType":"Url","url":"x"}]`), "evidence.1.type", "deviceEvidence", ""},
		{"evidence before its machine", whole(`"evidence":[{"entityType":"File"}],"machineId":"0a1b"`), "evidence.0.file.mde_device_id", "0a1b", ""},
		{"logged on", whole(`"loggedOnUsers":[{"accountName":"alex","domainName":null}]`), "evidence.0.device.logged_on_users.0.account_name", "alex", ""},

		{"kind in another case", whole(`"evidence":[{"entityType":"process","processId":1}]`), "evidence.0.process.process_id", "1", ""},
		{"kind behind its properties", whole(`"evidence":[{"url":"x","entityType":"Url"}]`), "evidence.0.url.url", "x", ""},
		{"unknown kind", whole(`"evidence":[{"entityType":"Quantum","evidenceCreationTime":"2026-01-01T00:00:00Z","sha1":"1"}]`), "evidence.0.type", "Quantum", "UNKNOWN_EVIDENCE_TYPE /evidence/0 Quantum"},
		{"unknown kind's time", whole(`"evidence":[{"entityType":"Quantum","evidenceCreationTime":"2026-01-01T00:00:00Z"}]`), "evidence.0.created_time", "2026-01-01T00:00:00Z", "UNKNOWN_EVIDENCE_TYPE /evidence/0 Quantum"},
		{"no kind", whole(`"evidence":[{"sha1":"1"}]`), "evidence.0.type", "", "UNKNOWN_EVIDENCE_TYPE /evidence/0"},
		{"mail", whole(`"evidence":[{"entityType":"MailCluster"}]`), "evidence.0.type", "mailClusterEvidence", ""},
		{"registry key", whole(`"evidence":[{"entityType":"Registry","registryKey":"k"}]`), "evidence.0.type", "registryKeyEvidence", ""},
		{"registry value", whole(`"evidence":[{"entityType":"Registry","registryKey":"k","registryValueName":"n"}]`), "evidence.0.type", "registryValueEvidence", ""},
		{"process id as a string", whole(`"evidence":[` + process + `"4780"}]`), "evidence.0.process.process_id", "4780", ""},
		{"process id beyond 2^53", whole(`"evidence":[` + process + `9007199254740993}]`), "evidence.0.process.process_id", "9007199254740993", ""},
		{"process id with a fraction", whole(`"evidence":[` + process + `1.5}]`), "evidence.0.process.process_id", "", "WRONG_TYPE /evidence/0/processId 1.5"},
		{"an image of nothing", whole(`"evidence":[` + process + `1,"sha1":null,"fileName":""}]`), "evidence.0.process.image_file", "", ""},
		{"empty address", whole(`"evidence":[{"entityType":"Ip","ipAddress":""}]`), "evidence.0.type", "ipEvidence", ""},
		{"unknown property of evidence", whole(`"evidence":[{"entityType":"Url","port":1}]`), "evidence.0.type", "urlEvidence", "UNKNOWN_PROPERTY /evidence/0/port 1"},
		{"evidence as an object", whole(`"evidence":{"entityType":"Url","url":"x"}`), "evidence.0.url.url", "x", `WRONG_TYPE /evidence {"entityType":"Url","url":"x"}`},
		{"evidence of no object", whole(`"evidence":[7,null,{"entityType":"Url","url":"x"}]`), "evidence.0.url.url", "x", "WRONG_TYPE /evidence/0 7"},
		{"too deep", whole(`"evidence":` + strings.Repeat(`[`, 200) + strings.Repeat(`]`, 200) + `,"title":"x"`), "title", "x", "WRONG_TYPE /evidence/0 " + strings.Repeat("[", 128)},
		{"too many", whole(`"title":"x","evidence":[` + strings.Repeat(`{},`, 250_000) + `{}]`), "title", "x", "BEYOND_BOUND /evidence [" + strings.Repeat("{},", 42) + "{"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			alert := mustDecode(t, tt.raw).Alert
			readingtest.WantField(t, alert, tt.field, tt.want)
			if got := readingtest.Oddities(alert); got != tt.odd {
				t.Errorf("oddities are %q, want %q", got, tt.odd)
			}
		})
	}
}

// Every word that Microsoft documents or that was seen has its place, in any case.
func TestWords(t *testing.T) {
	tests := []struct {
		property, field string
		// words has what each word becomes.
		words map[string]string
	}{
		{"severity", "severity", map[string]string{
			"UnSpecified": "unknown", "Informational": "informational", "Low": "low", "Medium": "medium", "High": "high",
		}},
		{"status", "status", map[string]string{"Unknown": "unknown", "New": "new", "InProgress": "inprogress", "Resolved": "resolved"}},
		{"classification", "classification", map[string]string{
			"Unknown": "unknown", "TruePositive": "truepositive", "FalsePositive": "falsepositive",
			"InformationalExpectedActivity": "informationalexpectedactivity",
		}},
		{"determination", "determination", map[string]string{
			"MultiStagedAttack": "multistagedattack", "MaliciousUserActivity": "malicioususeractivity", "CompromisedUser": "compromisedaccount",
			"Malware": "malware", "Phishing": "phishing", "UnwantedSoftware": "unwantedsoftware", "Other": "other",
			"SecurityTesting": "securitytesting", "LineOfBusinessApplication": "lineofbusinessapplication", "ConfirmedActivity": "confirmedactivity",
			"ConfirmedUserActivity": "confirmedactivity", "NotMalicious": "notmalicious", "Clean": "notmalicious",
			"InsufficientData": "notenoughdatatovalidate", "Apt": "apt", "SecurityPersonnel": "securitypersonnel", "NotAvailable": "unknown",
		}},
		{"investigationState", "investigation_state", map[string]string{
			"Unknown": "unknown", "Terminated": "terminated", "SuccessfullyRemediated": "successfullyRemediated", "Benign": "benign",
			"Failed": "failed", "PartiallyRemediated": "partiallyRemediated", "Running": "running", "PendingApproval": "pendingApproval",
			"PendingResource": "pendingResource", "PartiallyInvestigated": "partiallyInvestigated", "TerminatedByUser": "terminatedByUser",
			"TerminatedBySystem": "terminatedBySystem", "Queued": "queued", "InnerFailure": "innerFailure", "PreexistingAlert": "preexistingAlert",
			"UnsupportedOs": "unsupportedOs", "UnsupportedAlertType": "unsupportedAlertType", "SuppressedAlert": "suppressedAlert",
		}},
		{"detectionSource", "detection_source", map[string]string{
			"WindowsDefenderAtp": "microsoftDefenderForEndpoint", "WindowsDefenderAv": "antivirus", "WindowsDefenderSmartScreen": "smartScreen",
			"AutomatedInvestigation": "automatedInvestigation", "CustomDetection": "customDetection", "CustomerTI": "customTi",
			"MTP": "microsoft365Defender", "OfficeATP": "microsoftDefenderForOffice365", "ThreatExperts": "microsoftThreatExperts",
		}},
		{"detectionStatus", "evidence.0.process.detection_status", map[string]string{
			"Detected": "detected", "Blocked": "blocked", "Prevented": "prevented",
		}},
	}
	decodeWord := func(property, word string) *integrationv1.Alert {
		if property == "detectionStatus" {
			return mustDecode(t, whole(`"evidence":[{"entityType":"Process","detectionStatus":"`+word+`"}]`)).Alert
		}
		return mustDecode(t, whole(`"`+property+`":"`+word+`"`)).Alert
	}
	for _, tt := range tests {
		for word, want := range tt.words {
			for _, spelling := range []string{word, strings.ToUpper(word), strings.ToLower(word)} {
				alert := decodeWord(tt.property, spelling)
				if got := readingtest.Fields(alert)[tt.field]; got != want || len(alert.GetOddities()) > 0 {
					t.Errorf("%s %s becomes %q with oddities %q, want %q", tt.property, spelling, got, readingtest.Oddities(alert), want)
				}
			}
		}
		unknown := decodeWord(tt.property, "Sideways")
		got, odd := readingtest.Fields(unknown)[tt.field], readingtest.Oddities(unknown)
		switch tt.property {
		case "investigationState", "detectionSource": // open sets
			if got != "Sideways" || odd != "" {
				t.Errorf("an unknown %s becomes %q with oddities %q", tt.property, got, odd)
			}
		default:
			if got != "unrecognized" || !strings.HasPrefix(odd, "UNKNOWN_ENUM_VALUE ") {
				t.Errorf("an unknown %s becomes %q with oddities %q", tt.property, got, odd)
			}
		}
	}
}

func TestTimes(t *testing.T) {
	readingtest.Times(t, decode(), func(updated string) string { return `{"id":"a","evidence":[],"lastUpdateTime":"` + updated + `"}` })
}

func TestContentHash(t *testing.T) {
	const one = `{"id":"a","incidentId":1,"evidence":[{"entityType":"File","sha1":"1"},{"entityType":"Url","url":"2"}],"domains":["s","t"]}`
	hash := mustDecode(t, one).ContentHash
	for raw, same := range map[string]bool{
		`{ "domains":["s","t"], "evidence":[ {"url":"2","entityType":"Url"}, {"sha1":"1","entityType":"File"} ], "id":"\u0061", "incidentId":1 }`: true,
		`{"id":"a","incidentId":"1","evidence":[{"entityType":"File","sha1":"1"},{"entityType":"Url","url":"2"}],"domains":["s","t"]}`:            false,
		`{"id":"a","incidentId":1,"evidence":[{"entityType":"File","sha1":"1"}],"domains":["s","t"]}`:                                             false,
		`{"id":"a","incidentId":1,"evidence":[{"entityType":"File","sha1":"2"},{"entityType":"Url","url":"1"}],"domains":["s","t"]}`:              false,
		`{"id":"a","incidentId":1,"evidence":[{"entityType":"File","sha1":"1"},{"entityType":"Url","url":"2"}],"domains":["t","s"]}`:              false,
	} {
		if got := mustDecode(t, raw).ContentHash == hash; got != same {
			t.Errorf("%s has the hash of %s: %t, want %t", raw, one, got, same)
		}
	}
	// Journals hold hashes: where this one changes, every alert looks changed after an upgrade.
	if got := fmt.Sprintf("%x", hash); got != goldenHash {
		t.Errorf("hash is %s, want %s", got, goldenHash)
	}
}

const goldenHash = "873e6dd9f769d70869a28074135b9c1b487bdfc9950c3ebd65d726892c2f0acf"

func FuzzDecode(f *testing.F) {
	for _, file := range readingtest.Files(f) {
		for _, raw := range alertsIn(f, file) {
			f.Add([]byte(raw))
		}
	}
	for _, raw := range readingtest.Simulated(f, defendertest.DefenderForEndpoint) {
		f.Add(raw)
	}
	f.Add([]byte(`{"id":7,"evidence":{"entityType":{}},"relatedUser":"\\","id":"\ud800","comments":[[]]}`))
	readingtest.Fuzz(f, decode)
}
