package sequences_test

import (
	"fmt"
	"testing"
	"time"
)

// engineUnit is what is called a second in real time. An hour is 3.6 seconds.
const engineUnit = time.Millisecond

// TestSequencesOnTheEngine plays sequences in real time on the real engine, which is closed and opened again with each process. They
// are not shortened: playing one takes seconds, and the same may not happen again.
func TestSequencesOnTheEngine(t *testing.T) {
	t.Parallel()
	count, seed := number(t, "SEQUENCES_ENGINE", 3), number(t, "SEQUENCES_SEED", firstSeed)
	t.Logf("SEQUENCES_ENGINE=%d SEQUENCES_SEED=%d", count, seed)
	for s := seed; s < seed+count; s++ {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			e := newEdge(t)
			defer func() {
				if err := e.close(); err != nil {
					t.Error(err)
				}
			}()
			sequence := newScript(s, false)
			h := &house{pace: pace{unit: engineUnit}, edge: e, open: onEngine(t.TempDir())}
			if wrong := playScript(sequence, h); wrong != nil {
				t.Errorf("%s", told(sequence, wrong))
			}
		})
	}
}
