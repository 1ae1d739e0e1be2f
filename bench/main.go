// Command bench measures the whole way of an alert, process by process, as an operator would see it: a simulated Microsoft in a
// process of its own, the service as it is built and started by everybody, and this process as the Director with one stream.
//
//	go run ./bench                          10,000 and 100,000 alerts, and a minute of idling
//	go run ./bench -alerts 10000 -idle 0    less
//	go run ./bench -profile /tmp/profiles   with profiles of the service, for go tool pprof
//	go run ./bench -unread 1000             1,000 streams, of which half stop reading, and nothing else
//	go run ./bench -load 10000              calls a second by ghz, and 10,000 streams at rest until SIGTERM, and nothing else
//	go run ./bench -fleet 10000             10,000 streams on three servers and three NATS servers, then on one server, and nothing else
//
// With -fleet there are 300 integrations, each at a tenant of its own; first nothing happens, then 500 alerts are raised in a second. All of
// it, the simulated Microsoft and the Director too, shares this machine: the ratios tell more than the figures.
//
// With -unread the streams are spread over ten connections, and those of five stop reading. It prints the service's memory and how long
// alerts take to the streams that read: while all read, while half are stuck, and after the service has ended those. It fails where
// a stream that reads is ended, or misses an alert.
//
// It prints what it measured beside the best peer's figures. Those were measured on another day and maybe another machine: a
// ratio of two runs of this program, one after the other, tells more than any single figure. It works on Linux only, whose
// /proc it reads.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what is measured.
type options struct {
	alerts  []int
	idle    time.Duration
	raw     bool
	profile string
	service string
	unread  int
	load    int
	fleet   int
}

func run(ctx context.Context, args []string) error {
	var o options
	var sizes string
	var play, tenants, devices int
	var trickle time.Duration
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&sizes, "alerts", "10000,100000", "how many alerts go the whole way; several `numbers` with commas between")
	flags.DurationVar(&o.idle, "idle", time.Minute, "how long to watch the service idle; 0: do not")
	flags.BoolVar(&o.raw, "raw", false, "ask for each element's raw bytes too")
	flags.StringVar(&o.profile, "profile", "", "write profiles of the service to this `folder`. The figures are worse then")
	flags.StringVar(&o.service, "service", "", "measure the service that is built in this `file` already, to compare two")
	flags.IntVar(&o.unread, "unread", 0, "measure this many `streams`, of which half stop reading")
	flags.IntVar(&o.load, "load", 0, "measure calls by ghz, and so many `streams` on which nothing happens; to be run in the folder of the module")
	flags.DurationVar(&trickle, "trickle", 0, "with -play: one more alert this often; 0: none")
	flags.IntVar(&play, "play", 0, "play Microsoft with so many alerts, for another bench that reads where on standard output")
	flags.IntVar(&o.fleet, "fleet", 0, "measure so many `streams` on servers that share a cluster, and on one; to be run in the folder of the module")
	flags.IntVar(&tenants, "play-tenants", 0, "play Microsoft with so many tenants, for another bench, likewise")
	flags.IntVar(&devices, "devices", 1, "with -play-tenants: so many devices each")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if play > 0 {
		return playMicrosoft(ctx, os.Stdout, play, trickle)
	}
	if tenants > 0 {
		return playTenants(ctx, os.Stdout, tenants, devices, fleetRate)
	}
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-alerts: %q is not a number of alerts", text)
		}
		o.alerts = append(o.alerts, n)
	}
	return measureAll(ctx, o)
}

// measureAll builds the service, and measures and prints everything.
func measureAll(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	service := o.service
	if service == "" {
		service = filepath.Join(dir, "defender-integration")
		if err := build(ctx, service, o.profile != ""); err != nil {
			return err
		}
	}
	if o.unread > 0 {
		r, err := leavingUnread(ctx, service, o)
		if err != nil {
			return fmt.Errorf("%d streams: %w", o.unread, err)
		}
		return r.print(os.Stdout)
	}
	if o.load > 0 {
		r, err := underLoad(ctx, service, o.load, o)
		if err != nil {
			return fmt.Errorf("under load: %w", err)
		}
		return r.print(os.Stdout)
	}
	if o.fleet > 0 {
		return printFleet(ctx, os.Stdout, service, o)
	}
	for _, n := range o.alerts {
		r, err := wholeWay(ctx, service, n, o)
		if err != nil {
			return fmt.Errorf("%d alerts: %w", n, err)
		}
		if err := r.print(os.Stdout); err != nil {
			return err
		}
	}
	if o.idle <= 0 {
		return nil
	}
	r, err := idling(ctx, service, o)
	if err != nil {
		return fmt.Errorf("idling: %w", err)
	}
	return r.print(os.Stdout)
}
