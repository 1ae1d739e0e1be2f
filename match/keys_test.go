package match_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

func intersect(x, y []match.Key) bool {
	return slices.ContainsFunc(x, func(k match.Key) bool { return slices.Contains(y, k) })
}

// TestWhatMatchesSharesAKey is the rule that the index rests on.
func TestWhatMatchesSharesAKey(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 6))}
	devices, alerts, byDevice := 0, 0, 0
	for range 10_000 {
		raw := g.actor()
		actor := match.NewActor(raw)
		d := g.device(g.id())
		if len(actor.MatchDevice(d)) > 0 {
			devices++
			if !intersect(match.ActorKeys(raw), match.DeviceKeys(d)) {
				t.Fatalf("actor %v matches device %v and shares no key", raw, d)
			}
		}
		alert := g.alert()
		r := match.Resolve(actor, []*integrationv1.Device{d, g.device(g.id())})
		if m := match.MatchAlert(actor, r, alert); m != nil {
			alerts++
			if !intersect(actor.Keys(), match.AlertKeys(alert)) {
				byDevice++
				if !intersect(r.Keys(), match.AlertKeys(alert)) {
					t.Fatalf("actor %v, known devices %v, alert %v: matches by %v and shares no key", raw, r.Keys(), alert, m)
				}
			}
		}
	}
	if devices < 500 || alerts < 500 || byDevice < 50 {
		t.Errorf("%d devices, %d alerts, %d by the known device alone: the test shows too little", devices, alerts, byDevice)
	}
}

func TestKeys(t *testing.T) {
	tests := []struct {
		name string
		keys []match.Key
		want []string
	}{
		{
			"an Actor with a full name looks for it, and for devices with its short name",
			match.ActorKeys(&integrationv1.Actor{HostName: "PC1", FqHostName: "pc1.contoso.com."}),
			[]string{"full name:pc1.contoso.com", "short name:pc1"},
		},
		{
			"an Actor with a short name looks for every device whose name begins so",
			match.ActorKeys(&integrationv1.Actor{HostName: "PC1"}), []string{"label:pc1"},
		},
		{
			"alternate names, addresses and ids are keys too",
			match.ActorKeys(&integrationv1.Actor{
				AlternateHostNames: []string{"web", "WEB.contoso.com"}, IpAddresses: []string{"::ffff:10.0.0.5", "10.0.0.5"},
				MdeDeviceId: "AAAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", EntraDeviceId: entraA,
			}),
			[]string{"device:" + idA, "entra:" + entraA, "label:web", "full name:web.contoso.com", "short name:web", "address:10.0.0.5"},
		},
		{
			"a device with a full name",
			match.DeviceKeys(device(idA, "pc1.contoso.com")), []string{"device:" + idA, "full name:pc1.contoso.com", "label:pc1"},
		},
		{"a device with a short name", match.DeviceKeys(device("", "pc1")), []string{"label:pc1", "short name:pc1"}},
		{
			"nothing that every machine has",
			match.ActorKeys(&integrationv1.Actor{HostName: "localhost", IpAddresses: []string{"127.0.0.1", "::1", "0.0.0.0", "::", ""}}), nil,
		},
		{"an alert's devices, each key once", match.AlertKeys(alertOf(bareFile(idA), bareProcess(idA), bareFile(idB))), []string{"device:" + idA, "device:" + idB}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, k := range test.keys {
				got = append(got, k.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("keys %q, want %q", got, test.want)
			}
		})
	}
}

func TestDeviceIDKey(t *testing.T) {
	if match.DeviceIDKey("ABC0000000000000000000000000000000000000") != match.DeviceIDKey("abc0000000000000000000000000000000000000") {
		t.Error("the key of a device id depends on case")
	}
	if (match.DeviceIDKey("") != match.Key{}) {
		t.Error("the empty id has a key")
	}
	if slices.Contains(match.DeviceKeys(&integrationv1.Device{}), match.Key{}) || slices.Contains(match.ActorKeys(&integrationv1.Actor{}), match.Key{}) {
		t.Error("the zero key is a key of something")
	}
}

// BenchmarkMatchAlert measures one alert against an index of Actors of which one is meant.
func BenchmarkMatchAlert(b *testing.B) {
	alert := alertOf(
		onDevice(idA, "host7.contoso.com", "10.1.0.7", "fe80::7"),
		file(0, 0), process(0, 0), bareProcess(idA), bareFile(idA),
	)
	for _, actors := range []int{1, 100, 10_000} {
		index := make(map[match.Key][]*match.Actor)
		for i := range actors {
			actor := match.NewActor(&integrationv1.Actor{
				ActorId:     fmt.Sprint(i),
				HostName:    fmt.Sprintf("host%d", i+7),
				FqHostName:  fmt.Sprintf("host%d.contoso.com", i+7),
				IpAddresses: []string{fmt.Sprintf("10.1.%d.%d", (i+7)/256, (i+7)%256)},
			})
			for _, key := range actor.Keys() {
				index[key] = append(index[key], actor)
			}
		}
		b.Run(fmt.Sprintf("actors=%d", actors), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				devices := match.DevicesOf(alert)
				matched := map[*match.Actor]*integrationv1.ActorMatch{}
				for _, key := range devices.Keys() {
					for _, actor := range index[key] {
						if _, done := matched[actor]; !done {
							matched[actor] = devices.Match(actor, match.Resolution{})
						}
					}
				}
				if len(matched) != 1 {
					b.Fatalf("%d Actors matched", len(matched))
				}
			}
		})
	}
}
