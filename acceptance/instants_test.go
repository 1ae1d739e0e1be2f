package acceptance_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestCrowdedInstants delivers once: 1,500 alerts that share one last update among 3,000 (in full 10,000); 3,000 of one instant, which only
// their creation tells apart; and 10 that become visible late, inside the overlap of polls.
func TestCrowdedInstants(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	h := newHouse(t, service(t))
	// The first poll reads back by the overlap, from when the integration is registered.
	began := h.microsoft.Now().Add(-4 * time.Minute)
	add := func(n int, first time.Time, step time.Duration, change func(int, *defendertest.Alert)) {
		i := 0
		for a := range defendertest.Generate(rng, n, defendertest.Shape{First: first, Step: step}) {
			change(i, &a)
			h.tenant.AddAlert(a)
			i++
		}
	}
	same := func(int, *defendertest.Alert) {}
	crowd := began.Add(30 * time.Second)
	others := 1500
	if full() {
		others = 8500
	}
	add(others, began, 80*time.Second/time.Duration(others), same) // with the crowd among them
	add(1500, crowd, 0, same)
	add(3000, began.Add(2*time.Minute), 0, func(i int, a *defendertest.Alert) {
		a.Created = began.Add(-time.Hour).Add(time.Duration(i/400) * time.Second)
	})

	// The overlap covers all of it, however long the machine takes for the test.
	h.serve(t, nil, "--poll-fast", "2s", "--poll-slow", "2s", "--poll-overlap", "1h")
	h.register(t, h.connect(t), integrationv1.DeviceSource_KIND_NONE)
	const late = 10
	early := others + 1500 + 3000
	var released time.Time
	got := h.collect(t, following(began.Add(-time.Minute)), func(c *collected) bool {
		if len(c.alerts) == early && released.IsZero() {
			// What they are about lies among what was read long ago.
			released = h.microsoft.Now()
			add(late, crowd, 7*time.Second, same)
		}
		return len(c.alerts) >= early+late
	})
	got.checkOnce(t, h.tenant.Revisions())
	for _, a := range got.alerts[min(early, len(got.alerts)):] {
		if updated := a.GetAlert().GetLastUpdateTime().AsTime(); !updated.Before(released) {
			t.Errorf("%s was not late: last updated at %s, visible at %s", a.GetAlert().GetId(), updated, released)
		}
	}
	h.waitForPoll(t)
	// Later polls read all of it again, and nothing of it enters again.
	again := h.collect(t, bounded(began.Add(-time.Minute), h.microsoft.Now()), func(*collected) bool { return false })
	again.checkOnce(t, h.tenant.Revisions())
	t.Logf("%d alerts in %d calls", len(got.alerts), h.calls()[defendertest.RouteAlerts])
}

// waitForPoll waits until a poll that begins after now was served everything.
func (h *house) waitForPoll(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.tenant.WaitServedSince(ctx, h.microsoft.Now()); err != nil {
		t.Errorf("waiting for a further poll: %v", err)
	}
}
