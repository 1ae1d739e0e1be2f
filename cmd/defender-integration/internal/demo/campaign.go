package demo

import (
	"time"

	"defender-integration/defender/defendertest"
)

// campaign is the script of the demonstration, as it is now. The attacks overlap; each tells one story, and those of which something
// is still to come after their verdict begin early.
func campaign(now time.Time) script {
	machines := defendertest.SampleDevices()
	workstation := func(name string, ips ...string) defendertest.Device {
		return defendertest.Device{DNSName: name + ".corp.contoso.test", NTDomain: "CORP", IPs: ips, ExternalIP: "198.51.100.7"}
	}
	dora, emil, greta := workstation("ws-dora-04", "10.20.4.14"), workstation("ws-emil-05", "10.20.4.15"), workstation("ws-greta-06", "10.20.4.16")
	hugo, ivy, finn := workstation("ws-hugo-08", "10.20.4.18"), workstation("ws-ivy-09", "10.20.4.19"), workstation("ws-finn-10", "10.20.4.20")
	jana, noah := workstation("ws-jana-13", "10.20.4.23"), workstation("ws-noah-14", "10.20.4.24")
	lena, mia := workstation("lt-lena-11", vpnAddress), workstation("lt-mia-12", vpnAddress)
	finn.Health, finn.LastSeen = "Inactive", now.Add(-9*24*time.Hour)
	return script{
		window: 3 * time.Second, wait: 7 * time.Second, tolerance: time.Second, onTime: 3 * time.Second,
		devices: append(machines, dora, emil, greta, hugo, ivy, finn, jana, noah, lena, mia),
		attacks: []attack{
			encodedPowerShell(machines[0], 500*time.Millisecond),
			backupsDeleted(hugo, 1250*time.Millisecond),
			memoryDumped(machines[2], 2*time.Second),
			dropperInstalled(machines[1], 2750*time.Millisecond),
			ticketsForged(emil, 3500*time.Millisecond),
			filesEncrypted(greta, 4250*time.Millisecond),
			macroBlocked(jana, 4600*time.Millisecond),
			webShell(machines[3], 5*time.Second),
			portsScanned(lena, mia, 5750*time.Millisecond),
			adminAdded(noah, 6100*time.Millisecond),
			copyOverSMB(machines[4], 6500*time.Millisecond),
			archiveSentOut(ivy, 7250*time.Millisecond),
			keysLogged(finn, 8*time.Second),
			cookiesStolen(8750 * time.Millisecond),
		},
		others: []step{{
			at: 3200 * time.Millisecond, told: "raises an alert on ws-dora-04, which is no Actor: no stream is to have it",
			alert: finding{
				id: "da-demo-other_1", device: dora, title: "Unusual sign-in helper", technique: "T1556",
				processes: []process{{id: 900, image: "helper.exe", command: "helper.exe", detection: "detected", remediation: "active"}},
			}.alert,
		}},
	}
}

// vpnAddress is one that two machines have, one after the other, as addresses of a VPN's pool do.
const vpnAddress = "10.60.0.21"
