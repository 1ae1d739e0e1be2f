package origin_test

import (
	"bytes"
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Microsoft's hosts, whose names nothing but a simulated proxy can look up: what goes around it goes nowhere.
const (
	loginHost = "login.contoso.invalid"
	apiHost   = "graph.contoso.invalid"
)

// What a proxy is authenticated to with. Each character in them that has a meaning in a URL is meant.
const (
	proxyUser     = `DOMAIN\proxy user`
	proxyPassword = `planted@pass:w/ord?#%41&=+ü"`
)

// named has Microsoft's hosts called by their names.
func named(h *house) {
	h.simulated.Hosts = []string{loginHost, apiHost}
	h.options.AllowEndpoints = append(h.options.AllowEndpoints, loginHost+":443", apiHost+":443")
}

// byName has an integration call Microsoft's hosts by their names.
func byName(i *integrationv1.Integration) {
	i.Endpoint = &integrationv1.Endpoint{Host: apiHost}
	i.Authentication.AuthorizationUrl = "https://" + loginHost + "/" + tenantID + "/oauth2/v2.0/token"
}

// throughProxy is a proxy and who configures it.
type throughProxy struct {
	name     string
	kind     defendertest.ProxyKind
	username string
	password string
	// operator sets the service's own options, by the proxy's URL with name and password, before the service starts. Where it is nil the
	// integration names the proxy.
	operator func(h *house, address string)
	// file has the integration's password in a file.
	file bool
	// variable has it in an environment variable.
	variable bool
}

func throughProxies() []throughProxy {
	rows := []throughProxy{
		{name: "password in a file", kind: defendertest.ProxyHTTP, username: proxyUser, password: proxyPassword, file: true},
		{name: "password in a variable", kind: defendertest.ProxyHTTP, username: proxyUser, password: proxyPassword, variable: true},
		{
			name: "of the operator's rule", kind: defendertest.ProxySOCKS5, username: "operator", password: "planted~password",
			operator: func(h *house, address string) { h.options.ProxyRules = []string{".contoso.invalid=" + address} },
		},
		{
			name: "of the environment", kind: defendertest.ProxyHTTP, username: "operator", password: "planted~password",
			operator: func(h *house, address string) { h.t.Setenv("HTTPS_PROXY", address) },
		},
	}
	for _, kind := range []defendertest.ProxyKind{defendertest.ProxyHTTP, defendertest.ProxyHTTPS, defendertest.ProxySOCKS5} {
		rows = append(rows, throughProxy{name: string(kind) + " without credentials", kind: kind},
			throughProxy{name: string(kind) + " with credentials", kind: kind, username: proxyUser, password: proxyPassword})
	}
	return rows
}

// Through each kind of proxy, with and without name and password, whoever configured it: tokens, alerts and devices come through
// it, nothing goes around it, and it hears nothing of what is said to Microsoft.
//
//nolint:paralleltest // What is in the environment is for all.
func TestEverythingGoesThroughTheProxy(t *testing.T) {
	for _, row := range throughProxies() {
		t.Run(row.name, func(t *testing.T) {
			// The proxy has to be there before the service, whose options name it, and knows its way to Microsoft when it is asked.
			lead := map[string]string{}
			proxy, err := defendertest.NewProxy(defendertest.ProxyOptions{Kind: row.kind, Username: row.username, Password: row.password, Hosts: lead})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := proxy.Close(); err != nil {
					t.Error(err)
				}
			})
			h := newHouse(t, named, func(h *house) {
				h.planted.add("the proxy's password", row.password)
				h.planted.add("the proxy's credentials", basic(row.username, row.password))
				if row.operator != nil {
					row.operator(h, strings.Replace(proxy.URL(), "://", "://"+row.username+":"+row.password+"@", 1))
					return
				}
				h.options.AllowEndpoints = append(h.options.AllowEndpoints, proxy.Addr())
			})
			lead[loginHost+":443"], lead[apiHost+":443"] = h.address(), h.address()
			h.register(h.settings("proxied", func(i *integrationv1.Integration) {
				byName(i)
				i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES, Endpoint: i.GetEndpoint()}
				if row.operator != nil {
					return
				}
				i.Proxy = &integrationv1.Proxy{Url: proxy.URL(), Username: row.username, Password: row.password}
				if row.file {
					write(t, filepath.Join(h.folder, "password"), row.password+"\n")
					i.Proxy.Password, i.Proxy.PasswordFile = "", "password"
				}
				if row.variable {
					t.Setenv(secretVariable, row.password)
					i.Proxy.Password, i.Proxy.PasswordEnvVariable = "", secretVariable
				}
				if authority := proxy.CAPEM(); authority != nil {
					i.Trust = &integrationv1.Trust{CaPem: string(authority)}
				}
			}))
			s := h.open(h.following("proxied"))
			s.wantAlert("first")
			s.waitDevice()
			if test := h.test("proxied"); test.GetHealth() != integrationv1.ConnectivityTest_HEALTH_HEALTHY {
				t.Errorf("the test says %v", test)
			}
			h.wantThrough(proxy, row)
		})
	}
}

// wantThrough checks what a proxy was asked, and that it could read none of what went through it.
func (h *house) wantThrough(proxy *defendertest.Proxy, row throughProxy) {
	h.t.Helper()
	var targets []string
	for _, request := range proxy.Requests() {
		targets = append(targets, request.Target)
		if !request.Opened || len(request.Said) == 0 || request.Username != row.username || request.Password != row.password {
			h.t.Errorf("the proxy was asked %+v", request)
		}
		said := bytes.ReplaceAll(request.Said, []byte(row.password), nil)
		said = bytes.ReplaceAll(said, []byte(basic(row.username, row.password)), nil)
		h.planted.wantNone(h.t, "what the proxy could read", said)
	}
	slices.Sort(targets)
	if want := []string{apiHost + ":443", loginHost + ":443"}; !slices.Equal(slices.Compact(targets), want) {
		h.t.Errorf("there were tunnels to %v, want %v", targets, want)
	}
}

// basic is a name and a password as HTTP proxies are told them (https://www.rfc-editor.org/rfc/rfc7617).
func basic(username, password string) string {
	if password == "" {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(username + ":" + password))
}
