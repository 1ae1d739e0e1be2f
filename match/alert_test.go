package match_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func bareFile(id string) *integrationv1.Evidence {
	return &integrationv1.Evidence{Detail: &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{MdeDeviceId: id}}}
}

func bareProcess(id string) *integrationv1.Evidence {
	return &integrationv1.Evidence{Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{MdeDeviceId: id}}}
}

func TestMatchAlertByItsOwnDevices(t *testing.T) {
	pc1 := &integrationv1.Actor{ActorId: "actor", FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}, MdeDeviceId: idA}
	short := &integrationv1.Actor{HostName: "pc1"}
	address := &integrationv1.Actor{IpAddresses: []string{"10.0.0.5"}}
	named := &integrationv1.Actor{FqHostName: "pc1.contoso.com"}
	tests := []struct {
		name      string
		actor     *integrationv1.Actor
		evidence  []*integrationv1.Evidence
		want      criterionList // nil: no match.
		ambiguous bool
	}{
		{"no evidence", pc1, nil, nil, false},
		{"another device", pc1, []*integrationv1.Evidence{onDevice(idB, "pc2.contoso.com", "10.0.0.6")}, nil, false},
		{"all that fits", pc1, []*integrationv1.Evidence{onDevice(idA, "PC1.contoso.com", "10.0.0.5")}, criterionList{byID, byFull, byAddress}, false},
		{"onboarded again: another id, the same full name", pc1, []*integrationv1.Evidence{onDevice(idB, "pc1.contoso.com", "10.0.0.5")}, criterionList{byFull, byAddress}, false},
		{"a file's device", pc1, []*integrationv1.Evidence{bareFile(idA)}, criterionList{byID}, false},
		{"a process's device", pc1, []*integrationv1.Evidence{bareProcess(idA)}, criterionList{byID}, false},
		{
			"a registry value's device", pc1,
			[]*integrationv1.Evidence{{Detail: &integrationv1.Evidence_RegistryValue{RegistryValue: &integrationv1.RegistryValueEvidence{MdeDeviceId: idA}}}},
			criterionList{byID}, false,
		},
		{
			"files and processes inside of malware", pc1,
			[]*integrationv1.Evidence{{Detail: &integrationv1.Evidence_Malware{Malware: &integrationv1.MalwareEvidence{
				Files: []*integrationv1.Evidence{bareFile(idB)}, Processes: []*integrationv1.Evidence{bareProcess(idA)},
			}}}},
			criterionList{byID}, false,
		},
		{
			"the host of a logon session", named,
			[]*integrationv1.Evidence{{Detail: &integrationv1.Evidence_HostLogonSession{HostLogonSession: &integrationv1.HostLogonSessionEvidence{
				Host: onDevice("", "pc1.contoso.com"),
			}}}},
			criterionList{byFull}, false,
		},
		{"host name and domain make a full name", named, []*integrationv1.Evidence{deviceEvidence(&integrationv1.DeviceEvidence{HostName: "PC1", DnsDomain: "contoso.com"})}, criterionList{byFull}, false},
		{"of another domain it is another machine", named, []*integrationv1.Evidence{deviceEvidence(&integrationv1.DeviceEvidence{HostName: "pc1", DnsDomain: "fabrikam.com"})}, nil, false},
		{
			"a full name in DNS goes before host name and domain", named,
			[]*integrationv1.Evidence{deviceEvidence(&integrationv1.DeviceEvidence{DeviceDnsName: "pc1.fabrikam.com", HostName: "pc1", DnsDomain: "contoso.com"})}, nil, false,
		},
		{"the last internal address", address, []*integrationv1.Evidence{deviceEvidence(&integrationv1.DeviceEvidence{LastIpAddress: "10.0.0.5"})}, criterionList{byAddress}, false},
		{"not the external address, which all behind the gateway share", address, []*integrationv1.Evidence{deviceEvidence(&integrationv1.DeviceEvidence{LastExternalIpAddress: "10.0.0.5"})}, nil, false},
		{"a user's or an IP evidence is no device", address, []*integrationv1.Evidence{{Detail: &integrationv1.Evidence_Ip{Ip: &integrationv1.IpEvidence{IpAddress: "10.0.0.5"}}}}, nil, false},
		{"a short name", short, []*integrationv1.Evidence{onDevice("", "pc1.contoso.com")}, criterionList{byShort}, false},
		{
			"one short name, two machines in one alert: ambiguous", short,
			[]*integrationv1.Evidence{onDevice(idA, "pc1.contoso.com"), onDevice(idB, "pc1.fabrikam.com")}, criterionList{byShort, byShort}, true,
		},
		{
			"one address, two machines in one alert: ambiguous", address,
			[]*integrationv1.Evidence{onDevice(idA, "x", "10.0.0.5"), onDevice(idB, "y", "10.0.0.5")}, criterionList{byAddress}, true,
		},
		{
			"one device twice is no ambiguity", address,
			[]*integrationv1.Evidence{onDevice(idA, "x.contoso.com", "10.0.0.5"), onDevice(idA, "", "10.0.0.5")}, criterionList{byAddress}, false,
		},
		{
			"a shared address beside the Actor's own name is no ambiguity", &integrationv1.Actor{FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Evidence{onDevice(idA, "pc1.contoso.com", "10.0.0.5"), onDevice(idB, "y", "10.0.0.5")}, criterionList{byFull, byAddress}, false,
		},
		{
			"what fits more weakly than another device of the alert is not said", &integrationv1.Actor{HostName: "pc1", IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Evidence{onDevice(idA, "pc1.contoso.com"), onDevice(idB, "pc2.contoso.com", "10.0.0.5")}, criterionList{byShort}, false,
		},
		{
			"two devices of which one is the Actor", pc1,
			[]*integrationv1.Evidence{onDevice(idB, "dc.contoso.com"), onDevice(idA, "pc1.contoso.com")}, criterionList{byID, byFull}, false,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			// Nothing known, and looked up without a device that fits, must be the same.
			for _, r := range []match.Resolution{{}, resolve(t, test.actor)} {
				got := match.MatchAlert(match.NewActor(test.actor), r, alertOf(test.evidence...))
				checkMatch(t, got, test.actor.GetActorId(), test.want, test.ambiguous)
			}
		})
	}
}

func checkMatch(t *testing.T, got *integrationv1.ActorMatch, actorID string, want criterionList, ambiguous bool) {
	t.Helper()
	if !slices.Equal(criteria(got.GetMatches()), want) || (got == nil) != (want == nil) {
		t.Errorf("matches by %v, want %v", criteria(got.GetMatches()), want)
	}
	if got.GetAmbiguous() != ambiguous {
		t.Errorf("ambiguous = %v, want %v", got.GetAmbiguous(), ambiguous)
	}
	if got != nil && got.GetActorId() != actorID {
		t.Errorf("actor_id = %q", got.GetActorId())
	}
	if got.GetCounts() {
		t.Error("counts is set")
	}
}

func TestMatchAlertWithKnownDevices(t *testing.T) {
	full := &integrationv1.Actor{FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}}
	short := &integrationv1.Actor{HostName: "pc1", IpAddresses: []string{"10.0.0.5"}}
	address := &integrationv1.Actor{IpAddresses: []string{"10.0.0.5"}}
	contoso := device(idA, "pc1.contoso.com")
	tests := []struct {
		name      string
		actor     *integrationv1.Actor
		devices   []*integrationv1.Device
		evidence  *integrationv1.Evidence
		want      criterionList
		ambiguous bool
	}{
		{"a bare id of the Actor's device", full, []*integrationv1.Device{contoso}, bareFile(idA), criterionList{byKnown}, false},
		{"a bare id of another device", full, []*integrationv1.Device{contoso}, bareFile(idB), nil, false},
		{"the known device under another name", full, []*integrationv1.Device{contoso}, onDevice(idA, "renamed.contoso.com"), criterionList{byKnown}, false},
		{"the known device and its name", full, []*integrationv1.Device{contoso}, onDevice(idA, "pc1.contoso.com"), criterionList{byKnown, byFull}, false},
		{
			"a device that was merged into the Actor's", full,
			[]*integrationv1.Device{contoso, device(idB, "old.contoso.com", mergedInto(idA))}, bareFile(idB), criterionList{byKnown}, false,
		},
		{
			"both records of a machine that was onboarded again", full,
			[]*integrationv1.Device{contoso, device(idB, "pc1.contoso.com", inactive)}, bareFile(idB), criterionList{byKnown}, false,
		},
		{
			"a record with the Actor's full name beside the device that its id names",
			&integrationv1.Actor{MdeDeviceId: idA, FqHostName: "pc1.contoso.com"},
			[]*integrationv1.Device{contoso, device(idB, "pc1.contoso.com")}, bareFile(idB), criterionList{byKnown}, false,
		},
		{
			"a device that fits by less than the Actor's own is not the Actor's", full,
			[]*integrationv1.Device{contoso, device(idB, "pc2.contoso.com", withAddresses("10.0.0.5"))}, bareFile(idB), nil, false,
		},
		{
			"several devices fit: their alerts are ambiguous", short,
			[]*integrationv1.Device{contoso, device(idB, "pc1.fabrikam.com")}, bareFile(idB), criterionList{byKnown}, true,
		},
		{
			"also by the name itself", short,
			[]*integrationv1.Device{contoso, device(idB, "pc1.fabrikam.com")}, onDevice("", "pc1"), criterionList{byShort}, true,
		},
		{
			"what fits more strongly than the ambiguous ones is not ambiguous", &integrationv1.Actor{FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idB, "x", withAddresses("10.0.0.5")), device(idC, "y", withAddresses("10.0.0.5"))},
			onDevice("", "pc1.contoso.com", "10.0.0.5"), criterionList{byFull, byAddress}, false,
		},
		{
			"an address that several known devices share is ambiguous, whoever has it in the alert", full,
			[]*integrationv1.Device{device(idA, "pc1.contoso.com", withAddresses("10.0.0.5")), device(idB, "x", withAddresses("10.0.0.5"))},
			onDevice("", "", "10.0.0.5"), criterionList{byAddress}, true,
		},
		{"an address alone, of a device without an id and a name", full, []*integrationv1.Device{contoso}, onDevice("", "", "10.0.0.5"), criterionList{byAddress}, false},
		{
			"the Actor is known, and another id and name have its address: another machine", full,
			[]*integrationv1.Device{contoso}, onDevice(idB, "pc2.contoso.com", "10.0.0.5"), nil, false,
		},
		{
			"the Actor is known, and another id without a name has its address: ambiguous", full,
			[]*integrationv1.Device{contoso}, onDevice(idB, "", "10.0.0.5"), criterionList{byAddress}, true,
		},
		{
			"the Actor is known by its address alone, and another id has it: ambiguous", address,
			[]*integrationv1.Device{device(idA, "x", withAddresses("10.0.0.5"))}, onDevice(idB, "y", "10.0.0.5"), criterionList{byAddress}, true,
		},
		{
			"the Actor is known by its address alone, and another id has it and the same name: onboarded again", address,
			[]*integrationv1.Device{device(idA, "x", withAddresses("10.0.0.5"))}, onDevice(idB, "x", "10.0.0.5"), criterionList{byAddress}, false,
		},
		{"nothing is known, and a device of another name has the Actor's address: ambiguous", full, nil, onDevice("", "pc2", "10.0.0.5"), criterionList{byAddress}, true},
		{
			"a device of another name has the Actor's address: its alerts are ambiguous", short,
			[]*integrationv1.Device{device(idA, "x", withAddresses("10.0.0.5"))}, bareFile(idA), criterionList{byKnown}, true,
		},
		{
			"the Actor is known by its full name, and another id has its short name: ambiguous", full,
			[]*integrationv1.Device{contoso}, onDevice(idB, "pc1"), criterionList{byShort}, true,
		},
		{
			"the Actor is known by its short name, and another id has that with another domain: ambiguous", short,
			[]*integrationv1.Device{contoso}, onDevice(idB, "pc1.fabrikam.com"), criterionList{byShort}, true,
		},
		{
			"the Actor is known by its short name, and another id has the device's full name: onboarded again", short,
			[]*integrationv1.Device{contoso}, onDevice(idB, "PC1.contoso.com"), criterionList{byShort}, false,
		},
		{
			"the Actor is known by its device id, and another id has the device's full name: onboarded again",
			&integrationv1.Actor{MdeDeviceId: idA, HostName: "pc1"},
			[]*integrationv1.Device{contoso}, onDevice(idB, "pc1.contoso.com"), criterionList{byShort}, false,
		},
		{
			"the Actor is known by its address, and its name comes with another id: the name is stronger", short,
			[]*integrationv1.Device{device(idA, "x", withAddresses("10.0.0.5"))}, onDevice(idB, "pc1.contoso.com"), criterionList{byShort}, false,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := resolve(t, test.actor, test.devices...)
			got := match.MatchAlert(match.NewActor(test.actor), r, alertOf(test.evidence))
			checkMatch(t, got, "", test.want, test.ambiguous)
		})
	}
}

func TestAddressOfAnotherMachineInTheAlertIsAmbiguous(t *testing.T) {
	actor := &integrationv1.Actor{FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}}
	r := resolve(t, actor, device(idA, "pc1.contoso.com"))
	// The one is certainly another machine; the other, without a name, may be that one.
	got := match.MatchAlert(match.NewActor(actor), r, alertOf(onDevice(idB, "pc2.contoso.com", "10.0.0.5"), onDevice("", "", "10.0.0.5")))
	checkMatch(t, got, "", criterionList{byAddress}, true)
}

func TestKnownDeviceTellsByWhatItIsKnown(t *testing.T) {
	actor := &integrationv1.Actor{FqHostName: "PC1.contoso.com"}
	got := match.MatchAlert(match.NewActor(actor), resolve(t, actor, device(idA, "pc1.contoso.com")), alertOf(bareFile(idA)))
	if m := got.GetMatches()[0]; m.GetActorValue() != "PC1.contoso.com" || m.GetDefenderValue() != idA {
		t.Errorf("match = %v", m)
	}
}

// TestMatchAlertDoesNotDependOnOrderCaseOrRepetition shuffles and repeats the evidence of random alerts.
func TestMatchAlertDoesNotDependOnOrderCaseOrRepetition(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	matched := 0
	for range 5000 {
		actor, alert := g.actor(), g.alert()
		r := match.Resolution{}
		if g.IntN(2) == 0 {
			r = resolve(t, actor, g.device(g.id()), g.device(g.id()))
		}
		want := match.MatchAlert(match.NewActor(actor), r, alert)

		// Evidence without a device id is a device of its own each time, so only what has one is repeated.
		other := proto.CloneOf(alert)
		for _, e := range alert.GetEvidence() {
			if e.GetDevice().GetMdeDeviceId() != "" || e.GetFile() != nil {
				other.Evidence = append(other.Evidence, e)
			}
		}
		other.Evidence = shuffled(g.Rand, other.GetEvidence())
		got := match.MatchAlert(match.NewActor(g.otherCase(actor)), r, other)
		if (got == nil) != (want == nil) || got.GetAmbiguous() != want.GetAmbiguous() ||
			!slices.Equal(kinds(got.GetMatches()), kinds(want.GetMatches())) {
			t.Fatalf("actor %v\nalert %v\nmatches %v\nshuffled %v", actor, alert, want, got)
		}
		if want != nil {
			matched++
		}
	}
	if matched < 500 {
		t.Errorf("only %d of the random alerts matched: the test shows too little", matched)
	}
}

// kinds returns the criteria, each once.
func kinds(matches []*integrationv1.Match) criterionList { return slices.Compact(criteria(matches)) }
func TestShownDevices(t *testing.T) {
	alert := &integrationv1.Alert{Evidence: []*integrationv1.Evidence{
		{Detail: &integrationv1.Evidence_Device{Device: &integrationv1.DeviceEvidence{
			MdeDeviceId: idA, HostName: "pc1", DnsDomain: "contoso.com", IpInterfaces: []string{"10.0.0.5", "127.0.0.1"},
			LastExternalIpAddress: "203.0.113.9",
		}}},
		{Detail: &integrationv1.Evidence_Device{Device: &integrationv1.DeviceEvidence{DeviceDnsName: "without-an-id.contoso.com"}}},
		{Detail: &integrationv1.Evidence_Process{Process: &integrationv1.ProcessEvidence{MdeDeviceId: idB}}},
		{Detail: &integrationv1.Evidence_HostLogonSession{HostLogonSession: &integrationv1.HostLogonSessionEvidence{
			Host: &integrationv1.Evidence{Detail: &integrationv1.Evidence_Device{Device: &integrationv1.DeviceEvidence{MdeDeviceId: idC, HostName: "pc3"}}},
		}}},
	}}
	got := match.ShownDevices(alert)
	want := []*integrationv1.Device{
		{MdeDeviceId: idA, DeviceDnsName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}},
		{MdeDeviceId: idC, DeviceDnsName: "pc3"},
	}
	if !slices.EqualFunc(got, want, func(a, b *integrationv1.Device) bool { return proto.Equal(a, b) }) {
		t.Errorf("shown are %v, want %v", got, want)
	}
	actor := match.NewActor(&integrationv1.Actor{ActorId: "actor", FqHostName: "pc1.contoso.com"})
	m := match.MatchAlert(actor, match.ResolveShown(actor, got), &integrationv1.Alert{Evidence: []*integrationv1.Evidence{
		{Detail: &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{MdeDeviceId: idA}}},
	}})
	if len(m.GetMatches()) != 1 || m.GetMatches()[0].GetCriterion() != integrationv1.MatchCriterion_MATCH_CRITERION_SHOWN_DEVICE || m.GetAmbiguous() {
		t.Errorf("an alert with the id alone: %v", m)
	}
}
