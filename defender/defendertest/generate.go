package defendertest

import (
	"encoding/hex"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// Shape says what [Generate] makes.
type Shape struct {
	// Devices are the devices that alerts are about, picked at random. Default: [SampleDevices].
	Devices []Device
	// First is the first alert's last update, Step how much later each following one's is; with 0 all share one instant.
	First time.Time
	Step  time.Duration
}

// Generate makes n alerts whose size and make-up follow a real tenant's: about 5.7 KB, 120 keys, 28 containers and 3.5 items of
// evidence each, 11 at most. Last updates ascend. Alerts are made when they are asked for; the same generator state makes
// the same alerts.
func Generate(rng *rand.Rand, n int, shape Shape) iter.Seq[Alert] {
	if len(shape.Devices) == 0 {
		shape.Devices = SampleDevices()
	}
	return func(yield func(Alert) bool) {
		for i := range n {
			if !yield(generateAlert(rng, shape, shape.First.Add(time.Duration(i)*shape.Step))) {
				return
			}
		}
	}
}

// scenario is a kind of alert.
type scenario struct {
	title, category, technique, severity, source string
	image, folder, command                       string
}

func scenarios() []scenario {
	return []scenario{
		{"Suspicious PowerShell command line", "Execution", "T1059.001", "medium", "microsoftDefenderForEndpoint", "powershell.exe", `C:\Windows\System32\WindowsPowerShell\v1.0`, `powershell.exe -NoProfile -ExecutionPolicy Bypass -EncodedCommand %s`},
		{"Suspected credential theft activity", "CredentialAccess", "T1003.001", "high", "microsoftDefenderForEndpoint", "rundll32.exe", `C:\Windows\System32`, `rundll32.exe C:\Windows\System32\comsvcs.dll, MiniDump 712 C:\Temp\%s.dmp full`},
		{"An active 'Mimikatz' hacktool was detected", "Malware", "T1003", "medium", "antivirus", "m64.exe", `C:\Users\Public\Downloads`, `"C:\Users\Public\Downloads\m64.exe" "privilege::debug" "log %s"`},
		{"Suspicious scheduled task", "Persistence", "T1053.005", "medium", "microsoftDefenderForEndpoint", "schtasks.exe", `C:\Windows\System32`, `schtasks /create /sc minute /mo 5 /tn "Updater & Sync" /tr "C:\ProgramData\%s.exe"`},
		{"Possible lateral movement", "LateralMovement", "T1021.002", "low", "microsoftDefenderForEndpoint", "services.exe", `C:\Windows\System32`, `cmd.exe /c echo %s > \\.\pipe\sync`},
		{"File dropped and launched from remote location", "LateralMovement", "T1570", "informational", "customDetection", "dropper.exe", `C:\ProgramData\Sync`, `C:\ProgramData\Sync\dropper.exe --id %s`},
	}
}

const generatedDescription = "This device showed activity that Defender has not seen on it before. A process behaved in a way that is typical of tools used in attacks. It was started by an unusual parent with a command line that hides what it does, and touched files and settings that legitimate software seldom needs. Attackers do this to run code, to keep access to the device, or to reach others from it. The alert tells what was seen first; more evidence may be added while the investigation goes on. Compare the time of each item with the work that people and software are known to have done on the device, and with what other devices of the same kind did in the hours before."

const generatedActions = "Collect artifacts and determine scope\n- Review the machine timeline for suspicious activities that may have occurred before and after the time of the alert, and record additional related artifacts (files, IPs/URLs)\n- Look for the presence of relevant artifacts on other systems. Identify commonalities and differences between potentially compromised systems.\n- Submit relevant files for deep analysis and review resulting detailed behavioral information.\n- Submit undetected files to the malware portal, and keep the original for later analysis.\n\nInitiate containment & mitigation\n- Contact the user to verify intent and initiate local remediation actions as needed.\n- Update AV signatures and run a full scan. The scan might reveal and remove previously-undetected malware components.\n- Ensure that the machine has the latest security updates.\n- If credential theft is suspected, reset all relevant users passwords.\n- Block communication with relevant URLs or IPs at the organization's perimeter."

func generateAlert(rng *rand.Rand, shape Shape, updated time.Time) Alert {
	kinds := scenarios()
	kind := kinds[rng.IntN(len(kinds))]
	device := shape.Devices[rng.IntN(len(shape.Devices))]
	device = device.withDefaults(updated)
	created := updated.Add(-time.Duration(rng.Int64N(int64(2 * time.Hour))))
	began := created.Add(-time.Minute - time.Duration(rng.Int64N(int64(10*time.Minute))))
	a := Alert{
		ID:                 "da" + randomGUID(rng) + "_1",
		IncidentID:         fmt.Sprint(1000 + rng.IntN(9000)),
		Title:              kind.title,
		Description:        generatedDescription,
		RecommendedActions: generatedActions,
		Category:           kind.category,
		Severity:           kind.severity,
		DetectionSource:    kind.source,
		DetectorID:         randomGUID(rng),
		Techniques:         []string{kind.technique},
		InvestigationState: "unsupportedAlertType",
		LastUpdate:         updated,
		Created:            created,
		FirstActivity:      began,
		LastActivity:       began.Add(time.Duration(rng.Int64N(int64(time.Minute)))),
	}
	if kind.source == "antivirus" {
		a.ThreatName, a.ThreatFamily = "HackTool:Win32/Mimikatz.D", "Mimikatz"
	}
	n := evidenceCount(rng)
	a.Evidence = make([]Evidence, 0, n)
	a.Evidence = append(a.Evidence, DeviceEvidence{
		EvidenceBase: EvidenceBase{Verdict: "suspicious", Roles: []string{"compromised"}, DetailedRoles: []string{"PrimaryDevice"}, Tags: device.Tags},
		Device:       device,
	})
	status := []string{"detected", "detected", "prevented", "blocked"}[rng.IntN(4)]
	remediation := map[string]string{"detected": "active", "prevented": "prevented", "blocked": "remediated"}[status]
	for i := 1; i < n; i++ {
		a.Evidence = append(a.Evidence, generateEvidence(rng, i, kind, device, began, status, remediation))
	}
	return a
}

// evidenceCount draws how many items an alert has: 3 in the median, 3.5 in the mean, 11 at most.
func evidenceCount(rng *rand.Rand) int {
	p := rng.IntN(200)
	for n, upTo := range []int{0, 24, 64, 120, 152, 172, 184, 192, 196, 198, 199} {
		if p < upTo {
			return n
		}
	}
	return 11
}

func generateEvidence(rng *rand.Rand, i int, kind scenario, device Device, began time.Time, status, remediation string) Evidence {
	base := EvidenceBase{Verdict: "suspicious", RemediationStatus: remediation}
	user := User{Account: "anna.keller", Domain: device.NTDomain, SID: "S-1-5-21-1004336348-1177238915-682003330-1104", EntraID: randomGUID(rng), Principal: "anna.keller@contoso.test", Display: "Anna Keller"}
	file := File{Name: kind.image, Path: kind.folder, SHA1: randomHex(rng, 20), SHA256: randomHex(rng, 32), MD5: randomHex(rng, 16), Size: 4096 + rng.Int64N(4<<20), Publisher: "Microsoft Corporation"}
	pick := rng.IntN(100)
	switch {
	case i == 1 || pick < 6:
		p := ProcessEvidence{
			EvidenceBase: base, DetectionStatus: status, DeviceID: device.ID,
			ID: 1000 + rng.Int64N(30000), ParentID: 500 + rng.Int64N(9000),
			Started: began, ParentStarted: began.Add(-time.Duration(rng.Int64N(int64(8 * time.Hour)))),
			CommandLine: fmt.Sprintf(kind.command, randomHex(rng, 12)), Image: file, User: user,
		}
		if rng.IntN(4) == 0 {
			p.ParentImage = File{Name: "explorer.exe", Path: `C:\Windows`, Size: 5_234_912}
		}
		return p
	case pick < 22:
		return FileEvidence{EvidenceBase: base, DetectionStatus: status, DeviceID: device.ID, File: file}
	case pick < 40:
		return UserEvidence{EvidenceBase: base, User: user}
	case pick < 75:
		return IPEvidence{EvidenceBase: base, Address: fmt.Sprintf("203.0.113.%d", rng.IntN(256)), Country: "US"}
	case pick < 90:
		return URLEvidence{EvidenceBase: base, URL: fmt.Sprintf("https://update.attacker.test/s?id=%s&step=2", randomHex(rng, 6))}
	}
	return RegistryEvidence{
		EvidenceBase: base, DeviceID: device.ID, Hive: "HKEY_LOCAL_MACHINE", Key: `SOFTWARE\Microsoft\Windows\CurrentVersion\Run`,
		ValueName: "Updater", ValueType: "String", Value: kind.folder + `\` + kind.image,
	}
}

func randomHex(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return hex.EncodeToString(b)
}

func randomGUID(rng *rand.Rand) string {
	h := randomHex(rng, 16)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// SampleDevices are a handful of devices of one made-up organisation.
func SampleDevices() []Device {
	return []Device{
		{DNSName: "ws-anna-01.corp.contoso.test", NTDomain: "CORP", IPs: []string{"10.20.4.11", "fd00:20:4::11"}, ExternalIP: "198.51.100.7", EntraID: "5f6d1c2e-7a58-4c0b-9a41-0d6f5f1c1101", RBACGroupID: 12, RBACGroup: "Workstations", Tags: []string{"Finance"}},
		{DNSName: "ws-ben-02.corp.contoso.test", NTDomain: "CORP", IPs: []string{"10.20.4.12"}, ExternalIP: "198.51.100.7", EntraID: "5f6d1c2e-7a58-4c0b-9a41-0d6f5f1c1102", RBACGroupID: 12, RBACGroup: "Workstations"},
		{DNSName: "srv-files-01.corp.contoso.test", NTDomain: "CORP", OSPlatform: "WindowsServer2022", Version: "21H2", OSBuild: 20348, IPs: []string{"10.20.1.5"}, ExternalIP: "198.51.100.7", RBACGroupID: 14, RBACGroup: "Servers"},
		{DNSName: "srv-web-01.dmz.contoso.test", OSPlatform: "Linux", Version: "22.4", IPs: []string{"10.30.1.8"}, ExternalIP: "198.51.100.8", RBACGroupID: 14, RBACGroup: "Servers"},
		{DNSName: "lt-carla-07", NTDomain: "CORP", IPs: []string{"192.168.178.40"}, ExternalIP: "203.0.113.90", EntraID: "5f6d1c2e-7a58-4c0b-9a41-0d6f5f1c1107", RBACGroupID: 12, RBACGroup: "Workstations"},
	}
}
