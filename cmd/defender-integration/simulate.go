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
			return func(ctx context.Context, s streams) error { return defendertest.Run(ctx, s.out, options) }
		},
	}
}
