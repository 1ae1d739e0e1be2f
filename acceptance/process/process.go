// Package process builds and runs the programs that tests drive from outside, as their users do. What it starts ends with the
// test, also when the test process is killed (on Linux).
package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a program has for what a test expects of it. It bounds a failing test, never a passing one.
const patience = 60 * time.Second

// Command says what to run.
type Command struct {
	// Path is the program, Args are its arguments.
	Path string
	Args []string
	// Dir is where it runs; empty: where the test does.
	Dir string
	// Env is added to the test's own environment, each as NAME=value.
	Env []string
	// Files are passed as file descriptors 3 and following.
	Files []*os.File
}

// Process is a program that runs.
type Process struct {
	command *exec.Cmd
	name    string
	done    chan struct{} // closed when it has ended; err says how
	err     error

	mu      sync.Mutex
	out     bytes.Buffer // all that it wrote
	stdout  bytes.Buffer // of that, what it wrote to its standard output
	changed chan struct{}
}

// Start starts a program in a process group of its own. It is killed at the end of the test at the latest; where the test failed,
// what the program wrote is logged then.
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	p := &Process{command: exec.CommandContext(context.WithoutCancel(t.Context()), c.Path, c.Args...), name: c.Path, done: make(chan struct{}), changed: make(chan struct{})}
	p.command.Dir, p.command.ExtraFiles = c.Dir, c.Files
	p.command.Env = append(os.Environ(), c.Env...)
	p.command.Stdout, p.command.Stderr = writer{p, true}, writer{p, false}
	p.command.SysProcAttr = attributes()
	// A grandchild that outlives its parent keeps the pipes open. So does this process, for as long as it gets no time to read them.
	p.command.WaitDelay = patience
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		// The kernel kills the child when the thread that started it ends, so that thread must outlive it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.command.Start()
		started <- err
		if err == nil {
			p.err = p.command.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start %s: %v", c.Path, err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s wrote:\n%s", c.Path, strings.Join(c.Args, " "), tail(p.Output()))
		}
	})
	return p
}

// tail cuts a long text to its end.
func tail(text string) string {
	const most = 20_000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}

// Kill kills the program and what it started, as `kill -9` does, and waits for its end. That it ended before is no error.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Group returns the id of the program's process group.
func (p *Process) Group() int { return p.command.Process.Pid }

// Interrupt sends it a signal, as an operator who wants it to end in order does.
func (p *Process) Interrupt(signal syscall.Signal) { p.signal(signal) }

func (p *Process) signal(signal syscall.Signal) {
	select {
	case <-p.done: // its id may be another's by now
	default:
		_ = syscall.Kill(-p.command.Process.Pid, signal)
	}
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how it ended, as [exec.Cmd.Wait] does. It is to be called after Done is closed.
func (p *Process) Err() error { return p.err }

// Stop asks the program to end in order (SIGTERM) and fails the test unless it does with status 0.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("%s ended with %v:\n%s", p.name, p.err, tail(p.Output()))
		}
	case <-time.After(patience):
		t.Fatalf("%s does not end", p.name)
	}
}

// Output returns all that the program wrote so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// Stdout returns what it wrote to its standard output so far.
func (p *Process) Stdout() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stdout.String()
}

// WaitFor waits until what the program wrote is taken by done, and returns it. It fails the test where the program ends before,
// or takes too long.
func (p *Process) WaitFor(t testing.TB, what string, done func(output string) bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		p.mu.Lock()
		output, changed := p.out.String(), p.changed
		p.mu.Unlock()
		if done(output) {
			return output
		}
		select {
		case <-changed:
		case <-p.done:
			// The pipes are drained when Wait returns.
			if output := p.Output(); done(output) {
				return output
			}
			t.Fatalf("waiting for %s: %s ended with %v:\n%s", what, p.name, p.err, tail(p.Output()))
		case <-ctx.Done():
			t.Fatalf("waiting for %s: %s wrote only:\n%s", what, p.name, tail(output))
		}
	}
}

// writer takes what a program writes.
type writer struct {
	p      *Process
	stdout bool
}

var _ io.Writer = writer{}

// Write keeps the bytes and wakes who waits for them.
func (w writer) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.out.Write(b)
	if w.stdout {
		w.p.stdout.Write(b)
	}
	close(w.p.changed)
	w.p.changed = make(chan struct{})
	return len(b), nil
}

// String names the process in messages.
func (p *Process) String() string { return fmt.Sprintf("%s (pid %d)", p.name, p.command.Process.Pid) }
