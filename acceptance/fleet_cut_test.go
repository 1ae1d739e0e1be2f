package acceptance_test

import (
	"math/rand/v2"
	"testing"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestStreamsMoveBetweenServers cuts a stream at random places and resumes it on another server each time.
//
// ACCEPTANCE_CUTS is how often it is cut.
func TestStreamsMoveBetweenServers(t *testing.T) {
	largeFleet(t)
	seed := uint64(numberFrom(t, "ACCEPTANCE_SEED", rand.IntN(1<<31)+1))
	cuts := numberFrom(t, "ACCEPTANCE_CUTS", 25)
	t.Logf("ACCEPTANCE_SEED=%d ACCEPTANCE_CUTS=%d", seed, cuts)
	r := newFleetRun(t, rand.New(rand.NewPCG(seed, 0)), fleetSize{integrations: 1, streams: 2})
	r.load(300)
	r.settle()
	r.cut(cuts)
}

// cut cuts a bounded stream at so many places, at random, and resumes it on another server each time: it says the same as one that was
// never cut, event by event, and its verdict is the same. Nothing may appear meanwhile.
func (r *fleetRun) cut(cuts int) {
	r.t.Helper()
	request := bounded(r.began, r.house.microsoft.Now(), r.one.request.GetActors()[0])
	servers := make([]*client.Client, len(r.fleet.members))
	for i, m := range r.fleet.members {
		servers[i] = m.house.connect(r.t)
	}
	want, _ := lasting(r.t, servers[0], request, -1)
	if last := want[len(want)-1]; last.GetCompleted() == nil || len(want) < 10 {
		r.t.Fatalf("the stream that is not cut has %d events and ends with %v", len(want), last)
	}
	made, passes := 0, 0
	for ; made < cuts; passes++ {
		var got []*integrationv1.StreamAlertsResponse
		server, over := r.rng.IntN(len(servers)), false
		request.ResumeToken = ""
		for !over {
			var events []*integrationv1.StreamAlertsResponse
			most := 1 + r.rng.IntN(5)
			if made >= cuts {
				most = -1
			}
			events, over = lasting(r.t, servers[server], request, most)
			got = append(got, events...)
			if !over {
				request.ResumeToken = got[len(got)-1].GetResumeToken()
				server = (server + 1) % len(servers)
				made++
			}
		}
		same(r.t, got, want)
	}
	r.t.Logf("%d events were the same %d times, with %d cuts", len(want), passes, made)
}
