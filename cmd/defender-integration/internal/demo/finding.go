package demo

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// finding is what Defender finds, short enough to be written down in a script.
type finding struct {
	// id is the alert's; "" is a new one each time.
	id     string
	device defendertest.Device
	title  string
	// technique is MITRE's.
	technique string
	// processes are what it is about: the first since the alert was created, each further one since it was last changed.
	processes []process
	// antivirus says that Defender Antivirus found it, and not the sensor.
	antivirus bool
	// created is when Defender created the alert, and updated when it last changed, both counted from the attack's beginning; zero is
	// now.
	created, updated time.Duration
	// status is where it stands in the analyst's workflow. Default: new.
	status string
}

// process is a process of an attack, or another, and what Defender made of it.
type process struct {
	// id is the process id.
	id int64
	// image, command and sha1 are its file's name, its command line and its file's hash.
	image, command, sha1 string
	// started is when it began, counted from the attack's beginning. Default: just after that.
	started time.Duration
	// detection and remediation are its detection status and its remediation status.
	detection, remediation string
}

// justAfter is when the process of an attack begins, counted from the attack's beginning.
const justAfter = 400 * time.Millisecond

// begins is when the process began.
func (p process) begins(began time.Time) time.Time {
	if p.started == 0 {
		return began.Add(justAfter)
	}
	return began.Add(p.started)
}

// found returns the process with what Defender made of it.
func (p process) found(detection, remediation string) process {
	p.detection, p.remediation = detection, remediation
	return p
}

// alert makes the alert of an attack that began at a time, as it is now.
func (f finding) alert(began, now time.Time) defendertest.Alert {
	at := func(after time.Duration) time.Time {
		if after == 0 {
			return now
		}
		return began.Add(after)
	}
	first, last := f.processes[0], f.processes[len(f.processes)-1]
	a := defendertest.Alert{
		ID: f.id, IncidentID: "4711", Title: f.title, Severity: "high", Techniques: []string{f.technique}, Status: f.status,
		Description: fmt.Sprintf("Made up by the demonstration: %s ran %q.", first.image, first.command),
		Created:     at(f.created), LastUpdate: at(f.updated), FirstActivity: first.begins(began), LastActivity: last.begins(began),
		Evidence: []defendertest.Evidence{
			defendertest.DeviceEvidence{Device: f.device, EvidenceBase: defendertest.EvidenceBase{Verdict: "suspicious"}},
		},
	}
	added := a.Created
	for _, p := range f.processes {
		a.Evidence = append(a.Evidence, f.evidence(p, began, added))
		added = a.LastUpdate
	}
	if f.antivirus {
		a.DetectionSource = "antivirus"
	}
	if f.status == "resolved" {
		a.Resolved = now
	}
	return a
}

// evidence makes the evidence of a process that was added to the alert at a time.
func (f finding) evidence(p process, began, added time.Time) defendertest.ProcessEvidence {
	folder := `C:\ProgramData`
	if f.device.OSPlatform == "Linux" {
		folder = "/usr/bin"
	}
	return defendertest.ProcessEvidence{
		EvidenceBase:    defendertest.EvidenceBase{Verdict: "malicious", RemediationStatus: p.remediation, Created: added},
		DetectionStatus: p.detection, DeviceID: defendertest.DeviceID(f.device.DNSName),
		ID: p.id, ParentID: 880, Started: p.begins(began), CommandLine: p.command,
		Image: defendertest.File{Name: p.image, Path: folder, SHA1: p.sha1},
	}
}

// inEvent returns the process as an event on a device tells it.
func (p process) inEvent(began time.Time) defendertest.EventProcess {
	return defendertest.EventProcess{
		ID: p.id, Created: p.begins(began), CommandLine: p.command, Image: defendertest.EventFile{Name: p.image, SHA1: p.sha1}, ParentID: 880,
	}
}

// traces is what the Director knows of an attack that began at a time.
type traces func(began time.Time) *integrationv1.Traces

// byProcess are the traces of a process that the Director started: its id, its creation time and its command line.
func byProcess(p process) traces {
	return func(began time.Time) *integrationv1.Traces {
		return &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{
			ProcessId: p.id, ProcessCreationTime: timestamppb.New(p.begins(began)), CommandLine: p.command,
		}}}
	}
}

// byCommand are the traces of a process of which the command line alone is known.
func byCommand(p process) traces {
	return func(time.Time) *integrationv1.Traces {
		return &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{{CommandLine: p.command}}}
	}
}

// byHash are the traces of a file that the Director brought along.
func byHash(p process) traces {
	return func(time.Time) *integrationv1.Traces {
		return &integrationv1.Traces{Files: []*integrationv1.FileTrace{{FileName: p.image, Sha1: p.sha1}}}
	}
}

// byTitle are traces of what an alert may say of the attack, and nothing more.
func byTitle(title, technique string) traces {
	return func(time.Time) *integrationv1.Traces {
		return &integrationv1.Traces{MitreTechniques: []string{technique}, ExpectedTitles: []string{title}}
	}
}
