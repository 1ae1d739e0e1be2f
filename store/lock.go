package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dirLock is the lock of a data directory: the engine has none, and two servers on one directory destroy it.
type dirLock struct {
	file *os.File
}

// maxHolder bounds what is read of a lock file.
const maxHolder = 512

// lockDir locks a data directory until release or the end of the process, however it ends. The file stays; it is the kernel's
// lock on it that counts, so nothing is left over to clean up after a crash.
func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, "lock")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the lock of the data directory: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = file.Close() }()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock the data directory %s: %w", dir, err)
		}
		holder, _ := io.ReadAll(io.LimitReader(file, maxHolder))
		return nil, fmt.Errorf("the data directory %s is in use by %s; only one process can use it", dir, describeHolder(holder))
	}
	if err := writeHolder(file); err != nil {
		return nil, errors.Join(fmt.Errorf("the lock of the data directory: %w", err), file.Close())
	}
	return &dirLock{file: file}, nil
}

// writeHolder says in the lock file who has the lock.
func writeHolder(file *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host"
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "process %d on %s since %s\n", os.Getpid(), host, time.Now().UTC().Format(time.RFC3339))
	return err
}

// describeHolder returns what a lock file says, for an error.
func describeHolder(content []byte) string {
	if holder := strings.TrimSpace(string(content)); holder != "" {
		return holder
	}
	return "another process"
}

// release gives the data directory free.
func (l *dirLock) release() error {
	return l.file.Close()
}
