package stream_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// What servers tell each other of leases, wishes and the present lapses after an hour, and is told again before: nothing moves, and nothing is
// forgotten, also of an integration of which there is nothing new.
func TestNotesOutliveTheirLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, 2, collector.DefaultSettings())
		defer f.close()
		record, revision, err := f.store.Record(t.Context(), named(1))
		if err != nil {
			t.Fatal(err)
		}
		record.GetIntegration().Paused = true
		if _, err := f.store.UpdateRecord(t.Context(), record, revision); err != nil {
			t.Fatal(err)
		}
		pause(5 * time.Second)
		stay := f.other(0)
		c := stay.open(&integrationv1.StreamAlertsRequest{IntegrationId: integrationID})
		defer c.close()
		pause(5 * time.Second)
		moves := func() (total int) {
			for _, s := range f.servers {
				total += s.count("defender_integration_lease_takeovers_total")
			}
			return total
		}
		before := moves()
		for range 30 {
			pause(7 * time.Minute)
			if after := moves(); after != before || f.wishes() != 1 {
				t.Fatalf("leases were taken %d times before, and %d now; %d wishes are taken in", before, after, f.wishes())
			}
			for i, want := range []integrationv1.IntegrationStatus_State{
				integrationv1.IntegrationStatus_STATE_ACTIVE, integrationv1.IntegrationStatus_STATE_PAUSED,
			} {
				for _, s := range f.servers {
					collects, err := s.manager.Collector(t.Context(), named(i), fmt.Sprint("uid-", i))
					if err != nil {
						t.Fatal(err)
					}
					if got := collects.Status(); got.GetState() != want || got.GetProblem() != nil {
						t.Fatalf("server %d tells of integration %d: %v", s.number, i, got)
					}
				}
			}
		}
	})
}
