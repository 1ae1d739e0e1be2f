package demo

import (
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// macroBlocked is blocked by an attack-surface rule, which raises no alert: telemetry alone tells of it, by the process that the Director
// started.
func macroBlocked(device defendertest.Device, begins time.Duration) attack {
	word := process{id: 3120, image: "winword.exe", command: `winword.exe /q invoice.docm`}
	return attack{
		title: "Macro starts shell", begins: begins, telemetry: true,
		actor:  &integrationv1.Actor{ActorId: "jana", FqHostName: device.DNSName},
		traces: byProcess(word),
		steps: []step{{
			at: 900 * time.Millisecond, told: "keeps Word from starting a shell, by an attack-surface rule, and raises no alert",
			event: func(began, now time.Time) defendertest.Event {
				return defendertest.Event{
					Table: defendertest.TableEvents, Action: "AsrOfficeChildProcessBlocked", Time: now, DNSName: device.DNSName,
					File: defendertest.EventFile{Name: "powershell.exe", Folder: `C:\Windows\System32\WindowsPowerShell\v1.0`},
					By:   word.inEvent(began),
				}
			},
		}},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_PREVENTED, outcome: integrationv1.Outcome_OUTCOME_BLOCKED,
			confidence: integrationv1.Confidence_CONFIDENCE_CERTAIN,
			telemetry: &telemetryWanted{
				rows: 1, table: defendertest.TableEvents, action: "AsrOfficeChildProcessBlocked", control: "attack surface reduction", blocked: true,
				criterion: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS,
			},
		},
	}
}

// adminAdded runs as it would anywhere: nothing is raised, and nothing is blocked, but telemetry has its command line.
func adminAdded(device defendertest.Device, begins time.Duration) attack {
	net := process{id: 7715, image: "net.exe", command: "net.exe localgroup administrators svc-backup /add"}
	return attack{
		title: "Admin added", begins: begins, telemetry: true,
		actor:  &integrationv1.Actor{ActorId: "noah", FqHostName: device.DNSName},
		traces: byCommand(net),
		steps: []step{{
			at: 800 * time.Millisecond, told: "records the process, and raises no alert",
			event: func(began, now time.Time) defendertest.Event {
				return defendertest.Event{
					Table: defendertest.TableProcessEvents, Action: "ProcessCreated", Time: now, DNSName: device.DNSName,
					File:    defendertest.EventFile{Name: net.image, Folder: `C:\Windows\System32`},
					Process: net.inEvent(began),
				}
			},
		}},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_LOGGED, confidence: integrationv1.Confidence_CONFIDENCE_STRONG,
			telemetry: &telemetryWanted{
				rows: 1, table: defendertest.TableProcessEvents, action: "ProcessCreated",
				criterion: integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE,
			},
		},
	}
}
