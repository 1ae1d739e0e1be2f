package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// listenTCP listens on a TCP address. Without client certificates it refuses every address that another machine can reach, since
// nobody would be authenticated there.
func listenTCP(address string, files TLSFiles) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the address %q to listen on: %w", address, err)
	}
	if !resolved.IP.IsLoopback() && files.ClientCA == "" {
		missing := "--tls-cert, --tls-key and --tls-client-ca are needed"
		if files.enabled() {
			missing = "--tls-client-ca is needed too"
		}
		return nil, fmt.Errorf("refused to listen on %q, which other machines can reach: callers would not be authenticated; "+
			"%s, or a loopback address such as 127.0.0.1:7443, or --unix-socket", address, missing)
	}
	listener, err := net.ListenTCP("tcp", resolved)
	if err != nil {
		return nil, fmt.Errorf("listen: %w; set another address with --listen", err)
	}
	return listener, nil
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
