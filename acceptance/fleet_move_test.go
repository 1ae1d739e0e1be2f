package acceptance_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestMoving moves a data directory into a cluster and back by the program's own command. A stream goes on with its token from before each
// time: it hears everything once, and the integration has its etag.
//
// ACCEPTANCE_ENTRIES is how many alerts there are.
func TestMoving(t *testing.T) {
	t.Parallel()
	nodes := startNodes(t)
	h := newHouse(t, service(t))
	o := newOwnRun(t, h)
	etag := currentEtag(t, o.client)
	o.fill(numberFrom(t, "ACCEPTANCE_ENTRIES", 30))
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

// fill makes n alerts appear, and waits until they were heard.
func (o *ownRun) fill(n int) {
	o.t.Helper()
	const batch = 5000
	for i := range n {
		device := defendertest.SampleDevices()[min(i%100, 1)]
		o.house.tenant.AddAlert(defendertest.Alert{
			Title: fmt.Sprintf("Filling %d", i), Evidence: []defendertest.Evidence{defendertest.DeviceEvidence{Device: device}},
		})
		if i%batch == batch-1 || i == n-1 {
			o.settle()
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
