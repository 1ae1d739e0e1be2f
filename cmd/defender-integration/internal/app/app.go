// Package app is the service put together: store, collectors, streams and server, from one set of options. The commands serve and
// demo run the same code.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"defender-integration/collector"
	"defender-integration/defender"
	"defender-integration/defender/entra"
	"defender-integration/defender/outbound"
	"defender-integration/defender/secretsdir"
	"defender-integration/internal/announce"
	"defender-integration/server"
	"defender-integration/server/stream"
	"defender-integration/store"
)

// Options are what the service runs with.
type Options struct {
	// Server says where to listen and with what security. Service, Ready, Logger and Registry are filled in.
	Server server.Options
	// Store says where data is kept. Logger is filled in.
	Store store.Options
	// SealingKeyFile is the file of the key that secrets are sealed with. Empty: sealing.key in the data directory, which is made
	// at the first start; it must be given where the store is on a cluster.
	SealingKeyFile string
	// AllowEndpoints are hosts, as HOST:PORT, that may be registered besides Microsoft's. AllowHTTP lets them be spoken to in clear.
	AllowEndpoints []string
	AllowHTTP      bool
	// SecretsDir is the folder whose files integrations may name instead of a secret; empty for none.
	SecretsDir string
	// ProxyRules say which proxies lead to which hosts, for integrations that say nothing of it; see outbound.ParseRules.
	ProxyRules []string
	// TrustedCAFile has certificates of authorities in PEM, which all integrations trust besides those of the system; empty for none.
	TrustedCAFile string
	// Collecting says when and how deep to read; collector.DefaultSettings are those of a service in earnest.
	Collecting collector.Settings
	// Version is the program's version.
	Version string
	// Logger is logged to. Its handler is wrapped with server.LogHandler.
	Logger *slog.Logger
}

// App is the service, put together and listening.
type App struct {
	options Options
	files   *secretsdir.Dir
	store   store.Store
	server  *server.Server
	manager *collector.Manager
	streams *stream.Streams
	// engine is the context of collectors and feeds, which outlive the last call.
	engine     context.Context //nolint:containedctx // It is the life of the App, which Run ends.
	stopEngine context.CancelFunc
}

// Start opens the store and the listeners. What it returns is run with Run, which also closes it.
func Start(ctx context.Context, options Options) (*App, error) {
	allowed, err := defender.NewAllowList(options.AllowEndpoints, options.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("--allow-endpoint: %w", err)
	}
	if options.SealingKeyFile == "" {
		if options.Store.URL != "" {
			return nil, errors.New("--sealing-key-file is needed with --nats-url: all that share the cluster must share the key")
		}
		options.SealingKeyFile = filepath.Join(options.Store.Dir, "sealing.key")
	}
	leave, err := outboundDefaults(options)
	if err != nil {
		return nil, err
	}
	var files *secretsdir.Dir
	if options.SecretsDir != "" {
		if files, err = secretsdir.Open(options.SecretsDir); err != nil {
			return nil, err
		}
	}
	options.Store.Logger = options.Logger
	opened, err := store.OpenJetStream(ctx, options.Store)
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	a := &App{options: options, files: files, store: opened}
	a.engine, a.stopEngine = context.WithCancel(context.WithoutCancel(ctx))
	if err := a.assemble(ctx, allowed, leave); err != nil {
		a.stopEngine()
		return nil, errors.Join(err, opened.Close(), files.Close())
	}
	return a, nil
}

// outboundDefaults reads what the operator says of proxies and authorities.
func outboundDefaults(options Options) (*outbound.Defaults, error) {
	rules, err := outbound.ParseRules(options.ProxyRules)
	if err != nil {
		return nil, fmt.Errorf("--proxy: %w", err)
	}
	var authorities []byte
	if options.TrustedCAFile != "" {
		if authorities, err = os.ReadFile(options.TrustedCAFile); err != nil {
			return nil, fmt.Errorf("--trusted-ca-file: %w", err)
		}
	}
	return outbound.NewDefaults(rules, authorities)
}

// assemble puts together what stands on the store.
func (a *App) assemble(ctx context.Context, allowed defender.AllowList, leave *outbound.Defaults) error {
	registry, err := newRegistry(a.options.Version)
	if err != nil {
		return err
	}
	sealer, err := openSealer(ctx, a.store, a.options.SealingKeyFile)
	if err != nil {
		return err
	}
	connector := &connector{
		sealer: sealer, allowed: allowed, files: a.files, outbound: leave, tokens: entra.NewShared(),
		version: a.options.Version, logger: a.options.Logger,
	}
	a.manager = collector.NewManager(collector.Options{
		Settings: a.options.Collecting, Store: a.store, Connect: connector.connect, DeviceKeys: deviceKeys, Wanted: wanted,
		Log: a.options.Logger, Metrics: registry,
	})
	a.streams = stream.New(a.engine, stream.Options{Store: a.store, Collectors: a.manager, Log: a.options.Logger})
	service, err := server.NewService(server.ServiceOptions{
		Records: a.store, Sealer: sealer, Collectors: a.manager, Streams: a.streams, Logger: a.options.Logger,
		Test: connector.tester(a.manager), Check: connector.check, CheckFile: a.files.Check, Allowed: allowed, Version: a.options.Version,
	})
	if err != nil {
		return err
	}
	options := a.options.Server
	options.Service, options.Ready, options.Logger, options.Registry = service, a.store.Ready, a.options.Logger, registry
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

// checkRegistry reads every record, so that what this version cannot read is told at the start, and says whether there are any.
func checkRegistry(ctx context.Context, registry store.Registry) (registered bool, err error) {
	for after := ""; ; registered = true {
		records, err := registry.Records(ctx, after, recordsAtOnce)
		if errors.Is(err, store.ErrVersion) {
			return false, fmt.Errorf("read the registry: %w: run the version that wrote it, or a later one; nothing was changed", err)
		}
		if err != nil {
			return false, fmt.Errorf("read the registry: %w", err)
		}
		if len(records) == 0 {
			return registered, nil
		}
		after = records[len(records)-1].Record.GetIntegration().GetIntegrationId()
	}
}

// recordsAtOnce is how many records are read at once.
const recordsAtOnce = 100

// openSealer opens the sealing key, and makes one only where nothing is registered that another key has sealed.
func openSealer(ctx context.Context, registry store.Registry, path string) (*store.Sealer, error) {
	registered, err := checkRegistry(ctx, registry)
	if err != nil {
		return nil, err
	}
	sealer, err := store.OpenSealer(path, !registered)
	if errors.Is(err, store.ErrNoKey) {
		return nil, fmt.Errorf("%w, and integrations are registered whose secrets it sealed: bring it back, or name it with --sealing-key-file", err)
	}
	return sealer, err
}

// Addresses returns the addresses that calls are accepted on.
func (a *App) Addresses() []net.Addr { return a.server.Addresses() }

// MetricsAddress returns the address that metrics are served on, nil where they are not served.
func (a *App) MetricsAddress() net.Addr { return a.server.MetricsAddress() }

// Run serves until ctx ends, and then stops in order: calls, collectors, store. It returns nil after an end that ctx asked for.
func (a *App) Run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		// Collectors are stopped after the last stream has ended.
		defer a.stopEngine()
		return a.server.Serve(groupCtx)
	})
	group.Go(func() error {
		announce.Point(announce.Start)
		return a.manager.Run(a.engine)
	})
	err := group.Wait()
	a.streams.Wait()
	return errors.Join(err, a.store.Close(), a.files.Close())
}
