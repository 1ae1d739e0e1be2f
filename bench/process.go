package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a process that was started to be measured.
type child struct {
	cmd *exec.Cmd
	out io.ReadCloser
	log bytes.Buffer // what it wrote to standard error
}

// start starts a program; env is added to this process's environment.
func start(ctx context.Context, env []string, program string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, program, args...)}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stderr = &c.log
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(syscall.SIGTERM) }
	c.cmd.WaitDelay = time.Minute
	var err error
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return c, nil
}

// stop asks the process to end and waits until it has.
func (c *child) stop() error {
	signalled := c.cmd.Process.Signal(syscall.SIGTERM)
	err := c.cmd.Wait()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%s: %w\n%s", c.cmd.Path, err, c.log.Bytes())
	}
	return errors.Join(signalled, err)
}

// signal tells the process that what it waits for begins.
func (c *child) signal() error { return c.cmd.Process.Signal(syscall.SIGUSR1) }

// usage is what a process has used.
type usage struct {
	// cpu is user and system time, exact to 10 ms for each.
	cpu time.Duration
	// resident is how much of its memory is resident, peak how much at most was, in bytes. The pages of the program's file count.
	resident, peak int64
}

// usage reads what the process has used so far.
func (c *child) usage() (usage, error) { return usageOf(strconv.Itoa(c.cmd.Process.Pid)) }

// usageOf reads /proc/PID/stat and status (proc_pid_stat(5), proc_pid_status(5)). The peak that wait4 tells would not do: a child
// begins with its parent's.
func usageOf(pid string) (usage, error) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return usage{}, err
	}
	// The second field is the name in parentheses, which may hold anything; utime and stime are the 14th and 15th, in hundredths
	// of a second.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return usage{}, fmt.Errorf("/proc/%s/stat has %d fields", pid, len(fields))
	}
	var u usage
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("/proc/%s/stat: %w", pid, err)
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return usage{}, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		var kilobytes int64
		if name == "VmRSS" || name == "VmHWM" {
			if _, err := fmt.Sscanf(value, "%d kB", &kilobytes); err != nil {
				return usage{}, fmt.Errorf("/proc/%s/status: %s: %w", pid, name, err)
			}
		}
		switch name {
		case "VmRSS":
			u.resident = kilobytes << 10
		case "VmHWM":
			u.peak = kilobytes << 10
		}
	}
	return u, nil
}
