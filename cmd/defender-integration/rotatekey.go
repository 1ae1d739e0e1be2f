package main

import (
	"context"
	"fmt"

	"defender-integration/cmd/defender-integration/internal/app"
)

func rotateKeyCommand() command {
	return command{
		name:    "rotate-key",
		summary: "change the sealing key",
		about: "rotate-key makes a new sealing key, seals with it all secrets that are stored, and drops the old one. Stop the server on --data-dir\n" +
			"first. It can be killed at any point, and called again. On a cluster, where each server has a copy of the key file, it is done in\n" +
			"steps while they run: --step add, use and finish.",
		setup: func(flags *flagSet) func(context.Context, streams) error {
			f := &serveFlags{}
			f.storing(flags)
			step := flags.String("step", string(app.RotationAll), "do this `step` alone: add, use or finish. After add and after use, give all servers the key file and start\n"+
				"them again")
			f.log.declare(flags)
			return func(ctx context.Context, s streams) error { return f.rotateKey(ctx, s, app.RotationStep(*step)) }
		},
	}
}

// rotateKey changes the sealing key and prints what was done.
func (f *serveFlags) rotateKey(ctx context.Context, s streams, step app.RotationStep) error {
	logger, err := f.log.logger(s.err)
	if err != nil {
		return err
	}
	stored, err := f.store.get()
	if err != nil {
		return err
	}
	done, err := app.RotateKey(ctx, app.Options{Store: stored, SealingKeyFile: f.sealingKey, Logger: logger, Version: version()}, step)
	for _, line := range done {
		fmt.Fprintln(s.out, line)
	}
	return err
}
