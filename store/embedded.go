package store

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
)

// embedded is the server in this process, on a locked data directory and without an open port.
type embedded struct {
	options server.Options
	logger  *slog.Logger
	lock    *dirLock
	// restarts counts them; nil where nobody asks.
	restarts prometheus.Counter

	mu     sync.Mutex
	server *server.Server // nil while it could not be started
	// generation counts the starts; suspect is the one that did not answer, or 0.
	generation, suspect int
}

// startLimit bounds how long the server may take to read its files.
const startLimit = 2 * time.Minute

// startEmbedded locks the data directory and starts a server on it.
func startEmbedded(options Options, logger *slog.Logger) (*embedded, *room, error) {
	if options.Dir == "" {
		return nil, nil, errors.New("neither a data directory nor a URL is given")
	}
	if err := os.MkdirAll(options.Dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("the data directory: %w", err)
	}
	lock, err := lockDir(options.Dir)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(options.Dir, "jetstream")
	room, err := newRoom(options.Dir, dir, options.MaxBytes)
	if err != nil {
		return nil, nil, errors.Join(err, lock.release())
	}
	e := &embedded{
		logger: logger,
		lock:   lock,
		options: server.Options{
			ServerName:             "defender-integration",
			DontListen:             true,
			NoSigs:                 true,
			JetStream:              true,
			DisableJetStreamBanner: true,
			StoreDir:               options.Dir,
			JetStreamMaxStore:      room.limit + reserve,
			JetStreamMaxMemory:     64 << 20, // Consumers only; all streams are files.
			// Without it, a loss of power loses whole streams, not just the last seconds.
			SyncAlways: !options.syncLater,
		},
	}
	if err := e.start(); err != nil {
		return nil, nil, errors.Join(err, lock.release())
	}
	return e, room, nil
}

// start needs the lock, or to be alone.
func (e *embedded) start() error {
	options := e.options.Clone()
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("%w: start the server: %w", ErrUnavailable, err)
	}
	log := &serverLogger{logger: e.logger}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startLimit) || !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("%w: the server did not start: %w", ErrUnavailable, log.cause())
	}
	e.server = s
	e.generation++
	return nil
}

// InProcessConn gives the client a connection to the server of the moment.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	s := e.server
	e.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("%w: the server is not running", ErrUnavailable)
	}
	return s.InProcessConn()
}

// suspected notes that the server did not answer a write.
func (e *embedded) suspected() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.suspect = e.generation
}

// well returns an error where the server is suspected, or does not run.
func (e *embedded) well() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sound() {
		return nil
	}
	return fmt.Errorf("%w: its server did not answer a write, and is restarted as soon as the disk takes something", ErrUnavailable)
}

// sound needs the lock. It says whether the server runs and is not suspected.
func (e *embedded) sound() bool {
	return e.server != nil && (e.suspect == 0 || e.suspect != e.generation)
}

// heal restarts a server that is suspected, and says whether it did. A disk that was full leaves streams that take nothing until
// the server is restarted, also when there is room again. It does not while takes says that the disk takes nothing still: a server that
// cannot write can be read, and one that cannot be started cannot.
func (e *embedded) heal(takes func() error) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sound() {
		return false, nil
	}
	if err := takes(); err != nil {
		return false, err
	}
	if e.server != nil {
		e.logger.Warn("the store does not answer, restarting its server")
		if e.restarts != nil {
			e.restarts.Inc()
		}
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.server = nil
	}
	return true, e.start()
}

// close stops the server and releases the data directory.
func (e *embedded) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
		e.server = nil
	}
	return e.lock.release()
}

// serverLogger takes what the server logs: warnings and worse. It never ends the process, as the server's own logger does.
type serverLogger struct {
	logger *slog.Logger
	mu     sync.Mutex
	fatal  error
}

var _ server.Logger = (*serverLogger)(nil)

// cause returns why the server gave up.
func (l *serverLogger) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fatal != nil {
		return l.fatal
	}
	return errors.New("it gave no reason in time")
}

// Fatalf implements server.Logger.
func (l *serverLogger) Fatalf(format string, v ...any) {
	l.mu.Lock()
	l.fatal = fmt.Errorf(format, v...)
	l.mu.Unlock()
	l.logger.Error("the store's server gives up", "error", fmt.Sprintf(format, v...))
}

// Errorf implements server.Logger.
func (l *serverLogger) Errorf(format string, v ...any) {
	l.logger.Error("the store's server reports an error", "error", fmt.Sprintf(format, v...))
}

// Warnf implements server.Logger.
func (l *serverLogger) Warnf(format string, v ...any) {
	l.logger.Warn("the store's server warns", "error", fmt.Sprintf(format, v...))
}

// Noticef implements server.Logger.
func (l *serverLogger) Noticef(string, ...any) {}

// Debugf implements server.Logger.
func (l *serverLogger) Debugf(string, ...any) {}

// Tracef implements server.Logger.
func (l *serverLogger) Tracef(string, ...any) {}
