package sequences_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// number returns what an environment variable says, or what stands for it.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s is %q: %v", name, text, err)
	}
	return n
}

// inBubble is how many sequences share a server, and with it a bubble of fake time.
const inBubble = 25

// firstSeed is where sequences begin unless SEQUENCES_SEED says otherwise: an ordinary run is the same each time, so that it fails for what
// was changed. Other seeds are for longer runs.
const firstSeed = 1

// TestSequences plays sequences in fake time. The n-th has the first seed and n for its seed.
func TestSequences(t *testing.T) {
	t.Parallel()
	count, seed := number(t, "SEQUENCES", 100), number(t, "SEQUENCES_SEED", firstSeed)
	t.Logf("SEQUENCES=%d SEQUENCES_SEED=%d", count, seed)
	for first := uint64(0); first < count; first += inBubble {
		t.Run(fmt.Sprint("from ", seed+first), func(t *testing.T) {
			t.Parallel()
			for s := seed + first; s < seed+min(first+inBubble, count) && !t.Failed(); {
				s = playSome(t, s, seed+min(first+inBubble, count))
			}
		})
	}
}

// playSome plays sequences in one bubble until one fails, which is then shortened and told. It returns the seed to go on with.
func playSome(t *testing.T, from, to uint64) uint64 {
	t.Helper()
	var failed script
	var wrong []string
	synctest.Test(t, func(t *testing.T) {
		inEdge(t, func(e *edge) {
			for ; from < to && wrong == nil; from++ {
				failed = newScript(from, true)
				wrong = playFake(failed, e)
			}
		})
	})
	if wrong != nil {
		failed, wrong = shorten(t, failed, wrong)
		t.Errorf("%s", told(failed, wrong))
	}
	return from
}

func inEdge(t *testing.T, play func(*edge)) {
	t.Helper()
	// Fake time begins with the year 2000, before which no window may begin.
	time.Sleep(7 * 24 * time.Hour)
	e := newEdge(t)
	defer func() {
		if err := e.close(); err != nil {
			t.Error(err)
		}
	}()
	play(e)
}

// playFake plays a sequence in fake time.
func playFake(s script, e *edge) []string {
	return playScript(s, &house{pace: pace{unit: time.Second, fake: true}, edge: e, open: onMemory()})
}

// shortenings bounds how often a sequence that failed is played again.
const shortenings = 300

// shorten leaves steps out of a sequence that failed for as long as it still fails.
func shorten(t *testing.T, s script, wrong []string) (script, []string) {
	t.Helper()
	plays := 0
	for size := len(s.steps) / 2; size > 0; size /= 2 {
		for from := 0; from < len(s.steps) && plays < shortenings; {
			plays++
			shorter := s.without(from, min(from+size, len(s.steps)))
			var still []string
			synctest.Test(t, func(t *testing.T) {
				inEdge(t, func(e *edge) { still = playFake(shorter, e) })
			})
			if still == nil {
				from += size
				continue
			}
			s, wrong = shorter, still
		}
	}
	return s, wrong
}

// told tells a sequence that failed, and why.
func told(s script, wrong []string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "SEQUENCES=1 SEQUENCES_SEED=%d fails (retention %d s, skew %d s):\n", s.seed, s.retention, s.skew)
	for _, one := range wrong {
		fmt.Fprintf(&text, "  %s\n", one)
	}
	fmt.Fprintln(&text, "with the steps")
	for _, one := range s.steps {
		fmt.Fprintf(&text, "  %v\n", one)
	}
	return text.String()
}
