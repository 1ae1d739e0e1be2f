package match_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	weakly "weak"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// Criteria in short.
const (
	failsDevice     = integrationv1.CountingCriterion_COUNTING_CRITERION_DEVICE
	failsDoubt      = integrationv1.CountingCriterion_COUNTING_CRITERION_UNAMBIGUOUS
	failsActivity   = integrationv1.CountingCriterion_COUNTING_CRITERION_ACTIVITY
	failsConfidence = integrationv1.CountingCriterion_COUNTING_CRITERION_CONFIDENCE
)

// collected is an alert about a device, with its activity.
func collected(id string, first, last time.Time, evidence ...*integrationv1.Evidence) *integrationv1.Alert {
	return &integrationv1.Alert{
		Id: id, Title: "Alert " + id, CreatedTime: stamp(last), FirstActivityTime: stamp(first), LastActivityTime: stamp(last), Evidence: evidence,
	}
}

// nearMisses gathers the near misses of these Actors, of each alert as it matches them by itself.
type nearMisses struct {
	*match.NearMisses
	actors []*match.Actor
	least  integrationv1.Confidence
}

func newNearMisses(least integrationv1.Confidence, most int, actors ...*integrationv1.Actor) *nearMisses {
	n := &nearMisses{least: least}
	for _, a := range actors {
		n.actors = append(n.actors, match.NewActor(a))
	}
	n.NearMisses = match.NewNearMisses(n.actors, window, tolerance, least, most)
	return n
}

func (n *nearMisses) add(alerts ...*integrationv1.Alert) *nearMisses {
	for _, alert := range alerts {
		activity := match.ActivityOf(alert, window, tolerance)
		var matches []*integrationv1.ActorMatch
		for _, a := range n.actors {
			if m := match.MatchAlert(a, match.Resolution{}, alert); m != nil {
				m.Counts = match.Counts(m, activity, n.least)
				matches = append(matches, m)
			}
		}
		n.Add(alert.GetId(), alert, matches, activity)
	}
	return n
}

func TestNearMissInWords(t *testing.T) {
	const wantedWindow = "2026-03-01T12:00:00Z to 2026-03-01T13:00:00Z, with a tolerance of 5m0s"
	inside := noon.Add(time.Minute)
	actor := &integrationv1.Actor{ActorId: "a", FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}}
	tests := []struct {
		name  string
		alert *integrationv1.Alert
		least integrationv1.Confidence
		want  *integrationv1.NearMiss
	}{
		{"another device", collected("x", inside, inside, onDevice(idB, "pc2.contoso.com")), 0, &integrationv1.NearMiss{
			Criterion: failsDevice, WantedValue: "pc1.contoso.com", AlertValue: "pc2.contoso.com " + idB,
			Explanation: "Its device shares no id, name or address with the Actor.",
		}},
		{"several other devices", collected("x", inside, inside, onDevice("", "", "10.0.0.7"), onDevice(idB, "")), 0, &integrationv1.NearMiss{
			Criterion: failsDevice, WantedValue: "pc1.contoso.com", AlertValue: "10.0.0.7",
			Explanation: "None of its 2 devices shares an id, a name or an address with the Actor.",
		}},
		{"no device", collected("x", inside, inside), 0, &integrationv1.NearMiss{
			Criterion: failsDevice, WantedValue: "pc1.contoso.com", Explanation: "It is about no device.",
		}},
		{"the first label", collected("x", inside, inside, onDevice(idB, "other.contoso.com"), onDevice("", "PC1.fabrikam.com")), 0, &integrationv1.NearMiss{
			Criterion: failsDevice, WantedValue: "pc1.contoso.com", AlertValue: "PC1.fabrikam.com",
			Explanation: `Its device shares only the first label "pc1" of its name with the Actor.`,
		}},
		{
			"an address that two devices share", collected("x", inside, inside, onDevice(idB, "pc2.contoso.com", "10.0.0.5"), onDevice(idC, "pc3.contoso.com", "10.0.0.5")), 0,
			&integrationv1.NearMiss{
				Criterion: failsDoubt, WantedValue: "10.0.0.5", AlertValue: "10.0.0.5",
				Explanation: "Its device fits the Actor by nothing stronger than its ip address, and nothing tells whether the Actor or another machine is meant.",
			},
		},
		{"before the window", collected("x", noon.Add(-2*time.Hour), noon.Add(-time.Hour), onDevice(idA, "pc1.contoso.com")), 0, &integrationv1.NearMiss{
			Criterion: failsActivity, WantedValue: wantedWindow, AlertValue: "2026-03-01T10:00:00Z to 2026-03-01T11:00:00Z",
			Explanation: "Its activity ended 1h0m0s before the window.",
		}},
		{"before and inside, without evidence", collected("x", noon.Add(-2*time.Hour), inside, onDevice(idA, "pc1.contoso.com")), 0, &integrationv1.NearMiss{
			Criterion: failsActivity, WantedValue: wantedWindow, AlertValue: "2026-03-01T10:00:00Z to 2026-03-01T12:01:00Z",
			Explanation: "Its activity began 2h0m0s before the window, and none of its evidence about the Actor's device is from inside.",
		}},
		{"after the window", collected("x", noon.Add(2*time.Hour), noon.Add(2*time.Hour), onDevice(idA, "pc1.contoso.com")), 0, &integrationv1.NearMiss{
			Criterion: failsActivity, WantedValue: wantedWindow, AlertValue: "2026-03-01T14:00:00Z to 2026-03-01T14:00:00Z",
			Explanation: "Its activity began 1h0m0s after the window.",
		}},
		{
			"only created, before the window",
			&integrationv1.Alert{Id: "x", Title: "Alert x", CreatedTime: stamp(noon.Add(-time.Hour)), Evidence: []*integrationv1.Evidence{onDevice(idA, "pc1.contoso.com")}}, 0,
			&integrationv1.NearMiss{
				Criterion: failsActivity, WantedValue: wantedWindow, AlertValue: "2026-03-01T11:00:00Z",
				Explanation: "Its activity ended 1h0m0s before the window. It tells no activity, so that its creation was gone by.",
			},
		},
		{"no time", &integrationv1.Alert{Id: "x", Title: "Alert x", Evidence: []*integrationv1.Evidence{onDevice(idA, "pc1.contoso.com")}}, 0, &integrationv1.NearMiss{
			Criterion: failsActivity, WantedValue: wantedWindow,
			Explanation: "It tells no time, so nothing says that it is about the window.",
		}},
		{"not sure enough", collected("x", inside, inside, onDevice(idA, "pc1.contoso.com")), strong, &integrationv1.NearMiss{
			Criterion: failsConfidence, WantedValue: "STRONG", AlertValue: "DEVICE_ONLY",
			Explanation: "It is less surely about the attack than min_confidence asks. No traces of the attack were given, and it is attributed by the device alone.",
		}},
		{"what counts is none", collected("x", inside, inside, onDevice(idA, "pc1.contoso.com")), 0, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			misses, uncounted := newNearMisses(test.least, 10, actor).add(test.alert).Of("a")
			if len(uncounted) != 0 {
				t.Errorf("%v are left", uncounted)
			}
			if test.want == nil {
				if len(misses) != 0 {
					t.Errorf("misses %v", misses)
				}
				return
			}
			test.want.AlertId, test.want.Title, test.want.CreatedTime = "x", "Alert x", test.alert.GetCreatedTime()
			if len(misses) != 1 || !proto.Equal(misses[0], test.want) {
				t.Errorf("misses\n got %v\nwant %v", misses, test.want)
			}
		})
	}
}

// By an address that another machine has now, an alert does not match; it is the nearest of those about other devices.
func TestNearMissByAnAddress(t *testing.T) {
	actor := &integrationv1.Actor{ActorId: "a", FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}}
	n := newNearMisses(0, 10, actor)
	inside := noon.Add(time.Minute)
	for _, alert := range []*integrationv1.Alert{
		collected("a stranger", inside, inside, onDevice(idC, "pc3.contoso.com")),
		collected("shares the address", noon.Add(-9*time.Hour), noon.Add(-9*time.Hour), onDevice(idB, "pc2.contoso.com", "10.0.0.5")),
	} {
		n.Add(alert.GetId(), alert, nil, match.ActivityOf(alert, window, tolerance))
	}
	misses, _ := n.Of("a")
	if len(misses) != 2 || misses[0].GetAlertId() != "shares the address" || misses[0].GetExplanation() != "Its device has the Actor's address 10.0.0.5, and another name or id." {
		t.Errorf("misses %v", misses)
	}
}

// The later the criterion that failed, the nearer; then what shares a name or an address; then the distance in time; then the id.
func TestNearestMissesFirst(t *testing.T) {
	inside := noon.Add(time.Minute)
	before := func(d time.Duration) time.Time { return noon.Add(-d) }
	mine := onDevice(idA, "pc1.contoso.com")
	other := onDevice(idB, "pc2.contoso.com")
	actor := &integrationv1.Actor{ActorId: "a", FqHostName: "pc1.contoso.com", IpAddresses: []string{"10.0.0.5"}}
	wanted := []*integrationv1.Alert{
		collected("unsure", inside, inside, mine),
		collected("an hour before", before(time.Hour), before(time.Hour), mine),
		collected("2 an hour after", noon.Add(2*time.Hour), noon.Add(2*time.Hour), mine),
		collected("3 two hours before", before(2*time.Hour), before(2*time.Hour), mine),
		collected("doubtful", inside, inside, onDevice(idB, "pc2.contoso.com", "10.0.0.5"), onDevice(strings.Repeat("d", 40), "pc3.contoso.com", "10.0.0.5")),
		collected("shares the label", before(9*time.Hour), before(9*time.Hour), onDevice(idB, "pc1.fabrikam.com")),
		collected("another b", inside, inside, other),
		collected("another c", inside, inside),
		collected("another a, before", before(time.Hour), before(time.Hour), other),
		collected("another, after", noon.Add(3*time.Hour), noon.Add(3*time.Hour), other),
	}
	// The order among those that fail by their activity at one distance is by id.
	var ids []string
	for _, a := range wanted {
		ids = append(ids, a.GetId())
	}
	ids[1], ids[2] = ids[2], ids[1]
	// What counts is no miss, though nothing but the device's id says so.
	counts := collected("counts", inside, inside, onDevice(idC, "renamed.contoso.com"))
	beside := &integrationv1.Actor{ActorId: "beside", FqHostName: "pc9.contoso.com"}
	actor.MdeDeviceId = idC
	r := rand.New(rand.NewPCG(1, 2))
	for most := 1; most <= len(wanted)+3; most++ {
		n := newNearMisses(strong, most, actor, beside).add(shuffled(r, wanted)...)
		n.Add(counts.GetId(), counts, []*integrationv1.ActorMatch{{ActorId: "a", Counts: true}}, inWindow)
		misses, uncounted := n.Of("a")
		var got []string
		left := int64(len(wanted))
		for _, m := range misses {
			got = append(got, m.GetAlertId())
			left--
		}
		for _, u := range uncounted {
			left -= u.GetAlerts()
		}
		if !slices.Equal(got, ids[:min(most, len(ids))]) || left != 0 {
			t.Errorf("at most %d: %q, and %v are counted (%d too few)", most, got, uncounted, left)
		}
	}
}

// What is told of each Actor is what comparing every alert with it tells, however many alerts there are.
func TestNearMissesAreTheNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var actors []*integrationv1.Actor
	for i := range 6 {
		actors = append(actors, &integrationv1.Actor{ActorId: fmt.Sprint(i), FqHostName: fmt.Sprintf("pc%d.contoso.com", i), IpAddresses: []string{fmt.Sprintf("10.0.0.%d", i+1)}})
	}
	var all []*integrationv1.Alert
	for i := range 9000 {
		at := noon.Add(time.Duration(r.IntN(24*3600)-12*3600) * time.Second)
		name := fmt.Sprintf("pc%d.%s.com", r.IntN(60), []string{"contoso", "fabrikam"}[r.IntN(2)])
		all = append(all, collected(fmt.Sprint("alert ", i), at, at, onDevice(fmt.Sprintf("%040x", i+1), name)))
	}
	n := newNearMisses(0, 10, actors...).add(all...)
	for _, actor := range actors {
		misses, uncounted := n.Of(actor.GetActorId())
		// Those of one Actor alone, without the others: nothing that it is not related to stands in the way.
		alone, left := newNearMisses(0, 10, actor).add(all...).Of(actor.GetActorId())
		if !slices.EqualFunc(misses, alone, func(a, b *integrationv1.NearMiss) bool { return proto.Equal(a, b) }) ||
			!slices.EqualFunc(uncounted, left, func(a, b *integrationv1.Uncounted) bool { return proto.Equal(a, b) }) {
			t.Fatalf("%s\n%v %v\nalone\n%v %v", actor.GetActorId(), misses, uncounted, alone, left)
		}
	}
	if misses, uncounted := n.Of("nobody"); misses != nil || uncounted != nil {
		t.Errorf("of an Actor that is none: %v, %v", misses, uncounted)
	}
}

// Values that a machine or a person chose are cut.
func TestNearMissesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 60) + "." + strings.Repeat("ÿ", 10_000)
	alert := collected("x", noon, noon, onDevice(strings.Repeat("f", 10_000), long))
	alert.Title = strings.Repeat("t", 100_000)
	misses, _ := newNearMisses(0, 10, &integrationv1.Actor{ActorId: "a", HostName: strings.Repeat("y", 253)}).add(alert).Of("a")
	if len(misses) != 1 || proto.Size(misses[0]) > 1500 {
		t.Errorf("it is %d bytes: %v", proto.Size(misses[0]), misses)
	}
}

// Of an alert nothing is kept but what tells of it: it may be large, and thousands are looked at.
func TestNearMissesKeepNoAlert(t *testing.T) {
	n := newNearMisses(0, 10, &integrationv1.Actor{ActorId: "a", FqHostName: "pc1.contoso.com"})
	var kept weakly.Pointer[integrationv1.Alert]
	func() {
		alert := collected("x", noon, noon, onDevice(idB, "pc2.contoso.com"))
		kept = weakly.Make(alert)
		n.add(alert)
	}()
	for range 10 {
		runtime.GC()
		if kept.Value() == nil {
			break
		}
	}
	if misses, _ := n.Of("a"); kept.Value() != nil || len(misses) != 1 {
		t.Errorf("the alert is kept: %t; misses %v", kept.Value() != nil, misses)
	}
}

// Among the alerts that are not surely enough about the attack, the surest is the nearest.
func TestSurestMissFirst(t *testing.T) {
	actor := &integrationv1.Actor{ActorId: "a", FqHostName: "pc1.contoso.com"}
	n := newNearMisses(strong, 1, actor)
	for id, confidence := range map[string]integrationv1.Confidence{
		"a device": integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY, "b user": integrationv1.Confidence_CONFIDENCE_WEAK,
		"c device": integrationv1.Confidence_CONFIDENCE_DEVICE_ONLY,
	} {
		alert := collected(id, noon, noon, onDevice(idA, "pc1.contoso.com"))
		n.Add(id, alert, []*integrationv1.ActorMatch{{ActorId: "a", Attribution: &integrationv1.Attribution{Confidence: confidence}}}, inWindow)
	}
	misses, uncounted := n.Of("a")
	if len(misses) != 1 || misses[0].GetAlertId() != "b user" || len(uncounted) != 1 || uncounted[0].GetAlerts() != 2 {
		t.Errorf("misses %v, %v", misses, uncounted)
	}
}

// BenchmarkNearMisses is a thousand Actors and ten thousand alerts, a tenth of them about an Actor: of names of their own, and where
// every name begins alike.
func BenchmarkNearMisses(b *testing.B) {
	for name, label := range map[string]func(int) string{
		"names of their own": func(i int) string { return fmt.Sprintf("pc%d", i) },
		"one first label":    func(int) string { return "pc" },
	} {
		b.Run(name, func(b *testing.B) {
			var actors []*match.Actor
			for i := range 1000 {
				actors = append(actors, match.NewActor(&integrationv1.Actor{ActorId: fmt.Sprint(i), FqHostName: fmt.Sprintf("%s.site%d.com", label(i), i)}))
			}
			var all []*integrationv1.Alert
			for i := range 10_000 {
				at := noon.Add(time.Duration(i) * time.Second)
				all = append(all, collected(fmt.Sprint("alert ", i), at, at, onDevice(fmt.Sprintf("%040x", i+1), fmt.Sprintf("%s.site%d.com", label(i), i))))
			}
			b.ReportAllocs()
			for b.Loop() {
				n := match.NewNearMisses(actors, window, tolerance, 0, 10)
				for i, alert := range all {
					var matches []*integrationv1.ActorMatch
					if i < len(actors) {
						matches = []*integrationv1.ActorMatch{{ActorId: fmt.Sprint(i)}}
					}
					n.Add(alert.GetId(), alert, matches, inWindow)
				}
				for _, a := range actors {
					n.Of(a.ID())
				}
			}
		})
	}
}
