package stream_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// A journal that a later version wrote into is left as it is: the integration and each stream are told what to do, and once that
// version has it back, tokens work and nothing was lost.
func TestJournalOfALaterVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		for i, id := range []string{"a0", "a1", "a2"} {
			h.source.Put(collectortest.Alert(id, deviceOne, "", now.Add(time.Duration(i)*time.Second)), now.Add(5*time.Second))
		}
		request := &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Window: &integrationv1.Window{StartTime: timestamppb.New(now)},
		}
		c := h.open(request)
		time.Sleep(time.Minute)
		events := c.close()
		want := []string{"KIND_NEW a0 A test alert", "KIND_NEW a1 A test alert", "KIND_NEW a2 A test alert"}
		if got := journalled(events); !slices.Equal(got, want) {
			t.Fatalf("events = %q, want %q", got, want)
		}
		h.stop()
		identity := h.identity()
		h.store.Later("uid-1", 2)
		h.start(collector.DefaultSettings())
		time.Sleep(time.Hour)
		problem := h.manager.Status("uid-1").GetProblem()
		if problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE || !strings.Contains(problem.GetRemedy(), "Run the version that wrote it") {
			t.Errorf("the integration's problem is %v", problem)
		}
		for _, token := range []string{"", events[len(events)-1].GetResumeToken()} {
			began := time.Now()
			refused := h.open(resumed(request, token))
			<-refused.done
			var f *failure.Error
			if !errors.As(refused.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE ||
				!strings.Contains(f.Message, "later version") || len(refused.events) != 0 {
				t.Errorf("a stream: %v, %v", refused.events, refused.err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it was told after %v", took)
			}
		}
		if h.identity() != identity {
			t.Error("the journal has a new identity")
		}
	})
}

// identity returns the journal's identity.
func (h *house) identity() string {
	h.t.Helper()
	journal, err := h.store.Journal(h.t.Context(), "uid-1")
	if err != nil {
		h.t.Fatal(err)
	}
	return journal.Checkpoint().GetIdentity()
}
