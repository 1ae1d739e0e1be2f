package main

import (
	"io"
	"log/slog"

	"defender-integration/server"
)

// logFlags are the flags that say how a command logs.
type logFlags struct {
	level  slog.Level
	format string
}

// declare declares the flags.
func (l *logFlags) declare(flags *flagSet) {
	flags.TextVar(&l.level, "log-level", slog.LevelInfo, "log lines of this `level` and above: debug, info, warn or error")
	flags.StringVar(&l.format, "log-format", "json", "the `format` of log lines: json or text")
}

// logger returns a logger that writes to w, each line with the request id of the call that it concerns.
func (l *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: l.level}
	var handler slog.Handler
	switch l.format {
	case "json":
		handler = slog.NewJSONHandler(w, options)
	case "text":
		handler = slog.NewTextHandler(w, options)
	default:
		return nil, usagef("--log-format is %q and must be json or text", l.format)
	}
	return slog.New(server.LogHandler(handler)), nil
}
