package match_test

import (
	"testing"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func hashed(sha256 string) func(*integrationv1.Evidence) {
	return func(e *integrationv1.Evidence) { e.GetFile().FileDetails.Sha256 = sha256 }
}

func inFolder(folder string) func(*integrationv1.Evidence) {
	return func(e *integrationv1.Evidence) { e.GetFile().FileDetails.FilePath = folder }
}

func withID(id int64) func(*integrationv1.Evidence) {
	return func(e *integrationv1.Evidence) { e.GetProcess().ProcessId = id }
}

func after(offset time.Duration) func(*integrationv1.Evidence) { return added(noon.Add(offset)) }

// TestOneThingToldSeveralTimes: of what is told of one file or process the last one added tells; of two, each does.
func TestOneThingToldSeveralTimes(t *testing.T) {
	const minute = time.Minute
	tests := []struct {
		name     string
		evidence []*integrationv1.Evidence
		want     integrationv1.Outcome
		path     string
	}{
		{
			"a process, seen first and blocked later",
			[]*integrationv1.Evidence{process(sawIt, 0, createdAs(noon), after(0)), process(blockedIt, 0, createdAs(noon), after(minute))}, blocked, "/evidence/1",
		},
		{
			"in any order", []*integrationv1.Evidence{process(blockedIt, 0, createdAs(noon), after(minute)), process(sawIt, 0, createdAs(noon), after(0))}, blocked, "/evidence/0",
		},
		{
			"blocked first and seen again later: it ran on",
			[]*integrationv1.Evidence{process(blockedIt, 0, createdAs(noon), after(0)), process(sawIt, 0, createdAs(noon), after(minute))}, detected, "/evidence/1",
		},
		{
			"added at one time: Microsoft's order",
			[]*integrationv1.Evidence{process(sawIt, 0, createdAs(noon), after(0)), process(blockedIt, 0, createdAs(noon), after(0))}, blocked, "/evidence/1",
		},
		{
			"added nobody knows when: Microsoft's order",
			[]*integrationv1.Evidence{process(blockedIt, 0, createdAs(noon)), process(sawIt, 0, createdAs(noon))}, detected, "/evidence/1",
		},
		{
			"what does not say when was added before what does",
			[]*integrationv1.Evidence{process(blockedIt, 0, createdAs(noon), after(0)), process(sawIt, 0, createdAs(noon))}, blocked, "/evidence/0",
		},
		{
			"a later piece that tells nothing changes nothing",
			[]*integrationv1.Evidence{process(blockedIt, 0, createdAs(noon), after(0)), process(0, noRemediation, createdAs(noon), after(minute))}, blocked, "/evidence/0",
		},
		{
			"another id is another process",
			[]*integrationv1.Evidence{process(sawIt, 0, createdAs(noon), after(0)), process(blockedIt, 0, createdAs(noon), withID(1), after(minute))}, detected, "/evidence/0",
		},
		{
			"another creation is another process",
			[]*integrationv1.Evidence{process(sawIt, 0, createdAs(noon), after(0)), process(blockedIt, 0, createdAs(noon.Add(1)), after(minute))}, detected, "/evidence/0",
		},
		{
			"another device has another process",
			[]*integrationv1.Evidence{process(sawIt, 0, createdAs(noon), after(0), onto(idA)), process(blockedIt, 0, createdAs(noon), after(minute), onto(idB))}, detected, "/evidence/0",
		},
		{
			"a process without a creation time is one of its own",
			[]*integrationv1.Evidence{process(sawIt, 0, after(0)), process(blockedIt, 0, after(minute))}, detected, "/evidence/0",
		},
		{
			"a file by its hash, whatever its folder",
			[]*integrationv1.Evidence{file(sawIt, 0, hashed(sha256A), after(0)), file(preventedIt, 0, hashed(sha256A), inFolder(`C:\x`), after(minute))}, prevented, "/evidence/1",
		},
		{
			"another hash is another file",
			[]*integrationv1.Evidence{file(sawIt, 0, hashed(sha256A), inFolder("/x"), after(0)), file(preventedIt, 0, hashed(sha256B), inFolder("/x"), after(minute))}, detected, "/evidence/0",
		},
		{
			"a file without a hash by its folder and name",
			[]*integrationv1.Evidence{file(sawIt, 0, inFolder(`C:\X\`), after(0)), file(preventedIt, 0, inFolder(`c:\x\EVIL.exe`), after(minute))}, prevented, "/evidence/1",
		},
		{
			"another folder is another file",
			[]*integrationv1.Evidence{file(sawIt, 0, inFolder(`C:\X`), after(0)), file(preventedIt, 0, inFolder(`C:\Y`), after(minute))}, detected, "/evidence/0",
		},
		{
			"another device has another file of that path",
			[]*integrationv1.Evidence{
				file(sawIt, 0, inFolder("/x"), after(0), onto(idA)), file(preventedIt, 0, inFolder("/x"), after(minute), onto(idB)),
			}, detected, "/evidence/0",
		},
		{
			"a name alone names no file",
			[]*integrationv1.Evidence{file(sawIt, 0, after(0)), file(preventedIt, 0, after(minute))}, detected, "/evidence/0",
		},
		{
			"a file of malware is the same file",
			[]*integrationv1.Evidence{file(sawIt, 0, hashed(sha256A), after(0)), malware([]*integrationv1.Evidence{file(preventedIt, 0, hashed(sha256A), after(minute))}, nil)}, prevented, "/evidence/1/files/0",
		},
		{
			"a file of malware was added with it",
			[]*integrationv1.Evidence{file(sawIt, 0, hashed(sha256A), after(minute)), func() *integrationv1.Evidence {
				e := malware([]*integrationv1.Evidence{file(preventedIt, 0, hashed(sha256A))}, nil)
				after(2 * minute)(e)
				return e
			}()}, prevented, "/evidence/1/files/0",
		},
		{
			"what is malicious by one piece is by all",
			[]*integrationv1.Evidence{
				process(sawIt, 0, withID(1), createdAs(noon)),
				process(0, 0, createdAs(noon), malicious, after(0)), process(blockedIt, 0, createdAs(noon), after(minute)),
			}, blocked, "/evidence/2",
		},
		{
			"what was seen counts once it is taken for malicious",
			[]*integrationv1.Evidence{
				file(preventedIt, 0, malicious), process(sawIt, 0, createdAs(noon), after(0)), process(0, 0, createdAs(noon), malicious, after(minute)),
			}, detected, "/evidence/1",
		},
		{
			"among equals the one that was told first",
			[]*integrationv1.Evidence{
				process(sawIt, 0, createdAs(noon), after(0)), process(sawIt, 0, createdAs(noon), after(2*minute)), file(sawIt, 0, after(minute)),
			}, detected, "/evidence/2",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := match.OutcomeOf(alertOf(test.evidence...))
			if got.GetOutcome() != test.want || got.GetEvidencePath() != test.path {
				t.Errorf("outcome %v by %q, want %v by %q", got.GetOutcome(), got.GetEvidencePath(), test.want, test.path)
			}
		})
	}
}

// TestTheAttacksOwnProcessDecides is the rule of whose evidence decides for an Actor.
func TestTheAttacksOwnProcessDecides(t *testing.T) {
	own := createdAs(noon)
	traces := &integrationv1.Traces{Processes: []*integrationv1.ProcessTrace{
		{ProcessId: 4711, ProcessCreationTime: at(time.Second)}, {ProcessId: 4712, ProcessCreationTime: at(0)}, {ProcessId: 4713},
	}}
	tests := []struct {
		name     string
		traces   *integrationv1.Traces
		evidence []*integrationv1.Evidence
		want     integrationv1.Outcome
		path     string
		others   int // contradictions
	}{
		{"over other evidence", traces, []*integrationv1.Evidence{file(sawIt, 0), process(blockedIt, 0, own)}, blocked, "/evidence/1", 1},
		{"over what is malicious", traces, []*integrationv1.Evidence{file(sawIt, 0, malicious), process(preventedIt, 0, own)}, prevented, "/evidence/1", 1},
		{"also where it is weaker", traces, []*integrationv1.Evidence{file(preventedIt, 0, malicious), process(sawIt, 0, own)}, detected, "/evidence/1", 1},
		{"others that agree contradict nothing", traces, []*integrationv1.Evidence{file(blockedIt, 0), process(blockedIt, 0, own)}, blocked, "/evidence/1", 0},
		{"others that tell nothing neither", traces, []*integrationv1.Evidence{file(0, noRemediation), process(blockedIt, 0, own)}, blocked, "/evidence/1", 0},
		{
			"for each other outcome one contradiction", traces,
			[]*integrationv1.Evidence{file(sawIt, 0), file(sawIt, 0), file(preventedIt, 0), process(blockedIt, 0, own)}, blocked, "/evidence/3", 2,
		},
		{
			"of several the weakest", traces,
			[]*integrationv1.Evidence{process(blockedIt, 0, own), process(sawIt, remediatedIt, withID(4712), own), file(sawIt, 0)}, remediated, "/evidence/1", 1,
		},
		{"one that tells nothing leaves it to the rest", traces, []*integrationv1.Evidence{process(0, noRemediation, own), file(preventedIt, 0)}, prevented, "/evidence/1", 0},
		{
			"an id alone is not the attack's own", traces,
			[]*integrationv1.Evidence{process(blockedIt, 0, withID(4713), own), process(blockedIt, 0), file(sawIt, 0)}, detected, "/evidence/2", 0,
		},
		{"a child is not", traces, []*integrationv1.Evidence{process(blockedIt, 0, withID(5000), own, func(e *integrationv1.Evidence) {
			e.GetProcess().ParentProcessId, e.GetProcess().ParentProcessCreationTime = 4711, at(0)
		}), file(sawIt, 0)}, detected, "/evidence/1", 0},
		{"without traces nothing is", nil, []*integrationv1.Evidence{file(sawIt, 0), process(blockedIt, 0, own)}, detected, "/evidence/0", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := attackOn(t, test.traces, alertOnA(test.evidence...)).GetOutcome()
			if got.GetOutcome() != test.want || got.GetEvidencePath() != test.path || len(got.GetContradictions()) != test.others {
				t.Errorf("outcome %v, want %v by %q with %d contradictions", got, test.want, test.path, test.others)
			}
		})
	}
}
