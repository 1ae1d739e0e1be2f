package main

import (
	"bytes"
	"log" //nolint:depguard // It is led into the logger here.
	"log/slog"
)

// standardLog makes log lines of what libraries write to Go's standard logger, as net/http's client does of what a host sends unasked, which
// would come between the service's own otherwise.
type standardLog struct{ logger *slog.Logger }

// Write implements io.Writer. What is quoted may be of an answer, and is left out.
func (s standardLog) Write(line []byte) (int, error) {
	text, _, cut := bytes.Cut(bytes.TrimSpace(line), []byte(`"`))
	if cut {
		text = append(bytes.Clone(text), "..."...)
	}
	s.logger.Warn("a library says", "text", string(text))
	return len(line), nil
}

// leadStandardLog leads the standard logger into another. restore makes it what it was.
func leadStandardLog(logger *slog.Logger) (restore func()) {
	output, flags := log.Writer(), log.Flags()
	log.SetOutput(standardLog{logger})
	log.SetFlags(0)
	return func() {
		log.SetOutput(output)
		log.SetFlags(flags)
	}
}
