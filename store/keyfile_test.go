package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWhoMayUseAKeyFile(t *testing.T) {
	for _, test := range []struct {
		mode  fs.FileMode
		roots bool
		open  bool
	}{
		{0o600, false, false},
		{0o400, false, false},
		{0o640, false, true},
		{0o604, false, true},
		// As Kubernetes shows a Secret with the mode 0400 to the group of the pod.
		{0o440, true, false},
		{0o640, true, false},
		{0o660, true, true},
		{0o444, true, true},
	} {
		if open := tooOpen(test.mode, test.roots); open != test.open {
			t.Errorf("%04o, of root's and the service is not root: %t; too open: %t, want %t", test.mode, test.roots, open, test.open)
		}
	}
}

// A change of the key leaves what lies beside its file alone, whatever the folder is called, and the file's owner and mode are what they
// were: whoever changes it as root leaves it to the service.
func TestAChangeOfTheKeyKeepsTheRest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys[1]")
	must(t, os.Mkdir(dir, 0o700))
	path, beside, left := filepath.Join(dir, "sealing.key"), filepath.Join(dir, ".key-of-another"), filepath.Join(dir, ".sealing.key.new-1")
	_, err := OpenSealer(path, true)
	must(t, err)
	for _, name := range []string{beside, left} {
		must(t, os.WriteFile(name, []byte("x"), 0o600))
	}
	must(t, os.Chmod(path, 0o400))
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, 23456, 12345))
	}
	before, err := os.Stat(path)
	must(t, err)
	added, err := AddKey(path)
	must(t, err)
	after, err := os.Stat(path)
	must(t, err)
	was, is := before.Sys().(*syscall.Stat_t), after.Sys().(*syscall.Stat_t)
	if !added || os.SameFile(before, after) || after.Mode() != before.Mode() || is.Uid != was.Uid || is.Gid != was.Gid {
		t.Errorf("%t: it has the mode %v and belongs to %d:%d, and had %v and %d:%d", added, after.Mode(), is.Uid, is.Gid, before.Mode(), was.Uid, was.Gid)
	}
	if _, err := os.Stat(beside); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("what a process that was killed had left is there still")
	}
}
