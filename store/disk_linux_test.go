package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// smallDisk mounts a file system of a size in bytes for the test, or skips it where the test may not mount.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		// Detached: an engine that met the end of the disk may have left a file open.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill fills a disk with a file until it has no more than `left` bytes, and returns what makes room again.
func fill(t *testing.T, dir string, left int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	must(t, err)
	defer func() { must(t, file.Close()) }()
	for {
		free, err := freeOn(dir)
		must(t, err)
		if free <= left {
			break
		}
		if _, err := file.Write(make([]byte, min(free-left, 1<<20))); err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() { must(t, os.Remove(path)) }
}

// smallStore opens a store on a disk of 160 MiB, with three entries.
func smallStore(t *testing.T) (*JetStream, *jetJournal) {
	t.Helper()
	s, err := OpenJetStream(t.Context(), Options{Dir: smallDisk(t, "160m"), Logger: logger(t), Timeout: 5 * time.Second})
	must(t, err)
	t.Cleanup(func() { closeStore(t, s) })
	j, _ := writer(t, s, "uid")
	_, err = j.Append(t.Context(), entries(1, 3))
	must(t, err)
	save(t, j, 3)
	return s, j.(*jetJournal)
}

// bulky returns entries that no slack of a file has room for.
func bulky(from, through int) []*storev1.Entry {
	all := entries(from, through)
	for _, e := range all {
		e.GetRevision().Raw = make([]byte, 500_000)
	}
	return all
}

// untilReady waits until the store is ready.
func untilReady(t *testing.T, s *JetStream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := s.Ready(ctx)
		if err == nil {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("the store does not become ready: %v", err)
		}
	}
}

// A disk that others fill takes no entries any more, then nothing at all, while all can be read; it takes them again when there is
// room, without a restart of the engine, which never met the end of the disk.
func TestDiskThatFillsUp(t *testing.T) {
	s, j := smallStore(t)
	must(t, s.Ready(t.Context()))

	empty := fill(t, s.options.Dir, reserve-1)
	wantError(t, s.Ready(t.Context()), ErrUnavailable)
	_, err := j.Append(t.Context(), entries(4, 4))
	wantError(t, err, ErrUnavailable)
	recovered, err := j.Recover(t.Context())
	must(t, err)
	if recovered.GetLastSequence() != 3 {
		t.Errorf("recovered %v", recovered)
	}
	save(t, j, 3)
	_, err = s.PutLedger(t.Context(), "key", &storev1.Ledger{}, 0)
	must(t, err)
	empty()

	empty = fill(t, s.options.Dir, 0)
	wantError(t, s.Ready(t.Context()), ErrUnavailable)
	wantError(t, j.SaveCheckpoint(t.Context(), j.Checkpoint()), ErrUnavailable)
	wantError(t, j.Trim(t.Context(), 2, floorOf(j.Checkpoint())), ErrUnavailable)
	_, err = j.Recover(t.Context())
	wantError(t, err, ErrUnavailable)
	_, err = s.PutLedger(t.Context(), "key", &storev1.Ledger{}, 1)
	wantError(t, err, ErrUnavailable)
	_, err = s.CreateRecord(t.Context(), record("one", "uid"))
	wantError(t, err, ErrUnavailable)
	s.recent.forget(j.Checkpoint().GetIdentity())
	wantEntries(t, j, 1, 3, 1, 3)
	empty()

	must(t, s.Ready(t.Context()))
	_, err = j.Recover(t.Context())
	must(t, err)
	_, err = j.Append(t.Context(), entries(4, 5))
	must(t, err)
	save(t, j, 5)
	wantEntries(t, j, 1, 5, 1, 5)
	if s.embedded.generation != 1 {
		t.Errorf("the server was started %d times", s.embedded.generation)
	}
}

// An engine that met the end of the disk, since somebody was faster than the store's look at it, can be read; it is restarted when
// there is room again, not before, and has lost nothing that it acknowledged.
func TestEngineAtTheEndOfTheDisk(t *testing.T) {
	t.Parallel() // It waits most of the time.
	for name, meet := range map[string]func(t *testing.T, s *JetStream, j *jetJournal){
		"with an entry": func(t *testing.T, _ *JetStream, j *jetJournal) {
			framed, err := new(framer).frame(4, bulky(4, 5))
			must(t, err)
			wantError(t, j.appendBatch(t.Context(), framed), ErrUnavailable)
		},
		"with a ledger": func(t *testing.T, s *JetStream, _ *jetJournal) {
			ctx, cancel := s.bound(t.Context())
			defer cancel()
			_, err := s.ledgers.Put(ctx, "key", make([]byte, 500_000))
			if err == nil {
				t.Fatal("it found room")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, j := smallStore(t)
			empty := fill(t, s.options.Dir, 0)
			meet(t, s, j)
			_, err := j.Recover(t.Context())
			wantError(t, err, ErrUnavailable)
			wantError(t, s.Ready(t.Context()), ErrUnavailable)
			s.recent.forget(j.Checkpoint().GetIdentity())
			wantEntries(t, j, 1, 3, 1, 3)
			if s.embedded.generation != 1 {
				t.Fatalf("the server was started %d times", s.embedded.generation)
			}
			empty()
			// Whoever writes first may find the engine stuck still.
			if _, err := s.PutLedger(t.Context(), "key", &storev1.Ledger{}, 0); err != nil {
				wantError(t, err, ErrUnavailable)
			}
			untilReady(t, s)
			for deadline := time.Now().Add(time.Minute); ; {
				// The client may still be on its way back to the server, and a writer recovers then.
				recovered, err := j.Recover(t.Context())
				if err == nil && recovered.GetLastSequence() != 3 {
					t.Fatalf("recovered %v", recovered)
				}
				if err == nil {
					_, err = j.Append(t.Context(), bulky(4, 5))
				}
				if err == nil {
					break
				}
				wantError(t, err, ErrUnavailable)
				if time.Now().After(deadline) {
					t.Fatalf("the journal takes nothing: %v", err)
				}
			}
			save(t, j, 5)
			_, revision, err := s.Ledger(t.Context(), "key")
			must(t, err)
			_, err = s.PutLedger(t.Context(), "key", &storev1.Ledger{}, revision)
			must(t, err)
		})
	}
}
