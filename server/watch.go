package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

const (
	// defaultReloadInterval is how often files are looked at. A change counts when it has been seen twice, so that nothing half written
	// is taken.
	defaultReloadInterval = 2 * time.Second
	// reminderInterval is how often it is told again that files cannot be used, or that the server is insecure.
	reminderInterval = 5 * time.Minute
	// maxFileSize is how large a file may be, in bytes: some ten times what a bundle of all public authorities takes.
	maxFileSize = 4 << 20
)

// watched are files that are taken together, and again when one of them changes. What cannot be used changes nothing: what was taken
// before stays in force.
type watched struct {
	// name names them in the log and in metrics.
	name  string
	paths []string
	// take takes their contents.
	take func(contents [][]byte) error

	// inForce is the digest of what was taken last, seen that of what was there last.
	inForce, seen [sha256.Size]byte
	// failure is why what is there cannot be used, empty where it is in force; told is when that was logged last.
	failure string
	told    time.Time
}

// begin takes the files for the first time.
func (w *watched) begin() error {
	contents, digest, err := w.read()
	if err != nil {
		return fmt.Errorf("read the files for %s: %w", w.name, err)
	}
	w.inForce, w.seen = digest, digest
	return w.take(contents)
}

// read reads the files. The digest tells contents apart, and failures too.
func (w *watched) read() (contents [][]byte, digest [sha256.Size]byte, err error) {
	sum := sha256.New()
	for _, path := range w.paths {
		data, err := readFile(path)
		if err != nil {
			return nil, sha256.Sum256([]byte(err.Error())), err
		}
		_, _ = fmt.Fprintf(sum, "%d\n", len(data)) // A hash takes everything.
		_, _ = sum.Write(data)
		contents = append(contents, data)
	}
	return contents, [sha256.Size]byte(sum.Sum(nil)), nil
}

// readFile reads a file that is not too large to be what it should.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err == nil && len(data) > maxFileSize {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFileSize)
	}
	return data, err
}

// watcher looks at files again and again.
type watcher struct {
	files    []*watched
	interval time.Duration
	// each is called each time, after the files: for what time alone changes.
	each    func()
	logger  *slog.Logger
	metrics *metrics
}

// run looks at the files until ctx ends.
func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(w.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, files := range w.files {
			w.look(ctx, files)
		}
		w.each()
	}
}

// look takes files where they have changed, and tells of it.
func (w *watcher) look(ctx context.Context, files *watched) {
	contents, digest, err := files.read()
	if digest != files.seen {
		files.seen = digest
		return
	}
	if digest == files.inForce {
		if files.failure != "" {
			files.failure = ""
			w.metrics.reloadFailing.WithLabelValues(files.name).Set(0)
			w.logger.LogAttrs(ctx, slog.LevelInfo, "the files are again what is in force", slog.String("files", files.name))
		}
		return
	}
	if err == nil {
		err = files.take(contents)
	}
	if err != nil {
		w.failed(ctx, files, err)
		return
	}
	files.inForce, files.failure = digest, ""
	w.metrics.reloads.WithLabelValues(files.name, "taken").Inc()
	w.metrics.reloadFailing.WithLabelValues(files.name).Set(0)
	w.logger.LogAttrs(ctx, slog.LevelInfo, "the changed files are in force",
		slog.String("files", files.name), slog.Any("paths", files.paths))
}

// failed tells that files cannot be used: once, and again from time to time.
func (w *watcher) failed(ctx context.Context, files *watched, cause error) {
	anew := files.failure != cause.Error()
	if !anew && time.Since(files.told) < reminderInterval {
		return
	}
	if anew {
		w.metrics.reloads.WithLabelValues(files.name, "refused").Inc()
		w.metrics.reloadFailing.WithLabelValues(files.name).Set(1)
	}
	files.failure, files.told = cause.Error(), time.Now()
	w.logger.LogAttrs(ctx, slog.LevelError, "the changed files cannot be used, and what was in force before stays; mend them",
		slog.String("files", files.name), slog.Any("paths", files.paths), slog.String("cause", cause.Error()))
}
