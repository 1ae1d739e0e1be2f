package connect

import (
	"testing"

	"defender-integration/defender"
)

func TestReadsOnly(t *testing.T) {
	for role, want := range map[string]bool{
		"SecurityAlert.Read.All": true, "User.Read": true, "Machine.Read.All": true, "AdvancedQuery.Read.All": true,
		"SecurityAlert.ReadWrite.All": false, "Machine.Isolate": false, "Directory.AccessAsUser.All": false, "Ti.ReadWrite": false, "": false,
		"Machine.CollectForensics": false, "Readers.Write.All": false,
	} {
		if got := readsOnly(role); got != want {
			t.Errorf("%s: %t, want %t", role, got, want)
		}
	}
	// The table says the same of its own.
	for _, endpoint := range defender.Endpoints() {
		for _, p := range endpoint.GetPermissions() {
			if readsOnly(p.GetName()) == p.GetCanWrite() {
				t.Errorf("%s: the table says that it can write: %t", p.GetName(), p.GetCanWrite())
			}
		}
	}
}
