package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

func testRegistry(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	first := record("one", "first")
	created, err := s.CreateRecord(ctx, first)
	must(t, err)
	_, err = s.CreateRecord(ctx, first)
	wantError(t, err, ErrExists)

	got, revision, err := s.Record(ctx, "one")
	must(t, err)
	if revision != created || got.GetUid() != "first" || got.GetFormat() != 1 {
		t.Errorf("got %v at revision %d, created at %d", got, revision, created)
	}
	_, _, err = s.Record(ctx, "two")
	wantError(t, err, ErrNotFound)

	updated, err := s.UpdateRecord(ctx, record("one", "second"), created)
	must(t, err)
	_, err = s.UpdateRecord(ctx, record("one", "third"), created)
	wantError(t, err, ErrConflict)
	_, err = s.UpdateRecord(ctx, record("one", "third"), 0)
	wantError(t, err, ErrConflict)
	_, err = s.UpdateRecord(ctx, record("two", "third"), updated)
	wantError(t, err, ErrNotFound)
	_, err = s.UpdateRecord(ctx, record("two", "third"), 0)
	wantError(t, err, ErrNotFound)

	wantError(t, s.DeleteRecord(ctx, "one", created), ErrConflict)
	wantError(t, s.DeleteRecord(ctx, "two", updated), ErrNotFound)
	must(t, s.DeleteRecord(ctx, "one", updated))
	wantError(t, s.DeleteRecord(ctx, "one", updated), ErrNotFound)
	_, _, err = s.Record(ctx, "one")
	wantError(t, err, ErrNotFound)

	again, err := s.CreateRecord(ctx, record("one", "fourth"))
	must(t, err)
	_, err = s.UpdateRecord(ctx, record("one", "fifth"), updated)
	wantError(t, err, ErrConflict)
	if again <= updated {
		t.Errorf("the revision went from %d to %d", updated, again)
	}
}

func testRegistryPages(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	if page, err := s.Records(ctx, "", 10); err != nil || len(page) != 0 {
		t.Fatalf("an empty registry gave %v, %v", page, err)
	}
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("i-%d", 6-i)
		revision, err := s.CreateRecord(ctx, record(id, "uid"))
		must(t, err)
		if id == "i-3" {
			must(t, s.DeleteRecord(ctx, id, revision))
			continue
		}
		want = append(want, id)
	}
	slices.Sort(want)
	var got []string
	for after := ""; ; {
		page, err := s.Records(ctx, after, 4)
		must(t, err)
		if len(page) == 0 {
			break
		}
		if len(page) > 4 {
			t.Fatalf("a page of 4 has %d records", len(page))
		}
		for _, r := range page {
			after = r.Record.GetIntegration().GetIntegrationId()
			if _, revision, err := s.Record(ctx, after); err != nil || revision != r.Revision {
				t.Errorf("%s has revision %d in the page and %d alone, %v", after, r.Revision, revision, err)
			}
			got = append(got, after)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if page, err := s.Records(ctx, "i-3", 1); err != nil || len(page) != 1 || page[0].Record.GetIntegration().GetIntegrationId() != "i-4" {
		t.Errorf("after a deleted id: %v, %v", page, err)
	}
	if page, err := s.Records(ctx, "", 0); err != nil || len(page) != 0 {
		t.Errorf("a page of none: %v, %v", page, err)
	}
}

func testRegistryWatch(t *testing.T, h *harness) {
	s := h.store
	old, err := s.CreateRecord(t.Context(), record("old", "uid-1"))
	must(t, err)
	gone, err := s.CreateRecord(t.Context(), record("gone", "uid-2"))
	must(t, err)
	must(t, s.DeleteRecord(t.Context(), "gone", gone))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := s.WatchRecords(ctx)
	must(t, err)
	if c := receive(t, changes); c.ID != "old" || c.Revision != old || c.Record.GetUid() != "uid-1" || c.Deleted || c.Synced {
		t.Fatalf("the record that was there was told as %+v", c)
	}
	if c := receive(t, changes); !c.Synced || c.ID != "" {
		t.Fatalf("not synced, but %+v", c)
	}
	other := h.peer(t)
	revision, err := other.CreateRecord(t.Context(), record("new", "uid-3"))
	must(t, err)
	if c := receive(t, changes); c.ID != "new" || c.Revision != revision || c.Record.GetUid() != "uid-3" {
		t.Fatalf("a new record was told as %+v", c)
	}
	revision, err = other.UpdateRecord(t.Context(), record("new", "uid-4"), revision)
	must(t, err)
	if c := receive(t, changes); c.ID != "new" || c.Revision != revision || c.Record.GetUid() != "uid-4" {
		t.Fatalf("an update was told as %+v", c)
	}
	must(t, s.DeleteRecord(t.Context(), "new", revision))
	if c := receive(t, changes); c.ID != "new" || !c.Deleted || c.Record != nil {
		t.Fatalf("a deletion was told as %+v", c)
	}

	// A receiver that does not receive holds up nobody, and learns the last version in the end.
	const updates = 600
	revision, err = s.CreateRecord(t.Context(), record("busy", "0"))
	must(t, err)
	for i := range updates {
		revision, err = s.UpdateRecord(t.Context(), record("busy", fmt.Sprint(i+1)), revision)
		must(t, err)
	}
	for last := ""; last != fmt.Sprint(updates); {
		last = receive(t, changes).Record.GetUid()
	}
	cancel()
	for range changes {
		continue // Closed in the end.
	}

	// One that stopped receiving does not keep the store from closing.
	changes, err = s.WatchRecords(t.Context())
	must(t, err)
	closeStore(t, s)
	for range changes {
		continue
	}
}

func testLedgers(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	ledger, revision, err := s.Ledger(ctx, "tenant/app/graph-alerts")
	must(t, err)
	if revision != 0 || len(ledger.GetBlocks()) != 0 {
		t.Errorf("an unknown ledger is %v at revision %d", ledger, revision)
	}
	ledger.Blocks = append(ledger.Blocks, &storev1.Ledger_Block{Time: timestamppb.New(time.Unix(1, 0)), Calls: 7})
	first, err := s.PutLedger(ctx, "tenant/app/graph-alerts", ledger, 0)
	must(t, err)
	_, err = s.PutLedger(ctx, "tenant/app/graph-alerts", ledger, 0)
	wantError(t, err, ErrConflict)
	got, revision, err := h.peer(t).Ledger(ctx, "tenant/app/graph-alerts")
	must(t, err)
	if revision != first || !proto.Equal(got.GetBlocks()[0], ledger.GetBlocks()[0]) {
		t.Errorf("got %v at revision %d, want %v at %d", got, revision, ledger, first)
	}
	second, err := s.PutLedger(ctx, "tenant/app/graph-alerts", ledger, first)
	must(t, err)
	_, err = s.PutLedger(ctx, "tenant/app/graph-alerts", ledger, first)
	wantError(t, err, ErrConflict)
	if second <= first {
		t.Errorf("the revision went from %d to %d", first, second)
	}
}

func testTests(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	none, err := s.LastTest(ctx, "uid")
	must(t, err)
	if none != nil {
		t.Errorf("an integration that was never tested has %v", none)
	}
	for _, health := range []integrationv1.ConnectivityTest_Health{
		integrationv1.ConnectivityTest_HEALTH_UNHEALTHY, integrationv1.ConnectivityTest_HEALTH_HEALTHY,
	} {
		test := &integrationv1.ConnectivityTest{TestTime: timestamppb.New(time.Unix(1, 0)), Health: health}
		must(t, s.SaveTest(ctx, "uid", test))
		got, err := h.peer(t).LastTest(ctx, "uid")
		must(t, err)
		if !proto.Equal(got, test) {
			t.Errorf("the last test is %v, want %v", got, test)
		}
	}
	if other, err := s.LastTest(ctx, "other"); err != nil || other != nil {
		t.Errorf("another integration has %v, %v", other, err)
	}
	must(t, s.DeleteJournal(ctx, "uid"))
	if gone, err := s.LastTest(ctx, "uid"); err != nil || gone != nil {
		t.Errorf("a deleted integration has %v, %v", gone, err)
	}
}

func testKeys(t *testing.T, h *harness) {
	ctx, s := t.Context(), h.store
	for _, key := range []string{"", "a b", "a*", ">", ".a", "a.", "a..b", "ä", string(make([]byte, 200))} {
		if _, err := s.CreateRecord(ctx, record(key, "uid")); err == nil {
			t.Errorf("a record was stored under %q", key)
		}
		if _, err := s.PutLedger(ctx, key, &storev1.Ledger{}, 0); err == nil {
			t.Errorf("a ledger was stored under %q", key)
		}
		if _, _, err := s.Ledger(ctx, key); err == nil {
			t.Errorf("a ledger was read under %q", key)
		}
		if _, err := s.Journal(ctx, key); err == nil {
			t.Errorf("a journal was opened under %q", key)
		}
		if err := s.SaveTest(ctx, key, &integrationv1.ConnectivityTest{}); err == nil {
			t.Errorf("a test was kept under %q", key)
		}
		if _, err := s.LastTest(ctx, key); err == nil {
			t.Errorf("a test was read under %q", key)
		}
		_, _, err := s.Record(ctx, key)
		wantError(t, err, ErrNotFound)
		wantError(t, s.DeleteRecord(ctx, key, 1), ErrNotFound)
	}
	if _, err := s.Journal(ctx, "a.b"); err == nil {
		t.Error("a journal was opened under a name with a dot")
	}
}
