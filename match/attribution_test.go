package match_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// Criteria and results in short.
const (
	byProcess     = integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS
	byChild       = integrationv1.TraceCriterion_TRACE_CRITERION_CHILD_PROCESS
	byHash        = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH
	byCommandLine = integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE
	byParent      = integrationv1.TraceCriterion_TRACE_CRITERION_PARENT_PROCESS
	byPath        = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_PATH
	byName        = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_NAME
	byUser        = integrationv1.TraceCriterion_TRACE_CRITERION_USER
	byTechnique   = integrationv1.TraceCriterion_TRACE_CRITERION_TECHNIQUE
	byTitle       = integrationv1.TraceCriterion_TRACE_CRITERION_TITLE
	byRemote      = integrationv1.TraceCriterion_TRACE_CRITERION_REMOTE_ADDRESS

	isMet         = integrationv1.TraceComparison_RESULT_MET
	notMet        = integrationv1.TraceComparison_RESULT_NOT_MET
	notComparable = integrationv1.TraceComparison_RESULT_NOT_COMPARABLE
)

const (
	md5A    = "0123456789abcdef0123456789abcdef"
	sha1A   = "0123456789abcdef0123456789abcdef01234567"
	sha256A = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	sha256B = "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// attackOn matches an alert about the device A with an Actor that is the device A and has these traces.
func attackOn(t testing.TB, traces *integrationv1.Traces, alert *integrationv1.Alert) *integrationv1.ActorMatch {
	t.Helper()
	actor := match.NewActor(&integrationv1.Actor{ActorId: "actor", MdeDeviceId: idA, Traces: traces})
	m := match.DevicesOf(alert).MatchAttack(actor, match.Resolution{}, inWindow, anyConfidence)
	if m == nil {
		t.Fatalf("no match of %v", alert)
	}
	return m
}

// alertOnA returns an alert about the device A, which stands behind the evidence.
func alertOnA(evidence ...*integrationv1.Evidence) *integrationv1.Alert {
	return alertOf(append(evidence, onDevice(idA, ""))...)
}

func processTrace(p *integrationv1.ProcessTrace) *integrationv1.Traces {
	return &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{p}}
}

func fileTrace(f *integrationv1.FileTrace) *integrationv1.Traces {
	return &integrationv1.Traces{Files: []*integrationv1.FileTrace{f}}
}

func userTraces(users ...string) *integrationv1.Traces { return &integrationv1.Traces{Users: users} }

func ofProcess(p *integrationv1.ProcessEvidence) *integrationv1.Evidence {
	return &integrationv1.Evidence{Detail: &integrationv1.Evidence_Process{Process: p}}
}

func ofFile(details *integrationv1.FileDetails) *integrationv1.Evidence {
	return &integrationv1.Evidence{Detail: &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{FileDetails: details}}}
}

func ofUser(account *integrationv1.UserAccount) *integrationv1.Evidence {
	return &integrationv1.Evidence{Detail: &integrationv1.Evidence_User{User: &integrationv1.UserEvidence{UserAccount: account}}}
}

func ofHash(algorithm, value string) *integrationv1.Evidence {
	return &integrationv1.Evidence{Detail: &integrationv1.Evidence_FileHash{FileHash: &integrationv1.FileHashEvidence{Algorithm: algorithm, Value: value}}}
}

// running is a process by its id and creation, parent one by its parent's.
func running(id int64, created time.Duration) *integrationv1.Evidence {
	return ofProcess(&integrationv1.ProcessEvidence{ProcessId: id, ProcessCreationTime: at(created)})
}

func startedBy(id int64, created time.Duration) *integrationv1.Evidence {
	return ofProcess(&integrationv1.ProcessEvidence{ParentProcessId: id, ParentProcessCreationTime: at(created)})
}

// comparisonBy returns the comparison by a criterion; nil where there is none.
func comparisonBy(a *integrationv1.Attribution, criterion integrationv1.TraceCriterion) *integrationv1.TraceComparison {
	for _, c := range a.GetComparisons() {
		if c.GetCriterion() == criterion {
			return c
		}
	}
	return nil
}

// TestAttributionByEachCriterion compares one criterion at a time.
func TestAttributionByEachCriterion(t *testing.T) {
	own := &integrationv1.ProcessTrace{ProcessId: 4711, ProcessCreationTime: at(0)}
	ownParent := &integrationv1.ProcessTrace{ParentProcessId: 4700, ParentProcessCreationTime: at(0)}
	line := processTrace(&integrationv1.ProcessTrace{CommandLine: "cmd /c whoami"})
	ofLine := func(given string) *integrationv1.Evidence {
		return ofProcess(&integrationv1.ProcessEvidence{ProcessCommandLine: given})
	}
	path := fileTrace(&integrationv1.FileTrace{FilePath: `C:\Temp\evil.exe`})
	technique := func(ids ...string) *integrationv1.Traces { return &integrationv1.Traces{MitreTechniques: ids} }
	withTechniques := func(ids ...string) *integrationv1.Alert {
		alert := alertOnA()
		alert.MitreTechniques = ids
		return alert
	}
	title := &integrationv1.Traces{ExpectedTitles: []string{" Suspicious PowerShell "}}
	titled := func(title string) *integrationv1.Alert {
		alert := alertOnA()
		alert.Title = title
		return alert
	}
	spokeTo := func(addresses ...string) *integrationv1.Traces {
		return &integrationv1.Traces{RemoteAddresses: addresses}
	}
	ipEvidence := func(address string) *integrationv1.Evidence {
		return &integrationv1.Evidence{Detail: &integrationv1.Evidence_Ip{Ip: &integrationv1.IpEvidence{IpAddress: address}}}
	}
	connection := func(address string) *integrationv1.Evidence {
		return &integrationv1.Evidence{Detail: &integrationv1.Evidence_NetworkConnection{NetworkConnection: &integrationv1.NetworkConnectionEvidence{
			SourceAddress: ipEvidence("10.0.0.5"), DestinationAddress: ipEvidence(address),
		}}}
	}
	tests := []struct {
		name   string
		traces *integrationv1.Traces
		alert  *integrationv1.Alert
		by     integrationv1.TraceCriterion
		want   integrationv1.TraceComparison_Result
		path   string
	}{
		{"an address", spokeTo("203.0.113.9", "203.0.113.10"), alertOnA(ipEvidence("203.0.113.10")), byRemote, isMet, "/evidence/0"},
		{"an address in another form", spokeTo("2001:db8::1"), alertOnA(ipEvidence("2001:0db8:0::1")), byRemote, isMet, "/evidence/0"},
		{"an address of a connection", spokeTo("203.0.113.9"), alertOnA(connection("203.0.113.9")), byRemote, isMet, "/evidence/0"},
		{"the address that a connection came from", spokeTo("10.0.0.5"), alertOnA(connection("203.0.113.9")), byRemote, notMet, "/evidence/0"},
		{"another address", spokeTo("203.0.113.9"), alertOnA(ipEvidence("203.0.113.90")), byRemote, notMet, "/evidence/0"},
		{"no address", spokeTo("203.0.113.9"), alertOnA(), byRemote, notComparable, ""},
		{"the process at its time", processTrace(own), alertOnA(running(4711, 0)), byProcess, isMet, "/evidence/0"},
		{"within two seconds after", processTrace(own), alertOnA(running(4711, 2*time.Second)), byProcess, isMet, "/evidence/0"},
		{"within two seconds before", processTrace(own), alertOnA(running(4711, -2*time.Second)), byProcess, isMet, "/evidence/0"},
		{"a moment later: the id was used again", processTrace(own), alertOnA(running(4711, 2*time.Second+1)), byProcess, notMet, "/evidence/0"},
		{"another id at that time", processTrace(own), alertOnA(running(4712, 0)), byProcess, notMet, "/evidence/0"},
		{"no creation time at Defender's", processTrace(own), alertOnA(running(4711, never)), byProcess, notComparable, "/evidence/0"},
		{"no creation time at the Director's", processTrace(&integrationv1.ProcessTrace{ProcessId: 4711}), alertOnA(running(4711, 0)), byProcess, notComparable, "/evidence/0"},
		{"no process", processTrace(own), alertOnA(), byProcess, notComparable, ""},
		{"one that cannot be compared beside one that can", processTrace(own), alertOnA(running(4711, never), running(1, 0)), byProcess, notMet, "/evidence/1"},
		{"the second of two", processTrace(own), alertOnA(running(1, 0), running(4711, 0)), byProcess, isMet, "/evidence/1"},
		{
			"inside of malware", processTrace(own),
			alertOnA(malware(nil, []*integrationv1.Evidence{running(1, 0), running(4711, 0)})), byProcess, isMet, "/evidence/0/processes/1",
		},

		{"a child", processTrace(own), alertOnA(startedBy(4711, time.Second)), byChild, isMet, "/evidence/0"},
		{"a child of what had the id later", processTrace(own), alertOnA(startedBy(4711, time.Hour)), byChild, notMet, "/evidence/0"},
		{"a child without its parent's creation", processTrace(own), alertOnA(startedBy(4711, never)), byChild, notComparable, "/evidence/0"},
		{"the process itself is no child", processTrace(own), alertOnA(running(4711, 0)), byChild, notComparable, ""},

		{"a child of the parent", processTrace(ownParent), alertOnA(startedBy(4700, 0)), byParent, isMet, "/evidence/0"},
		{"a child of another", processTrace(ownParent), alertOnA(startedBy(4701, 0)), byParent, notMet, "/evidence/0"},
		{"the parent itself is no child of it", processTrace(ownParent), alertOnA(running(4700, 0)), byParent, notComparable, ""},

		{"SHA-256", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}), alertOnA(ofFile(&integrationv1.FileDetails{Sha256: strings.ToUpper(sha256A)})), byHash, isMet, "/evidence/0"},
		{"SHA-1", fileTrace(&integrationv1.FileTrace{Sha1: strings.ToUpper(sha1A)}), alertOnA(ofFile(&integrationv1.FileDetails{Sha1: sha1A})), byHash, isMet, "/evidence/0"},
		{"MD5", fileTrace(&integrationv1.FileTrace{Md5: md5A}), alertOnA(ofFile(&integrationv1.FileDetails{Md5: md5A})), byHash, isMet, "/evidence/0"},
		{"another SHA-256", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}), alertOnA(ofFile(&integrationv1.FileDetails{Sha256: sha256B})), byHash, notMet, "/evidence/0"},
		{"of another kind", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}), alertOnA(ofFile(&integrationv1.FileDetails{Sha1: sha1A})), byHash, notComparable, "/evidence/0"},
		{"no hash", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}), alertOnA(ofFile(&integrationv1.FileDetails{Sha256: "none"})), byHash, notComparable, ""},
		{
			"an image's hash", processTrace(&integrationv1.ProcessTrace{ImageFile: &integrationv1.FileTrace{Sha256: sha256A}}),
			alertOnA(ofProcess(&integrationv1.ProcessEvidence{ImageFile: &integrationv1.FileDetails{Sha256: sha256A}})), byHash, isMet, "/evidence/0",
		},
		{
			"the parent's image's hash", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}),
			alertOnA(ofProcess(&integrationv1.ProcessEvidence{ParentProcessImageFile: &integrationv1.FileDetails{Sha256: sha256A}})), byHash, isMet, "/evidence/0",
		},
		{
			"the hash of an empty file", fileTrace(&integrationv1.FileTrace{Sha256: sha256A, Sha1: "DA39A3EE5E6B4B0D3255BFEF95601890AFD80709"}),
			alertOnA(ofFile(&integrationv1.FileDetails{Sha1: "da39a3ee5e6b4b0d3255bfef95601890afd80709"})), byHash, notComparable, "",
		},
		{"a hash alone", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}), alertOnA(ofHash("sha256", sha256A)), byHash, isMet, "/evidence/0"},
		{"not the hash of what is signed", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}), alertOnA(ofHash("sha256ac", sha256A)), byHash, notComparable, ""},
		{
			"not that of a file's either", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}),
			alertOnA(ofFile(&integrationv1.FileDetails{Sha256Ac: sha256A})), byHash, notComparable, "",
		},
		{
			"a hash inside of malware", fileTrace(&integrationv1.FileTrace{Sha256: sha256A}),
			alertOnA(malware([]*integrationv1.Evidence{ofFile(&integrationv1.FileDetails{Sha256: sha256A})}, nil)), byHash, isMet, "/evidence/0/files/0",
		},

		{"a command line", line, alertOnA(ofLine(`"C:\Windows\System32\cmd.exe"  /C "whoami"`)), byCommandLine, isMet, "/evidence/0"},
		{"another command line", line, alertOnA(ofLine("cmd /c hostname")), byCommandLine, notMet, "/evidence/0"},
		{"Defender's has no arguments", line, alertOnA(ofLine("cmd.exe")), byCommandLine, notComparable, "/evidence/0"},
		{
			"the Director's has no arguments", processTrace(&integrationv1.ProcessTrace{CommandLine: `"cmd.exe" `}), alertOnA(ofLine("cmd.exe")),
			byCommandLine, notComparable, "/evidence/0",
		},
		{"no command line", line, alertOnA(running(4711, 0)), byCommandLine, notComparable, ""},

		{"folder and name apart", path, alertOnA(ofFile(&integrationv1.FileDetails{FilePath: `c:\temp`, FileName: "EVIL.exe"})), byPath, isMet, "/evidence/0"},
		{"the folder with a separator at its end", path, alertOnA(ofFile(&integrationv1.FileDetails{FilePath: `C:\Temp\`, FileName: "evil.exe"})), byPath, isMet, "/evidence/0"},
		{"the folder with the name", path, alertOnA(ofFile(&integrationv1.FileDetails{FilePath: `C:\Temp\evil.exe`, FileName: "evil.exe"})), byPath, isMet, "/evidence/0"},
		{"the whole in the folder's place", path, alertOnA(ofFile(&integrationv1.FileDetails{FilePath: `C:/Temp/evil.exe`})), byPath, isMet, "/evidence/0"},
		{"another folder", path, alertOnA(ofFile(&integrationv1.FileDetails{FilePath: `C:\Windows`, FileName: "evil.exe"})), byPath, notMet, "/evidence/0"},
		{"no folder", path, alertOnA(ofFile(&integrationv1.FileDetails{FileName: "evil.exe"})), byPath, notComparable, ""},
		{
			"on Linux", fileTrace(&integrationv1.FileTrace{FilePath: "/tmp/evil"}),
			alertOnA(ofFile(&integrationv1.FileDetails{FilePath: "/tmp", FileName: "evil"})), byPath, isMet, "/evidence/0",
		},
		{
			"an image's path", path,
			alertOnA(ofProcess(&integrationv1.ProcessEvidence{ImageFile: &integrationv1.FileDetails{FilePath: `C:\Temp`, FileName: "evil.exe"}})), byPath, isMet, "/evidence/0",
		},

		{"the name of the path", path, alertOnA(ofFile(&integrationv1.FileDetails{FileName: "Evil.EXE"})), byName, isMet, "/evidence/0"},
		{"a name", fileTrace(&integrationv1.FileTrace{FileName: "evil.exe"}), alertOnA(ofFile(&integrationv1.FileDetails{FilePath: `C:\Temp\evil.exe`})), byName, isMet, "/evidence/0"},
		{"another name", path, alertOnA(ofFile(&integrationv1.FileDetails{FileName: "evil.dll"})), byName, notMet, "/evidence/0"},
		{"no file", path, alertOnA(), byName, notComparable, ""},
		{
			"not the name of the parent's image", path,
			alertOnA(ofProcess(&integrationv1.ProcessEvidence{ParentProcessImageFile: &integrationv1.FileDetails{FileName: "evil.exe"}})), byName, notComparable, "",
		},

		{"a user", userTraces("alex"), alertOnA(ofUser(&integrationv1.UserAccount{AccountName: "Alex"})), byUser, isMet, "/evidence/0"},
		{"another user", userTraces("alex"), alertOnA(ofUser(&integrationv1.UserAccount{AccountName: "blake"})), byUser, notMet, "/evidence/0"},
		{"no user", userTraces("alex"), alertOnA(), byUser, notComparable, ""},
		{
			"a process's account", userTraces("alex"),
			alertOnA(ofProcess(&integrationv1.ProcessEvidence{UserAccount: &integrationv1.UserAccount{AccountName: "alex"}})), byUser, isMet, "/evidence/0",
		},
		{
			"who logged on", userTraces("alex"),
			alertOnA(&integrationv1.Evidence{Detail: &integrationv1.Evidence_HostLogonSession{HostLogonSession: &integrationv1.HostLogonSessionEvidence{
				Account: ofUser(&integrationv1.UserAccount{AccountName: "alex"}), Host: onDevice(idA, ""),
			}}}), byUser, isMet, "/evidence/0/account",
		},
		{
			"who is logged on to the device is not who did it", userTraces("alex"),
			alertOnA(deviceEvidence(&integrationv1.DeviceEvidence{MdeDeviceId: idA, LoggedOnUsers: []*integrationv1.LoggedOnUser{{AccountName: "alex"}}})), byUser, notComparable, "",
		},

		{"a technique", technique("T1059.001"), withTechniques("T1003", "t1059.001"), byTechnique, isMet, "/mitreTechniques/1"},
		{"its parent", technique("T1059.001"), withTechniques("T1059"), byTechnique, isMet, "/mitreTechniques/0"},
		{"its sub-technique", technique("T1059"), withTechniques("T1059.003"), byTechnique, isMet, "/mitreTechniques/0"},
		{"a sibling", technique("T1059.001"), withTechniques("T1059.003"), byTechnique, notMet, "/mitreTechniques/0"},
		{"another", technique("T1059"), withTechniques("T1058.001"), byTechnique, notMet, "/mitreTechniques/0"},
		{"one that begins alike", technique("T1059"), withTechniques("T10591"), byTechnique, notMet, "/mitreTechniques/0"},
		{"no technique", technique("T1059"), withTechniques(""), byTechnique, notComparable, ""},

		{"a title", title, titled("suspicious POWERSHELL"), byTitle, isMet, "/title"},
		{"a title with more", title, titled("Suspicious PowerShell command line"), byTitle, notMet, "/title"},
		{"no title", title, titled(" "), byTitle, notComparable, ""},
	}
	for _, test := range tests {
		t.Run(spellCriterion(test.by)+": "+test.name, func(t *testing.T) {
			attribution := attackOn(t, test.traces, test.alert).GetAttribution()
			got := comparisonBy(attribution, test.by)
			if got.GetResult() != test.want || got.GetEvidencePath() != test.path {
				t.Errorf("%v at %q, want %v at %q", got.GetResult(), got.GetEvidencePath(), test.want, test.path)
			}
			if got.GetTraceValue() == "" || (got.GetDefenderValue() == "") != (test.path == "") {
				t.Errorf("values %q and %q", got.GetTraceValue(), got.GetDefenderValue())
			}
		})
	}
}

func spellCriterion(c integrationv1.TraceCriterion) string {
	return strings.ToLower(strings.TrimPrefix(c.String(), "TRACE_CRITERION_"))
}

func TestAccounts(t *testing.T) {
	const sid = "S-1-5-21-1-2-3-1001"
	alex := &integrationv1.UserAccount{AccountName: "Alex", DomainName: "CONTOSO", UserPrincipalName: "alex@contoso.com", UserSid: sid}
	tests := []struct {
		trace string
		user  *integrationv1.UserAccount
		want  integrationv1.TraceComparison_Result
	}{
		{"alex", alex, isMet},
		{`contoso\ALEX`, alex, isMet},
		{`.\alex`, alex, isMet},
		{"ALEX@contoso.COM", alex, isMet},
		{strings.ToLower(sid), alex, isMet},
		{`contoso.com\alex`, alex, isMet},
		{"blake", alex, notMet},
		{`fabrikam\alex`, alex, notMet},
		{"alex@fabrikam.com", alex, notMet},
		{sid + "0", alex, notMet},
		{`contoso\`, alex, notComparable}, // No account at all: there is no comparison.
		{sid, &integrationv1.UserAccount{AccountName: "alex"}, notComparable},
		{"alex", &integrationv1.UserAccount{UserSid: sid}, notComparable},
		{`contoso\alex`, &integrationv1.UserAccount{AccountName: "alex"}, isMet},
		{`contoso\alex`, &integrationv1.UserAccount{UserPrincipalName: "alex@contoso.com"}, isMet},
		{"alex", &integrationv1.UserAccount{UserPrincipalName: "alex@contoso.com"}, isMet},
		{"alex@contoso.com", &integrationv1.UserAccount{AccountName: "alex", DomainName: "contoso"}, isMet},
		{"alex@contoso.com", &integrationv1.UserAccount{AccountName: "alex", DomainName: "contoso.test"}, notMet},
		{`contoso\alex`, &integrationv1.UserAccount{AccountName: `CONTOSO\alex`}, isMet},
		{`fabrikam\alex`, &integrationv1.UserAccount{AccountName: `CONTOSO\alex`}, notMet},
		{"alex", &integrationv1.UserAccount{DomainName: "contoso"}, notComparable},
	}
	for _, test := range tests {
		got := comparisonBy(attackOn(t, userTraces(test.trace), alertOnA(ofUser(test.user))).GetAttribution(), byUser)
		if got == nil && test.want == notComparable {
			continue
		}
		if got.GetResult() != test.want {
			t.Errorf("%s and %v: %v, want %v", test.trace, test.user, got.GetResult(), test.want)
		}
	}
	// Defender for Endpoint tells it beside the evidence.
	alert := alertOnA()
	alert.RelatedUser = &integrationv1.LoggedOnUser{AccountName: "alex", DomainName: "contoso"}
	got := comparisonBy(attackOn(t, userTraces(`CONTOSO\alex`), alert).GetAttribution(), byUser)
	if got.GetResult() != isMet || got.GetEvidencePath() != "/relatedUser" || got.GetDefenderValue() != `contoso\alex` {
		t.Errorf("the related user: %v", got)
	}
}

// Evidence of a detection of the SIEM API stands in no list there: each value is at its member. FileHash does not say its kind.
func TestAttributionOfDetections(t *testing.T) {
	traces := &integrationv1.Traces{
		Processes: []*integrationv1.ProcessTrace{{
			ProcessId: 4711, ProcessCreationTime: at(0), ParentProcessId: 1, ParentProcessCreationTime: at(0), CommandLine: "cmd /c whoami",
			ImageFile: &integrationv1.FileTrace{FilePath: `C:\Temp\evil.exe`, Md5: md5A},
		}},
		Users: []string{`contoso\alex`}, MitreTechniques: []string{"T1059"}, ExpectedTitles: []string{"Evil"},
	}
	alert := &integrationv1.Alert{
		Title: "evil", Siem: &integrationv1.SiemDetection{FileHash: strings.ToUpper(md5A)},
		Evidence: []*integrationv1.Evidence{
			onDevice(idA, ""),
			ofProcess(&integrationv1.ProcessEvidence{ProcessCommandLine: "cmd.exe /c whoami", ImageFile: &integrationv1.FileDetails{FileName: "evil.exe", FilePath: `C:\Temp`}}),
			ofUser(&integrationv1.UserAccount{AccountName: "alex", DomainName: "CONTOSO"}),
		},
	}
	got := attackOn(t, traces, alert).GetAttribution()
	want := []struct {
		criterion integrationv1.TraceCriterion
		result    integrationv1.TraceComparison_Result
		path      string
	}{
		{byProcess, notComparable, ""},
		{byChild, notComparable, ""},
		{byHash, isMet, "/FileHash"},
		{byCommandLine, isMet, "/CommandLine"},
		{byParent, notComparable, ""},
		{byPath, isMet, "/FilePath"},
		{byName, isMet, "/FileName"},
		{byUser, isMet, "/UserName"},
		{byTechnique, notComparable, ""},
		{byTitle, isMet, "/AlertTitle"},
	}
	if len(got.GetComparisons()) != len(want) {
		t.Fatalf("%d comparisons: %v", len(got.GetComparisons()), got)
	}
	for i, w := range want {
		if c := got.GetComparisons()[i]; c.GetCriterion() != w.criterion || c.GetResult() != w.result || c.GetEvidencePath() != w.path {
			t.Errorf("comparison %d is %v, want %v", i, c, w)
		}
	}
	for hash, path := range map[*integrationv1.FileDetails]string{
		{Sha256: sha256A}: "/Sha256", {Sha1: sha1A}: "/Sha1", {Md5: md5A}: "/Md5",
	} {
		alert := &integrationv1.Alert{Siem: &integrationv1.SiemDetection{}, Evidence: []*integrationv1.Evidence{onDevice(idA, ""), ofFile(hash)}}
		traces := fileTrace(&integrationv1.FileTrace{Sha256: hash.GetSha256(), Sha1: hash.GetSha1(), Md5: hash.GetMd5()})
		if c := comparisonBy(attackOn(t, traces, alert).GetAttribution(), byHash); c.GetResult() != isMet || c.GetEvidencePath() != path {
			t.Errorf("%v: %v", hash, c)
		}
	}
}

// TestConfidence meets each set of criteria that the rule tells apart.
func TestConfidence(t *testing.T) {
	// Each part adds a trace and an evidence that meets it, and nothing else.
	type attack struct {
		traces *integrationv1.Traces
		alert  *integrationv1.Alert
	}
	add := func(a attack, p *integrationv1.ProcessTrace, e *integrationv1.ProcessEvidence) {
		a.traces.Processes = append(a.traces.Processes, p)
		a.alert.Evidence = append(a.alert.Evidence, ofProcess(e))
	}
	file := func(a attack, f *integrationv1.FileTrace, d *integrationv1.FileDetails) {
		a.traces.Files = append(a.traces.Files, f)
		a.alert.Evidence = append(a.alert.Evidence, ofFile(d))
	}
	parts := map[integrationv1.TraceCriterion]func(attack){
		byProcess: func(a attack) {
			add(a, &integrationv1.ProcessTrace{ProcessId: 1, ProcessCreationTime: at(0)}, &integrationv1.ProcessEvidence{ProcessId: 1, ProcessCreationTime: at(0)})
		},
		byChild: func(a attack) {
			add(a, &integrationv1.ProcessTrace{ProcessId: 2, ProcessCreationTime: at(0)}, &integrationv1.ProcessEvidence{ParentProcessId: 2, ParentProcessCreationTime: at(0)})
		},
		byParent: func(a attack) {
			add(a, &integrationv1.ProcessTrace{ParentProcessId: 3, ParentProcessCreationTime: at(0)}, &integrationv1.ProcessEvidence{ParentProcessId: 3, ParentProcessCreationTime: at(0)})
		},
		byCommandLine: func(a attack) {
			add(a, &integrationv1.ProcessTrace{CommandLine: "a b"}, &integrationv1.ProcessEvidence{ProcessCommandLine: "a b"})
		},
		byHash: func(a attack) {
			file(a, &integrationv1.FileTrace{Sha256: sha256A}, &integrationv1.FileDetails{Sha256: sha256A})
		},
		byPath: func(a attack) { // A whole path has a name, which is then met too.
			file(a, &integrationv1.FileTrace{FilePath: "/a/b"}, &integrationv1.FileDetails{FilePath: "/a", FileName: "b"})
		},
		byName: func(a attack) {
			file(a, &integrationv1.FileTrace{FileName: "c"}, &integrationv1.FileDetails{FileName: "c"})
		},
		byUser: func(a attack) {
			a.traces.Users = []string{"alex"}
			a.alert.Evidence = append(a.alert.Evidence, ofUser(&integrationv1.UserAccount{AccountName: "alex"}))
		},
		byTechnique: func(a attack) { a.traces.MitreTechniques, a.alert.MitreTechniques = []string{"T1"}, []string{"T1"} },
		byTitle:     func(a attack) { a.traces.ExpectedTitles, a.alert.Title = []string{"title"}, "title" },
		byRemote: func(a attack) {
			a.traces.RemoteAddresses = []string{"203.0.113.9"}
			a.alert.Evidence = append(a.alert.Evidence, &integrationv1.Evidence{Detail: &integrationv1.Evidence_Ip{Ip: &integrationv1.IpEvidence{IpAddress: "203.0.113.9"}}})
		},
	}
	type set []integrationv1.TraceCriterion
	tests := []struct {
		met  set
		want integrationv1.Confidence
	}{
		{nil, deviceOnly},
		{set{byTitle}, weak},
		{set{byRemote}, weak},
		{set{byRemote, byName}, weak},
		{set{byTechnique}, weak},
		{set{byTechnique, byTitle}, weak},
		{set{byUser}, weak},
		{set{byUser, byTechnique, byTitle}, weak},
		{set{byName}, weak},
		{set{byPath}, weak},
		{set{byPath, byName, byTechnique, byTitle}, weak},
		{set{byParent}, weak},
		{set{byParent, byUser}, weak},
		{set{byParent, byUser, byTechnique, byTitle}, weak},
		{set{byName, byUser}, strong},
		{set{byName, byParent}, strong},
		{set{byPath, byUser}, strong},
		{set{byPath, byParent}, strong},
		{set{byCommandLine}, strong},
		{set{byHash}, strong},
		{set{byChild}, strong},
		{set{byHash, byCommandLine, byChild, byParent, byPath, byName, byUser, byTechnique, byTitle}, strong},
		{set{byProcess}, certain},
		{set{byProcess, byHash, byTitle}, certain},
	}
	for _, test := range tests {
		a := attack{&integrationv1.Traces{}, alertOnA()}
		for _, criterion := range test.met {
			parts[criterion](a)
		}
		got := attackOn(t, a.traces, a.alert).GetAttribution()
		for _, criterion := range test.met {
			if comparisonBy(got, criterion).GetResult() != isMet {
				t.Fatalf("%v is not met: the test is wrong", criterion)
			}
		}
		if got.GetConfidence() != test.want {
			t.Errorf("%v: %v, want %v", test.met, got.GetConfidence(), test.want)
		}
		// With all of them given and none met, it is the device alone.
		if len(test.met) > 0 {
			empty := alertOnA(ofFile(&integrationv1.FileDetails{FileName: "other"}))
			if got := attackOn(t, a.traces, empty).GetAttribution(); got.GetConfidence() != deviceOnly || len(got.GetComparisons()) < len(test.met) {
				t.Errorf("%v, none met: %v", test.met, got)
			}
		}
	}
}

func TestAttributionExplains(t *testing.T) {
	traces := &integrationv1.Traces{
		Processes: []*integrationv1.ProcessTrace{{ProcessId: 4711, ProcessCreationTime: at(0), CommandLine: "cmd /c whoami"}},
		Users:     []string{"alex"}, ExpectedTitles: []string{"Evil"},
	}
	titled := alertOnA(ofUser(&integrationv1.UserAccount{AccountName: "blake"}))
	titled.Title = "evil"
	other := running(1, 0)
	other.GetProcess().MdeDeviceId = idB
	tests := []struct {
		name   string
		traces *integrationv1.Traces
		alert  *integrationv1.Alert
		want   string
	}{
		{"no traces", nil, alertOnA(), "The request has no traces of the attack on this Actor, so nothing but the device ties the alert to it."},
		{"traces without a value", &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{}}, Files: []*integrationv1.FileTrace{{}}}, alertOnA(), "The request has no traces of the attack on this Actor, so nothing but the device ties the alert to it."},
		{
			"nothing found", traces, alertOnA(other),
			"Nothing of the attack's traces was found in the alert, so nothing but the device ties it to the attack. " +
				"Not comparable: process, child process, command line, user, title. Left out: 1 piece of evidence about other devices.",
		},
		{
			"weak", traces, titled,
			"It may be about the attack: it shares only what much else has too: title. Not met: user. Not comparable: process, child process, command line.",
		},
		{
			"strong", traces, alertOnA(ofProcess(&integrationv1.ProcessEvidence{ProcessCommandLine: "cmd /c whoami", UserAccount: &integrationv1.UserAccount{AccountName: "alex"}})),
			"It is about the attack by what little else shares with it: command line. Also met: user. Not comparable: process, child process, title.",
		},
		{
			"certain", traces, alertOnA(running(4711, 0)),
			"It is about the attack: the attack's own process is in the alert, by its id and creation time. Not comparable: child process, command line, user, title.",
		},
	}
	for _, test := range tests {
		if got := attackOn(t, test.traces, test.alert).GetAttribution().GetExplanation(); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// Both values are told as they were given, at most 512 bytes of each, and never half a character.
func TestAttributionTellsBothValues(t *testing.T) {
	traces := processTrace(&integrationv1.ProcessTrace{ProcessId: 4711, ProcessCreationTime: at(0), CommandLine: "CMD /c xy" + strings.Repeat("ä", 10_000)})
	alert := alertOnA(ofProcess(&integrationv1.ProcessEvidence{
		ProcessId: 4711, ProcessCreationTime: timestamppb.New(noon.Add(1500 * time.Millisecond)),
		ProcessCommandLine: `"C:\cmd.exe" /c xy` + strings.Repeat("€", 10_000),
	}))
	got := attackOn(t, traces, alert).GetAttribution()
	process := comparisonBy(got, byProcess)
	if process.GetTraceValue() != "process id 4711, created at 2026-03-01T12:00:00Z" ||
		process.GetDefenderValue() != "process id 4711, created at 2026-03-01T12:00:01.5Z" {
		t.Errorf("the process is told as %v", process)
	}
	line := comparisonBy(got, byCommandLine)
	for value, begins := range map[string]string{line.GetTraceValue(): "CMD /c xyä", line.GetDefenderValue(): `"C:\cmd.exe" /c xy€`} {
		if len(value) > 512 || len(value) < 509 || !utf8.ValidString(value) || !strings.HasPrefix(value, begins) {
			t.Errorf("%d bytes of a command line, valid %t: %.20s", len(value), utf8.ValidString(value), value)
		}
	}
}

// An account that services run under on every machine makes a file's name no surer.
func TestEverybodysAccount(t *testing.T) {
	for user, want := range map[string]integrationv1.Confidence{
		"alex": strong, `NT AUTHORITY\SYSTEM`: weak, "system": weak, "S-1-5-18": weak, "LOCAL SERVICE": weak, "root": weak, `contoso\systems`: strong,
	} {
		account := &integrationv1.UserAccount{AccountName: user}
		if strings.HasPrefix(user, "S-1-") {
			account = &integrationv1.UserAccount{UserSid: user}
		}
		traces := &integrationv1.Traces{Users: []string{user}, Files: []*integrationv1.FileTrace{{FileName: "tool.exe"}}}
		got := attackOn(t, traces, alertOnA(ofFile(&integrationv1.FileDetails{FileName: "tool.exe"}), ofUser(account))).GetAttribution()
		if got.GetConfidence() != want {
			t.Errorf("%s: %v, want %v", user, got, want)
		}
	}
}
