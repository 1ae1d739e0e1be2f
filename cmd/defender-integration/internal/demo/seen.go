package demo

import (
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// encodedPowerShell is kept from running, and the alert names the attack's own process: it is certain that the alert is about it.
func encodedPowerShell(device defendertest.Device, begins time.Duration) attack {
	shell := process{id: 4242, image: "powershell.exe", command: "powershell.exe -NoProfile -EncodedCommand SQBFAFgA"}
	return attack{
		title: "Encoded PowerShell", begins: begins,
		actor:  &integrationv1.Actor{ActorId: "anna", FqHostName: device.DNSName},
		traces: byProcess(shell),
		steps: []step{{
			at: 1200 * time.Millisecond, told: "keeps PowerShell from running, and raises an alert",
			alert: finding{
				id: "da-demo-powershell_1", device: device, title: "Suspicious PowerShell command line", technique: "T1059.001",
				processes: []process{shell.found("prevented", "prevented")}, antivirus: true,
			}.alert,
		}},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_PREVENTED, outcome: integrationv1.Outcome_OUTCOME_PREVENTED,
			criterion:  integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME,
			confidence: integrationv1.Confidence_CONFIDENCE_CERTAIN, trace: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS,
			activity: integrationv1.Activity_ACTIVITY_IN_WINDOW, revisions: 1,
		},
	}
}

// memoryDumped is detected, but late: Defender creates the alert long after the attack.
func memoryDumped(device defendertest.Device, begins time.Duration) attack {
	dump := process{id: 5120, image: "rundll32.exe", command: `rundll32.exe comsvcs.dll, MiniDump 712 C:\Temp\l.dmp full`}
	return attack{
		title: "LSASS dumped", begins: begins,
		actor:  &integrationv1.Actor{ActorId: "files", HostName: shortName(device.DNSName)},
		traces: byCommand(dump),
		steps: []step{{
			at: 7500 * time.Millisecond, told: "raises an alert, long after the attack was over",
			alert: finding{
				id: "da-demo-lsass_1", device: device, title: "Suspected credential theft activity", technique: "T1003.001",
				processes: []process{dump.found("detected", "active")},
			}.alert,
		}},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_DETECTED_LATE, outcome: integrationv1.Outcome_OUTCOME_DETECTED,
			criterion:  integrationv1.MatchCriterion_MATCH_CRITERION_SHORT_NAME,
			confidence: integrationv1.Confidence_CONFIDENCE_STRONG, trace: integrationv1.TraceCriterion_TRACE_CRITERION_COMMAND_LINE,
			activity: integrationv1.Activity_ACTIVITY_IN_WINDOW, revisions: 1,
		},
	}
}

// dropperInstalled is cleaned up while the Director's connection is cut: its stream must neither lose that nor repeat what came before.
func dropperInstalled(device defendertest.Device, begins time.Duration) attack {
	dropper := process{
		id: 6004, image: "dropper.exe", command: `C:\ProgramData\dropper.exe --stay`, sha1: "3c1f5ad0c61a0a04b7e4a3a3c5e1d79e30b2f8aa",
	}
	found := func(remediation string) func(began, now time.Time) defendertest.Alert {
		return finding{
			id: "da-demo-dropper_1", device: device, title: "Suspicious scheduled task", technique: "T1053.005",
			processes: []process{dropper.found("detected", remediation)}, created: time.Second,
		}.alert
	}
	return attack{
		title: "Dropper installed", begins: begins,
		actor:  &integrationv1.Actor{ActorId: "ben", FqHostName: device.DNSName, IpAddresses: device.IPs},
		traces: byHash(dropper),
		cutFor: 3500 * time.Millisecond,
		steps: []step{
			{at: time.Second, told: "raises an alert: a dropper runs", alert: found("active")},
			{at: 4 * time.Second, told: "cleans up, and changes the alert", alert: found("remediated")},
		},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_DETECTED, outcome: integrationv1.Outcome_OUTCOME_REMEDIATED,
			criterion:  integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME,
			confidence: integrationv1.Confidence_CONFIDENCE_STRONG, trace: integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH,
			activity: integrationv1.Activity_ACTIVITY_IN_WINDOW, turned: integrationv1.Outcome_OUTCOME_DETECTED, revisions: 2,
		},
	}
}

// ticketsForged is added to an alert of yesterday that is still open: a re-used one.
func ticketsForged(device defendertest.Device, begins time.Duration) attack {
	yesterday := process{
		id: 3300, image: "klist.exe", command: "klist.exe tickets", started: -24*time.Hour - time.Minute, detection: "detected", remediation: "active",
	}
	forger := process{id: 7410, image: "forge.exe", command: "forge.exe --golden krbtgt", detection: "detected", remediation: "active"}
	found := func(processes ...process) func(began, now time.Time) defendertest.Alert {
		return finding{
			id: reusedAlert, device: device, title: "Suspicious Kerberos activity", technique: "T1558.001",
			processes: processes, created: -24 * time.Hour, status: "inProgress",
		}.alert
	}
	return attack{
		title: "Tickets forged", begins: begins,
		actor:  &integrationv1.Actor{ActorId: "emil", FqHostName: device.DNSName},
		traces: byProcess(forger),
		steps: []step{
			{at: -2500 * time.Millisecond, told: "has an open alert of yesterday; an analyst takes it up", alert: found(yesterday)},
			{at: time.Second, told: "adds the attack to that alert, and raises no new one", alert: found(yesterday, forger)},
		},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_DETECTED, outcome: integrationv1.Outcome_OUTCOME_DETECTED,
			criterion:  integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME,
			confidence: integrationv1.Confidence_CONFIDENCE_CERTAIN, trace: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS,
			activity: integrationv1.Activity_ACTIVITY_REACTIVATED, open: reusedAlert, revisions: 1,
		},
	}
}

// reusedAlert is the alert that Defender adds an attack to.
const reusedAlert = "da-demo-tickets_1"

// filesEncrypted is detected first, and stopped a moment later: the alert changes, and so does the outcome.
func filesEncrypted(device defendertest.Device, begins time.Duration) attack {
	locker := process{id: 8080, image: "locker.exe", command: `locker.exe --path D:\Shares`}
	found := func(processes ...process) func(began, now time.Time) defendertest.Alert {
		return finding{
			id: "da-demo-locker_1", device: device, title: "Ransomware-like behaviour", technique: "T1486",
			processes: processes, created: time.Second,
		}.alert
	}
	seen := locker.found("detected", "active")
	return attack{
		title: "Files encrypted", begins: begins,
		actor:  &integrationv1.Actor{ActorId: "greta", FqHostName: device.DNSName},
		traces: byProcess(locker),
		steps: []step{
			{at: time.Second, told: "raises an alert: files are being encrypted", alert: found(seen)},
			{
				at: 2500 * time.Millisecond, told: "stops the process, and adds that to the alert",
				alert: found(seen, locker.found("blocked", "remediated")),
			},
		},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_PREVENTED, outcome: integrationv1.Outcome_OUTCOME_BLOCKED,
			criterion:  integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME,
			confidence: integrationv1.Confidence_CONFIDENCE_CERTAIN, trace: integrationv1.TraceCriterion_TRACE_CRITERION_PROCESS,
			activity: integrationv1.Activity_ACTIVITY_IN_WINDOW, turned: integrationv1.Outcome_OUTCOME_DETECTED, revisions: 2,
		},
	}
}

// webShell is on a machine that was renamed: Defender knows it by an alternate name only. Nothing but a title and a technique is
// expected of an alert, which is weak.
func webShell(device defendertest.Device, begins time.Duration) attack {
	const title, technique = "Possible web shell installation", "T1505.003"
	return attack{
		title: "Web shell", begins: begins,
		actor: &integrationv1.Actor{
			ActorId: "shop", FqHostName: "shop-3.contoso.test", AlternateHostNames: []string{device.DNSName},
		},
		traces: byTitle(title, technique),
		steps: []step{{
			at: 1300 * time.Millisecond, told: "raises an alert on " + shortName(device.DNSName) + ", as it calls the machine",
			alert: finding{
				id: "da-demo-webshell_1", device: device, title: title, technique: technique,
				processes: []process{{id: 2112, image: "sh", command: "sh -c 'id; uname -a'", detection: "detected", remediation: "active"}},
			}.alert,
		}},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_DETECTED, outcome: integrationv1.Outcome_OUTCOME_DETECTED,
			criterion:  integrationv1.MatchCriterion_MATCH_CRITERION_ALTERNATE_FULL_NAME,
			confidence: integrationv1.Confidence_CONFIDENCE_WEAK, trace: integrationv1.TraceCriterion_TRACE_CRITERION_TITLE,
			activity: integrationv1.Activity_ACTIVITY_IN_WINDOW, revisions: 1,
		},
	}
}

// backupsDeleted is prevented, but Microsoft shows the alert only when the verdict was given: resumed, the stream amends it.
func backupsDeleted(device defendertest.Device, begins time.Duration) attack {
	eraser := process{
		id: 9112, image: "eraser.exe", command: "eraser.exe --shadow-copies", sha1: "b06e37f25a7c9b1d4c0c5d1f9b5b52a6f14c7e01",
	}
	return attack{
		title: "Backups deleted", begins: begins,
		actor:  &integrationv1.Actor{ActorId: "hugo", FqHostName: device.DNSName},
		traces: byHash(eraser),
		afterwards: []step{{
			told: "shows an alert only now that it created during the attack",
			alert: finding{
				id: "da-demo-backups_1", device: device, title: "Backups are about to be deleted", technique: "T1490",
				processes: []process{eraser.found("prevented", "prevented")}, antivirus: true,
				created: 2 * time.Second, updated: 2 * time.Second,
			}.alert,
		}},
		want: expectation{
			verdict: integrationv1.Verdict_VERDICT_PREVENTED, outcome: integrationv1.Outcome_OUTCOME_PREVENTED,
			criterion:  integrationv1.MatchCriterion_MATCH_CRITERION_FULL_NAME,
			confidence: integrationv1.Confidence_CONFIDENCE_STRONG, trace: integrationv1.TraceCriterion_TRACE_CRITERION_FILE_HASH,
			activity: integrationv1.Activity_ACTIVITY_IN_WINDOW, amends: integrationv1.Verdict_VERDICT_MISSED, revisions: 1,
		},
	}
}
