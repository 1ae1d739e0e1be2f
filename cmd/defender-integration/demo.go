package main

import (
	"context"
	"io"
	"log/slog"
	"os"

	"defender-integration/cmd/defender-integration/internal/demo"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// demoFlags are the flags of demo.
type demoFlags struct {
	exit    bool
	colour  string
	api     string
	devices string
	log     logFlags
}

func demoCommand() command {
	return command{
		name:    "demo",
		summary: "watch a campaign of attacks, judged against a simulated Microsoft",
		about: "demo starts a simulated Microsoft and the service in one process, with its data in a temporary folder, and runs a campaign\n" +
			"of attacks through the gRPC API: it takes about half a minute. Then it stays up, and prints commands to try.\n" +
			"With --api all it runs the campaign through each API in turn, and ends by itself with one table of their verdicts.\n" +
			"It ends with 0 if every verdict was the scripted one, else with 1.",
		setup: func(flags *flagSet) func(context.Context, streams) error {
			f := &demoFlags{}
			flags.BoolVar(&f.exit, "exit", false, "end after the campaign instead of staying up")
			flags.StringVar(&f.colour, "colour", "auto", "`when` to use colours: auto (on a terminal, unless NO_COLOR is set), always or never")
			flags.StringVar(&f.api, "api", "graph-security", "through which `API` alerts are read: graph-security, defender-for-endpoint, siem or all")
			flags.StringVar(&f.devices, "devices", "", "`where` devices are looked up: machines, hunting (with graph-security) or none. Default: the API's own")
			// The service's own lines would drown what is to be watched.
			flags.TextVar(&f.log.level, "log-level", slog.LevelError, "show the service's log lines of this `level` and above: debug, info, warn or error")
			flags.StringVar(&f.log.format, "log-format", "text", "the `format` of log lines: json or text")
			return f.run
		},
	}
}

// run runs the demonstration.
func (f *demoFlags) run(ctx context.Context, s streams) error {
	options := demo.Options{Out: s.out, Exit: f.exit, Version: version()}
	switch f.colour {
	case "auto":
		options.Colour = isTerminal(s.out) && !noColour(s.env)
	case "always":
		options.Colour = true
	case "never":
	default:
		return usagef("--colour is %q and must be auto, always or never", f.colour)
	}
	var err error
	if options.Ways, err = f.ways(); err != nil {
		return err
	}
	logger, err := f.log.logger(s.err)
	if err != nil {
		return err
	}
	options.Logger = logger
	return demo.Run(ctx, options)
}

// ways reads through which APIs the campaign is run.
func (f *demoFlags) ways() ([]demo.Way, error) {
	apis := map[string][]integrationv1.Api{
		"graph-security":        {integrationv1.Api_API_GRAPH_SECURITY},
		"defender-for-endpoint": {integrationv1.Api_API_DEFENDER_FOR_ENDPOINT},
		"siem":                  {integrationv1.Api_API_SIEM},
		"all":                   {integrationv1.Api_API_GRAPH_SECURITY, integrationv1.Api_API_DEFENDER_FOR_ENDPOINT, integrationv1.Api_API_SIEM},
	}[f.api]
	if apis == nil {
		return nil, usagef("--api is %q and must be graph-security, defender-for-endpoint, siem or all", f.api)
	}
	kind, ok := map[string]integrationv1.DeviceSource_Kind{
		"": 0, "machines": integrationv1.DeviceSource_KIND_MACHINES, "hunting": integrationv1.DeviceSource_KIND_HUNTING,
		"none": integrationv1.DeviceSource_KIND_NONE,
	}[f.devices]
	if !ok {
		return nil, usagef("--devices is %q and must be machines, hunting or none", f.devices)
	}
	if kind == integrationv1.DeviceSource_KIND_HUNTING && f.api != "graph-security" {
		return nil, usagef("--devices hunting goes with --api graph-security alone")
	}
	var ways []demo.Way
	for _, api := range apis {
		ways = append(ways, demo.Way{API: api, Devices: kind})
	}
	return ways, nil
}

// noColour says that the environment asks for plain text (https://no-color.org, and terminals that know no colours).
func noColour(env func(string) (string, bool)) bool {
	if value, ok := env("NO_COLOR"); ok && value != "" {
		return true
	}
	term, _ := env("TERM")
	return term == "dumb"
}

// isTerminal says whether w is a device that a person looks at.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
