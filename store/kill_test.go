package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// What was acknowledged survives kill -9, wherever it strikes.
func TestKill(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	identity := ""
	var appended, saved, trimmed uint64
	for round := range rounds {
		c := startChild(t, modeAppend, dir)
		for range 1 + random.IntN(30) {
			var what string
			var sequence uint64
			if _, err := fmt.Sscan(c.line(t), &what, &sequence); err != nil {
				t.Fatal(err)
			}
			switch what {
			case "appended":
				appended = max(appended, sequence)
			case "saved":
				saved = max(saved, sequence)
			case "trimmed":
				trimmed = max(trimmed, sequence)
			}
		}
		c.kill()

		s := openDir(t, dir)
		j, err := s.Journal(t.Context(), "uid")
		must(t, err)
		before := j.Checkpoint()
		if before.GetLastSequence() < saved {
			t.Fatalf("round %d: the checkpoint is at %d, saved was %d", round, before.GetLastSequence(), saved)
		}
		recovered, err := j.Recover(t.Context())
		must(t, err)
		if identity == "" {
			identity = recovered.GetIdentity()
		}
		last := recovered.GetLastSequence()
		if recovered.GetIdentity() != identity || last < appended {
			t.Fatalf("round %d: recovered %v, the identity was %s, appended was %d", round, recovered, identity, appended)
		}
		stats, err := j.Stats(t.Context())
		must(t, err)
		if stats.First < max(1, trimmed) {
			t.Errorf("round %d: begins at %d, trimmed was before %d", round, stats.First, trimmed)
		}
		wantEntries(t, j, stats.First, last, int(stats.First), int(last))
		t.Logf("round %d: appended %d, saved %d, trimmed %d; recovered %d to %d", round, appended, saved, trimmed, stats.First, last)
		closeStore(t, s)
	}
}
