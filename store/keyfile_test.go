package store

import (
	"io/fs"
	"testing"
)

func TestWhoMayUseAKeyFile(t *testing.T) {
	for _, test := range []struct {
		mode  fs.FileMode
		roots bool
		open  bool
	}{
		{0o600, false, false},
		{0o400, false, false},
		{0o640, false, true},
		{0o604, false, true},
		// As Kubernetes shows a Secret with the mode 0400 to the group of the pod.
		{0o440, true, false},
		{0o640, true, false},
		{0o660, true, true},
		{0o444, true, true},
	} {
		if open := tooOpen(test.mode, test.roots); open != test.open {
			t.Errorf("%04o, of root's and the service is not root: %t; too open: %t, want %t", test.mode, test.roots, open, test.open)
		}
	}
}
