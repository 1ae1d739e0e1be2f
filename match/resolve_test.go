package match_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func TestResolve(t *testing.T) {
	hour := time.Hour
	tests := []struct {
		name      string
		actor     *integrationv1.Actor
		devices   []*integrationv1.Device
		knowledge integrationv1.ActorState_Knowledge
		want      []string // Device ids in order.
	}{
		{"no device is unknown", &integrationv1.Actor{HostName: "pc1"}, nil, unknown, nil},
		{
			"what does not fit does not matter",
			&integrationv1.Actor{HostName: "pc1"},
			[]*integrationv1.Device{device(idA, "pc2"), device(idB, "pc10")}, unknown, nil,
		},
		{
			"one that fits is known",
			&integrationv1.Actor{HostName: "pc1"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idB, "pc2")}, known, []string{idA},
		},
		{
			"onboarded again: the one seen last is preferred, both are told",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idB, "pc1.contoso.com", seen(noon.Add(hour)))}, known, []string{idB, idA},
		},
		{
			"onboarded again: an active one is preferred over one seen later",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idB, "pc1.contoso.com", inactive, seen(noon.Add(hour)))}, known, []string{idA, idB},
		},
		{
			"what is not onboarded comes last, and after it what is excluded",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com"},
			[]*integrationv1.Device{
				device(idA, "pc1.contoso.com", excluded, seen(noon.Add(hour))),
				device(idB, "pc1.contoso.com", notOnboarded, seen(noon.Add(hour))), device(idC, "pc1.contoso.com", inactive),
			}, known, []string{idC, idB, idA},
		},
		{
			"of two that are alike, the possible duplicate comes last",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com", duplicate), device(idB, "pc1.contoso.com")}, known, []string{idB, idA},
		},
		{
			"one short name, several full names: ambiguous",
			&integrationv1.Actor{HostName: "pc1"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idB, "pc1.fabrikam.com")}, isAmbiguous, []string{idA, idB},
		},
		{
			"one short name, one full name: onboarded again",
			&integrationv1.Actor{HostName: "pc1"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idB, "PC1.contoso.com", seen(noon.Add(hour))), device(idC, "pc1", inactive)},
			known, []string{idB, idA, idC},
		},
		{
			"an alternate short name is as ambiguous",
			&integrationv1.Actor{HostName: "web", AlternateHostNames: []string{"pc1"}},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idB, "pc1.fabrikam.com")}, isAmbiguous, []string{idA, idB},
		},
		{
			"two machines, each with one of the Actor's full names: ambiguous",
			&integrationv1.Actor{HostName: "web", AlternateHostNames: []string{"a.contoso.com", "b.contoso.com"}},
			[]*integrationv1.Device{device(idA, "a.contoso.com"), device(idB, "b.contoso.com")}, isAmbiguous, []string{idA, idB},
		},
		{
			"one address, several machines: ambiguous",
			&integrationv1.Actor{IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idA, "a", withAddresses("10.0.0.5")), device(idB, "b", withAddresses("10.0.0.5"))}, isAmbiguous, []string{idA, idB},
		},
		{
			"one address, several machines without a full name: ambiguous, also of one short name",
			&integrationv1.Actor{IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idA, "a", withAddresses("10.0.0.5")), device(idB, "a", withAddresses("10.0.0.5"))}, isAmbiguous, []string{idA, idB},
		},
		{
			"one address, one machine onboarded again",
			&integrationv1.Actor{IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{
				device(idA, "a.contoso.com", withAddresses("10.0.0.5"), inactive), device(idB, "a.contoso.com", withAddresses("10.0.0.5")),
			}, known, []string{idB, idA},
		},
		{
			"one address of the Actor on each of two machines: ambiguous",
			&integrationv1.Actor{IpAddresses: []string{"10.0.0.5", "10.0.0.6"}},
			[]*integrationv1.Device{device(idA, "a", withAddresses("10.0.0.5")), device(idB, "b", withAddresses("10.0.0.6"))}, isAmbiguous, []string{idA, idB},
		},
		{
			"a name wins over an address",
			&integrationv1.Actor{HostName: "pc1", IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idA, "other", withAddresses("10.0.0.5"), seen(noon.Add(hour))), device(idB, "pc1")}, known, []string{idB, idA},
		},
		{
			"an alternate full name wins over a short name",
			&integrationv1.Actor{HostName: "pc1", AlternateHostNames: []string{"web.contoso.com"}},
			[]*integrationv1.Device{device(idA, "pc1"), device(idB, "web.contoso.com")}, known, []string{idB, idA},
		},
		{
			"a full name wins over an alternate full name",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com", AlternateHostNames: []string{"web.contoso.com"}},
			[]*integrationv1.Device{device(idA, "web.contoso.com"), device(idB, "pc1.contoso.com")}, known, []string{idB, idA},
		},
		{
			"an Entra id wins over a full name",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com", EntraDeviceId: entraA},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idB, "old", withEntra(entraA))}, known, []string{idB, idA},
		},
		{
			"an Entra id names one machine, under whatever names",
			&integrationv1.Actor{EntraDeviceId: entraA},
			[]*integrationv1.Device{
				device(idA, "a.contoso.com", withEntra(entraA), inactive), device(idB, "b.contoso.com", withEntra(entraA)),
			}, known, []string{idB, idA},
		},
		{
			"a device id wins over all, also if its device is silent",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com", MdeDeviceId: idA},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com", inactive), device(idB, "pc1.contoso.com")}, known, []string{idA, idB},
		},
		{
			"a merge is followed, also to a device of another name",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com", mergedInto(idB)), device(idB, "renamed.contoso.com", inactive)}, known, []string{idB, idA},
		},
		{
			"merges are followed to the last",
			&integrationv1.Actor{MdeDeviceId: idA},
			[]*integrationv1.Device{device(idA, "x", mergedInto(idB)), device(idB, "y", mergedInto(idC)), device(idC, "z")}, known, []string{idC, idA},
		},
		{
			"what was merged away makes nothing ambiguous",
			&integrationv1.Actor{HostName: "pc1"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com", mergedInto(idB)), device(idB, "pc1.fabrikam.com")}, known, []string{idB, idA},
		},
		{
			"by an address alone, a device of another name may be another machine",
			&integrationv1.Actor{HostName: "pc1", IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idA, "pc2.contoso.com", withAddresses("10.0.0.5"))}, isAmbiguous, []string{idA},
		},
		{
			"also of an Actor that has an alternate name alone",
			&integrationv1.Actor{AlternateHostNames: []string{"pc1.contoso.com"}, IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idA, "pc2.contoso.com", withAddresses("10.0.0.5"))}, isAmbiguous, []string{idA},
		},
		{
			"an address and the first label, with another domain: one machine",
			&integrationv1.Actor{FqHostName: "pc1.local", IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com", withAddresses("10.0.0.5"))}, known, []string{idA},
		},
		{
			"an address of a device without a name",
			&integrationv1.Actor{HostName: "pc1", IpAddresses: []string{"10.0.0.5"}},
			[]*integrationv1.Device{device(idA, "", withAddresses("10.0.0.5"))}, known, []string{idA},
		},
		{
			"merged into what is not there: it stays",
			&integrationv1.Actor{HostName: "pc1"},
			[]*integrationv1.Device{device(idA, "pc1", mergedInto(idC))}, known, []string{idA},
		},
		{
			"merges that lead round in a circle are none",
			&integrationv1.Actor{FqHostName: "pc1.contoso.com"},
			[]*integrationv1.Device{
				device(idA, "pc1.contoso.com", mergedInto(idB)), device(idB, "pc1.contoso.com", mergedInto(idA), seen(noon.Add(hour))),
			}, known, []string{idB, idA},
		},
		{
			"merged into itself is no merge",
			&integrationv1.Actor{HostName: "pc1"}, []*integrationv1.Device{device(idA, "pc1", mergedInto(idA))}, known, []string{idA},
		},
		{
			"of two facts of one device, the one seen last counts",
			&integrationv1.Actor{HostName: "pc1"},
			[]*integrationv1.Device{device(idA, "pc1.contoso.com"), device(idA, "pc1.fabrikam.com", seen(noon.Add(hour)))}, known, []string{idA},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := resolve(t, test.actor, test.devices...)
			if r.Knowledge != test.knowledge {
				t.Errorf("knowledge = %v, want %v", r.Knowledge, test.knowledge)
			}
			var got []string
			for i, d := range r.Devices {
				got = append(got, d.GetDevice().GetMdeDeviceId())
				if want := i == 0 && test.knowledge == known; d.GetPreferred() != want {
					t.Errorf("device %d: preferred = %v, want %v", i, d.GetPreferred(), want)
				}
				if len(d.GetMatches()) == 0 {
					t.Errorf("device %d is told without a match", i)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("devices %v, want %v", got, test.want)
			}
			if test.knowledge == known && r.Preferred != r.Devices[0].GetDevice() || test.knowledge != known && r.Preferred != nil {
				t.Errorf("preferred = %v", r.Preferred)
			}
		})
	}
}

func TestResolveTakesTheFactSeenLast(t *testing.T) {
	older, newer := device(idA, "pc1.contoso.com"), device(idA, "pc1.fabrikam.com", seen(noon.Add(time.Second)))
	for _, devices := range [][]*integrationv1.Device{{older, newer}, {newer, older}} {
		if r := resolve(t, &integrationv1.Actor{MdeDeviceId: idA}, devices...); r.Preferred != newer {
			t.Errorf("preferred = %v", r.Preferred)
		}
	}
}

// TestResolveDoesNotDependOnOrderCaseOrRepetition shuffles, repeats and changes the case of random devices.
func TestResolveDoesNotDependOnOrderCaseOrRepetition(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		g := generator{r}
		actor := g.actor()
		var devices []*integrationv1.Device
		for i := range r.IntN(6) {
			// Distinct devices: what one fact says of a device, no other contradicts.
			devices = append(devices, g.device(fmt.Sprintf("%040x", i+1)))
		}
		want := resolve(t, actor, devices...)
		got := resolve(t, g.otherCase(actor), shuffled(r, append(slices.Clone(devices), devices...))...)
		if got.Knowledge != want.Knowledge || len(got.Devices) != len(want.Devices) {
			t.Fatalf("%v among %v: %v with %d devices, shuffled %v with %d",
				actor, devices, want.Knowledge, len(want.Devices), got.Knowledge, len(got.Devices))
		}
		for i := range want.Devices {
			if !proto.Equal(got.Devices[i].GetDevice(), want.Devices[i].GetDevice()) {
				t.Fatalf("%v among %v: device %d differs when shuffled", actor, devices, i)
			}
		}
		if !sameKeys(got.Keys(), want.Keys()) {
			t.Fatalf("%v among %v: other keys when shuffled", actor, devices)
		}
	}
}

func sameKeys(x, y []match.Key) bool {
	byText := func(keys []match.Key) []string {
		var out []string
		for _, k := range keys {
			out = append(out, k.String())
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(byText(x), byText(y))
}
