package process_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"defender-integration/acceptance/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestShell(t *testing.T) {
	t.Parallel()
	dir, path := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "greet"), []byte("#!/bin/sh\necho \"hello $1\"; echo aside >&2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	shell := process.Shell{Dir: dir, Path: path, Variables: map[string]string{"NAME": "Anna O'Neil", "FLAGS": "-n -e"}}

	got := shell.Run(t, `greet "$NAME"`, `echo $FLAGS one; touch made`)
	if want := []string{"hello Anna O'Neil\n", "one"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "made")); err != nil {
		t.Error(err)
	}
	// A failure ends the whole command, wherever it stands.
	for _, failing := range []string{"false; echo on", "false | cat", "echo $UNSET_VARIABLE", "exit 3"} {
		if out := shell.Refused(t, failing); strings.Contains(out, "on\n") {
			t.Errorf("%q goes on: %s", failing, out)
		}
	}
	// A command without an end is watched until it has said everything, and ends like one that Ctrl-C ends.
	if out := shell.Watch(t, `trap 'echo bye; exit 1' INT; i=0; while :; do i=$((i+1)); echo "line $i"; sleep 0.01; done`, "line 3", "line 5"); !strings.HasPrefix(out, "line 1\nline 2\n") ||
		!strings.HasSuffix(out, "bye\n") {
		t.Errorf("%q", out)
	}
}

// Kill ends what the program started too, and is safe to repeat.
func TestKillEndsTheGroup(t *testing.T) {
	t.Parallel()
	p := process.Start(t, process.Command{Path: "sh", Args: []string{"-c", "sleep 1000 & echo $!; wait"}})
	pid, err := strconv.Atoi(strings.TrimSpace(p.WaitFor(t, "the pid", func(output string) bool { return strings.HasSuffix(output, "\n") })))
	if err != nil {
		t.Fatal(err)
	}
	p.Kill()
	p.Kill()
	if p.Err() == nil {
		t.Error("it ended by itself")
	}
	for deadline := time.Now().Add(10 * time.Second); runs(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what it started is there still")
		}
	}
}

// runs says whether a process of that id runs: one that has ended and that nobody has waited for does not.
func runs(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestStop(t *testing.T) {
	t.Parallel()
	p := process.Start(t, process.Command{Path: "sh", Args: []string{"-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done"}})
	p.WaitFor(t, "its start", func(output string) bool { return output == "ready\n" })
	p.Stop(t)
}

func TestRoot(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(filepath.Join(process.Root(t), "go.mod")); err != nil {
		t.Error(err)
	}
}
