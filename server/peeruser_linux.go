package server

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerUser returns as which user and group the process at the other end of a unix socket's connection runs, as the kernel tells it.
func peerUser(conn net.Conn) (uid, gid uint32, ok bool) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return 0, 0, false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var credentials *unix.Ucred
	if controlErr := raw.Control(func(descriptor uintptr) {
		credentials, err = unix.GetsockoptUcred(int(descriptor), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlErr != nil || err != nil {
		return 0, 0, false
	}
	return credentials.Uid, credentials.Gid, true
}
