package collector_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/store"
)

// ahead is a store whose ledgers a later version wrote.
type ahead struct{ store.Store }

func (ahead) Ledger(context.Context, string) (*storev1.Ledger, uint64, error) {
	return nil, 0, fmt.Errorf("decode ledger: %w", store.ErrVersion)
}

// Where a later version wrote the ledger of what was spent, nothing is spent, and the operator is told why.
func TestLedgerOfALaterVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, collector.DefaultSettings())
		b.stop()
		b.startOn(collector.DefaultSettings(), b.source, ahead{b.store})
		defer func() { b.stop() }()
		b.source.Put(titled("a", "x", time.Now()), time.Now())
		time.Sleep(5 * time.Minute)
		problem := b.collector().Status().GetProblem()
		if problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE ||
			!strings.Contains(problem.GetMessage(), "later version") || !strings.Contains(problem.GetRemedy(), "Run the version that wrote it") {
			t.Errorf("the problem is %v", problem)
		}
		if got := b.revisions(); len(got) != 0 {
			t.Errorf("entered: %q", got)
		}
	})
}
