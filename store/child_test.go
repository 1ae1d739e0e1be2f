package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

// The test binary runs itself again as another process, told by these variables what to do.
const (
	childMode = "STORE_TEST_CHILD"
	childDir  = "STORE_TEST_CHILD_DIR"

	modeHold   = "hold"   // Open the store and keep it.
	modeAppend = "append" // Append without end.
)

// child is another process on a data directory.
type child struct {
	command *exec.Cmd
	lines   *bufio.Scanner
}

// startChild starts another process. It is killed after the test at the latest.
func startChild(t *testing.T, mode, dir string) *child {
	t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), childMode+"="+mode, childDir+"="+dir)
	command.Stderr = t.Output()
	out, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	c := &child{command: command, lines: bufio.NewScanner(out)}
	t.Cleanup(c.kill)
	return c
}

// line returns what the child says next.
func (c *child) line(t *testing.T) string {
	t.Helper()
	if !c.lines.Scan() {
		t.Fatalf("the child ended: %v", c.lines.Err())
	}
	return c.lines.Text()
}

// kill kills the child, as SIGKILL does, and waits for its end. That it ended before is no error here.
func (c *child) kill() {
	_ = c.command.Process.Kill()
	_ = c.command.Wait()
}

// runChild is the child's main function. It returns the exit status.
func runChild(mode string) int {
	if err := childMain(context.Background(), mode, os.Getenv(childDir), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func childMain(ctx context.Context, mode, dir string, out io.Writer) error {
	s, err := OpenJetStream(ctx, Options{Dir: dir})
	if err != nil {
		return err
	}
	if mode == modeHold {
		fmt.Fprintln(out, "open")
		select {} // Until it is killed.
	}
	j, err := s.Journal(ctx, "uid")
	if err != nil {
		return err
	}
	checkpoint, err := j.Recover(ctx)
	if err != nil {
		return err
	}
	next := int(checkpoint.GetLastSequence()) + 1
	for round := 0; ; round++ {
		count := []int{1, 7, 100, 1100}[round%4]
		last, err := j.Append(ctx, entries(next, next+count-1))
		if err != nil {
			return err
		}
		fmt.Fprintln(out, "appended", last)
		next = int(last) + 1
		if round%3 == 0 {
			saved := proto.CloneOf(j.Checkpoint())
			saved.LastSequence = last
			if err := j.SaveCheckpoint(ctx, saved); err != nil {
				return err
			}
			fmt.Fprintln(out, "saved", last)
		}
		if round%10 == 9 {
			before := j.Checkpoint().GetLastSequence() / 2
			if err := j.Trim(ctx, before, time.Unix(int64(before), 0)); err != nil {
				return err
			}
			fmt.Fprintln(out, "trimmed", before)
		}
	}
}
