package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// stamped is the version that a release build sets: -ldflags "-X main.stamped=v1.2.3".
var stamped string //nolint:gochecknoglobals // The linker sets nothing else.

// version returns the program's version: the stamped one, else the module's, else the commit's.
func version() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	version, dirty := "devel", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && len(setting.Value) >= 12:
			version = "devel-" + setting.Value[:12]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	return version + dirty
}

func versionCommand() command {
	return command{
		name:    "version",
		summary: "print the version",
		about:   "version prints the program's version, and what it was built with and for.",
		setup: func(*flagSet) func(context.Context, streams) error {
			return func(_ context.Context, s streams) error {
				_, err := fmt.Fprintf(s.out, "defender-integration %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}
