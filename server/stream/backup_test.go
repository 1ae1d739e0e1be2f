package stream_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/server/failure"
)

// A journal that is put back from a backup gives the positions after it again, to other entries. Tokens of those that were lost are refused,
// before and after their positions were given again; tokens from before the backup are honoured, also where they came after it.
func TestTokensOfAJournalThatWasPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, collector.DefaultSettings())
		defer func() { h.stop() }()
		now := time.Now()
		put := func(id string) {
			h.source.Put(collectortest.Alert(id, deviceOne, "", time.Now()), time.Now().Add(time.Second))
			time.Sleep(time.Minute)
		}
		request := &integrationv1.StreamAlertsRequest{
			IntegrationId: integrationID, Window: &integrationv1.Window{StartTime: timestamppb.New(now)},
		}
		tokenOf := func(events []*integrationv1.StreamAlertsResponse, id string) string {
			t.Helper()
			for _, e := range events {
				if e.GetAlert().GetAlert().GetId() == id {
					return e.GetResumeToken()
				}
			}
			t.Fatalf("%s was not sent: %q", id, journalled(events))
			return ""
		}
		c := h.open(request)
		put("kept")
		backup := h.store.Backup()
		put("lost-1")
		put("lost-2")
		events := c.close()
		h.stop()

		h.store = backup
		h.start(collector.DefaultSettings())
		refused := func(token string) {
			t.Helper()
			again := h.open(resumed(request, token))
			<-again.done
			var f *failure.Error
			if !errors.As(again.err, &f) || f.Reason != integrationv1.ErrorReason_ERROR_REASON_RESUME_TOKEN_JOURNAL_REPLACED || len(again.events) > 0 {
				t.Fatalf("it is told %v, after %q", again.err, journalled(again.events))
			}
			oldest := h.open(resumed(request, f.Metadata["oldest_resume_token"]))
			time.Sleep(time.Minute)
			if got := journalled(oldest.close()); oldest.err == nil || len(got) == 0 || got[0] != "KIND_NEW kept A test alert" {
				t.Errorf("the oldest token gives %q, %v", got, oldest.err)
			}
		}
		refused(tokenOf(events, "lost-2"))
		time.Sleep(2 * time.Hour)
		put("new")
		refused(tokenOf(events, "lost-1"))
		refused(tokenOf(events, "lost-2"))
		refused(events[len(events)-1].GetResumeToken())

		good := h.open(resumed(request, tokenOf(events, "kept")))
		time.Sleep(time.Minute)
		got := journalled(good.close())
		slices.Sort(got)
		if want := []string{"KIND_NEW lost-1 A test alert", "KIND_NEW lost-2 A test alert", "KIND_NEW new A test alert"}; !slices.Equal(got, want) {
			t.Errorf("after the token from before the backup: %q, want %q; %v", got, want, good.err)
		}
	})
}
