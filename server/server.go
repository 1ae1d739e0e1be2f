package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"buf.build/go/protovalidate"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The limits of a connection. Windows and buffers stay at gRPC's defaults: measured, tuning them gained nothing.
const (
	// maxHeaderSize is the largest list of request headers, in bytes.
	maxHeaderSize = 16 << 10
	// maxStreams is how many calls one connection may have open: one whose client stopped reading holds some 50 KB until it is
	// ended, so their number has a bound.
	maxStreams = 4096
	// handshakeTimeout is how long a connection has until it can carry calls.
	handshakeTimeout = 20 * time.Second
	// minPing is how often a client may ping, also without calls: clients behind load balancers ping every ten seconds or more.
	minPing = 10 * time.Second
	// pingAfter and pingTimeout find a client that is gone without a word.
	pingAfter, pingTimeout = 30 * time.Second, 10 * time.Second
	// mtlsReadBuffer is the read buffer of a connection with TLS, in bytes: gRPC pools the buffers of plain connections only.
	mtlsReadBuffer = 4096
)

// defaultDrainTimeout is how long calls have to end when the server stops.
const defaultDrainTimeout = 15 * time.Second

// Options are what a Server is made of.
type Options struct {
	// Service answers the calls of IntegrationService. Required.
	Service integrationv1.IntegrationServiceServer
	// Ready returns nil while calls can be served; health tells. Required.
	Ready func(context.Context) error
	// Logger is logged to. Wrap its handler with LogHandler, so that lines carry the request id. Required.
	Logger *slog.Logger
	// Registry takes the server's metrics, and is what MetricsAddress serves. Required.
	Registry *prometheus.Registry

	// Address is the TCP address to listen on, such as 127.0.0.1:7443. Empty: none.
	Address string
	// UnixSocket is the path of the unix socket to listen on. Empty: none.
	UnixSocket string
	// UnixSocketMode is the socket's file mode. Default: 0600.
	UnixSocketMode fs.FileMode
	// TLS are the files for TLS on Address. They are read again when they change.
	TLS TLSFiles
	// TLSMinVersion is the oldest version of TLS that is spoken, such as tls.VersionTLS12. Default: TLS 1.3.
	TLSMinVersion uint16
	// PolicyFile says who may call what; see package access. It is read again when it changes. Empty: callers on this machine may do all.
	PolicyFile string
	// Insecure lets the server listen where other machines can reach it without TLS, client CA or policy file. It warns then, again and
	// again.
	Insecure bool
	// NoReflection switches the service's description of itself off.
	NoReflection bool
	// ReloadInterval is how often files are looked at for changes, and connections for certificates that have expired. A change counts
	// when it was seen twice. Default: 2 seconds.
	ReloadInterval time.Duration
	// Clock tells the time that certificates are held against. Default: time.Now; for tests.
	Clock func() time.Time
	// MetricsAddress is the TCP address that metrics are served on, in clear and to anyone. Empty: they are not served.
	MetricsAddress string
	// AdminAddress is where profiles are served: a loopback address, or unix: and the path of a unix socket. Empty: they are not served.
	AdminAddress string
	// Tracer makes a span of each call; nil: calls are not traced.
	Tracer trace.Tracer
	// Listener is one more listener, whose callers count as local: for tests in memory.
	Listener net.Listener

	// DrainTimeout is how long calls have to end when the server stops. Default: 15 seconds.
	DrainTimeout time.Duration
	// UnreadLimit is how long a caller may leave a stream unread before it is ended. Default: 2 minutes.
	UnreadLimit time.Duration
	// Limits are what callers may take. Default: there are none.
	Limits Limits
}

// Server is the gRPC server with its listeners, which listen from the beginning. Serve serves them; a Server that is not served is
// closed with Close.
type Server struct {
	options   Options
	grpc      *grpc.Server
	health    *health.Server
	readiness *readiness
	listeners []net.Listener
	metrics   net.Listener
	admin     net.Listener
	streams   *openStreams
	watcher   *watcher
	// gaps are what is missing for callers to be authenticated and authorised, where the server is insecure.
	gaps []string
}

// New makes a server and opens its listeners. It returns an error where an address cannot be listened on or would be reachable
// for callers that nobody authenticates or authorises, where TLS or the policy cannot be set up as asked, or where a method has no policy.
func New(options Options) (*Server, error) {
	if options.Service == nil || options.Ready == nil || options.Logger == nil || options.Registry == nil {
		return nil, errors.New("the server needs a service, a check of readiness, a logger and a registry")
	}
	if options.UnixSocketMode == 0 {
		options.UnixSocketMode = 0o600
	}
	if options.DrainTimeout <= 0 {
		options.DrainTimeout = defaultDrainTimeout
	}
	if options.UnreadLimit <= 0 {
		options.UnreadLimit = defaultUnreadLimit
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	if options.ReloadInterval <= 0 {
		options.ReloadInterval = defaultReloadInterval
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("set up the validation of requests: %w", err)
	}
	metrics, err := newMetrics(options.Registry)
	if err != nil {
		return nil, fmt.Errorf("register the server's metrics: %w", err)
	}

	streams, open := newOpenStreams(), newConnections()
	guard := &guard{
		insecure: options.Insecure, clock: options.Clock, connections: open, streams: streams, closeLimit: options.DrainTimeout,
		logger: options.Logger, metrics: metrics,
	}
	watcher, err := guard.watch(options)
	if err != nil {
		return nil, err
	}
	policies := policies()
	if options.NoReflection {
		delete(policies, reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName)
	}
	link := newTransport(open, options.Logger, metrics)
	settings := chained(chain(chainInput{
		logger: options.Logger, metrics: metrics, policies: policies, streams: streams, guard: guard, validator: validator,
		unreadLimit: options.UnreadLimit, limits: options.Limits, tracer: options.Tracer,
	}))
	if guard.certificates != nil {
		link.tls = credentials.NewTLS(guard.certificates.config())
		settings = append(settings, grpc.ReadBufferSize(mtlsReadBuffer))
	}
	settings = append(settings,
		grpc.Creds(link),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(encodingproto.Name)}),
		grpc.MaxRecvMsgSize(MaxRequestBytes),
		grpc.MaxHeaderListSize(maxHeaderSize),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// No MaxConnectionAge: it cuts streams without details.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		// Stop returns after the handlers, so nothing of theirs outlives the server.
		grpc.WaitForHandlers(true),
	)
	s := &Server{options: options, grpc: grpc.NewServer(settings...), health: health.NewServer(), streams: streams, watcher: watcher}
	integrationv1.RegisterIntegrationServiceServer(s.grpc, options.Service)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	if !options.NoReflection {
		reflection.RegisterV1(s.grpc)
	}
	metrics.calls.InitializeMetrics(s.grpc)
	s.readiness = newReadiness(s.health, options.Ready, options.Logger, metrics.ready)

	err = checkPolicies(policies, s.grpc.GetServiceInfo())
	if err == nil {
		err = s.listen()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// listen opens the listeners.
func (s *Server) listen() error {
	o := s.options
	if o.Listener != nil {
		s.listeners = append(s.listeners, o.Listener)
	}
	if o.Address != "" {
		listener, gaps, err := listenTCP(o)
		if err != nil {
			return err
		}
		s.listeners, s.gaps = append(s.listeners, listener), gaps
	}
	if o.UnixSocket != "" {
		listener, err := listenUnix(o.UnixSocket, o.UnixSocketMode)
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, listener)
	}
	if len(s.listeners) == 0 {
		return errors.New("nothing to listen on: an address (--listen) or a unix socket (--unix-socket) is needed")
	}
	if o.MetricsAddress != "" {
		listener, err := net.Listen("tcp", o.MetricsAddress)
		if err != nil {
			return fmt.Errorf("listen for metrics: %w; set another address with --metrics-address, or none", err)
		}
		s.metrics = listener
	}
	if o.AdminAddress != "" {
		listener, err := listenAdmin(o.AdminAddress)
		if err != nil {
			return err
		}
		s.admin = listener
	}
	return nil
}

// Addresses returns the addresses that calls are accepted on.
func (s *Server) Addresses() []net.Addr {
	addresses := make([]net.Addr, len(s.listeners))
	for i, listener := range s.listeners {
		addresses[i] = listener.Addr()
	}
	return addresses
}

// MetricsAddress returns the address that metrics are served on, nil where they are not served.
func (s *Server) MetricsAddress() net.Addr {
	if s.metrics == nil {
		return nil
	}
	return s.metrics.Addr()
}

// AdminAddress returns the address that profiles are served on, nil where they are not served.
func (s *Server) AdminAddress() net.Addr {
	if s.admin == nil {
		return nil
	}
	return s.admin.Addr()
}

// Close closes the listeners of a server that is not served.
func (s *Server) Close() error {
	s.streams.drain()
	s.grpc.Stop()
	var errs []error
	for _, listener := range s.listeners {
		errs = append(errs, listener.Close())
	}
	if s.metrics != nil {
		errs = append(errs, s.metrics.Close())
	}
	if s.admin != nil {
		errs = append(errs, s.admin.Close())
	}
	return errors.Join(errs...)
}

// Serve serves until ctx ends or a listener fails, and then drains: health says NOT_SERVING, streams end with UNAVAILABLE and the
// reason SERVER_DRAINING, other calls finish, and what is open after the drain timeout is cut off. It returns nil after an end that
// ctx asked for.
func (s *Server) Serve(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, listener := range s.listeners {
		s.options.Logger.LogAttrs(ctx, slog.LevelInfo, "listening",
			slog.String("network", listener.Addr().Network()), slog.String("address", listener.Addr().String()))
		group.Go(func() error {
			err := s.grpc.Serve(listener)
			if err == nil || ctx.Err() != nil && errors.Is(err, grpc.ErrServerStopped) {
				return nil // The end was asked for, perhaps before the listener's turn came.
			}
			return fmt.Errorf("serve %s: %w", listener.Addr(), err)
		})
	}
	// Metrics are served until the last call has ended: what draining does is worth seeing.
	metricsCtx, stopMetrics := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMetrics()
	if s.metrics != nil {
		s.options.Logger.LogAttrs(ctx, slog.LevelInfo, "serving metrics", slog.String("address", s.metrics.Addr().String()))
		group.Go(func() error {
			if err := serveMetrics(metricsCtx, s.metrics, s.options.Registry); err != nil {
				return fmt.Errorf("serve metrics: %w", err)
			}
			return nil
		})
	}
	if s.admin != nil {
		s.options.Logger.LogAttrs(ctx, slog.LevelInfo, "serving profiles", slog.String("address", s.admin.Addr().String()))
		group.Go(func() error {
			if err := serveAdmin(metricsCtx, s.admin); err != nil {
				return fmt.Errorf("serve profiles: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error {
		s.watcher.run(groupCtx)
		return nil
	})
	group.Go(func() error {
		s.warn(groupCtx)
		return nil
	})
	group.Go(func() error {
		s.readiness.run(groupCtx)
		s.stop(ctx)
		stopMetrics()
		return nil
	})
	return group.Wait()
}

// stop drains the server and stops it.
func (s *Server) stop(ctx context.Context) {
	s.options.Logger.LogAttrs(ctx, slog.LevelInfo, "draining", slog.String("timeout", s.options.DrainTimeout.String()))
	s.health.Shutdown()
	s.streams.drain()
	// A stream whose client does not read holds the graceful stop for ever.
	cut := time.AfterFunc(s.options.DrainTimeout, func() {
		s.options.Logger.LogAttrs(ctx, slog.LevelWarn, "calls are still open after the drain timeout, and are cut off")
		s.grpc.Stop()
	})
	defer cut.Stop()
	s.grpc.GracefulStop()
	s.options.Logger.LogAttrs(ctx, slog.LevelInfo, "stopped")
}
