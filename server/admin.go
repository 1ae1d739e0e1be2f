package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"
)

// maxProfile is how long a profile may be taken for.
const maxProfile = 5 * time.Minute

// listenAdmin listens for the administrator of this machine: on a loopback address, or, with unix: before its path, on a unix socket
// that is the service's user's alone. Every other address is refused, whatever else is allowed: a profile tells what the process has
// in its memory, and asks nobody who they are.
func listenAdmin(address string) (net.Listener, error) {
	if path, isUnix := strings.CutPrefix(address, "unix:"); isUnix {
		return listenUnix(path, 0o600)
	}
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the address %q of --admin-address: %w", address, err)
	}
	if !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("refused to serve profiles on %q, which other machines can reach; "+
			"set --admin-address to a loopback address such as 127.0.0.1:6060, or to unix:PATH", address)
	}
	listener, err := net.ListenTCP("tcp", resolved)
	if err != nil {
		return nil, fmt.Errorf("listen for the administrator: %w; set another address with --admin-address", err)
	}
	return listener, nil
}

// serveAdmin serves profiles under /debug/pprof/ until ctx ends. The command line is not among them: it may have a proxy's password.
func serveAdmin(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return serveHTTP(ctx, listener, mux, maxProfile)
}

// serveHTTP serves a handler until ctx ends, which cuts requests off. An answer may take as long as within.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, within time.Duration) error {
	web := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      within,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	defer context.AfterFunc(ctx, func() { _ = web.Close() })()
	if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
