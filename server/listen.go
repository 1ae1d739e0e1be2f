package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// listenTCP listens on the options' TCP address. Where another machine can reach it and callers would not be authenticated or
// authorised, it refuses, or returns what is missing where the server is to be insecure.
func listenTCP(options Options) (listener net.Listener, gaps []string, err error) {
	resolved, err := net.ResolveTCPAddr("tcp", options.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("the address %q to listen on: %w", options.Address, err)
	}
	if !resolved.IP.IsLoopback() {
		gaps = missing(options)
	}
	if len(gaps) > 0 && !options.Insecure {
		return nil, nil, fmt.Errorf("refused to listen on %q, which other machines can reach, without %s: anyone could call; "+
			"give what is missing, or a loopback address such as 127.0.0.1:7443, or --unix-socket; --insecure listens all the same",
			options.Address, strings.Join(gaps, ", "))
	}
	if listener, err = net.ListenTCP("tcp", resolved); err != nil {
		return nil, nil, fmt.Errorf("listen: %w; set another address with --listen", err)
	}
	return listener, gaps, nil
}

// missing names the flags without which callers on other machines would not be authenticated and authorised.
func missing(options Options) []string {
	var flags []string
	if !options.TLS.enabled() {
		flags = append(flags, "--tls-cert and --tls-key")
	}
	if options.TLS.ClientCA == "" {
		flags = append(flags, "--tls-client-ca")
	}
	if options.PolicyFile == "" {
		flags = append(flags, "--policy-file")
	}
	return flags
}

// warn says that the server is insecure, at once and again and again until ctx ends. Where it is not it returns.
func (s *Server) warn(ctx context.Context) {
	if len(s.gaps) == 0 {
		return
	}
	ticker := time.NewTicker(reminderInterval)
	defer ticker.Stop()
	for {
		s.options.Logger.LogAttrs(ctx, slog.LevelWarn,
			"INSECURE: other machines can reach the service and are not kept from calling it, as --insecure says; anyone may be one of them",
			slog.String("address", s.options.Address), slog.Any("missing", s.gaps))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// staleSocketTimeout is how long a socket that is already there has to accept a connection.
const staleSocketTimeout = 2 * time.Second

// listenUnix listens on a unix socket with this file mode. A socket that nobody listens on any more is replaced; one that somebody
// listens on, and any other kind of file, is an error.
func listenUnix(path string, mode fs.FileMode) (net.Listener, error) {
	if err := checkStale(path); err != nil {
		return nil, err
	}
	// The socket is bound in a folder that only we can enter, gets its mode, and is moved into place: at no time can anyone
	// connect whom the mode does not let.
	folder, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, fmt.Errorf("listen on the unix socket %s: %w", path, err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	bound := filepath.Join(folder, "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on the unix socket %s: %w", path, err)
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(bound, mode)
	if err == nil {
		err = os.Rename(bound, path)
	}
	var made fs.FileInfo
	if err == nil {
		made, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on the unix socket %s: %w", path, err), listener.Close())
	}
	return &unixListener{UnixListener: listener, path: path, made: made}, nil
}

// checkStale returns an error unless a socket may be put at path: nothing is there, or a socket that nobody listens on.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the unix socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("the unix socket %s: a file that is no socket is there, and is left alone", path)
	}
	conn, err := net.DialTimeout("unix", path, staleSocketTimeout)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("the unix socket %s: another process listens on it", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("the unix socket %s is there, and whether it is in use cannot be told: %w", path, err)
	}
	return nil
}

// unixListener is a listener on a socket that was moved into place after it was bound.
type unixListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// Addr returns the address that callers connect to.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening and removes the socket, unless another one is in its place by now.
func (l *unixListener) Close() error {
	err := l.UnixListener.Close()
	if info, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(info, l.made) {
		err = errors.Join(err, os.Remove(l.path))
	}
	return err
}
