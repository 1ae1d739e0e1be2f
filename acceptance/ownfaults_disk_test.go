package acceptance_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mount runs mount for a folder, and skips the test where it may not.
func mount(t *testing.T, dir string, args ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "mount", append(args, dir)...).CombinedOutput()
	if err != nil {
		t.Skipf("a file system of the test's own cannot be mounted (as root on Linux it can): %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "--lazy", dir).Run() })
}

// remount changes how a file system is mounted.
func remount(t *testing.T, dir, options string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "mount", "-o", "remount,"+options, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("remount %s: %v: %s", options, err, out)
	}
}

// smallDisk mounts a file system in memory for the service's data. The store keeps 64 MiB of a disk in reserve.
func (h *house) smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(h.dir, "data")
	mount(t, dir, "-t", "tmpfs", "-o", "size=160m", "tmpfs")
	return dir
}

// imageDisk mounts a file system of a file for the service's data, and returns what mounts it again.
func (h *house) imageDisk(t *testing.T) (dir string, again func()) {
	t.Helper()
	dir = filepath.Join(h.dir, "data")
	image := filepath.Join(h.dir, "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 300<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", "-F", image).CombinedOutput(); err != nil {
		t.Skipf("a file system cannot be made in a file: %v: %s", err, out)
	}
	mount(t, dir, "-o", "loop", image)
	return dir, func() {
		t.Helper()
		for _, command := range [][]string{{"umount", dir}, {"fsck.ext4", "-p", image}, {"mount", "-o", "loop", image, dir}} {
			out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput()
			// fsck ends with 1 where it mended something.
			if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || command[0] != "fsck.ext4" || exit.ExitCode() != 1) {
				t.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
			}
		}
	}
}

// freeOn returns how many bytes may be written on the disk of a folder.
func freeOn(t *testing.T, dir string) int64 {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Bavail) * int64(stat.Bsize) //nolint:unconvert // Its type is another on other systems.
}

// fillUp fills the disk of a folder with a file, as somebody else does, until `left` bytes are free, and returns what makes room again.
func fillUp(t *testing.T, dir string, left int64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for free := freeOn(t, dir); free > left; free = freeOn(t, dir) {
		if _, err := file.Write(make([]byte, min(free-left, 1<<20))); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// lastBlock returns the file that holds the newest entries of the only journal in a data directory.
func lastBlock(t *testing.T, data string) string {
	t.Helper()
	// The engine numbers its files.
	found, err := filepath.Glob(filepath.Join(data, "jetstream", "$G", "streams", "defender-journal-*", "msgs", "*.blk"))
	if err != nil || len(found) == 0 {
		t.Fatalf("there is no journal: %v, %v", found, err)
	}
	last := found[0]
	for _, path := range found {
		if len(path) > len(last) || len(path) == len(last) && path > last {
			last = path
		}
	}
	return last
}

// damageFile changes the content of a file.
func damageFile(t *testing.T, path string, damage func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, damage(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
