//go:build unix && !linux

package process

import "syscall"

// attributes puts a child into a process group of its own, so that what it starts is killed with it.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
