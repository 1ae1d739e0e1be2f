package image_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// apart moves the test into namespaces of its own, for mounts and for the network, and may be called by a subtest only: the folders
// that it binds are in its namespace alone, so the test around it, which removes the folders, sees none of them.
func apart(t *testing.T) {
	t.Helper()
	// The thread is not unlocked, so it ends with the test, and the namespaces with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS | unix.CLONE_NEWNET); err != nil {
		t.Skipf("no namespaces can be made here (%v): the Dockerfile's steps are not run", err)
	}
	// Before anything is mounted: from now on the mounts of this namespace are its own.
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	loopbackUp(t)
}

// loopbackUp gives the network namespace its loopback addresses.
func loopbackUp(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	must(t, err)
	defer func() { _ = unix.Close(socket) }()
	loopback, err := unix.NewIfreq("lo")
	must(t, err)
	loopback.SetUint16(unix.IFF_UP)
	must(t, unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback))
}

// bind shows a folder or file in another place, where it can only be read unless writable says otherwise.
func bind(t *testing.T, from, to string, writable bool) {
	t.Helper()
	info, err := os.Stat(from)
	must(t, err)
	if info.IsDir() {
		must(t, os.MkdirAll(to, 0o755))
	} else {
		must(t, os.MkdirAll(filepath.Dir(to), 0o755))
		must(t, os.WriteFile(to, nil, 0o600))
	}
	must(t, unix.Mount(from, to, "", unix.MS_BIND, ""))
	if !writable {
		must(t, unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	}
}

// command makes a command that runs with another folder as its root.
func command(root, dir string, env []string, arguments ...string) *exec.Cmd {
	return &exec.Cmd{
		// The path is looked up in the new root.
		Path: arguments[0], Args: arguments, Dir: dir, Env: env,
		SysProcAttr: &syscall.SysProcAttr{Chroot: root, Pdeathsig: syscall.SIGKILL},
	}
}

// as makes a command run as a user who can never become another one.
func as(t *testing.T, c *exec.Cmd, user uint32) *exec.Cmd {
	t.Helper()
	must(t, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	c.SysProcAttr.Credential = &syscall.Credential{Uid: user, Gid: user}
	return c
}

// run runs a command to its end and returns what it wrote.
func run(c *exec.Cmd) (string, error) {
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	c.WaitDelay = time.Second
	err := c.Run()
	return output.String(), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
