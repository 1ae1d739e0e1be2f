package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// reserve is what is kept free of entries, in bytes, so that checkpoints and records can be stored, and so that a journal that
	// filled the store can be trimmed, which begins with a checkpoint.
	reserve = 64 << 20
	// spare is what is kept free of those too, in bytes: for what the engine writes by itself, such as a block that was trimmed.
	spare = 16 << 20
)

// room knows how much more the embedded server may store. An append that would go beyond is refused here, since a server that
// meets the end of the disk takes nothing more until it is restarted.
type room struct {
	dir   string
	limit int64

	mu sync.Mutex
	// used is what the engine said last, appended what was appended since.
	used, appended int64
}

// newRoom returns the room below limit for what is in stored, on the disk of dir.
func newRoom(dir, stored string, limit int64) (*room, error) {
	used, err := sizeOf(stored)
	if err != nil {
		return nil, fmt.Errorf("the data directory's size: %w", err)
	}
	if limit == 0 {
		free, err := freeOn(dir)
		if err != nil {
			return nil, err
		}
		limit = max(reserve, (used+free)/4*3-reserve)
	}
	return &room{dir: dir, limit: limit, used: used}, nil
}

// check returns an error where size more bytes do not fit. It asks the engine with measure only where its own count says so.
// It needs the lock.
func (r *room) check(ctx context.Context, size int64, measure func(context.Context) (int64, error)) error {
	free, err := freeOn(r.dir)
	if err != nil {
		return unavailable(err)
	}
	if free < size+reserve {
		return fmt.Errorf("%w: the disk of %s has %d bytes left, and %d are kept free", ErrUnavailable, r.dir, free, int64(reserve))
	}
	if r.used+r.appended+size <= r.limit {
		return nil
	}
	used, err := measure(ctx)
	if err != nil {
		return err
	}
	r.used, r.appended = used, 0
	if used+size > r.limit {
		return fmt.Errorf("%w: it has %d bytes and may have %d", ErrUnavailable, used, r.limit)
	}
	return nil
}

// spared returns an error where the disk has less than what is kept free of everything.
func (r *room) spared() error {
	free, err := freeOn(r.dir)
	if err != nil {
		return unavailable(err)
	}
	if free < spare {
		return fmt.Errorf("%w: the disk of %s has %d bytes left", ErrUnavailable, r.dir, free)
	}
	return nil
}

// probeSize is how many bytes are written to see whether a disk takes any.
const probeSize = 4096

// takes returns an error where the disk takes nothing: it is full, or can only be read, which its free space does not tell.
func (r *room) takes() error {
	if err := r.spared(); err != nil {
		return err
	}
	path := filepath.Join(r.dir, "probe")
	err := os.WriteFile(path, make([]byte, probeSize), 0o600)
	if removed := os.Remove(path); err == nil {
		err = removed
	}
	if err != nil {
		return fmt.Errorf("%w: the data directory cannot be written: %w", ErrUnavailable, err)
	}
	return nil
}

// fits returns an error where size more bytes do not fit.
func (s *JetStream) fits(ctx context.Context, size int64) error {
	if s.room == nil {
		return nil
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	return s.room.check(ctx, size, s.used)
}

// take is fits for what is appended now.
func (s *JetStream) take(ctx context.Context, size int64) error {
	if s.room == nil {
		return nil
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if err := s.room.check(ctx, size, s.used); err != nil {
		return err
	}
	s.room.appended += size
	return nil
}

// used asks the engine how many bytes its files take.
func (s *JetStream) used(ctx context.Context) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	info, err := s.js.AccountInfo(ctx)
	if err != nil {
		return 0, unavailable(err)
	}
	return int64(info.Store), nil
}

// freeOn returns how many bytes this process may still write on the disk of dir.
func freeOn(dir string) (int64, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil //nolint:unconvert // Its type is another on other systems.
}

// sizeOf returns how many bytes the files below dir take; 0 where there is no dir.
func sizeOf(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return size, nil
	}
	return size, err
}
