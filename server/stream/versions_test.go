package stream_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// Among servers of two versions, an application whose lease is in the words of the later one is left alone by all that cannot read them,
// also by whoever had it before, and is theirs again when that lease is gone.
func TestLeaseOfALaterVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, 1, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		if f.holder(0) == nil {
			t.Fatal("nobody collects")
		}
		lease := leaseOf(t, f)
		f.store.LaterNote(lease.Key)
		for range 10 {
			pause(fleetLease)
			if holder := f.holder(0); holder != nil {
				t.Fatalf("server %d collects what a later version has the lease of", holder.number)
			}
		}
		after := leaseOf(t, f)
		if after.Note != nil {
			t.Fatalf("the lease was written over: %v", after)
		}
		if err := f.store.DeleteNote(t.Context(), after.Key, after.Revision); err != nil {
			t.Fatal(err)
		}
		pause(2 * fleetLease)
		if f.holder(0) == nil {
			t.Error("nobody collects what is free")
		}
	})
}

// leaseOf returns the note of the only lease of a fleet.
func leaseOf(t *testing.T, f *fleet) store.NoteChange {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := f.store.WatchNotes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for change := range changes {
		if strings.HasPrefix(change.Key, "leases.") {
			return change
		}
		if change.Synced {
			break
		}
	}
	t.Fatal("there is no lease")
	return store.NoteChange{}
}

// A server that takes over from one of a later version, which has written what it cannot read, says so to every stream, collects nothing and
// changes nothing.
func TestTakeOverFromALaterVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 2, 1, collector.DefaultSettings())
		defer f.close()
		pause(5 * time.Second)
		newer, older := f.holder(0), f.other(0)
		now := time.Now()
		f.source.Put(collectortest.Alert("a1", deviceOne, "ws-one.contoso.test", now), now)
		pause(time.Minute)
		journal, err := f.store.Journal(t.Context(), "uid-0")
		if err != nil {
			t.Fatal(err)
		}
		identity, last := journal.Checkpoint().GetIdentity(), journal.Checkpoint().GetLastSequence()
		f.store.Later("uid-0", last)
		newer.kill()
		killed := time.Now()
		c := older.open(&integrationv1.StreamAlertsRequest{IntegrationId: integrationID})
		pause(5 * time.Minute)
		if events := journalled(c.close()); len(events) != 0 || c.err == nil || !strings.Contains(c.err.Error(), "later version") {
			t.Errorf("the stream got %q and ended with %v", events, c.err)
		}
		problem := older.manager.Status("uid-0").GetProblem()
		if !strings.Contains(problem.GetMessage(), "A later version of this service wrote what is stored") {
			t.Errorf("the integration's problem is %v", problem)
		}
		for _, call := range f.calls {
			if call.server == older.number && call.at.After(killed) {
				t.Errorf("the older server called at %s", call.at)
				break
			}
		}
		if got := journal.Checkpoint(); got.GetIdentity() != identity || got.GetLastSequence() != last {
			t.Errorf("the journal %s ends at %d, and %s did at %d", got.GetIdentity(), got.GetLastSequence(), identity, last)
		}
	})
}
