package process

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// Shell runs commands as a person types them into a terminal. Variables are in their environment, so that commands that were
// copied from a page run as they stand.
type Shell struct {
	// Dir is where the commands run.
	Dir string
	// Path are folders that come before those of the PATH.
	Path string
	// Variables are the commands' environment, by name.
	Variables map[string]string
}

// command makes a command of a text for the shell, which stops at the first thing that fails.
func (s Shell) command(text string) Command {
	c := Command{Path: "bash", Args: []string{"-euo", "pipefail", "-c", text}, Dir: s.Dir}
	if s.Path != "" {
		// The shell puts what it inherits after it.
		c.Args[3] = `PATH="$SHELL_PATH:$PATH"` + "\n" + text
		c.Env = append(c.Env, "SHELL_PATH="+s.Path)
	}
	for name, value := range s.Variables {
		c.Env = append(c.Env, name+"="+value)
	}
	return c
}

// Run runs commands, one text after the other, and returns what each wrote to its standard output. It fails the test where one
// ends with another status than 0.
func (s Shell) Run(t testing.TB, commands ...string) []string {
	t.Helper()
	var outputs []string
	for _, text := range commands {
		p := s.end(t, text)
		if p.Err() != nil {
			t.Fatalf("$ %s\n%v\n%s", text, p.Err(), tail(p.Output()))
		}
		outputs = append(outputs, p.Stdout())
	}
	return outputs
}

// Refused runs a command that is to fail, and returns what it wrote. It fails the test where the command does not.
func (s Shell) Refused(t testing.TB, text string) string {
	t.Helper()
	p := s.end(t, text)
	if p.Err() == nil {
		t.Fatalf("$ %s\nis to fail, and does not:\n%s", text, tail(p.Output()))
	}
	return p.Output()
}

// end runs a command to its end.
func (s Shell) end(t testing.TB, text string) *Process {
	t.Helper()
	p := Start(t, s.command(text))
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("$ %s\ndoes not end:\n%s", text, tail(p.Output()))
	}
	return p
}

// Background starts a command that does not end by itself, such as a server.
func (s Shell) Background(t testing.TB, text string) *Process {
	t.Helper()
	return Start(t, s.command(text))
}

// Watch runs a command that does not end by itself, such as a stream, until what it wrote holds all of these texts, then
// interrupts it as Ctrl-C does, and returns what it wrote.
func (s Shell) Watch(t testing.TB, text string, wanted ...string) string {
	t.Helper()
	p := Start(t, s.command(text))
	p.WaitFor(t, strings.Join(wanted, ", "), func(output string) bool {
		for _, w := range wanted {
			if !strings.Contains(output, w) {
				return false
			}
		}
		return true
	})
	p.Interrupt(syscall.SIGINT)
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatalf("$ %s\ndoes not end when interrupted", text)
	}
	return p.Stdout()
}
