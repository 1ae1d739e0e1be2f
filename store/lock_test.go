package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := openDir(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory is %v, %v", info.Mode(), err)
	}
	wantHeld(t, dir, os.Getpid())
	_, err := s.CreateRecord(t.Context(), record("one", "uid"))
	must(t, err) // The refused one did no harm.
	closeStore(t, s)
	closeStore(t, openDir(t, dir))
}

func TestLockOfAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	c := startChild(t, modeHold, dir)
	if got := c.line(t); got != "open" {
		t.Fatalf("the child says %q", got)
	}
	wantHeld(t, dir, c.command.Process.Pid)
	c.kill()
	closeStore(t, openDir(t, dir)) // Nothing is left over to clean up.
}

// wantHeld wants the store in dir to be refused with who has it.
func wantHeld(t *testing.T, dir string, pid int) {
	t.Helper()
	s, err := OpenJetStream(t.Context(), Options{Dir: dir})
	if err == nil {
		closeStore(t, s)
		t.Fatal("a second store was opened on one directory")
	}
	host, hostErr := os.Hostname()
	must(t, hostErr)
	for _, want := range []string{"is in use by", fmt.Sprintf("process %d on %s since 20", pid, host), dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not say %q", err, want)
		}
	}
}
