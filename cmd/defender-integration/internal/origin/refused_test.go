package origin_test

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// refused is what a caller asks for and is refused, whoever has it.
type refused struct {
	name   string
	change func(*house, *integrationv1.Integration)
	// notAllowed says that the reason is the operator's list of hosts; otherwise the request itself is not valid.
	notAllowed bool
}

// refusals are settings that lead to a host that is not allowed, to a file outside the folder for secrets, or give a caller's
// authority a say in a credential that is not the caller's.
func refusals() []refused {
	rows := []refused{
		{name: "a host that is not allowed", notAllowed: true, change: func(h *house, i *integrationv1.Integration) { i.Endpoint = h.atWitness() }},
		{name: "another port of a host that is allowed", notAllowed: true, change: func(h *house, i *integrationv1.Integration) {
			i.Endpoint.Port = h.witness.port()
		}},
		{name: "another name of a host that is allowed", notAllowed: true, change: func(_ *house, i *integrationv1.Integration) {
			i.Endpoint.Host = "localhost"
		}},
		{name: "Microsoft's host in clear", notAllowed: true, change: func(_ *house, i *integrationv1.Integration) {
			i.Endpoint = &integrationv1.Endpoint{Host: "graph.microsoft.com", Protocol: integrationv1.Protocol_PROTOCOL_HTTP}
		}},
		{name: "devices at a host that is not allowed", notAllowed: true, change: func(h *house, i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES, Endpoint: h.atWitness()}
		}},
		{name: "an authorization URL that is not allowed", notAllowed: true, change: func(h *house, i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = "https://" + h.witness.addr() + "/" + tenantID + "/oauth2/v2.0/token"
		}},
		{
			// The proxy would be told what is in the file: any that the caller names.
			name: "a proxy that is not allowed, with its password in a file", notAllowed: true,
			change: func(h *house, i *integrationv1.Integration) {
				write(h.t, filepath.Join(h.folder, "federated"), h.federatedToken())
				i.Proxy = &integrationv1.Proxy{Url: "http://" + fileProxy, Username: proxyUser, PasswordFile: "federated"}
			},
		},
		{name: "an authority with a secret in a file", change: func(h *house, i *integrationv1.Integration) {
			i.Authentication.Credential = secretFile("secret")
			i.Trust = &integrationv1.Trust{CaPem: string(h.witness.ca)}
		}},
		{
			// The proxy would be told what is in the variable.
			name: "a proxy that is not allowed, with its password in a variable", notAllowed: true,
			change: func(_ *house, i *integrationv1.Integration) {
				i.Proxy = &integrationv1.Proxy{Url: "http://" + fileProxy, Username: proxyUser, PasswordEnvVariable: secretVariable}
			},
		},
		{name: "an authority with a secret in a variable", change: func(h *house, i *integrationv1.Integration) {
			i.Authentication.Credential = secretInVariable(secretVariable)
			i.Trust = &integrationv1.Trust{CaPem: string(h.witness.ca)}
		}},
		{name: "an authority with a proxy's password in a variable", change: func(h *house, i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: "http://" + h.address(), Username: proxyUser, PasswordEnvVariable: secretVariable}
			i.Trust = &integrationv1.Trust{CaPem: string(h.witness.ca)}
		}},
		{name: "an authority with a federated token", change: func(h *house, i *integrationv1.Integration) {
			i.Authentication.Credential = workload("federated")
			i.Trust = &integrationv1.Trust{CaPem: string(h.witness.ca)}
		}},
		{name: "an authority with a managed identity", change: func(h *house, i *integrationv1.Integration) {
			i.Authentication = &integrationv1.Authentication{
				Credential: &integrationv1.Authentication_ManagedIdentity{ManagedIdentity: &integrationv1.ManagedIdentity{}},
			}
			i.Trust = &integrationv1.Trust{CaPem: string(h.witness.ca)}
		}},
	}
	// In a host ELSEWHERE is the witness, HERE is Microsoft, both with their ports.
	for _, host := range []string{
		"ELSEWHERE", "HERE", "HERE@127.0.0.1", "127.0.0.1/..", "127.0.0.1?", "127.0.0.1#", `127.0.0.1\@127.0.0.1`, "https://127.0.0.1", "127.0.0.1 ",
		"127.0.0.1%2f", "127.0.0.1\r\nHost: ELSEWHERE", "[127.0.0.1]",
	} {
		rows = append(rows, refused{name: "the host " + host, change: func(h *house, i *integrationv1.Integration) { i.Endpoint.Host = h.placed(host) }})
	}
	for _, address := range []string{
		"https://HERE@ELSEWHERE/oauth2/v2.0/token", `https://HERE\@ELSEWHERE/oauth2/v2.0/token`, "https://HERE/oauth2/v2.0/token?to=ELSEWHERE",
		"https://HERE/oauth2/v2.0/token#@ELSEWHERE/", "//ELSEWHERE/oauth2/v2.0/token", "ftp://HERE/oauth2/v2.0/token", "HERE/oauth2/v2.0/token",
	} {
		rows = append(rows, refused{name: "the authorization URL " + address, change: func(h *house, i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = h.placed(address)
		}})
	}
	for _, address := range []string{
		"http://user:password@ELSEWHERE", "http://ELSEWHERE/path", "http://ELSEWHERE?x", "socks4://ELSEWHERE", "file:///ELSEWHERE", "ELSEWHERE",
		"http://HERE@ELSEWHERE", "http://HERE#@ELSEWHERE", `http://HERE\@ELSEWHERE`,
	} {
		rows = append(rows, refused{name: "the proxy " + address, change: func(h *house, i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Url: h.placed(address)}
		}})
	}
	return append(append(rows, refusedFiles()...), refusedVariables()...)
}

// refusedFiles are files outside the folder for secrets, in each field that names one.
func refusedFiles() []refused {
	var rows []refused
	for field, set := range fileFields() {
		for _, file := range []string{"../secret", "/etc/hostname", "sub/../../secret", "..", "./../secret", "sub//../../secret", "sub/", "a\x00b"} {
			rows = append(rows, refused{name: field + " " + file, change: func(_ *house, i *integrationv1.Integration) { set(i, file) }})
		}
	}
	return rows
}

// refusedVariables are environment variables that the operator did not list, in each field that names one.
func refusedVariables() []refused {
	var rows []refused
	for _, name := range []string{"PATH", "HOME", "IDENTITY_HEADER", "ORIGIN_TEST_SECRET ", "ORIGIN_TEST_SECRE", "origin_test_secret", "A=B", "$HOME"} {
		rows = append(
			rows,
			refused{name: "client_secret.env_variable " + name, change: func(_ *house, i *integrationv1.Integration) {
				i.Authentication.Credential = secretInVariable(name)
			}},
			refused{name: "client_certificate.env_variable " + name, change: func(_ *house, i *integrationv1.Integration) {
				i.Authentication.Credential = certificateInVariable(name)
			}},
			refused{name: "password_env_variable " + name, change: func(h *house, i *integrationv1.Integration) {
				i.Proxy = &integrationv1.Proxy{Url: "http://" + h.address(), Username: proxyUser, PasswordEnvVariable: name}
			}},
		)
	}
	return rows
}

// fileProxy is a proxy that is not there, with a password in a file.
const fileProxy = "proxy.contoso.invalid:3128"

// fileFields set each field that names a file of the folder for secrets.
func fileFields() map[string]func(i *integrationv1.Integration, file string) {
	return map[string]func(i *integrationv1.Integration, file string){
		"client_secret.file":      func(i *integrationv1.Integration, file string) { i.Authentication.Credential = secretFile(file) },
		"client_certificate.file": func(i *integrationv1.Integration, file string) { i.Authentication.Credential = certificateFile(file) },
		"token_file":              func(i *integrationv1.Integration, file string) { i.Authentication.Credential = workload(file) },
		"password_file": func(i *integrationv1.Integration, file string) {
			i.Proxy = &integrationv1.Proxy{Url: "http://" + fileProxy, Username: proxyUser, PasswordFile: file}
		},
		"ca_file": func(i *integrationv1.Integration, file string) { i.Trust = &integrationv1.Trust{CaFile: file} },
	}
}

// placed puts the witness's and Microsoft's host and port into a text.
func (h *house) placed(text string) string {
	return strings.NewReplacer("ELSEWHERE", h.witness.addr(), "HERE", h.address()).Replace(text)
}

// everything names all fields that can be changed, secrets among them.
func everything() *fieldmaskpb.FieldMask {
	return &fieldmaskpb.FieldMask{Paths: []string{"endpoint", "authentication", "device_source", "proxy", "trust"}}
}

// What is not valid or not allowed is refused when it is registered, tested or updated to with all credentials: nothing is looked up,
// called or read for it.
func TestACallerIsRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.unwatched = true })
	stored := h.register(h.settings("stored"))
	h.waitCollected("stored")
	for _, row := range refusals() {
		t.Run(row.name, func(t *testing.T) {
			settings := h.settings("asked")
			row.change(h, settings)
			_, registering := h.client.RegisterIntegration(t.Context(), &integrationv1.RegisterIntegrationRequest{Integration: settings})
			_, testing := h.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
				Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: settings},
			})
			settings.IntegrationId = "stored"
			_, updating := h.client.UpdateIntegration(t.Context(), &integrationv1.UpdateIntegrationRequest{
				Integration: settings, UpdateMask: everything(),
			})
			code, reason := codes.InvalidArgument, integrationv1.ErrorReason_ERROR_REASON_INVALID_REQUEST
			if row.notAllowed {
				code, reason = codes.FailedPrecondition, integrationv1.ErrorReason_ERROR_REASON_ENDPOINT_NOT_ALLOWED
			}
			for what, err := range map[string]error{"registering": registering, "testing": testing, "updating": updating} {
				if status.Code(err) != code || client.Reason(err) != reason {
					t.Errorf("%s is answered %v, want %s and %s", what, err, code, reason)
				}
			}
			h.witness.wantSilence(t)
		})
	}
	if t.Failed() {
		return // what was not refused is there now
	}
	if etag := h.get("stored").GetEtag(); etag != stored.GetEtag() {
		t.Errorf("the etag is %s, want %s as before", etag, stored.GetEtag())
	}
	list, err := h.client.ListIntegrations(t.Context(), &integrationv1.ListIntegrationsRequest{})
	if err != nil || len(list.GetIntegrations()) != 1 {
		t.Errorf("there are %v, want the one that was registered: %v", list, err)
	}
	h.waitPolls(2)
	// One may be under way.
	for _, call := range h.microsoft.Calls(func(c defendertest.Call) bool { return c.Done }) {
		if call.Status != 200 {
			t.Errorf("Microsoft was called %v", call)
		}
	}
}
