package origin_test

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// A proxy that a caller names may not be what only this machine can reach: a loopback address in whatever form, a name that leads to
// one, this host, a link-local address, or a cloud's metadata service. That shows when it would be called, and it is not.
func TestACallersProxyIsNotCalledWhereItMustNotBe(t *testing.T) {
	t.Parallel()
	h := newHouse(t, named, func(h *house) { h.unwatched = true })
	port := strconv.Itoa(int(h.witness.port()))
	for i, host := range []string{
		"127.0.0.1", "localhost", "[::ffff:7f00:1]", "0.0.0.0", "[::1]", "[::]", "127.255.255.254", "169.254.169.254", "[fe80::1]", "168.63.129.16",
		"[64:ff9b::7f00:1]", "100.100.100.200",
	} {
		for _, scheme := range []string{"http", "https", "socks5"} {
			id := scheme + "-" + strconv.Itoa(i)
			t.Run(scheme+" "+host, func(t *testing.T) {
				settings := h.settings(id, func(i *integrationv1.Integration) {
					byName(i)
					i.Proxy = &integrationv1.Proxy{Url: scheme + "://" + host + ":" + port, Username: proxyUser, Password: proxyPassword}
				})
				response, err := h.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
					Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: settings},
				})
				if err != nil {
					t.Fatal(err)
				}
				told := integrationv1.ErrorReason_ERROR_REASON_UNSPECIFIED
				for _, stage := range response.GetTest().GetStages() {
					if stage.GetLink() == integrationv1.ConnectivityStage_LINK_PROXY && stage.GetTarget() == integrationv1.ConnectivityStage_TARGET_AUTHORIZATION {
						told = stage.GetReason()
					}
				}
				if told != integrationv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_ALLOWED {
					t.Errorf("the test says %v", response)
				}
				h.witness.wantSilence(t)
			})
		}
	}
	h.planted.add("the proxy's password", proxyPassword)
	h.register(h.settings("collecting", func(i *integrationv1.Integration) {
		byName(i)
		i.Proxy = &integrationv1.Proxy{Url: "http://" + h.witness.addr(), Username: proxyUser, Password: proxyPassword}
	}))
	if problem := h.waitFailing("collecting"); problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_ADDRESS_NOT_ALLOWED {
		t.Errorf("collecting tells %v", problem)
	}
}

// A proxy that shows a certificate of its own in Entra's place gets nothing but the beginning of a handshake.
func TestAProxyThatInspectsUntrustedGetsNothing(t *testing.T) {
	t.Parallel()
	lead := map[string]string{}
	proxy, err := defendertest.NewProxy(defendertest.ProxyOptions{Inspect: true, Hosts: lead})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	h := newHouse(t, named, func(h *house) { h.options.AllowEndpoints = append(h.options.AllowEndpoints, proxy.Addr()) })
	lead[loginHost+":443"], lead[apiHost+":443"] = h.address(), h.address()
	inspected := h.settings("inspected", func(i *integrationv1.Integration) {
		byName(i)
		i.Proxy = &integrationv1.Proxy{Url: proxy.URL()}
	})
	h.register(inspected)
	if problem := h.waitFailing("inspected"); problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNTRUSTED {
		t.Errorf("collecting tells %v", problem)
	}
	h.test("inspected")
	h.wantAsked(appID, nil)
	if calls := h.microsoft.Calls(nil); len(calls) != 0 {
		t.Errorf("Microsoft was called through it: %v", calls)
	}

	// With its authority trusted the same proxy lets everything through: it was that which kept it out.
	inspected.IntegrationId, inspected.Trust = "trusted", &integrationv1.Trust{CaPem: string(proxy.CAPEM())}
	h.register(inspected)
	h.waitCollected("trusted")
}

// A file of the folder that is a link out of it is not read, in whatever field it stands: what is behind it would have worked.
func TestALinkOutOfTheFolderIsNotRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.options.AllowEndpoints = append(h.options.AllowEndpoints, fileProxy) })
	outside := t.TempDir()
	content := map[string]string{
		"client_secret.file": h.secret, "client_certificate.file": h.certificate(), "token_file": h.federatedToken(),
		"password_file": proxyPassword, "ca_file": string(h.microsoft.CAPEM()),
	}
	h.planted.add("the proxy's password", proxyPassword)
	if err := os.Mkdir(filepath.Join(h.folder, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	link := func(to, name string) {
		if err := os.Symlink(to, filepath.Join(h.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(outside, "led")
	for field, set := range fileFields() {
		write(t, filepath.Join(outside, field), content[field])
		write(t, filepath.Join(h.folder, "inside", field), content[field])
		link(filepath.Join(outside, field), field+"-absolute")
		up, err := filepath.Rel(h.folder, filepath.Join(outside, field))
		if err != nil {
			t.Fatal(err)
		}
		link(up, field+"-relative")
		link(field+"-absolute", field+"-twice")
		link(filepath.Join("inside", field), field+"-inside")
		if err := syscall.Mkfifo(filepath.Join(h.folder, field+"-pipe"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"led/" + field, field + "-absolute", field + "-relative", field + "-twice", field + "-pipe"} {
			t.Run(field+" "+file, func(t *testing.T) {
				settings := h.settings("linked")
				set(settings, file)
				response, err := h.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
					Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: settings},
				})
				if err != nil {
					t.Fatal(err)
				}
				unusable := integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE
				if !reasoned(response.GetTest(), unusable) {
					t.Errorf("the test says %v", response)
				}
			})
		}
	}
	h.wantAsked(appID, nil)
	for field, id := range map[string]string{
		"client_secret.file": "secret", "client_certificate.file": "certificate", "token_file": "federated", "ca_file": "trust",
	} {
		h.register(h.settings(id, func(i *integrationv1.Integration) { fileFields()[field](i, field+"-inside") }))
		h.waitCollected(id)
	}
	h.register(h.settings("collecting", func(i *integrationv1.Integration) {
		i.Authentication.Credential = secretFile("client_secret.file-absolute")
	}))
	if problem := h.waitFailing("collecting"); problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_CREDENTIAL_UNUSABLE {
		t.Errorf("collecting tells %v", problem)
	}
}

// reasoned says whether a stage of a test failed for a reason.
func reasoned(test *integrationv1.ConnectivityTest, reason integrationv1.ErrorReason) bool {
	for _, stage := range test.GetStages() {
		if stage.GetResult() == integrationv1.ConnectivityStage_RESULT_FAILED && stage.GetReason() == reason {
			return true
		}
	}
	return false
}

// What the environment or the operator says of proxies has no say where an integration goes directly, where Microsoft is spoken to in
// clear, or where a managed identity's token is asked for.
//
//nolint:paralleltest // What is in the environment is for all.
func TestAnotherProxyHasNoSay(t *testing.T) {
	direct := &integrationv1.Proxy{Direct: true}
	for _, row := range []struct {
		name    string
		setting setting
		change  func(*house, *integrationv1.Integration)
		// unreachable says that Microsoft's host has no address: what the environment names is never used for loopback addresses, so that it
		// takes another host to see that it is not used.
		unreachable bool
	}{
		{name: "of the environment, directly", setting: named, unreachable: true, change: func(_ *house, i *integrationv1.Integration) {
			byName(i)
			i.Proxy = direct
		}},
		{name: "of the operator, directly", setting: byRule, change: func(_ *house, i *integrationv1.Integration) { i.Proxy = direct }},
		{name: "of the operator, in clear", setting: func(h *house) { inClear(h); byRule(h) }, change: func(*house, *integrationv1.Integration) {}},
		{name: "for a managed identity", setting: func(h *house) { inClear(h); byRule(h) }, change: func(h *house, i *integrationv1.Integration) {
			h.app.SetManagedIdentity()
			h.managed(i.GetAuthentication(), "")
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHouse(t, row.setting, func(h *house) {
				for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
					t.Setenv(name, "http://user:password@"+h.witness.addr())
				}
			})
			h.register(h.settings("led", func(i *integrationv1.Integration) { row.change(h, i) }))
			healthy := integrationv1.ConnectivityTest_HEALTH_HEALTHY
			if row.unreachable {
				h.waitFailing("led")
				healthy = integrationv1.ConnectivityTest_HEALTH_UNHEALTHY
			} else {
				h.waitCollected("led")
			}
			if test := h.test("led"); test.GetHealth() != healthy {
				t.Errorf("the test says %v, want %s", test, healthy)
			}
			h.witness.wantSilence(t)
		})
	}
}

// byRule has the operator name the witness as the proxy for all.
func byRule(h *house) { h.options.ProxyRules = []string{"http://user:password@" + h.witness.addr()} }
