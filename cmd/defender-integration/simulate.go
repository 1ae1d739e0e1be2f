package main

import (
	"context"
	"time"

	"defender-integration/defender/defendertest"
)

func simulateCommand() command {
	return command{
		name:    "simulate",
		summary: "play Microsoft, for trying the service without a tenant",
		about: "simulate plays Microsoft until it is told to stop: a tenant with devices on which an alert is raised every few seconds.\n" +
			"It prints the commands to register the tenant with a running service, to test it and to stream its alerts.",
		setup: func(flags *flagSet) func(context.Context, streams) error {
			var options defendertest.RunOptions
			flags.StringVar(&options.Addr, "simulate-listen", "127.0.0.1:0", "listen on this TCP `address`; port 0: a free one")
			flags.StringVar(&options.Service, "target", "localhost:7443", "where the service is, as grpcurl names it: the printed commands use this `target`")
			flags.StringVar(&options.ServiceFlags, "grpcurl-flags", "-plaintext", "the `flags` with which grpcurl reaches the service")
			flags.DurationVar(&options.AlertEvery, "alert-every", 5*time.Second, "raise an alert this often; negative: none")
			flags.StringVar(&options.CAFile, "simulate-ca-file", "", "speak HTTPS, and write the authority's certificate to this PEM `file`")
			var proxy defendertest.ProxyOptions
			kind := "http"
			flags.StringVar(&proxy.Addr, "proxy-listen", "", "play a forward proxy too, at this TCP `address`; port 0: a free one. It goes with --simulate-ca-file")
			flags.StringVar(&kind, "proxy-kind", kind, "the `kind` of proxy: http or socks5")
			flags.StringVar(&proxy.Username, "proxy-username", "", "the `name` that the proxy wants; empty: it wants none")
			flags.StringVar(&proxy.Password, "proxy-password", "", "the `password` that the proxy wants with it")
			return func(ctx context.Context, s streams) error {
				switch kinds := map[string]defendertest.ProxyKind{"http": defendertest.ProxyHTTP, "socks5": defendertest.ProxySOCKS5}; {
				case proxy.Addr == "":
				case options.CAFile == "":
					return usagef("--proxy-listen goes with --simulate-ca-file: what is spoken to in clear is reached without a proxy")
				case kinds[kind] == "":
					return usagef("--proxy-kind is %q and must be http or socks5", kind)
				default:
					proxy.Kind = kinds[kind]
					options.Proxy = &proxy
				}
				return defendertest.Run(ctx, s.out, options)
			}
		},
	}
}
