package connectivitytest_test

import (
	"testing"

	"defender-integration/defender/defendertest"
)

// environmentSetUps are those of a service whose environment names a proxy, and a managed identity endpoint that is not there.
func environmentSetUps() []setUp {
	return []setUp{
		{
			name: "healthy-proxy-of-the-environment", is: "Through the proxy of the service's environment. Nothing is configured, and the hosts are Microsoft's own.",
			change: func(w *world) { w.t.Setenv("HTTPS_PROXY", w.proxy(defendertest.ProxyOptions{}).URL()) },
		},
		{
			name: "managed-identity-nowhere", is: "The machine has no managed identity endpoint.",
			change: func(w *world) {
				w.use(defendertest.Options{}, w.tenant.ID())
				w.assigned(assignedID)
				w.t.Setenv("IDENTITY_ENDPOINT", "http://"+closedPort(w.t)+"/msi/token")
			},
			want: want{
				fails: "TOKEN API", seen: "No managed identity endpoint answers on this machine.", remedy: "Managed identities are there on Azure resources alone",
				reason: unreachable,
			},
		},
	}
}

func TestConnectivityOfTheEnvironment(t *testing.T) {
	for _, name := range []string{"https_proxy", "NO_PROXY", "no_proxy"} {
		t.Setenv(name, "")
	}
	t.Setenv("IDENTITY_HEADER", defendertest.IdentityHeader)
	runSetUps(t, environmentSetUps(), nil)
}
