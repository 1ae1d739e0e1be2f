package match_test

import (
	"slices"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

type criterionList = []integrationv1.MatchCriterion

func TestMatchDevice(t *testing.T) {
	tests := []struct {
		name   string
		actor  *integrationv1.Actor
		device *integrationv1.Device
		want   criterionList
	}{
		{
			"a device id matches exactly, without case",
			&integrationv1.Actor{MdeDeviceId: "AAAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, device(idA, ""), criterionList{byID},
		},
		{"another device id does not", &integrationv1.Actor{MdeDeviceId: idB}, device(idA, ""), nil},
		{"the start of a device id does not", &integrationv1.Actor{MdeDeviceId: idA[:20]}, device(idA, ""), nil},
		{
			"an Entra id matches exactly, without case",
			&integrationv1.Actor{EntraDeviceId: "ABCDEF00-2222-3333-4444-555555555555"},
			device("", "", withEntra("abcdef00-2222-3333-4444-555555555555")), criterionList{byEntra},
		},
		{
			"an Entra id of zeros is none",
			&integrationv1.Actor{EntraDeviceId: "00000000-0000-0000-0000-000000000000"},
			device("", "", withEntra("00000000-0000-0000-0000-000000000000")), nil,
		},
		{"an empty Actor matches nothing, not even an empty device", &integrationv1.Actor{}, &integrationv1.Device{}, nil},
		{
			"a full name equals a full name, without case and trailing dot",
			&integrationv1.Actor{FqHostName: "PC1.Contoso.COM."}, device("", "pc1.contoso.com"), criterionList{byFull},
		},
		{
			"a full name in host_name is one too",
			&integrationv1.Actor{HostName: "pc1.contoso.com"}, device("", "PC1.CONTOSO.COM"), criterionList{byFull},
		},
		{"a full name is no other full name with the same first label", &integrationv1.Actor{FqHostName: "pc1.contoso.com"}, device("", "pc1.fabrikam.com"), nil},
		{
			"where both have full names, the Actor's short name is not compared",
			&integrationv1.Actor{HostName: "pc1", FqHostName: "pc1.contoso.com"}, device("", "pc1.fabrikam.com"), nil,
		},
		{"a short name equals the first label of a full one", &integrationv1.Actor{HostName: "PC1"}, device("", "pc1.contoso.com"), criterionList{byShort}},
		{"a full name's first label equals a short name", &integrationv1.Actor{FqHostName: "pc1.contoso.com"}, device("", "Pc1"), criterionList{byShort}},
		{"a short name equals a short name, and is the weaker match all the same", &integrationv1.Actor{HostName: "pc1"}, device("", "PC1"), criterionList{byShort}},
		{
			"short and full name of one machine are one match",
			&integrationv1.Actor{HostName: "pc1", FqHostName: "pc1.contoso.com"}, device("", "pc1"), criterionList{byShort},
		},
		{"no prefixes", &integrationv1.Actor{HostName: "pc1"}, device("", "pc10.contoso.com"), nil},
		{"no prefixes the other way", &integrationv1.Actor{HostName: "pc10"}, device("", "pc1"), nil},
		{"no substrings", &integrationv1.Actor{HostName: "c1"}, device("", "pc1.c1.com"), nil},
		{"no parent domains", &integrationv1.Actor{FqHostName: "contoso.com"}, device("", "pc1.contoso.com"), nil},
		{"letters beyond ASCII have no case either", &integrationv1.Actor{HostName: "BÜRO-ΟΔΟΣ"}, device("", "büro-οδος"), criterionList{byShort}},
		{"localhost is every machine's name, and none", &integrationv1.Actor{HostName: "localhost"}, device("", "LOCALHOST.localdomain"), nil},
		{
			"an alternate full name",
			&integrationv1.Actor{HostName: "web", AlternateHostNames: []string{"pc1.contoso.com"}}, device("", "PC1.contoso.com"), criterionList{byAltFull},
		},
		{
			"an alternate short name",
			&integrationv1.Actor{FqHostName: "web.contoso.com", AlternateHostNames: []string{"pc1"}}, device("", "pc1.fabrikam.com"), criterionList{byAltShort},
		},
		{
			"an alternate full name's first label",
			&integrationv1.Actor{HostName: "web", AlternateHostNames: []string{"pc1.contoso.com"}}, device("", "pc1"), criterionList{byAltShort},
		},
		{
			"an alternate full name is no other full name",
			&integrationv1.Actor{HostName: "web", AlternateHostNames: []string{"pc1.contoso.com"}}, device("", "pc1.fabrikam.com"), nil,
		},
		{"an address", &integrationv1.Actor{IpAddresses: []string{"10.0.0.5"}}, device("", "", withAddresses("10.0.0.4", "10.0.0.5")), criterionList{byAddress}},
		{"an address mapped into IPv6", &integrationv1.Actor{IpAddresses: []string{"::ffff:10.0.0.5"}}, device("", "", withAddresses("10.0.0.5")), criterionList{byAddress}},
		{"an IPv6 address written otherwise", &integrationv1.Actor{IpAddresses: []string{"2001:DB8:0:0::1"}}, device("", "", withAddresses("2001:db8::1")), criterionList{byAddress}},
		{"an address with a zone", &integrationv1.Actor{IpAddresses: []string{"fe80::1%eth0"}}, device("", "", withAddresses("fe80::1%12")), criterionList{byAddress}},
		{"not the start of an address", &integrationv1.Actor{IpAddresses: []string{"10.0.0.5"}}, device("", "", withAddresses("10.0.0.50")), nil},
		{"loopback never", &integrationv1.Actor{IpAddresses: []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"}}, device("", "", withAddresses("127.0.0.1", "::1")), nil},
		{"unspecified never", &integrationv1.Actor{IpAddresses: []string{"0.0.0.0", "::"}}, device("", "", withAddresses("0.0.0.0", "::")), nil},
		{"what is no address never, even if equal", &integrationv1.Actor{IpAddresses: []string{"", "n/a"}}, device("", "", withAddresses("", "n/a")), nil},
		{"an address in the place of a name is an address", &integrationv1.Actor{HostName: "10.0.0.5"}, device("", "10.0.0.9", withAddresses("10.0.0.5")), criterionList{byAddress}},
		{"and no short name", &integrationv1.Actor{HostName: "10.0.0.5"}, device("", "10"), nil},
		{
			"everything that fits is said, the strongest first",
			&integrationv1.Actor{
				HostName: "pc1", FqHostName: "pc1.contoso.com", AlternateHostNames: []string{"pc1", "pc1.contoso.com"},
				IpAddresses: []string{"10.0.0.5", "10.0.0.6"}, MdeDeviceId: idA, EntraDeviceId: entraA,
			},
			device(idA, "pc1.contoso.com", withEntra(entraA), withAddresses("10.0.0.6", "10.0.0.5")),
			criterionList{byID, byEntra, byFull, byAltFull, byAltShort, byAddress, byAddress},
		},
		{
			"a machine that was onboarded again has another id and the same name",
			&integrationv1.Actor{MdeDeviceId: idA, FqHostName: "pc1.contoso.com"}, device(idB, "pc1.contoso.com"), criterionList{byFull},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := criteria(match.NewActor(test.actor).MatchDevice(test.device))
			if !slices.Equal(got, test.want) {
				t.Errorf("matches by %v, want %v", got, test.want)
			}
		})
	}
}

func TestMatchTellsTheValuesAsGiven(t *testing.T) {
	actor := match.NewActor(&integrationv1.Actor{ActorId: "actor", FqHostName: "PC1.Contoso.com."})
	matches := actor.MatchDevice(device("", "pc1.CONTOSO.com"))
	if len(matches) != 1 || matches[0].GetActorValue() != "PC1.Contoso.com." || matches[0].GetDefenderValue() != "pc1.CONTOSO.com" {
		t.Errorf("matches = %v", matches)
	}
	if actor.ID() != "actor" {
		t.Errorf("id = %q", actor.ID())
	}
}
