package match_test

import (
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The generator's attacks: traces and evidence of a small world of processes, files and accounts.

func pick[T any](g generator, of ...T) T { return of[g.IntN(len(of))] }

func (g generator) pid() int64 { return pick[int64](g, 0, 1, 2, 3) }

func (g generator) creation() *timestamppb.Timestamp {
	return at(pick(g, never, 0, time.Second, 3*time.Second, time.Hour))
}

func (g generator) line() string {
	return g.one("", "cmd", "cmd /c x", `"C:\a b\CMD.exe"  /c "x"`, "CMD.EXE /C X", "sh -c x", `"`)
}

func (g generator) account() string {
	return g.one("", "alex", `CONTOSO\Alex`, `.\alex`, "alex@contoso.com", `fabrikam\alex`, "S-1-5-21-1", "s-1-5-21-2", "@", `\`)
}

func (g generator) hash() string {
	return g.one("", sha256A, strings.ToUpper(sha256A), sha1A, md5A, sha256B, "x")
}

func (g generator) folder() string {
	return g.one("", `C:\Temp`, "c:/temp/", "/tmp", `C:\Temp\evil.exe`)
}

func (g generator) fileName() string { return g.one("", "evil.exe", "EVIL.EXE", "b", `\`) }

func (g generator) technique() string { return g.one("T1059", "T1059.001", "T1059.003", "t1003", "") }

func (g generator) title() string {
	return g.one("", "Evil", " evil ", "An attack was blocked", "It was not prevented", "prevented")
}

func (g generator) fileTrace() *integrationv1.FileTrace {
	return &integrationv1.FileTrace{FileName: g.fileName(), FilePath: g.folder(), Sha256: g.hash(), Sha1: g.hash(), Md5: g.hash()}
}

func (g generator) traces() *integrationv1.Traces {
	t := &integrationv1.Traces{
		Users: g.some(2, g.account), MitreTechniques: g.some(2, g.technique), ExpectedTitles: g.some(2, g.title),
	}
	for range g.IntN(3) {
		p := &integrationv1.ProcessTrace{
			ProcessId: g.pid(), ProcessCreationTime: g.creation(), ParentProcessId: g.pid(), ParentProcessCreationTime: g.creation(),
		}
		if g.IntN(2) == 0 {
			p.CommandLine = g.line()
		}
		if g.IntN(3) == 0 {
			p.ImageFile = g.fileTrace()
		}
		t.Processes = append(t.Processes, p)
	}
	for range g.IntN(2) {
		t.Files = append(t.Files, g.fileTrace())
	}
	return t
}

func (g generator) fileDetails() *integrationv1.FileDetails {
	return &integrationv1.FileDetails{FileName: g.fileName(), FilePath: g.folder(), Sha256: g.hash(), Sha1: g.hash(), Md5: g.hash()}
}

func (g generator) user() *integrationv1.UserAccount {
	return &integrationv1.UserAccount{
		AccountName: g.account(), DomainName: g.one("", "contoso", "."), UserPrincipalName: g.one("", "alex@contoso.com"), UserSid: g.one("", "S-1-5-21-1"),
	}
}

// attackEvidence is a file, a process, malware, a hash or a user, about the device A, another one, or none, added at a time that no other
// piece has.
func (g generator) attackEvidence(place int) *integrationv1.Evidence {
	e := g.statusEvidence()
	switch g.IntN(8) {
	case 0:
		e = malware([]*integrationv1.Evidence{e}, []*integrationv1.Evidence{g.statusEvidence()})
		if e.GetMalware().GetFiles()[0].GetFile() == nil {
			e.GetMalware().Files = nil
		}
	case 1:
		e = ofHash(g.one("", "sha256", "sha256ac"), g.hash())
	case 2:
		e = ofUser(g.user())
	}
	e.CreatedTime = at(time.Duration(place) * time.Minute)
	return e
}

func (g generator) detection() integrationv1.DetectionStatus {
	return integrationv1.DetectionStatus(g.IntN(len(integrationv1.DetectionStatus_name)))
}

// statusEvidence is a file or process.
func (g generator) statusEvidence() *integrationv1.Evidence {
	var e *integrationv1.Evidence
	device := g.one("", idA, strings.ToUpper(idA), idB)
	detection := g.detection()
	if g.IntN(2) == 0 {
		e = ofFile(g.fileDetails())
		e.GetFile().DetectionStatus, e.GetFile().MdeDeviceId = detection, device
	} else {
		e = ofProcess(&integrationv1.ProcessEvidence{
			ProcessId: g.pid(), ProcessCreationTime: g.creation(), ParentProcessId: g.pid(), ParentProcessCreationTime: g.creation(),
			ProcessCommandLine: g.line(), ImageFile: g.fileDetails(), ParentProcessImageFile: g.fileDetails(), UserAccount: g.user(),
			DetectionStatus: detection, MdeDeviceId: device,
		})
	}
	e.RemediationStatus = integrationv1.RemediationStatus(g.IntN(len(integrationv1.RemediationStatus_name)))
	e.Verdict = integrationv1.EvidenceVerdict(g.IntN(len(integrationv1.EvidenceVerdict_name)))
	return e
}

// toldAgain is a file or process, mostly one that the alert tells of already, by other statuses and verdict.
func (g generator) toldAgain(alert *integrationv1.Alert) *integrationv1.Evidence {
	e := g.statusEvidence()
	before := pick(g, alert.GetEvidence()...)
	switch {
	case before.GetFile() != nil:
		e.Detail = proto.CloneOf(before).GetDetail()
		e.GetFile().DetectionStatus = g.detection()
	case before.GetProcess() != nil:
		e.Detail = proto.CloneOf(before).GetDetail()
		e.GetProcess().DetectionStatus = g.detection()
	}
	return e
}

// attack is an alert about the device A.
func (g generator) attack() *integrationv1.Alert {
	alert := alertOnA()
	for i := range g.IntN(5) {
		alert.Evidence = append(alert.Evidence, g.attackEvidence(i))
	}
	alert.Title, alert.MitreTechniques = g.title(), g.some(2, g.technique)
	if g.IntN(4) == 0 {
		alert.RelatedUser = &integrationv1.LoggedOnUser{AccountName: g.account(), DomainName: g.one("", "contoso")}
	}
	return alert
}

// inUpperCase returns traces with their texts in upper case, each value twice, in another order.
func (g generator) inUpperCase(t *integrationv1.Traces) *integrationv1.Traces {
	out := proto.CloneOf(t)
	file := func(f *integrationv1.FileTrace) {
		if f != nil {
			f.FileName, f.FilePath = strings.ToUpper(f.GetFileName()), strings.ToUpper(f.GetFilePath())
			f.Md5, f.Sha1, f.Sha256 = strings.ToUpper(f.GetMd5()), strings.ToUpper(f.GetSha1()), strings.ToUpper(f.GetSha256())
		}
	}
	for _, p := range out.GetProcesses() {
		p.CommandLine = strings.ToUpper(p.GetCommandLine())
		file(p.GetImageFile())
	}
	for _, f := range out.GetFiles() {
		file(f)
	}
	for _, list := range [][]string{out.GetUsers(), out.GetMitreTechniques(), out.GetExpectedTitles()} {
		for i, s := range list {
			list[i] = strings.ToUpper(s)
		}
	}
	out.Processes = shuffled(g.Rand, append(out.GetProcesses(), out.GetProcesses()...))
	out.Files = shuffled(g.Rand, append(out.GetFiles(), out.GetFiles()...))
	out.Users = shuffled(g.Rand, append(out.GetUsers(), out.GetUsers()...))
	out.MitreTechniques = shuffled(g.Rand, append(out.GetMitreTechniques(), out.GetMitreTechniques()...))
	out.ExpectedTitles = shuffled(g.Rand, append(out.GetExpectedTitles(), out.GetExpectedTitles()...))
	return out
}
