package server

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Profiles are served on this machine alone, whatever else is allowed.
func TestAdminListensOnThisMachineAlone(t *testing.T) {
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "s")
	for address, served := range map[string]bool{
		"127.0.0.1:0": true, "[::1]:0": hasIPv6(), "localhost:0": true, "unix:" + socket: true,
		":0": false, "0.0.0.0:0": false, "[::]:0": false, "192.0.2.1:0": false, "127.0.0.1": false, "": false,
	} {
		listener, err := listenAdmin(address)
		if (err == nil) != served && (address != "[::1]:0" || served) {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil {
			if !served && !strings.Contains(err.Error(), "--admin-address") && address != "[::1]:0" {
				t.Errorf("%q does not say which flag: %v", address, err)
			}
			continue
		}
		if address == "unix:"+socket {
			if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket: %v, %v", info, err)
			}
		}
		if err := listener.Close(); err != nil {
			t.Error(err)
		}
	}
}

func hasIPv6() bool {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	_ = listener.Close()
	return true
}
