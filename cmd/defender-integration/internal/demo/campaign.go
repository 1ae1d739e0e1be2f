package demo

import (
	"fmt"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// campaign is the script of the demonstration.
func campaign() script {
	machines := defendertest.SampleDevices()
	anna, ben, files, web, carla := machines[0], machines[1], machines[2], machines[3], machines[4]
	dora := defendertest.Device{DNSName: "ws-dora-04.corp.contoso.test", NTDomain: "CORP", IPs: []string{"10.20.4.14"}}
	return script{
		window: 3 * time.Second, wait: 7 * time.Second, tolerance: time.Second, onTime: 3 * time.Second,
		devices: append(machines, dora),
		attacks: []attack{
			{
				title: "Encoded PowerShell", begins: time.Second,
				actor: &integrationv1.Actor{ActorId: "anna", FqHostName: anna.DNSName},
				steps: []step{{
					at: 1200 * time.Millisecond, told: "keeps PowerShell from running, and raises an alert",
					alert: finding{
						id: "da-demo-powershell_1", device: anna, title: "Suspicious PowerShell command line", technique: "T1059.001",
						image: "powershell.exe", command: "powershell.exe -NoProfile -EncodedCommand SQBFAFgA", status: "prevented", remediation: "prevented",
						antivirus: true,
					}.alert,
				}},
				want: expectation{
					verdict: integrationv1.Verdict_VERDICT_PREVENTED, outcome: integrationv1.Outcome_OUTCOME_PREVENTED,
					criterion: integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME, revisions: 1,
				},
			},
			{
				title: "LSASS dumped", begins: 2500 * time.Millisecond,
				actor: &integrationv1.Actor{ActorId: "files", HostName: "srv-files-01"},
				steps: []step{{
					at: 7500 * time.Millisecond, told: "raises an alert, long after the attack was over",
					alert: finding{
						id: "da-demo-lsass_1", device: files, title: "Suspected credential theft activity", technique: "T1003.001",
						image: "rundll32.exe", command: `rundll32.exe comsvcs.dll, MiniDump 712 C:\Temp\l.dmp full`, status: "detected", remediation: "active",
					}.alert,
				}},
				want: expectation{
					verdict: integrationv1.Verdict_VERDICT_DETECTED_LATE, outcome: integrationv1.Outcome_OUTCOME_DETECTED,
					criterion: integrationv1.MatchCriterion_MATCH_CRITERION_SHORT_NAME, revisions: 1,
				},
			},
			{
				title: "Dropper installed", begins: 4 * time.Second,
				actor: &integrationv1.Actor{ActorId: "ben", FqHostName: ben.DNSName, IpAddresses: ben.IPs},
				// Defender cleans up while the connection is cut: the stream must neither lose that nor repeat what came before.
				cutFor: 3500 * time.Millisecond,
				steps: []step{
					{
						at: time.Second, told: "raises an alert: a dropper runs",
						alert: finding{
							id: "da-demo-dropper_1", device: ben, title: "Suspicious scheduled task", technique: "T1053.005",
							image: "dropper.exe", command: `C:\ProgramData\dropper.exe --stay`, status: "detected", remediation: "active",
							created: time.Second,
						}.alert,
					},
					{
						at: 4 * time.Second, told: "cleans up, and changes the alert",
						alert: finding{
							id: "da-demo-dropper_1", device: ben, title: "Suspicious scheduled task", technique: "T1053.005",
							image: "dropper.exe", command: `C:\ProgramData\dropper.exe --stay`, status: "detected", remediation: "remediated",
							created: time.Second,
						}.alert,
					},
				},
				want: expectation{
					verdict: integrationv1.Verdict_VERDICT_DETECTED, outcome: integrationv1.Outcome_OUTCOME_REMEDIATED,
					criterion: integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME, revisions: 2,
				},
			},
			{
				title: "Web shell", begins: 5500 * time.Millisecond,
				actor: &integrationv1.Actor{
					ActorId: "shop", FqHostName: "shop-3.contoso.test", AlternateHostNames: []string{web.DNSName},
				},
				steps: []step{{
					at: 1300 * time.Millisecond, told: "raises an alert on " + shortName(web.DNSName) + ", as it calls the machine",
					alert: finding{
						id: "da-demo-webshell_1", device: web, title: "Possible web shell installation", technique: "T1505.003",
						image: "sh", command: "sh -c 'id; uname -a'", status: "detected", remediation: "active",
					}.alert,
				}},
				want: expectation{
					verdict: integrationv1.Verdict_VERDICT_DETECTED, outcome: integrationv1.Outcome_OUTCOME_DETECTED,
					criterion: integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_FULL_NAME, revisions: 1,
				},
			},
			{
				title: "Copy over SMB", begins: 7 * time.Second,
				actor: &integrationv1.Actor{ActorId: "carla", HostName: "lt-carla-07"},
				steps: []step{{
					at: 1500 * time.Millisecond, told: "changes an alert of yesterday: an analyst resolves it",
					alert: finding{
						id: "da-demo-yesterday_1", device: carla, title: "Possible lateral movement", technique: "T1021.002",
						image: "services.exe", command: `cmd.exe /c echo > \\.\pipe\sync`, status: "detected", remediation: "active",
						created: -24 * time.Hour, resolved: true,
					}.alert,
				}},
				want: expectation{verdict: integrationv1.Verdict_VERDICT_MISSED, revisions: 1},
			},
			{
				title: "Cookies stolen", begins: 8500 * time.Millisecond,
				actor: &integrationv1.Actor{ActorId: "kiosk", FqHostName: "kiosk-17.corp.contoso.test"},
				want: expectation{
					verdict: integrationv1.Verdict_VERDICT_CANNOT_JUDGE,
					reason:  integrationv1.CannotJudgeReason_CANNOT_JUDGE_REASON_DEVICE_UNKNOWN,
				},
			},
		},
		others: []step{{
			at: 3200 * time.Millisecond, told: "raises an alert on ws-dora-04, which is no Actor: no stream is to have it",
			alert: finding{
				id: "da-demo-other_1", device: dora, title: "Unusual sign-in helper", technique: "T1556",
				image: "helper.exe", command: "helper.exe", status: "detected", remediation: "active",
			}.alert,
		}},
	}
}

// finding is what Defender finds, short enough to be written down in a script.
type finding struct {
	// id is the alert's; "" is a new one each time.
	id     string
	device defendertest.Device
	title  string
	// technique is MITRE's.
	technique string
	// image and command are those of the process that it is about.
	image, command string
	// status and remediation are the detection status and the remediation status of that process.
	status, remediation string
	// antivirus says that Defender Antivirus found it, and not the sensor.
	antivirus bool
	// created is when Defender created the alert, counted from the attack's beginning; zero is now. What it is about happened just
	// after the beginning, or just before its creation where that was before.
	created  time.Duration
	resolved bool
}

// alert makes the alert.
func (f finding) alert(began, now time.Time) defendertest.Alert {
	created, happened := now, began.Add(400*time.Millisecond)
	if f.created != 0 {
		created = began.Add(f.created)
	}
	if happened.After(created) {
		happened = created.Add(-time.Minute)
	}
	folder := `C:\ProgramData`
	if f.device.OSPlatform == "Linux" {
		folder = "/usr/bin"
	}
	a := defendertest.Alert{
		ID: f.id, IncidentID: "4711", Title: f.title, Severity: "high", Techniques: []string{f.technique},
		Description: fmt.Sprintf("Made up by the demonstration: %s ran %q.", f.image, f.command),
		Created:     created, LastUpdate: now, FirstActivity: happened, LastActivity: happened,
		Evidence: []defendertest.Evidence{
			defendertest.DeviceEvidence{Device: f.device, EvidenceBase: defendertest.EvidenceBase{Verdict: "suspicious"}},
			defendertest.ProcessEvidence{
				EvidenceBase:    defendertest.EvidenceBase{Verdict: "malicious", RemediationStatus: f.remediation},
				DetectionStatus: f.status, ID: 4242, ParentID: 880, Started: happened, CommandLine: f.command,
				Image: defendertest.File{Name: f.image, Path: folder},
			},
		},
	}
	if f.antivirus {
		a.DetectionSource = "antivirus"
	}
	if f.resolved {
		a.Status, a.Resolved = "resolved", now
	}
	return a
}
