package store

import (
	"os"
	"path/filepath"
	"testing"
)

// A server that does not answer is restarted by Recover; readers, watches and other journals go on.
func TestHeal(t *testing.T) {
	t.Parallel() // It waits most of the time.
	s := openDir(t, t.TempDir())
	j, first := writer(t, s, "uid")
	_, err := j.Append(t.Context(), entries(1, 3))
	must(t, err)
	save(t, j, 3)
	changes, err := s.WatchRecords(t.Context())
	must(t, err)
	if c := receive(t, changes); !c.Synced {
		t.Fatalf("got %+v", c)
	}

	s.embedded.suspected()
	recovered, err := j.Recover(t.Context())
	must(t, err)
	if s.embedded.generation != 2 {
		t.Errorf("the server was started %d times", s.embedded.generation)
	}
	if recovered.GetIdentity() != first.GetIdentity() || recovered.GetLastSequence() != 3 {
		t.Errorf("recovered %v", recovered)
	}
	_, err = j.Append(t.Context(), entries(4, 5))
	must(t, err)
	save(t, j, 5)
	wantEntries(t, j, 1, 5, 1, 5)
	_, err = s.CreateRecord(t.Context(), record("one", "uid"))
	must(t, err)
	if c := receive(t, changes); c.ID != "one" {
		t.Errorf("got %+v", c)
	}
	// It is restarted once for what was suspected, not by each journal that recovers.
	_, _ = writer(t, s, "uid-2")
	if s.embedded.generation != 2 {
		t.Errorf("the server was started %d times", s.embedded.generation)
	}
}

// A store that is full refuses entries, keeps checkpoints, and takes entries again after trimming.
func TestFull(t *testing.T) {
	s, err := OpenJetStream(t.Context(), Options{Dir: t.TempDir(), MaxBytes: 4 << 20, Logger: logger(t)})
	must(t, err)
	t.Cleanup(func() { closeStore(t, s) })
	must(t, s.Ready(t.Context()))
	j, _ := writer(t, s, "uid")
	last := uint64(0)
	for {
		appended, err := j.Append(t.Context(), entries(int(last+1), int(last+500)))
		if err != nil {
			wantError(t, err, ErrUnavailable)
			break
		}
		if last = appended; last > 100_000 {
			t.Fatal("there is no end to it")
		}
	}
	wantError(t, s.Ready(t.Context()), ErrUnavailable)
	recovered, err := j.Recover(t.Context())
	must(t, err)
	if recovered.GetLastSequence() != last {
		t.Fatalf("recovered %v, appended was %d", recovered, last)
	}
	must(t, j.Trim(t.Context(), last, floorOf(recovered)))
	must(t, s.Ready(t.Context()))
	_, err = j.Append(t.Context(), entries(int(last+1), int(last+500)))
	must(t, err)
	stats, err := j.Stats(t.Context())
	must(t, err)
	if stats.First != last || stats.Last != last+500 {
		t.Errorf("stats are %+v", stats)
	}
	// What is on the disk counts after a start.
	if used, err := sizeOf(filepath.Join(s.options.Dir, "jetstream")); err != nil || used == 0 {
		t.Errorf("the files take %d bytes, %v", used, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for name, options := range map[string]Options{
		"nothing named":   {},
		"a bad prefix":    {Dir: t.TempDir(), Prefix: "a.b"},
		"a file":          {Dir: file},
		"no server there": {URL: "nats://127.0.0.1:1"},
	} {
		if s, err := OpenJetStream(t.Context(), options); err == nil {
			closeStore(t, s)
			t.Errorf("%s: opened", name)
		}
	}
}
