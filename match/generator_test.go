package match_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// generator makes Actors, devices and alerts from a small world of names, ids and addresses, so that many of them meet.
type generator struct{ *rand.Rand }

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g generator) name() string {
	return g.one("", "a", "b", "a.x.com", "b.x.com", "a.y.com", "A.X.com.", "localhost", "10.0.0.1", "a.x.com ", ".x.com")
}

func (g generator) address() string {
	return g.one("", "10.0.0.1", "10.0.0.2", "::ffff:10.0.0.1", "127.0.0.1", "0.0.0.0", "fe80::1%1", "fe80::1", "none")
}

func (g generator) id() string {
	return g.one("", "", fmt.Sprintf("%040x", 1+g.IntN(4)), fmt.Sprintf("%040X", 10+g.IntN(2)))
}

func (g generator) entra() string {
	return g.one("", "", entraA, strings.ToUpper(entraA), "00000000-0000-0000-0000-000000000000")
}

func (g generator) some(most int, value func() string) []string {
	var out []string
	for range g.IntN(most + 1) {
		out = append(out, value())
	}
	return out
}

func (g generator) actor() *integrationv1.Actor {
	return &integrationv1.Actor{
		ActorId: "actor", HostName: g.name(), FqHostName: g.name(), AlternateHostNames: g.some(2, g.name),
		IpAddresses: g.some(2, g.address), MdeDeviceId: g.id(), EntraDeviceId: g.entra(),
	}
}

func (g generator) device(id string) *integrationv1.Device {
	d := device(id, g.name(), withEntra(g.entra()), withAddresses(g.some(2, g.address)...),
		seen(noon.Add(time.Duration(g.IntN(3))*time.Hour)))
	for _, change := range []func(*integrationv1.Device){inactive, notOnboarded, excluded, duplicate, mergedInto(g.id())} {
		if g.IntN(4) == 0 {
			change(d)
		}
	}
	return d
}

func (g generator) evidence() *integrationv1.Evidence {
	device := func() *integrationv1.Evidence {
		return deviceEvidence(&integrationv1.DeviceEvidence{
			MdeDeviceId: g.id(), EntraDeviceId: g.entra(), DeviceDnsName: g.name(), HostName: g.name(),
			DnsDomain: g.one("", "x.com", ".y.com", "localhost"), IpInterfaces: g.some(2, g.address), LastIpAddress: g.address(),
		})
	}
	bare := func() *integrationv1.Evidence {
		return &integrationv1.Evidence{Detail: &integrationv1.Evidence_File{File: &integrationv1.FileEvidence{MdeDeviceId: g.id()}}}
	}
	switch g.IntN(6) {
	case 0:
		return bare()
	case 1:
		return &integrationv1.Evidence{Detail: &integrationv1.Evidence_Malware{Malware: &integrationv1.MalwareEvidence{
			Files: []*integrationv1.Evidence{bare()},
		}}}
	case 2:
		return &integrationv1.Evidence{Detail: &integrationv1.Evidence_HostLogonSession{
			HostLogonSession: &integrationv1.HostLogonSessionEvidence{Host: device()},
		}}
	default:
		return device()
	}
}

func (g generator) alert() *integrationv1.Alert {
	alert := alertOf()
	for range g.IntN(4) {
		alert.Evidence = append(alert.Evidence, g.evidence())
	}
	return alert
}

// otherCase returns the Actor with its names and ids in upper case, and each of its list's values twice.
func (g generator) otherCase(actor *integrationv1.Actor) *integrationv1.Actor {
	upper := func(in []string) []string {
		var out []string
		for _, s := range in {
			out = append(out, strings.ToUpper(s))
		}
		return append(out, in...)
	}
	out := proto.CloneOf(actor)
	out.HostName = strings.ToUpper(actor.GetHostName())
	out.FqHostName = strings.ToUpper(actor.GetFqHostName())
	out.AlternateHostNames = upper(actor.GetAlternateHostNames())
	out.IpAddresses = shuffled(g.Rand, append(actor.GetIpAddresses(), actor.GetIpAddresses()...))
	out.MdeDeviceId = strings.ToUpper(actor.GetMdeDeviceId())
	out.EntraDeviceId = strings.ToUpper(actor.GetEntraDeviceId())
	return out
}
