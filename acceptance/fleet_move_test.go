package acceptance_test

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"defender-integration/client"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestMoving moves a data directory into a cluster and back by the program's own command. A stream goes on with its token from before each
// time: it hears everything once, and the integration has its etag.
func TestMoving(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t)
	h := newHouse(t, service(t))
	o := newOwnRun(t, h)
	etag := currentEtag(t, o.client)
	o.load(30)
	o.settle()
	identity := identities(o.every.all())
	key := []string{"--sealing-key-file", filepath.Join(h.dir, "data", "sealing.key")}
	back := filepath.Join(h.dir, "back")

	if out := nodes.copyStore(t, h.program, o.dataDir(), nodes.url(), true); !strings.Contains(out, "is in use by") {
		t.Errorf("a directory in use is copied: %s", out)
	}
	o.service.Stop(t)
	if out := nodes.copyStore(t, h.program, o.dataDir(), nodes.url(), false); !strings.Contains(out, "1 integrations with 1 journals") {
		t.Errorf("the copy says: %s", out)
	}
	goesOn := func(flags ...string) {
		t.Helper()
		o.service = h.serve(t, nil, append(append(key, "--poll-fast", "50ms", "--poll-slow", "50ms", "--poll-overlap", "200ms"), flags...)...)
		o.load(20)
		o.settle()
		if got := currentEtag(t, o.client); got != etag {
			t.Errorf("the etag is %s, and was %s", got, etag)
		}
		o.service.Stop(t)
	}
	goesOn(nodes.flags()...)
	nodes.awaitUnused(t)
	nodes.copyStore(t, h.program, nodes.url(), back, false)
	if out := nodes.copyStore(t, h.program, back, nodes.url(), true); !strings.Contains(out, "it holds something already") {
		t.Errorf("a copy over something: %s", out)
	}
	goesOn("--data-dir", back)
	o.verify(&matrixRow{})
	if got := identities(o.every.all()); len(got) != 1 || got[0] != identity[0] {
		t.Errorf("the stream heard of the journals %v, and of %v before", got, identity)
	}
	for _, r := range o.resumers() {
		if refused := reasons(r.all()); len(refused) > 0 {
			t.Errorf("a stream was sent away with %v", refused)
		}
	}
}

// currentEtag returns the integration's etag.
func currentEtag(t *testing.T, c *client.Client) string {
	t.Helper()
	found, err := c.Service().GetIntegration(t.Context(), &integrationv1.GetIntegrationRequest{IntegrationId: integrationID})
	if err != nil {
		t.Fatal(err)
	}
	return found.GetIntegration().GetEtag()
}

// TestStreamsMoveBetweenServers cuts a stream at random places and resumes it on another server each time: it says the same as one that was
// never cut, event by event, and its verdict is the same.
//
// ACCEPTANCE_CUTS is how often it is cut.
func TestStreamsMoveBetweenServers(t *testing.T) {
	t.Parallel()
	seed := uint64(numberFrom(t, "ACCEPTANCE_SEED", rand.IntN(1<<31)+1))
	cuts := numberFrom(t, "ACCEPTANCE_CUTS", 25)
	t.Logf("ACCEPTANCE_SEED=%d ACCEPTANCE_CUTS=%d", seed, cuts)
	r := newFleetRun(t, rand.New(rand.NewPCG(seed, 0)), 2)
	r.load(60)
	r.settle()
	request := bounded(r.began, r.house.microsoft.Now(), r.one.request.GetActors()[0])
	servers := make([]*client.Client, len(r.fleet.members))
	for i, m := range r.fleet.members {
		servers[i] = m.house.connect(t)
	}
	want, _ := lasting(t, servers[0], request, -1)
	if last := want[len(want)-1]; last.GetCompleted() == nil || len(want) < 10 {
		t.Fatalf("the stream that is not cut has %d events and ends with %v", len(want), last)
	}
	for made := 0; made < cuts; {
		var got []*integrationv1.StreamAlertsResponse
		server, over := r.rng.IntN(len(servers)), false
		request.ResumeToken = ""
		for !over {
			var events []*integrationv1.StreamAlertsResponse
			most := 1 + r.rng.IntN(5)
			if made >= cuts {
				most = -1
			}
			events, over = lasting(t, servers[server], request, most)
			got = append(got, events...)
			if !over {
				request.ResumeToken = got[len(got)-1].GetResumeToken()
				server = (server + 1) % len(servers)
				made++
			}
		}
		same(t, got, want)
	}
}
