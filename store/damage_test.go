package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// Damage to the files of a closed store, as a failing disk does it, is never taken for what was stored.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		name string
		// damage damages the files in the journal's folder, or those of the checkpoints.
		damage func(t *testing.T, journal, checkpoints string)
		// since says that polled_since is kept.
		since bool
	}{
		{"the end is cut off", func(t *testing.T, journal, _ string) {
			path := blocks(t, journal)[0]
			info, err := os.Stat(path)
			must(t, err)
			must(t, os.Truncate(path, info.Size()-20))
		}, true},
		{"the file is cut in half", func(t *testing.T, journal, _ string) {
			path := blocks(t, journal)[0]
			info, err := os.Stat(path)
			must(t, err)
			must(t, os.Truncate(path, info.Size()/2))
		}, true},
		{"a bit flips near the end", func(t *testing.T, journal, _ string) { flip(t, blocks(t, journal)[0], -30) }, true},
		{"a bit flips near the beginning", func(t *testing.T, journal, _ string) { flip(t, blocks(t, journal)[0], 200) }, true},
		{"a bit flips, and the index is lost", func(t *testing.T, journal, _ string) {
			flip(t, blocks(t, journal)[0], 2000)
			must(t, os.Remove(filepath.Join(journal, "msgs", "index.db")))
		}, true},
		{"the file is lost", func(t *testing.T, journal, _ string) { must(t, os.Remove(blocks(t, journal)[0])) }, true},
		{"the file and the index are lost", func(t *testing.T, journal, _ string) { must(t, os.RemoveAll(filepath.Join(journal, "msgs"))) }, true},
		{"the stream is lost", func(t *testing.T, journal, _ string) { must(t, os.RemoveAll(journal)) }, true},
		{"the checkpoints are lost", func(t *testing.T, _, checkpoints string) { must(t, os.RemoveAll(checkpoints)) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openDir(t, dir)
			j, first := writer(t, s, "uid")
			_, err := j.Append(t.Context(), entries(1, 50))
			must(t, err)
			must(t, j.SaveCheckpoint(t.Context(), &storev1.Checkpoint{
				LastSequence: 50, FloorTime: timestamppb.New(time.Unix(1, 0)),
				PolledSince: timestamppb.New(time.Unix(2, 0)), PolledThrough: timestamppb.New(time.Unix(3, 0)),
			}))
			stream := j.(*jetJournal).stream(first.GetIdentity())
			closeStore(t, s)
			streams := filepath.Join(dir, "jetstream", "$G", "streams")
			c.damage(t, filepath.Join(streams, stream), filepath.Join(streams, "KV_defender-checkpoints"))

			s = openDir(t, dir)
			j, err = s.Journal(t.Context(), "uid")
			must(t, err)
			// A reader gets what was stored or is told; where the checkpoints are lost, it sees an empty journal.
			next := 1
			for got, err := range j.Read(t.Context(), 1, 50) {
				if err != nil {
					wantError(t, err, ErrDamaged)
					break
				}
				if got.Sequence != uint64(next) || got.Entry.GetRevision().GetKey() != entry(next).GetRevision().GetKey() {
					t.Fatalf("entry %d is %v", next, got)
				}
				next++
			}
			if next > 50 {
				t.Fatal("no reader met the damage")
			}
			recovered, err := j.Recover(t.Context())
			must(t, err)
			if recovered.GetIdentity() == first.GetIdentity() || recovered.GetLastSequence() != 0 ||
				recovered.GetFloorTime() != nil || recovered.GetPolledThrough() != nil {
				t.Errorf("recovered %v", recovered)
			}
			if c.since != (recovered.GetPolledSince().GetSeconds() == 2) {
				t.Errorf("polled_since is %v", recovered.GetPolledSince())
			}
			last, err := j.Append(t.Context(), entries(1, 3))
			must(t, err)
			if last != 3 {
				t.Errorf("appended through %d", last)
			}
			save(t, j, 3)
			wantEntries(t, j, 1, 9, 1, 3)
			if _, err := os.Stat(filepath.Join(streams, stream)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the damaged stream is still there: %v", err)
			}
		})
	}
}

// Damage that no reader met is found by Recover where it is at the end, so that no sequence is given twice.
func TestRecoverFindsALostEnd(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	j, first := writer(t, s, "uid")
	_, err := j.Append(t.Context(), entries(1, 50))
	must(t, err)
	save(t, j, 50)
	stream := j.(*jetJournal).stream(first.GetIdentity())
	closeStore(t, s)
	path := blocks(t, filepath.Join(dir, "jetstream", "$G", "streams", stream))[0]
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()-20))

	_, recovered := writer(t, openDir(t, dir), "uid")
	if recovered.GetIdentity() == first.GetIdentity() || recovered.GetLastSequence() != 0 {
		t.Errorf("recovered %v, was %v", recovered, first)
	}
}

// blocks returns the files that hold a stream's messages.
func blocks(t *testing.T, stream string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(stream, "msgs", "*.blk"))
	must(t, err)
	if len(found) == 0 {
		t.Fatalf("%s has no messages", stream)
	}
	return found
}

// flip flips a bit at an offset, from the end where that is negative.
func flip(t *testing.T, path string, offset int) {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	if offset < 0 {
		offset += len(content)
	}
	content[offset] ^= 1
	must(t, os.WriteFile(path, content, 0o600))
}
