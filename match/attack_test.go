package match_test

import (
	"fmt"
	"testing"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func onto(id string) func(*integrationv1.Evidence) {
	return func(e *integrationv1.Evidence) {
		switch {
		case e.GetProcess() != nil:
			e.GetProcess().MdeDeviceId = id
		case e.GetFile() != nil:
			e.GetFile().MdeDeviceId = id
		}
	}
}

// TestEvidenceOfOtherDevicesIsLeftOut gives the attack's own process, blocked, to a device, beside a malicious file that was only seen on
// the Actor's.
func TestEvidenceOfOtherDevicesIsLeftOut(t *testing.T) {
	actor := func(change func(*integrationv1.Actor)) *integrationv1.Actor {
		a := &integrationv1.Actor{Traces: processTrace(&integrationv1.ProcessTrace{ProcessId: 4711, ProcessCreationTime: at(0)})}
		change(a)
		return a
	}
	byDevice := actor(func(a *integrationv1.Actor) { a.MdeDeviceId = idA })
	named := actor(func(a *integrationv1.Actor) { a.FqHostName = "pc1.contoso.com" })
	tests := []struct {
		name     string
		actor    *integrationv1.Actor
		known    []*integrationv1.Device
		device   string // that the process bears
		evidence []*integrationv1.Evidence
		own      bool
	}{
		{"the Actor's device", byDevice, nil, idA, nil, true},
		{"no device", byDevice, nil, "", []*integrationv1.Evidence{onDevice(idA, "")}, true},
		{"an id of zeros is none", byDevice, nil, "0000000000000000000000000000000000000000", []*integrationv1.Evidence{onDevice(idA, "")}, true},
		{"another device", byDevice, nil, idB, []*integrationv1.Evidence{onDevice(idA, "")}, false},
		{"the device by which it matched", named, nil, idB, []*integrationv1.Evidence{onDevice(idB, "pc1.contoso.com")}, true},
		{"another one than that", named, nil, idA, []*integrationv1.Evidence{onDevice(idB, "pc1.contoso.com")}, false},
		{
			"one that the device source knows as the Actor's", named, []*integrationv1.Device{device(idB, "pc1.contoso.com")}, idB,
			[]*integrationv1.Evidence{onDevice("", "pc1.contoso.com")}, true,
		},
		{
			"one that it does not know", named, []*integrationv1.Device{device(idB, "pc1.contoso.com")}, idA,
			[]*integrationv1.Evidence{onDevice("", "pc1.contoso.com")}, false,
		},
		{
			"another one than the Actor names, where the alert's device has no id", actor(func(a *integrationv1.Actor) { a.MdeDeviceId, a.FqHostName = idA, "pc1.contoso.com" }),
			nil, idB, []*integrationv1.Evidence{onDevice("", "pc1.contoso.com")}, false,
		},
		{"an id alone, where no id of the Actor's is known", named, nil, idA, []*integrationv1.Evidence{onDevice("", "pc1.contoso.com")}, true},
		{
			"an id with another name, where no id of the Actor's is known", named, nil, idA,
			[]*integrationv1.Evidence{onDevice("", "pc1.contoso.com"), onDevice(idA, "pc2.contoso.com")}, false,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			seen := file(sawIt, 0, malicious)
			process := process(blockedIt, 0, createdAs(noon), onto(test.device))
			alert := alertOf(append(test.evidence, process, seen)...)
			got := match.DevicesOf(alert).MatchAttack(match.NewActor(test.actor), resolve(t, test.actor, test.known...), inWindow, certain)
			confidence, outcome := deviceOnly, detected
			if test.own {
				confidence, outcome = certain, blocked
			}
			if got.GetAttribution().GetConfidence() != confidence || got.GetOutcome().GetOutcome() != outcome || got.GetCounts() != test.own {
				t.Errorf("%v, %v, counts %t: %v", got.GetAttribution().GetConfidence(), got.GetOutcome().GetOutcome(), got.GetCounts(), got)
			}
			// Whoever it is about, the malicious file decides.
			if got := match.OutcomeOf(alert).GetOutcome(); got != detected {
				t.Errorf("the event's outcome is %v", got)
			}
		})
	}
}

// One alert about two Actors: each has its own process, its own outcome and its own account.
func TestOneAlertAboutTwoActors(t *testing.T) {
	alert := alertOf(
		onDevice(idA, "pc1.contoso.com"), onDevice(idB, "pc2.contoso.com"),
		process(preventedIt, 0, createdAs(noon), onto(idA)), process(sawIt, 0, createdAs(noon), onto(idB)),
		&integrationv1.Evidence{Detail: &integrationv1.Evidence_HostLogonSession{HostLogonSession: &integrationv1.HostLogonSessionEvidence{
			Account: ofUser(&integrationv1.UserAccount{AccountName: "alex"}), Host: onDevice(idA, ""),
		}}},
	)
	traces := processTrace(&integrationv1.ProcessTrace{ProcessId: 4711, ProcessCreationTime: at(0)})
	traces.Users = []string{"alex"}
	devices := match.DevicesOf(alert)
	for id, want := range map[string]struct {
		outcome integrationv1.Outcome
		path    string
		user    integrationv1.TraceComparison_Result
	}{idA: {prevented, "/evidence/2", isMet}, idB: {detected, "/evidence/3", notComparable}} {
		got := devices.MatchAttack(match.NewActor(&integrationv1.Actor{MdeDeviceId: id, Traces: traces}), match.Resolution{}, inWindow, anyConfidence)
		if got.GetOutcome().GetOutcome() != want.outcome || got.GetOutcome().GetEvidencePath() != want.path ||
			comparisonBy(got.GetAttribution(), byProcess).GetEvidencePath() != want.path ||
			comparisonBy(got.GetAttribution(), byUser).GetResult() != want.user {
			t.Errorf("%s: %v", id, got)
		}
	}
}

func TestNothingIsLeftOfEvidenceAboutOthers(t *testing.T) {
	alert := alertOf(onDevice(idA, "pc1.contoso.com"), file(preventedIt, 0, onto(idB)))
	got := attackOn(t, nil, alert).GetOutcome()
	if got.GetOutcome() != untold || got.GetExplanation() != "All evidence of files and processes is about other devices, so nothing tells how it ended." {
		t.Errorf("outcome %v", got)
	}
}

// MatchAttack tells of the device what Match tells, and counts by the activity and the confidence.
func TestMatchAttackCounts(t *testing.T) {
	actor := &integrationv1.Actor{
		ActorId: "actor", IpAddresses: []string{"10.0.0.5"}, Traces: &integrationv1.Traces{MitreTechniques: []string{"T1059"}},
	}
	alert := alertOf(onDevice(idA, "x", "10.0.0.5"))
	alert.MitreTechniques = []string{"T1059.001"}
	ambiguous := alertOf(onDevice(idA, "x", "10.0.0.5"), onDevice(idB, "y", "10.0.0.5"))
	tests := []struct {
		name     string
		alert    *integrationv1.Alert
		activity integrationv1.Activity
		least    integrationv1.Confidence
		matches  bool
		counts   bool
	}{
		{"surely enough", alert, inWindow, weak, true, true},
		{"reactivated", alert, reactivated, anyConfidence, true, true},
		{"not surely enough", alert, inWindow, strong, true, false},
		{"pre-existing", alert, preExisting, anyConfidence, true, false},
		{"after the window", alert, afterWindow, anyConfidence, true, false},
		{"ambiguous", ambiguous, inWindow, anyConfidence, true, false},
		{"another device", alertOf(onDevice(idA, "x", "10.0.0.6")), inWindow, anyConfidence, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			devices := match.DevicesOf(test.alert)
			got := devices.MatchAttack(match.NewActor(actor), match.Resolution{}, test.activity, test.least)
			device := devices.Match(match.NewActor(actor), match.Resolution{})
			if (got != nil) != test.matches || (device != nil) != test.matches {
				t.Fatalf("match %v, by the device %v", got, device)
			}
			if got == nil {
				return
			}
			if got.GetCounts() != test.counts || got.GetAmbiguous() != device.GetAmbiguous() || got.GetActorId() != "actor" ||
				len(got.GetMatches()) != len(device.GetMatches()) || got.GetAttribution() == nil || got.GetOutcome() == nil {
				t.Errorf("match %v, by the device %v", got, device)
			}
		})
	}
}

// What an alert tells is read once, by whichever goroutine asks first.
func TestMatchAttackAtOnce(t *testing.T) {
	alert := alertOnA(process(blockedIt, 0, createdAs(noon)))
	actor := match.NewActor(&integrationv1.Actor{MdeDeviceId: idA, Traces: processTrace(&integrationv1.ProcessTrace{ProcessId: 4711, ProcessCreationTime: at(time.Second)})})
	devices := match.DevicesOf(alert)
	got := make(chan *integrationv1.ActorMatch)
	for range 4 {
		go func() { got <- devices.MatchAttack(actor, match.Resolution{}, inWindow, certain) }()
	}
	for range 4 {
		if m := <-got; !m.GetCounts() {
			t.Errorf("match %v", m)
		}
	}
}

// BenchmarkMatchAttack is an Actor with as many traces as a request may have, and alerts with ever more pieces of evidence, none of them
// of the attack.
func BenchmarkMatchAttack(b *testing.B) {
	hashes := func(n int) (sha256, sha1, md5 string) {
		return fmt.Sprintf("%064x", n), fmt.Sprintf("%040x", n), fmt.Sprintf("%032x", n)
	}
	traces := &integrationv1.Traces{}
	for i := range 64 {
		image := &integrationv1.FileTrace{FilePath: fmt.Sprintf(`C:\temp\tool-%d.exe`, i)}
		image.Sha256, image.Sha1, image.Md5 = hashes(i + 1)
		traces.Processes = append(traces.Processes, &integrationv1.ProcessTrace{
			ProcessId: int64(i + 1), ProcessCreationTime: at(0), ParentProcessId: 999, ParentProcessCreationTime: at(0),
			CommandLine: fmt.Sprintf("tool.exe /step %d", i), ImageFile: image,
		})
		dropped := &integrationv1.FileTrace{FilePath: fmt.Sprintf(`C:\temp\data-%d.bin`, i)}
		dropped.Sha256, dropped.Sha1, dropped.Md5 = hashes(i + 1000)
		traces.Files = append(traces.Files, dropped)
	}
	actor := match.NewActor(&integrationv1.Actor{MdeDeviceId: idA, Traces: traces})
	for _, pieces := range []int{10, 100, 1000} {
		evidence := []*integrationv1.Evidence{onDevice(idA, "pc1.contoso.com")}
		for i := range pieces {
			e := process(0, 0, createdAs(noon), onto(idA))
			p := e.GetProcess()
			p.ProcessId, p.ProcessCommandLine = int64(i+5000), fmt.Sprintf("other.exe /step %d", i)
			p.ImageFile.Sha256, p.ImageFile.Sha1, p.ImageFile.Md5 = hashes(i + 5000)
			evidence = append(evidence, e)
		}
		b.Run(fmt.Sprint(pieces), func(b *testing.B) {
			alert := alertOf(evidence...)
			b.ReportAllocs()
			for b.Loop() {
				match.DevicesOf(alert).MatchAttack(actor, match.Resolution{}, inWindow, certain)
			}
		})
	}
}
