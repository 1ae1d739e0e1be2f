// Package app is the service put together: store, collectors, streams and server, from one set of options. The commands serve and
// demo run the same code.
package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"defender-integration/cmd/defender-integration/internal/configuration"
	"defender-integration/collector"
	"defender-integration/defender/secretsdir"
	"defender-integration/internal/announce"
	"defender-integration/server"
	"defender-integration/server/stream"
	"defender-integration/store"
)

// Options are what the service runs with.
type Options struct {
	// Server says where to listen and with what security. Service, Ready, Logger, Registry and Tracer are filled in.
	Server server.Options
	// Store says where data is kept. Logger and Metrics are filled in.
	Store store.Options
	// SealingKeyFile is the file of the key that secrets are sealed with. Empty: sealing.key in the data directory, which is made
	// at the first start; it must be given where the store is on a cluster.
	SealingKeyFile string
	// AllowEndpoints are hosts, as HOST:PORT, that may be registered besides Microsoft's. AllowHTTP lets them be spoken to in clear.
	AllowEndpoints []string
	AllowHTTP      bool
	// SecretsDir is the folder whose files integrations may name instead of a secret; empty for none.
	SecretsDir string
	// SecretVariables are the environment variables that integrations may name instead of a secret.
	SecretVariables []string
	// Integrations is the directory or file with integrations as configuration; empty for none.
	Integrations string
	// IntegrationsInterval is how often they are looked at; 0: 5 seconds.
	IntegrationsInterval time.Duration
	// ProxyRules say which proxies lead to which hosts, for integrations that say nothing of it; see outbound.ParseRules.
	ProxyRules []string
	// TrustedCAFile has certificates of authorities in PEM, which all integrations trust besides those of the system; empty for none.
	TrustedCAFile string
	// Lease is how long the leases of a server outlive it where the store is on a cluster, which others share. It is not used otherwise.
	Lease time.Duration
	// Collecting says when and how deep to read; collector.DefaultSettings are those of a service in earnest.
	Collecting collector.Settings
	// Version is the program's version.
	Version string
	// Logger is logged to. Its handler is wrapped with server.LogHandler.
	Logger *slog.Logger
	// Traces takes the spans of calls and collectors; nil for nowhere.
	Traces trace.TracerProvider
}

// App is the service, put together and listening.
type App struct {
	options Options
	files   *secretsdir.Dir
	store   store.Store
	server  *server.Server
	manager *collector.Manager
	streams *stream.Streams
	// keeper is nil where there are no integrations as configuration.
	keeper *configuration.Keeper
	// engine is the context of collectors and feeds, which outlive the last call.
	engine     context.Context //nolint:containedctx // It is the life of the App, which Run ends.
	stopEngine context.CancelFunc
}

// Start opens the store and the listeners. What it returns is run with Run, which also closes it. Where a NATS cluster is not there yet, it
// waits until it is, or ctx ends.
func Start(ctx context.Context, options Options) (*App, error) {
	connector, err := newConnector(options)
	if err != nil {
		return nil, err
	}
	if options.SealingKeyFile, err = sealingKeyFile(options); err != nil {
		return nil, err
	}
	if unset := connector.variables.Unset(); len(unset) > 0 {
		options.Logger.LogAttrs(ctx, slog.LevelWarn, "environment variables of --secret-env are not set: what names one of them cannot be used",
			slog.String("variables", strings.Join(unset, " ")))
	}
	if options.SecretsDir != "" {
		if connector.files, err = secretsdir.Open(options.SecretsDir); err != nil {
			return nil, err
		}
	}
	registry, err := newRegistry(options.Version)
	if err != nil {
		return nil, errors.Join(err, connector.files.Close())
	}
	options.Store.Logger, options.Store.Metrics = options.Logger, registry
	opened, err := openStore(ctx, options)
	if err != nil {
		return nil, errors.Join(err, connector.files.Close())
	}
	a := &App{options: options, files: connector.files, store: opened}
	a.engine, a.stopEngine = context.WithCancel(context.WithoutCancel(ctx))
	if err := a.assemble(ctx, registry, connector); err != nil {
		a.stopEngine()
		return nil, errors.Join(err, opened.Close(), connector.files.Close())
	}
	return a, nil
}

// assemble puts together what stands on the store.
func (a *App) assemble(ctx context.Context, registry *prometheus.Registry, connector *connector) error {
	sealer, err := openSealer(ctx, a.store, a.options.SealingKeyFile, a.options.Logger)
	if err != nil {
		return err
	}
	connector.sealer = sealer
	lease := a.options.Lease
	if a.options.Store.URL == "" {
		lease = 0 // The server is alone with its store.
	}
	var tracer trace.Tracer
	if a.options.Traces != nil {
		tracer = a.options.Traces.Tracer("defender-integration")
	}
	a.manager = collector.NewManager(collector.Options{
		Settings: a.options.Collecting, Store: a.store, Lease: lease, Connect: connector.connect, DeviceKeys: deviceKeys, Wanted: wanted,
		Log: a.options.Logger, Metrics: registry, Tracer: tracer,
	})
	a.streams = stream.New(a.engine, stream.Options{Store: a.store, Collectors: a.manager, Log: a.options.Logger, Metrics: registry})
	service, err := server.NewService(server.ServiceOptions{
		Records: a.store, Sealer: sealer, Collectors: a.manager, Streams: a.streams, Logger: a.options.Logger,
		Test: connector.tester(a.manager), Rules: connector.rules(a.files.Check), Version: a.options.Version,
		Configured: a.options.Integrations != "",
	})
	if err != nil {
		return err
	}
	if a.options.Integrations != "" {
		if a.keeper, err = configuration.New(configuration.Options{
			Path: a.options.Integrations, Target: service, Logger: a.options.Logger, Registry: registry, Interval: a.options.IntegrationsInterval,
		}); err != nil {
			return err
		}
		a.keeper.Pass(ctx)
	}
	options := a.options.Server
	options.Service, options.Ready, options.Logger, options.Registry = service, a.store.Ready, a.options.Logger, registry
	options.Tracer = tracer
	a.server, err = server.New(options)
	return err
}

// newRegistry makes the registry of the process's metrics.
func newRegistry(version string) (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "defender_integration_build_info", Help: "Always 1; the label has the version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	return registry, errors.Join(registry.Register(build), registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// Addresses returns the addresses that calls are accepted on.
func (a *App) Addresses() []net.Addr { return a.server.Addresses() }

// MetricsAddress returns the address that metrics are served on, nil where they are not served.
func (a *App) MetricsAddress() net.Addr { return a.server.MetricsAddress() }

// AdminAddress returns the address that profiles are served on, nil where they are not served.
func (a *App) AdminAddress() net.Addr { return a.server.AdminAddress() }

// Run serves until ctx ends, and then stops in order: calls, collectors, store. It returns nil after an end that ctx asked for.
func (a *App) Run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	// What it collects for goes to other servers at once; its streams are ended meanwhile.
	defer context.AfterFunc(groupCtx, a.manager.Retire)()
	group.Go(func() error {
		// Collectors are stopped after the last stream has ended.
		defer a.stopEngine()
		return a.server.Serve(groupCtx)
	})
	group.Go(func() error {
		announce.Point(announce.Start)
		return a.manager.Run(a.engine)
	})
	if a.keeper != nil {
		group.Go(func() error {
			a.keeper.Run(groupCtx)
			return nil
		})
	}
	err := group.Wait()
	a.streams.Wait()
	return errors.Join(err, a.store.Close(), a.files.Close())
}
