package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"defender-integration/cmd/defender-integration/internal/app"
	"defender-integration/cmd/defender-integration/internal/tracing"
	"defender-integration/collector"
	"defender-integration/server"
)

// defaultListen is where the server listens, and where healthcheck asks.
const defaultListen = "127.0.0.1:7443"

// serveFlags are the flags of serve.
type serveFlags struct {
	server     server.Options
	reflection bool
	store      storeFlags
	sealingKey string
	mode       modeValue
	allow      listValue
	allowHTTP  bool
	secretsDir string
	secretEnv  listValue
	// integrations is the directory or file with integrations as configuration.
	integrations string
	proxies      listValue
	trustedCA    string
	collecting   collector.Settings
	lease        time.Duration
	budget       listValue
	rereads      listValue
	log          logFlags
}

func serveCommand() command {
	return command{
		name:    "serve",
		summary: "serve the gRPC API",
		about: "serve serves the gRPC API until it is told to stop (SIGINT or SIGTERM), and then ends in order.\n" +
			"Without TLS, a client CA and a policy file it serves only this machine: a loopback address or a unix socket.\n" +
			"The files for TLS and the policy file are read again when they change.",
		setup: func(flags *flagSet) func(context.Context, streams) error {
			f := &serveFlags{mode: 0o600, collecting: collector.DefaultSettings()}
			f.listening(flags)
			f.keeping(flags)
			f.reaching(flags)
			f.configuring(flags)
			f.reading(flags)
			f.log.declare(flags)
			return f.run
		},
	}
}

// listening declares the flags of the server.
func (f *serveFlags) listening(flags *flagSet) {
	flags.StringVar(&f.server.Address, "listen", defaultListen, "listen on this TCP `address`; \"none\": on no TCP address")
	flags.StringVar(&f.server.UnixSocket, "unix-socket", "", "listen on a unix socket at this `path` (too)")
	flags.Var(&f.mode, "unix-socket-mode", "the unix socket's file `mode`, in octal digits")
	flags.StringVar(&f.server.TLS.Certificate, "tls-cert", "", "serve TLS with the certificate in this PEM `file`, its chain after it")
	flags.StringVar(&f.server.TLS.Key, "tls-key", "", "the PEM `file` with the certificate's key")
	flags.StringVar(&f.server.TLS.ClientCA, "tls-client-ca", "",
		"require a certificate of each client, signed by an authority in this PEM `file`.\nWithout it only loopback addresses are served")
	f.server.TLSMinVersion = tls.VersionTLS13
	flags.Var((*tlsVersion)(&f.server.TLSMinVersion), "tls-min-version", "the oldest `version` of TLS that is spoken: 1.3 or 1.2")
	flags.StringVar(&f.server.PolicyFile, "policy-file", "",
		"who may call what, for which integrations: a YAML `file`, as docs/access.md has it. Without it callers on this machine may call all,\n"+
			"and only loopback addresses are served")
	flags.BoolVar(&f.reflection, "reflection", true, "describe the API to callers that ask for it, as grpcurl does")
	flags.BoolVar(&f.server.Insecure, "insecure", false,
		"listen where other machines can reach it also without TLS, client CA or policy file, and warn of that again and again")
	flags.StringVar(&f.server.MetricsAddress, "metrics-address", "127.0.0.1:9464",
		"serve metrics for Prometheus at http://`address`/metrics, in clear and to anyone who reaches it; \"none\": do not")
	flags.StringVar(&f.server.AdminAddress, "admin-address", "",
		"serve profiles of this process at http://`address`/debug/pprof/: a loopback address, or unix:PATH for a unix socket.\nDefault: do not")
	flags.DurationVar(&f.server.DrainTimeout, "drain-timeout", 15*time.Second, "how long calls have to end once the server is told to stop")
	f.limiting(flags)
	flags.DurationVar(&f.server.UnreadLimit, "unread-limit", 2*time.Minute,
		"end a stream of which nothing has left for this long, since its client does not read. Where the client does not read on then, its\n"+
			"connection is closed")
}

// limiting declares the flags of what callers may take.
func (f *serveFlags) limiting(flags *flagSet) {
	l := &f.server.Limits
	*l = server.DefaultLimits()
	flags.IntVar(&l.Streams, "max-streams", l.Streams, "let all callers together have so many `streams` open; 0: any number")
	flags.IntVar(&l.StreamsPerCaller, "max-streams-per-caller", l.StreamsPerCaller, "let each caller have so many `streams` open; 0: any number")
	flags.Float64Var(&l.CallsPerSecond, "calls-per-second", l.CallsPerSecond,
		"let all callers together make so many `calls` in a second, streams apart; 0: any number")
	flags.Float64Var(&l.CallsPerSecondPerCaller, "calls-per-second-per-caller", l.CallsPerSecondPerCaller,
		"let each caller make so many `calls` in a second, streams apart; 0: any number")
	flags.IntVar(&l.RequestBytes, "max-request-bytes", l.RequestBytes,
		fmt.Sprintf("refuse requests of more `bytes`; 0: those of more than %d, which are not even read", server.MaxRequestBytes))
}

// keeping declares the flags of the store, and of how long what is in it is kept.
func (f *serveFlags) keeping(flags *flagSet) {
	f.storing(flags)
	flags.DurationVar(&f.lease, "lease", 10*time.Second,
		"with --nats-url, what a server collects for goes to another one when it has not been heard of for this long: whole seconds, at least 2")
	flags.DurationVar(&f.collecting.RetentionAge, "retention-age", f.collecting.RetentionAge, "drop what is older than this from a journal")
	flags.Uint64Var(&f.collecting.RetentionBytes, "retention-bytes", f.collecting.RetentionBytes, "drop the oldest entries of a journal that takes more `bytes` than this")
	flags.DurationVar(&f.collecting.TrimInterval, "trim-interval", f.collecting.TrimInterval, "look this often whether a journal holds more than that")
}

// storing declares the flags of where data is, and of the key that it is sealed with: for whatever opens the store.
func (f *serveFlags) storing(flags *flagSet) {
	flags.StringVar(&f.store.options.Dir, "data-dir", "data", "keep data in this `folder`; it is made where it is missing, and only one process uses it")
	flags.Int64Var(&f.store.options.MaxBytes, "data-max-bytes", 0, "how many `bytes` data may take; 0: three quarters of what the disk has left")
	f.store.declare(flags)
	flags.StringVar(&f.sealingKey, "sealing-key-file", "",
		"the `file` with the key that secrets are sealed with. Default: sealing.key in --data-dir, made at the first start.\n"+
			"Keep a copy: without it what is registered cannot be used")
}

// configuring declares the flag of integrations as configuration.
func (f *serveFlags) configuring(flags *flagSet) {
	flags.StringVar(&f.integrations, "integrations", "",
		"have the integrations that the YAML files in this `folder`, or this one file, say: at the start, and when they change.\n"+
			"What is managed so cannot be changed over the API, and what the files have no more is deleted with its journal")
}

// reaching declares the flags of how Microsoft is reached.
func (f *serveFlags) reaching(flags *flagSet) {
	flags.Var(&f.allow, "allow-endpoint", "let integrations name this `HOST:PORT` besides Microsoft's; a proxy too, where it is at a loopback\n"+
		"address, or is to be told a password that is in a file or a variable. It can be given several times;\n"+
		"in the environment, with commas between")
	flags.BoolVar(&f.allowHTTP, "allow-http", false, "let the hosts of --allow-endpoint be spoken to in clear: for a simulated Microsoft")
	flags.StringVar(&f.secretsDir, "secrets-dir", "", "let integrations name files in this `folder` instead of secrets, certificates and tokens")
	flags.Var(&f.secretEnv, "secret-env", "let integrations name this environment `variable` instead of a secret or a certificate. It can be given several times;\n"+
		"in the environment, with commas between")
	flags.Var(&f.proxies, "proxy", "reach Microsoft through a proxy, by a rule `[HOST-PATTERN=]URL`: http://, https:// or socks5://, with USER:PASSWORD@\n"+
		"before the host where the proxy wants that, or the word direct. The pattern is a name, .a.domain, an address or a block of them, each\n"+
		"with :PORT where one port is meant; the first that fits counts. It can be given several times; in the environment, with commas between.\n"+
		"An integration may name another proxy. Default: what HTTPS_PROXY and NO_PROXY say")
	flags.StringVar(&f.trustedCA, "trusted-ca-file", "",
		"trust the authorities in this PEM `file` besides the system's, such as that of a proxy that inspects TLS")
}

// reading declares the flags of the collectors.
func (f *serveFlags) reading(flags *flagSet) {
	flags.DurationVar(&f.collecting.FastInterval, "poll-fast", f.collecting.FastInterval, "poll this often while a stream waits")
	flags.DurationVar(&f.collecting.SlowInterval, "poll-slow", f.collecting.SlowInterval, "poll this often while no stream waits")
	flags.DurationVar(&f.collecting.Overlap, "poll-overlap", f.collecting.Overlap, "begin each poll this long before the end of the last one")
	flags.Var(&f.rereads, "reread", "read back by SPAN every INTERVAL, for alerts that Microsoft shows late, as `INTERVAL=SPAN`; \"none\": do not. It can be\n"+
		"given several times; in the environment, with commas between. Default: 10m=2h and 1h=24h")
	flags.DurationVar(&f.collecting.ClosingInterval, "closing-interval", f.collecting.ClosingInterval, "begin closing reads of an integration at most this often")
	flags.DurationVar(&f.collecting.ClosingLimit, "closing-limit", f.collecting.ClosingLimit, "try a closing read for this long before streams complete without one")
	flags.DurationVar(&f.collecting.HuntingInterval, "hunting-interval", f.collecting.HuntingInterval,
		"ask telemetry at most this often for all streams of an integration together")
	flags.DurationVar(&f.collecting.HuntingLimit, "hunting-limit", f.collecting.HuntingLimit,
		"let a verdict wait this long for what telemetry holds, where a stream asked for that")
	flags.DurationVar(&f.collecting.DeviceInterval, "device-interval", f.collecting.DeviceInterval, "look up devices this often while a stream asks for Actors")
	flags.DurationVar(&f.collecting.RetryMin, "retry-min", f.collecting.RetryMin,
		"wait about this long after a failure for which Microsoft named no time, and twice as long after each that follows")
	flags.DurationVar(&f.collecting.RetryMax, "retry-max", f.collecting.RetryMax, "wait no longer than about this after such a failure")
	flags.DurationVar(&f.collecting.RetryPermanent, "retry-permanent", f.collecting.RetryPermanent,
		"wait at least this long after a failure that only an operator can mend, such as a missing permission")
	flags.Var(&f.budget, "budget", "make at most so many calls at Microsoft in a time, as `LIMIT=CALLS/PERIOD`. It can be given several times;\n"+
		"in the environment, with commas between. Default: graph-alerts=120/1m, defender-for-endpoint=80/1m and\n"+
		"defender-for-endpoint=1200/1h, hunting=36/1m and siem=60/1m, for each application and tenant; Microsoft takes 150, 100, 1500 and at least 45")
}

// options checks the flags and returns what the service is run with.
func (f *serveFlags) options() (app.Options, error) {
	c := f.collecting
	for _, flag := range []struct {
		name  string
		value time.Duration
	}{
		{"drain-timeout", f.server.DrainTimeout}, {"unread-limit", f.server.UnreadLimit},
		{"poll-fast", c.FastInterval}, {"poll-slow", c.SlowInterval}, {"poll-overlap", c.Overlap},
		{"closing-interval", c.ClosingInterval}, {"closing-limit", c.ClosingLimit},
		{"hunting-interval", c.HuntingInterval}, {"hunting-limit", c.HuntingLimit},
		{"device-interval", c.DeviceInterval}, {"retention-age", c.RetentionAge}, {"trim-interval", c.TrimInterval},
		{"retry-min", c.RetryMin}, {"retry-max", c.RetryMax}, {"retry-permanent", c.RetryPermanent},
	} {
		if flag.value <= 0 {
			return app.Options{}, usagef("--%s is %s and must be more than nothing", flag.name, flag.value)
		}
	}
	if err := f.server.Limits.Check(); err != nil {
		return app.Options{}, usagef("%v", err)
	}
	if f.lease < 2*time.Second || f.lease%time.Second != 0 {
		return app.Options{}, usagef("--lease is %s and must be whole seconds, at least 2", f.lease)
	}
	if c.FastInterval > c.SlowInterval {
		return app.Options{}, usagef("--poll-fast (%s) must not be longer than --poll-slow (%s)", c.FastInterval, c.SlowInterval)
	}
	if c.RetryMin > c.RetryMax {
		return app.Options{}, usagef("--retry-min (%s) must not be longer than --retry-max (%s)", c.RetryMin, c.RetryMax)
	}
	stored, err := f.store.get()
	if err != nil {
		return app.Options{}, err
	}
	if most := stored.JournalMaxBytes; most > 0 && uint64(most) <= c.RetentionBytes {
		return app.Options{}, usagef("--nats-max-bytes (%d) must be more than --retention-bytes (%d): the oldest entries are dropped before a journal is full", most, c.RetentionBytes)
	}
	if c.Budgets, err = budgets(c.Budgets, f.budget); err != nil {
		return app.Options{}, err
	}
	if c.Rereads, err = rereads(c.Rereads, f.rereads); err != nil {
		return app.Options{}, err
	}
	// An empty variable counts as not set, so a word is needed to switch these off.
	for _, address := range []*string{&f.server.Address, &f.server.MetricsAddress} {
		if *address == "none" {
			*address = ""
		}
	}
	f.server.UnixSocketMode, f.server.NoReflection = fs.FileMode(f.mode), !f.reflection
	return app.Options{
		Server: f.server, Store: stored, SealingKeyFile: f.sealingKey, AllowEndpoints: f.allow, AllowHTTP: f.allowHTTP,
		SecretsDir: f.secretsDir, SecretVariables: f.secretEnv, Integrations: f.integrations, ProxyRules: f.proxies, TrustedCAFile: f.trustedCA,
		Lease: f.lease, Collecting: c, Version: version(),
	}, nil
}

// run serves until ctx ends.
func (f *serveFlags) run(ctx context.Context, s streams) error {
	options, err := f.options()
	if err != nil {
		return err
	}
	if options.Logger, err = f.log.logger(s.err); err != nil {
		return err
	}
	defer leadStandardLog(options.Logger)()
	options.Logger.InfoContext(ctx, "starting", "version", options.Version)
	traces, err := tracing.Start(ctx, options.Version, options.Logger)
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	if traces != nil {
		options.Traces = traces.Provider()
	}
	service, err := app.Start(ctx, options)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return traces.Stop(ctx) // It was told to stop while it waited for its store.
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot start: %w", err), traces.Stop(ctx))
	}
	return errors.Join(service.Run(ctx), traces.Stop(ctx))
}
