// Command defender-integration connects a security-validation platform to Microsoft Defender: it serves the gRPC API, and brings
// what is needed to try and to watch it. `defender-integration --help` says more.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// The program's exit codes.
const (
	exitOK = iota
	// exitFailed says that it was understood and did not work.
	exitFailed
	// exitUsage says that it was not understood.
	exitUsage
)

func main() {
	// The first signal asks for an orderly end; from then on signals have their usual effect, so a second one ends at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{out: os.Stdout, err: os.Stderr, env: os.LookupEnv}))
}

// streams are what a command talks to.
type streams struct {
	out, err io.Writer
	env      func(name string) (value string, ok bool)
}

// command is one of the program's commands.
type command struct {
	name string
	// summary says in one line what it does, about what more.
	summary, about string
	// setup declares the command's flags and returns what runs it once they are parsed.
	setup func(flags *flagSet) func(ctx context.Context, s streams) error
}

// commands returns all commands, in the order in which help shows them.
func commands() []command {
	return []command{
		serveCommand(), validateCommand(), rotateKeyCommand(), copyCommand(), healthcheckCommand(), simulateCommand(), demoCommand(), versionCommand(),
	}
}

// run runs the program and returns its exit code.
func run(ctx context.Context, args []string, s streams) int {
	if len(args) == 0 {
		_, _ = io.WriteString(s.err, overview())
		return exitUsage
	}
	switch args[0] {
	case "help", "--help", "-help", "-h":
		_, _ = io.WriteString(s.out, overview())
		return exitOK
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, args[1:], s)
		}
	}
	_, _ = fmt.Fprintf(s.err, "defender-integration: there is no command %q; see defender-integration --help\n", args[0])
	return exitUsage
}

// run parses the command's flags and runs it.
func (c command) run(ctx context.Context, args []string, s streams) int {
	flags := newFlagSet(c.name)
	action := c.setup(flags)
	err := flags.parse(args, s.env)
	var usage *usageError
	if err == nil {
		if flags.help {
			_, _ = fmt.Fprintf(s.out, "%s\n\nUsage: defender-integration %s [flags]\n\n%s", c.about, c.name, flags.describe())
			return exitOK
		}
		err = action(ctx, s)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		_, _ = fmt.Fprintf(s.err, "defender-integration %s: %v; see defender-integration %s --help\n", c.name, err, c.name)
		return exitUsage
	default:
		_, _ = fmt.Fprintf(s.err, "defender-integration %s: %v\n", c.name, err)
		return exitFailed
	}
}

// overview is the help of the whole program.
func overview() string {
	var text strings.Builder
	text.WriteString("defender-integration connects a security-validation platform to Microsoft Defender.\n\n" +
		"Usage: defender-integration COMMAND [flags]\n\nCommands:\n")
	for _, c := range commands() {
		_, _ = fmt.Fprintf(&text, "  %-12s %s\n", c.name, c.summary)
	}
	return text.String() + "\nEach command has --help. Each flag can be given by an environment variable too, which the help names.\n"
}
