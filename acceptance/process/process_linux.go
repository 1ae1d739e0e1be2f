package process

import "syscall"

// attributes puts a child into a process group of its own, so that what it starts is killed with it, and lets the kernel kill it
// when the test process ends without having done so.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
