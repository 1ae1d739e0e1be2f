package hunting

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The attack that the cases are about: on ws-01, from began on, a process with a parent, a file and an account.
const (
	attackedName = "ws-01.contoso.test"
	attackID     = 4711
	parentID     = 812
	attackLine   = `powershell.exe -NoProfile -File C:\Temp\evil.ps1`
	attackSHA1   = "0123456789abcdef0123456789abcdef01234567"
	attackSHA256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	attackMD5    = "0123456789abcdef0123456789abcdef"
	broughtPath  = `C:\Temp\evil.exe`
	imagePath    = `C:\Windows\System32\cmd.exe`
	remoteIPv4   = "203.0.113.7"
)

var (
	began      = time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	attackedID = defendertest.DeviceID(attackedName)
)

// unlimited are options of a simulated Microsoft that takes any number of calls.
var unlimited = defendertest.Options{Limits: defendertest.Limits{Hunting: []defendertest.Rate{}}}

// emptyFileSHA1 is that of every file that is empty.
const emptyFileSHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"

// about is a question about ws-01, from began for ten minutes.
func about(traces *integrationv1.Traces) *defender.TelemetryQuestion {
	return &defender.TelemetryQuestion{Since: began, Through: began.Add(10 * time.Minute), DeviceIDs: []string{attackedID}, Traces: traces}
}

// The traces of the cases, one kind each.
func processTraces() *integrationv1.Traces {
	return &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{ProcessId: attackID, ProcessCreationTime: timestamppb.New(began)}}}
}

func lineTraces() *integrationv1.Traces {
	return &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{CommandLine: attackLine}}}
}

func fileTraces(f *integrationv1.FileTrace) *integrationv1.Traces {
	return &integrationv1.Traces{Files: []*integrationv1.FileTrace{f}}
}

func imageTraces(users ...string) *integrationv1.Traces {
	return &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{
		ImageFile: &integrationv1.FileTrace{FilePath: imagePath}, ParentProcessId: parentID, ParentProcessCreationTime: timestamppb.New(began),
	}}, Users: users}
}

func addressTraces(address string) *integrationv1.Traces {
	return &integrationv1.Traces{RemoteAddresses: []string{address}}
}

// onAttacked is an event of ws-01, a minute into the attack.
func onAttacked(e defendertest.Event) defendertest.Event {
	if e.DNSName == "" {
		e.DNSName = attackedName
	}
	if e.Time.IsZero() {
		e.Time = began.Add(time.Minute)
	}
	return e
}

func started(p defendertest.EventProcess) defendertest.Event {
	return defendertest.Event{Table: defendertest.TableProcessEvents, Action: "ProcessCreated", Process: p}
}

func by(table, action string, p defendertest.EventProcess) defendertest.Event {
	return defendertest.Event{Table: table, Action: action, By: p}
}

const (
	byProcess = integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS
	byChild   = integrationv1.TraceCriterion_TRACE_CRITERION_CHILD_PROCESS
	byHash    = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH
	byLine    = integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE
	byParent  = integrationv1.TraceCriterion_TRACE_CRITERION_PARENT_PROCESS
	byPath    = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_PATH
	byName    = integrationv1.TraceCriterion_TRACE_CRITERION_FILE_NAME
	byAddress = integrationv1.TraceCriterion_TRACE_CRITERION_REMOTE_ADDRESS
)

// Each kind of trace is found by what fits it, and near ones are not. A case has one event; want is the criterion, and none where the
// event must not be found.
func TestTraces(t *testing.T) {
	attacker := defendertest.EventProcess{ID: attackID, Created: began}
	child := defendertest.EventProcess{ID: 9, Created: began.Add(time.Second), ParentID: attackID, ParentCreated: began}
	withParent := defendertest.EventProcess{ID: 9, Created: began, ParentID: parentID, ParentCreated: began}
	evil := defendertest.EventFile{Name: "evil.exe", Folder: broughtPath}
	alex := defendertest.User{Account: "Alex", Domain: "CONTOSO", SID: "S-1-5-21-1-2-3-1001", Principal: "alex@contoso.com"}
	cmd := defendertest.EventFile{Name: "cmd.exe", Folder: imagePath}
	block := "AsrPsexecWmiChildProcessBlocked"
	const none = integrationv1.TraceCriterion_TRACE_CRITERION_UNSPECIFIED
	tests := []struct {
		name   string
		traces *integrationv1.Traces
		event  defendertest.Event
		want   integrationv1.TraceCriterion
	}{
		{"the process started", processTraces(), started(attacker), byProcess},
		{"a second off", processTraces(), started(defendertest.EventProcess{ID: attackID, Created: began.Add(1900 * time.Millisecond)}), byProcess},
		{"it wrote a file", processTraces(), by(defendertest.TableFileEvents, "FileCreated", attacker), byProcess},
		{"it spoke to an address", processTraces(), by(defendertest.TableNetworkEvents, "ConnectionSuccess", attacker), byProcess},
		{"it did something else", processTraces(), by("", "OpenProcessApiCall", attacker), byProcess},
		{"something was done to it", processTraces(), defendertest.Event{Action: "OpenProcessApiCall", Process: attacker}, byProcess},
		{"it started a process", processTraces(), by(defendertest.TableProcessEvents, "ProcessCreated", attacker), byChild},
		{"its child wrote a file", processTraces(), by(defendertest.TableFileEvents, "FileCreated", child), byChild},
		{"its child started a process", processTraces(), by(defendertest.TableProcessEvents, "ProcessCreated", child), byChild},
		{"the same id at another time", processTraces(), started(defendertest.EventProcess{ID: attackID, Created: began.Add(3 * time.Second)}), none},
		{"the same id without a time", processTraces(), started(defendertest.EventProcess{ID: attackID}), none},
		{"an id without a time on either side", &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{ProcessId: attackID}}, Files: []*integrationv1.FileTrace{{FileName: "evil.exe"}}},
			defendertest.Event{Table: defendertest.TableProcessEvents, File: evil, Process: defendertest.EventProcess{ID: attackID}}, none},
		{"another id", processTraces(), started(defendertest.EventProcess{ID: attackID + 1, Created: began}), none},
		{"the process on another device", processTraces(), defendertest.Event{Table: defendertest.TableProcessEvents, DNSName: "ws-02.contoso.test", Process: attacker}, none},
		{"as the window begins", processTraces(), defendertest.Event{Time: began, By: attacker}, byProcess},
		{"as it ends", processTraces(), defendertest.Event{Time: began.Add(10 * time.Minute), By: attacker}, byProcess},
		{"a second before it", processTraces(), defendertest.Event{Time: began.Add(-time.Second), By: attacker}, none},
		{"a second after it", processTraces(), defendertest.Event{Time: began.Add(10*time.Minute + time.Second), By: attacker}, none},

		{"SHA-1 of a file", fileTraces(&integrationv1.FileTrace{Sha1: strings.ToUpper(attackSHA1)}), defendertest.Event{File: defendertest.EventFile{SHA1: attackSHA1}}, byHash},
		{"SHA-256 of a file", fileTraces(&integrationv1.FileTrace{Sha256: attackSHA256}), defendertest.Event{Table: defendertest.TableFileEvents, File: defendertest.EventFile{SHA256: attackSHA256}}, byHash},
		{"MD5 of an image", fileTraces(&integrationv1.FileTrace{Md5: attackMD5}), by(defendertest.TableNetworkEvents, "ConnectionFailed", defendertest.EventProcess{Image: defendertest.EventFile{MD5: strings.ToUpper(attackMD5)}}), byHash},
		{"SHA-1 where the row has no SHA-256", fileTraces(&integrationv1.FileTrace{Sha256: attackSHA256, Sha1: attackSHA1}), defendertest.Event{File: defendertest.EventFile{SHA1: attackSHA1}}, byHash},
		{"another hash", fileTraces(&integrationv1.FileTrace{Sha1: attackSHA1}), defendertest.Event{File: defendertest.EventFile{SHA1: attackSHA1[1:] + "0"}}, none},
		{"the hash of an empty file", fileTraces(&integrationv1.FileTrace{Sha1: emptyFileSHA1, FileName: "x"}), defendertest.Event{File: defendertest.EventFile{SHA1: emptyFileSHA1}}, none},
		{"a hash of nothing", fileTraces(&integrationv1.FileTrace{Sha1: strings.Repeat("0", 40), FileName: "x"}), defendertest.Event{File: defendertest.EventFile{SHA1: strings.Repeat("0", 40)}}, none},

		{"a command line", lineTraces(), started(defendertest.EventProcess{CommandLine: attackLine}), byLine},
		{"with a folder and quotes", lineTraces(), started(defendertest.EventProcess{CommandLine: `"C:\Windows\PowerShell.EXE"  -noprofile -file "C:\Temp\EVIL.ps1"`}), byLine},
		{"of who did it", lineTraces(), by(defendertest.TableFileEvents, "FileCreated", defendertest.EventProcess{CommandLine: attackLine}), byLine},
		{"with an argument more", lineTraces(), started(defendertest.EventProcess{CommandLine: attackLine + " -x"}), none},
		{"on another device", lineTraces(), defendertest.Event{Table: defendertest.TableProcessEvents, DNSName: "ws-02.contoso.test", Process: defendertest.EventProcess{CommandLine: attackLine}}, none},
		{"short words alone", &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{CommandLine: "cmd /c ab"}}},
			defendertest.Event{Table: defendertest.TableProcessEvents, File: cmd, Process: defendertest.EventProcess{CommandLine: `cmd.exe /c "ab"`}}, byLine},
		{"of a child that was to be started", lineTraces(), defendertest.Event{Action: "ExploitGuardChildProcessBlocked", AdditionalFields: `{"IsAudit":"false","ChildCommandLine":"powershell -NoProfile -File C:\\Temp\\evil.ps1"}`}, byLine},

		{"the path of a file that it brought", fileTraces(&integrationv1.FileTrace{FilePath: broughtPath}), defendertest.Event{Table: defendertest.TableFileEvents, File: evil}, byPath},
		{"with slashes and case", fileTraces(&integrationv1.FileTrace{FilePath: "c:/temp/EVIL.exe"}), defendertest.Event{Table: defendertest.TableFileEvents, File: evil}, byPath},
		{"folder and name apart", fileTraces(&integrationv1.FileTrace{FilePath: broughtPath}), defendertest.Event{Table: defendertest.TableFileEvents, File: defendertest.EventFile{Name: "evil.exe", Folder: `C:\Temp`}}, byPath},
		{"the same name elsewhere", fileTraces(&integrationv1.FileTrace{FilePath: broughtPath}), defendertest.Event{Table: defendertest.TableFileEvents, File: defendertest.EventFile{Name: "evil.exe", Folder: `D:\evil.exe`}}, none},
		{"a name alone", fileTraces(&integrationv1.FileTrace{FileName: "evil.exe"}), defendertest.Event{Table: defendertest.TableFileEvents, File: evil}, none},
		{"a name without a folder given as a path", fileTraces(&integrationv1.FileTrace{FilePath: "evil.exe"}), defendertest.Event{Table: defendertest.TableFileEvents, File: evil}, none},
		{"a name and the user", &integrationv1.Traces{Files: []*integrationv1.FileTrace{{FileName: "evil.exe"}}, Users: []string{`contoso\alex`}},
			defendertest.Event{Table: defendertest.TableFileEvents, File: evil, By: defendertest.EventProcess{User: alex}}, byName},
		{"a name and another user", &integrationv1.Traces{Files: []*integrationv1.FileTrace{{FileName: "evil.exe"}}, Users: []string{`fabrikam\alex`}},
			defendertest.Event{Table: defendertest.TableFileEvents, File: evil, By: defendertest.EventProcess{User: alex}}, none},
		{"a name in a block", fileTraces(&integrationv1.FileTrace{FileName: "evil.exe"}), defendertest.Event{Action: block, File: evil}, byName},
		{"a name in an audit", fileTraces(&integrationv1.FileTrace{FileName: "evil.exe"}), defendertest.Event{Action: "AsrPsexecWmiChildProcessAudited", File: evil}, none},
		{"the path of an image", imageTraces(), defendertest.Event{Table: defendertest.TableProcessEvents, File: cmd}, none},
		{"an image and the user", imageTraces("ALEX@contoso.com"), defendertest.Event{Table: defendertest.TableProcessEvents, File: cmd, Process: defendertest.EventProcess{User: alex}}, byPath},
		{"an image and the user's SID", imageTraces(alex.SID), defendertest.Event{Table: defendertest.TableProcessEvents, File: cmd, By: defendertest.EventProcess{User: alex}}, byPath},
		{"an image and the parent", imageTraces(), defendertest.Event{Table: defendertest.TableProcessEvents, File: cmd, By: defendertest.EventProcess{ID: parentID, Created: began}}, byParent},
		{"an image that acts, and the parent", imageTraces(), by(defendertest.TableFileEvents, "FileCreated", defendertest.EventProcess{Image: cmd, ParentID: parentID, ParentCreated: began}), byParent},
		{"the parent alone", imageTraces(), by("", block, withParent), none},
		{"an image in a block", imageTraces(), defendertest.Event{Action: block, File: cmd}, byPath},

		{"an address", addressTraces(remoteIPv4), defendertest.Event{Table: defendertest.TableNetworkEvents, Action: "ConnectionSuccess", RemoteIP: remoteIPv4}, byAddress},
		{"an address of IPv4 in IPv6", addressTraces(remoteIPv4), defendertest.Event{Table: defendertest.TableNetworkEvents, RemoteIP: "::ffff:" + remoteIPv4}, byAddress},
		{"an address of IPv6", addressTraces("2001:DB8:0:0::7"), defendertest.Event{Table: defendertest.TableNetworkEvents, RemoteIP: "2001:db8::7"}, byAddress},
		{"another address", addressTraces(remoteIPv4), defendertest.Event{Table: defendertest.TableNetworkEvents, RemoteIP: remoteIPv4 + "0"}, none},
		{"an address that a block came in from", addressTraces(remoteIPv4), defendertest.Event{Action: "FirewallInboundConnectionBlocked", RemoteIP: remoteIPv4}, none},
		{"an address that a connection came in from", addressTraces(remoteIPv4), defendertest.Event{Table: defendertest.TableNetworkEvents, Action: "InboundConnectionAccepted", RemoteIP: remoteIPv4}, none},
		{"an address that the firewall tells beside", addressTraces(remoteIPv4), defendertest.Event{Action: "FirewallOutboundConnectionBlocked", AdditionalFields: `{"RemoteAddress":"` + remoteIPv4 + `"}`}, byAddress},
	}
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			event := tenant.PutEvent(onAttacked(tt.event))
			defer tenant.RemoveEvents()
			answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(tt.traces)})
			if err != nil {
				t.Fatal(err)
			}
			answer := answers[0]
			if answer.GetProblem() != nil || answer.GetAskedTime() == nil || answer.GetMoreRows() != 0 {
				t.Errorf("the answer is %v", answer)
			}
			if tt.want == none {
				if len(answer.GetRows()) != 0 {
					t.Errorf("found %v", answer.GetRows())
				}
				return
			}
			if len(answer.GetRows()) != 1 {
				t.Fatalf("found %d rows, want one by %v", len(answer.GetRows()), tt.want)
			}
			row := answer.GetRows()[0]
			if row.GetCriterion() != tt.want || row.GetTraceValue() == "" || row.GetDefenderValue() == "" ||
				row.GetTable() != event.Table || row.GetActionType() != event.Action || row.GetMdeDeviceId() != attackedID ||
				!row.GetEventTime().AsTime().Equal(event.Time) || !strings.Contains(row.GetRowJson(), `"DeviceId":"`+attackedID+`"`) {
				t.Errorf("found %v, want it by %v", row, tt.want)
			}
		})
	}
	if calls := len(tenant.HuntingCalls()); calls != len(tests) {
		t.Errorf("%d calls for %d questions that were asked one by one", calls, len(tests))
	}
}

// Each control's row is a block where it blocked, and none where it only audited; both tell the control.
func TestControls(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	actor := defendertest.EventProcess{ID: attackID, Created: began}
	check := func(t *testing.T, event defendertest.Event, control string, blocked bool) {
		t.Helper()
		event.By = actor
		tenant.PutEvent(onAttacked(event))
		defer tenant.RemoveEvents()
		answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(processTraces())})
		if err != nil || len(answers[0].GetRows()) != 1 {
			t.Fatalf("found %v, error %v", answers, err)
		}
		if row := answers[0].GetRows()[0]; row.GetControl() != control || row.GetBlocked() != blocked {
			t.Errorf("%s is told as %q, blocked %t; want %q, %t", event.Action, row.GetControl(), row.GetBlocked(), control, blocked)
		}
	}
	for _, c := range controlledActions() {
		if !strings.HasPrefix(c.source, "https://learn.microsoft.com/") {
			t.Errorf("%s has no source", c.name)
		}
		for _, stem := range c.stems {
			t.Run(stem, func(t *testing.T) {
				check(t, defendertest.Event{Action: stem + "Blocked"}, c.name, true)
				check(t, defendertest.Event{Action: stem + "Audited"}, c.name, false)
				check(t, defendertest.Event{Action: stem + "Blocked", AdditionalFields: `{"IsAudit":"true"}`}, c.name, false)
				check(t, defendertest.Event{Action: stem + "Blocked", AdditionalFields: `{"IsAudit":false}`}, c.name, true)
			})
		}
		for _, action := range c.enforced {
			t.Run(action, func(t *testing.T) { check(t, defendertest.Event{Action: action}, c.name, true) })
		}
		for _, action := range c.others {
			t.Run(action, func(t *testing.T) { check(t, defendertest.Event{Action: action}, c.name, false) })
		}
	}
	antivirus := func(fields string) defendertest.Event {
		return defendertest.Event{Action: "AntivirusDetection", AdditionalFields: fields}
	}
	for fields, blocked := range map[string]bool{
		`{"WasRemediated":true,"WasExecutingWhileDetected":false}`:                                       true,
		`{"WasRemediated":"True","WasExecutingWhileDetected":"False","ReportSource":"Windows Defender"}`: true,
		`{"WasRemediated":1,"WasExecutingWhileDetected":0}`:                                              true,
		`{"WasRemediated":true,"WasExecutingWhileDetected":true}`:                                        false,
		`{"WasRemediated":false,"WasExecutingWhileDetected":false}`:                                      false,
		`{"WasRemediated":true}`:                                false,
		`{"WasExecutingWhileDetected":false}`:                   false,
		`{"WasRemediated":null,"WasExecutingWhileDetected":{}}`: false,
		`{"WasRemediated":true,"WasExecutingWhileDetected":false,"ReportSource":"Antivirus in Passive Mode"}`: false,
		`{"WasRemediated":true,"WasExecutingWhileDetected":false`:                                             false,
		`[{"WasRemediated":true,"WasExecutingWhileDetected":false}]`:                                          false,
	} {
		t.Run(fields, func(t *testing.T) { check(t, antivirus(fields), "antivirus", blocked) })
	}
	t.Run("an action of no control", func(t *testing.T) { check(t, defendertest.Event{Action: "AsrNewRuleBlocked"}, "", false) })
	t.Run("another table", func(t *testing.T) {
		check(t, defendertest.Event{Table: defendertest.TableFileEvents, Action: "AsrRansomwareBlocked"}, "", false)
	})
}

// A connection that succeeded stands behind the row that says that it was blocked, and is no block.
func TestConnectionSuccessIsNoProof(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	tenant.PutEvent(onAttacked(defendertest.Event{Table: defendertest.TableNetworkEvents, Action: "ConnectionSuccess", RemoteIP: remoteIPv4}))
	tenant.PutEvent(onAttacked(defendertest.Event{Action: "ExploitGuardNetworkProtectionBlocked", RemoteIP: remoteIPv4, Time: began.Add(2 * time.Minute)}))
	answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(addressTraces(remoteIPv4))})
	if err != nil {
		t.Fatal(err)
	}
	rows := answers[0].GetRows()
	if len(rows) != 2 || !rows[0].GetBlocked() || rows[0].GetControl() != "network protection" || rows[1].GetBlocked() || rows[1].GetControl() != "" {
		t.Errorf("found %v", rows)
	}
}

// Blocks come first, then what is stronger, then the oldest; twenty are told, and how many more there are.
func TestRowsInOrder(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	traces := processTraces()
	traces.RemoteAddresses = []string{remoteIPv4}
	for i := range 30 {
		tenant.PutEvent(onAttacked(defendertest.Event{Table: defendertest.TableNetworkEvents, RemoteIP: remoteIPv4, Time: began.Add(time.Duration(30-i) * time.Second)}))
	}
	tenant.PutEvent(onAttacked(defendertest.Event{By: defendertest.EventProcess{ID: attackID, Created: began}, Time: began.Add(5 * time.Minute)}))
	tenant.PutEvent(onAttacked(defendertest.Event{Action: "FirewallOutboundConnectionBlocked", RemoteIP: remoteIPv4, Time: began.Add(9 * time.Minute)}))
	answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(traces)})
	if err != nil {
		t.Fatal(err)
	}
	rows := answers[0].GetRows()
	if len(rows) != 20 || answers[0].GetMoreRows() != 12 || !rows[0].GetBlocked() || rows[1].GetCriterion() != byProcess {
		t.Fatalf("%d rows and %d more: %v", len(rows), answers[0].GetMoreRows(), rows)
	}
	if !slices.IsSortedFunc(rows[2:], func(x, y *integrationv1.TelemetryRow) int {
		return x.GetEventTime().AsTime().Compare(y.GetEventTime().AsTime())
	}) {
		t.Errorf("rows are not the oldest first: %v", rows)
	}
}

// 200 questions about as many devices are one call, and each gets its own rows.
func TestOneCallForAllQuestions(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	var questions []*defender.TelemetryQuestion
	for i := range 200 {
		name := fmt.Sprintf("ws-%03d.contoso.test", i)
		created := began.Add(time.Duration(i) * time.Second)
		question := about(&integrationv1.Traces{
			Processes: []*integrationv1.ProcessTrace{{
				ProcessId: int64(1000 + i), ProcessCreationTime: timestamppb.New(created), CommandLine: fmt.Sprintf("cmd.exe /c attack%03d", i),
				ImageFile: &integrationv1.FileTrace{FilePath: imagePath, Sha256: fmt.Sprintf("%064x", i+1)},
			}},
			Files:           []*integrationv1.FileTrace{{FilePath: fmt.Sprintf(`C:\Temp\evil%03d.exe`, i), Sha1: fmt.Sprintf("%040x", i+1)}},
			RemoteAddresses: []string{fmt.Sprintf("203.0.113.%d", i+1)},
		})
		question.DeviceIDs = []string{defendertest.DeviceID(name)}
		question.Since, question.Through = created, created.Add(time.Minute)
		questions = append(questions, question)
		// All run the same: each fits the question about its own device alone.
		for j := range 3 {
			tenant.PutEvent(defendertest.Event{Table: defendertest.TableProcessEvents, DNSName: name, Time: created.Add(time.Second), Process: defendertest.EventProcess{
				ID: int64(1000 + i + j), Created: created, CommandLine: fmt.Sprintf("cmd.exe /c attack%03d", i+j),
			}})
		}
	}
	answers, err := source.FindTraces(t.Context(), questions)
	if err != nil || len(answers) != len(questions) {
		t.Fatalf("%d answers, error %v", len(answers), err)
	}
	for i, answer := range answers {
		if len(answer.GetRows()) != 1 || answer.GetProblem() != nil || answer.GetRows()[0].GetMdeDeviceId() != questions[i].DeviceIDs[0] ||
			answer.GetRows()[0].GetCriterion() != byProcess {
			t.Errorf("question %d is answered %v", i, answer)
		}
	}
	if calls := len(tenant.HuntingCalls()); calls != 1 {
		t.Errorf("%d calls for 200 questions, want one", calls)
	}
}

// A device is known by its id; by its names only where there is none.
func TestDevicesOfQuestions(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	put := func(name string) {
		tenant.PutEvent(onAttacked(defendertest.Event{DNSName: name, Action: "DriverLoad", By: defendertest.EventProcess{ID: attackID, Created: began}}))
	}
	for _, name := range []string{"ws-01.contoso.test", "WS-01.fabrikam.test", "ws-01", "ws-010.contoso.test", "BÜRO.contoso.test", "büro.fabrikam.test"} {
		put(name)
	}
	tests := []struct {
		name     string
		question defender.TelemetryQuestion
		want     []string
	}{
		{"an id", defender.TelemetryQuestion{DeviceIDs: []string{strings.ToUpper(attackedID)}, ShortNames: []string{"ws-010"}}, []string{"ws-01.contoso.test"}},
		{"a whole name", defender.TelemetryQuestion{FullNames: []string{"WS-01.contoso.test."}}, []string{"ws-01.contoso.test", "ws-01"}},
		{"a short name", defender.TelemetryQuestion{ShortNames: []string{"Ws-010"}}, []string{"ws-010.contoso.test"}},
		{"a short name of several", defender.TelemetryQuestion{ShortNames: []string{"Ws-01"}}, nil},
		{"a name in other letters", defender.TelemetryQuestion{FullNames: []string{"Büro.contoso.test"}}, []string{"BÜRO.contoso.test"}},
	}
	for _, tt := range tests {
		tt.question.Since, tt.question.Through, tt.question.Traces = began, began.Add(time.Hour), processTraces()
		answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{&tt.question})
		if err != nil {
			t.Fatal(err)
		}
		var ids, want []string
		for _, row := range answers[0].GetRows() {
			ids = append(ids, row.GetMdeDeviceId())
		}
		for _, name := range tt.want {
			want = append(want, defendertest.DeviceID(name))
		}
		slices.Sort(ids)
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(slices.Compact(ids), want) {
			t.Errorf("%s: found on %q, want %q", tt.name, ids, want)
		}
	}
}

// Questions are asked together, and each is answered for its own window alone.
func TestWindowsOfQuestions(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	var questions []*defender.TelemetryQuestion
	for _, from := range []time.Duration{5 * time.Minute, 0} {
		question := about(processTraces())
		question.Since, question.Through = began.Add(from), began.Add(from+time.Minute)
		questions = append(questions, question)
	}
	for _, after := range []time.Duration{30 * time.Second, time.Minute, time.Minute + time.Second, 3 * time.Minute, 5*time.Minute - time.Second, 6 * time.Minute} {
		tenant.PutEvent(onAttacked(defendertest.Event{Time: began.Add(after), By: defendertest.EventProcess{ID: attackID, Created: began}}))
	}
	answers, err := source.FindTraces(t.Context(), questions)
	if got := answered(answers); err != nil || got != "1, 2" || len(tenant.HuntingCalls()) != 1 {
		t.Errorf("answers are %s, error %v, %d calls; want one row and two, in one call", got, err, len(tenant.HuntingCalls()))
	}
}

// A command line is asked for by a word that stands in it however it is quoted.
func TestLongestTerm(t *testing.T) {
	tests := []struct{ text, want string }{
		{" -NoProfile -File C:\\Temp\\evil.ps1", "noprofile"},
		{` "abcdef" -x`, "abcdef"},
		{` -x"abcdef" longer`, "longer"}, // Without quotes it may be xabcdef.
		{` abcdef'ghi' xyz`, "xyz"},
		{` "a b"`, ""},
		{" äabcdef abc", "abc"},
		{" " + strings.Repeat("x", maxTerm+1) + " abc", "abc"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := longestTerm(tt.text); got != tt.want {
			t.Errorf("%q is asked for by %q, want %q", tt.text, got, tt.want)
		}
	}
}

// However many blocks there are, the strongest of the other rows is told: it may be the first that is sure enough.
func TestBlocksLeaveRoom(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	traces := processTraces()
	traces.RemoteAddresses = []string{remoteIPv4}
	for i := range 25 {
		tenant.PutEvent(onAttacked(defendertest.Event{Action: "FirewallOutboundConnectionBlocked", RemoteIP: remoteIPv4, Time: began.Add(time.Duration(i) * time.Second)}))
	}
	tenant.PutEvent(onAttacked(defendertest.Event{By: defendertest.EventProcess{ID: attackID, Created: began}, Time: began.Add(5 * time.Minute)}))
	answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(traces)})
	if err != nil {
		t.Fatal(err)
	}
	rows := answers[0].GetRows()
	if len(rows) != 20 || answers[0].GetMoreRows() != 6 || !rows[18].GetBlocked() || rows[19].GetBlocked() || rows[19].GetCriterion() != byProcess {
		t.Errorf("%d rows and %d more: %v", len(rows), answers[0].GetMoreRows(), rows)
	}
}

// Where an Actor is known by a short name alone, and machines of several domains have events that fit, none of them is taken for its own.
func TestShortNameOfSeveralMachines(t *testing.T) {
	_, tenant, source := newSimulationOf(t, unlimited, defendertest.RoleThreatHuntingRead)
	question := &defender.TelemetryQuestion{Since: began, Through: began.Add(10 * time.Minute), ShortNames: []string{"WS-01"}, Traces: lineTraces()}
	ask := func() *integrationv1.Telemetry {
		t.Helper()
		answers, err := source.FindTraces(t.Context(), []*defender.TelemetryQuestion{question})
		if err != nil {
			t.Fatal(err)
		}
		return answers[0]
	}
	block := defendertest.Event{Action: "AsrPsexecWmiChildProcessBlocked", Process: defendertest.EventProcess{CommandLine: attackLine}}
	tenant.PutEvent(onAttacked(block))
	block.DNSName = "ws-01"
	tenant.PutEvent(onAttacked(block))
	if answer := ask(); len(answer.GetRows()) != 2 || answer.GetProblem() != nil {
		t.Errorf("of one machine: %v", answer)
	}
	block.DNSName = "ws-01.fabrikam.test"
	tenant.PutEvent(onAttacked(block))
	answer := ask()
	if words := answer.GetProblem().GetMessage(); len(answer.GetRows())+int(answer.GetMoreRows()) != 0 ||
		!strings.Contains(words, "ws-01.contoso.test") || !strings.Contains(words, "ws-01.fabrikam.test") {
		t.Errorf("of two machines: %v", answer)
	}
	question.FullNames, question.ShortNames = []string{attackedName}, nil
	if answer := ask(); len(answer.GetRows()) != 2 || answer.GetProblem() != nil {
		t.Errorf("by the full name: %v", answer)
	}
}

// A row's name of its table is Microsoft's, and bounded like its other values: an answer fits an entry of the journal.
func TestAnswerIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	s := newService(t, func(string) (int, string) {
		var rows []string
		for range 30 {
			rows = append(rows, fmt.Sprintf(`{"SourceTable":%q,"Timestamp":%q,"DeviceId":%q,"ActionType":%q,"InitiatingProcessCommandLine":%q}`,
				long, began.Format(time.RFC3339), attackedID, long, attackLine))
		}
		return 200, table(rows...)
	})
	answers, err := s.FindTraces(t.Context(), []*defender.TelemetryQuestion{about(lineTraces())})
	if err != nil {
		t.Fatal(err)
	}
	if size := proto.Size(answers[0]); size > 300<<10 || len(answers[0].GetRows()) != 20 {
		t.Errorf("%d bytes, %d rows", size, len(answers[0].GetRows()))
	}
}
