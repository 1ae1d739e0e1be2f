package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"defender-integration/store"
)

// copyFlags are the flags of copy.
type copyFlags struct {
	from, to string
	store    storeFlags
	log      logFlags
}

func copyCommand() command {
	return command{
		name:    "copy",
		summary: "copy a data directory into a NATS cluster, or back",
		about: "copy copies all that is kept of integrations into an empty place, and then compares every entry: a data directory into a NATS\n" +
			"cluster, or back. Sequences, etags and identities stay, so that resume tokens go on working. Stop every server on both sides before.\n" +
			"The sealing key is not part of it: take its file along, since without it what is registered cannot be used.\n" +
			"A copy that is interrupted is told from a whole one: no server starts on it, and the same command begins it anew.",
		setup: func(flags *flagSet) func(context.Context, streams) error {
			f := &copyFlags{}
			flags.StringVar(&f.from, "from", "", "copy `what` is here: a data directory, or the URL of a NATS cluster (nats:// or tls://, with commas between several)")
			flags.StringVar(&f.to, "to", "", "copy it to `where` nothing is yet: a data directory, or the URL of a NATS cluster")
			f.store.reaching(flags)
			f.store.placing(flags)
			flags.TextVar(&f.log.level, "log-level", slog.LevelWarn, "show log lines of this `level` and above: debug, info, warn or error")
			flags.StringVar(&f.log.format, "log-format", "text", "the `format` of log lines: json or text")
			return f.run
		},
	}
}

// run copies.
func (f *copyFlags) run(ctx context.Context, s streams) error {
	options, err := f.store.get()
	if err != nil {
		return err
	}
	if options.Logger, err = f.log.logger(s.err); err != nil {
		return err
	}
	if f.from == "" || f.to == "" {
		return usagef("--from and --to are needed")
	}
	from, to := side(options, f.from), side(options, f.to)
	if from.URL != "" && to.URL != "" {
		return usagef("--from and --to cannot both be clusters, since one set of --nats flags says how to reach one: copy into a directory, and from there")
	}
	report, err := store.Copy(ctx, from, to, func(journal, of int, entries uint64) {
		_, _ = fmt.Fprintf(s.out, "journal %d of %d: %d entries copied and compared\n", journal, of, entries)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%d integrations with %d journals and %d entries (%d bytes) are copied, and equal\n"+
		"The sealing key is not part of it: give the servers on the copy the same file with --sealing-key-file\n",
		report.Integrations, report.Journals, report.Entries, report.Bytes)
	return err
}

// side returns the options of one side of a copy.
func side(options store.Options, where string) store.Options {
	if strings.Contains(where, "://") {
		options.URL = where
		return options
	}
	return store.Options{Dir: where, Prefix: options.Prefix, Logger: options.Logger}
}
