package origin_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// leadingAway is an update that would send what is stored elsewhere, by a caller who does not have it.
type leadingAway struct {
	name string
	// mask are the fields that are changed.
	mask   []string
	change func(*house, *integrationv1.Integration)
	// needs is the secret that the request must bring. Default: the client secret.
	needs string
}

// atWitness is the witness as an endpoint.
func (h *house) atWitness() *integrationv1.Endpoint {
	return &integrationv1.Endpoint{Host: "127.0.0.1", Port: h.witness.port()}
}

func leadingsAway() []leadingAway {
	const clientSecret, proxyPassword = "authentication.client_secret.value", "proxy.password"
	bringsSecret := func(h *house, i *integrationv1.Integration) { i.Authentication.Credential = secretValue(h.secret) }
	return []leadingAway{
		{name: "the endpoint", mask: []string{"endpoint"}, change: func(h *house, i *integrationv1.Integration) { i.Endpoint = h.atWitness() }},
		{name: "the endpoint's port", mask: []string{"endpoint.port"}, change: func(h *house, i *integrationv1.Integration) {
			i.Endpoint.Port = h.witness.port()
		}},
		{name: "the endpoint's protocol", mask: []string{"endpoint.protocol"}, change: func(_ *house, i *integrationv1.Integration) {
			i.Endpoint.Protocol = integrationv1.Protocol_PROTOCOL_HTTP
		}},
		{name: "the endpoint, back to Microsoft's", mask: []string{"endpoint"}, change: func(_ *house, i *integrationv1.Integration) { i.Endpoint = nil }},
		{name: "the authorization URL", mask: []string{"authentication.authorization_url"}, change: func(h *house, i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = "https://" + h.witness.addr() + "/" + tenantID + "/oauth2/v2.0/token"
		}},
		{name: "the authorization URL's path", mask: []string{"authentication.authorization_url"}, change: func(_ *house, i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = "https://" + loginHost + "/elsewhere/oauth2/v2.0/token"
		}},
		{name: "the device source", mask: []string{"device_source"}, change: func(h *house, i *integrationv1.Integration) {
			i.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_MACHINES, Endpoint: h.atWitness()}
		}},
		{name: "the proxy's URL", mask: []string{"proxy.url"}, change: func(h *house, i *integrationv1.Integration) {
			i.Proxy.Url = "http://" + h.witness.addr()
		}},
		{name: "the proxy's name", mask: []string{"proxy.username"}, change: func(_ *house, i *integrationv1.Integration) { i.Proxy.Username = "other" }},
		{name: "the proxy's exceptions", mask: []string{"proxy.exceptions"}, change: func(_ *house, i *integrationv1.Integration) {
			i.Proxy.Exceptions = []string{".invalid"}
		}},
		{name: "the proxy, to none", mask: []string{"proxy"}, change: func(_ *house, i *integrationv1.Integration) {
			i.Proxy = &integrationv1.Proxy{Direct: true}
		}},
		{name: "the proxy, to the service's", mask: []string{"proxy"}, change: func(_ *house, i *integrationv1.Integration) { i.Proxy = nil }},
		{name: "the trusted authority", mask: []string{"trust.ca_pem"}, change: func(h *house, i *integrationv1.Integration) {
			i.Trust.CaPem = string(h.witness.ca)
		}},
		{name: "the trusted authority, to a file", mask: []string{"trust"}, change: func(h *house, i *integrationv1.Integration) {
			write(h.t, filepath.Join(h.folder, "authority.pem"), string(h.witness.ca))
			i.Trust = &integrationv1.Trust{CaFile: "authority.pem"}
		}},
		{name: "the trusted authority, to none", mask: []string{"trust"}, change: func(_ *house, i *integrationv1.Integration) { i.Trust = nil }},
		{
			name: "the endpoint, with a secret that the mask does not name", mask: []string{"endpoint"},
			change: func(h *house, i *integrationv1.Integration) {
				i.Endpoint = h.atWitness()
				bringsSecret(h, i)
			},
		},
		{
			name: "the endpoint, with an empty secret", mask: []string{"endpoint", clientSecret},
			change: func(h *house, i *integrationv1.Integration) {
				i.Endpoint = h.atWitness()
				i.Authentication.Credential = secretValue("")
			},
		},
		{
			name: "the proxy's URL, with the client secret alone", mask: []string{"proxy.url", clientSecret}, needs: proxyPassword,
			change: func(h *house, i *integrationv1.Integration) {
				i.Proxy.Url = "http://" + h.witness.addr()
				bringsSecret(h, i)
			},
		},
		{
			name: "the proxy's URL, with the secret in a file", mask: []string{"proxy.url", "trust", "authentication.client_secret.file"}, needs: proxyPassword,
			change: func(h *house, i *integrationv1.Integration) {
				write(h.t, filepath.Join(h.folder, "secret"), h.secret)
				i.Proxy.Url, i.Trust, i.Authentication.Credential = "http://"+h.witness.addr(), nil, secretFile("secret")
			},
		},
		{
			// What is in a variable is the operator's, and no proof that the caller has the secret of before.
			name: "the proxy's URL, with the secret in a variable", mask: []string{"proxy.url", "trust", "authentication.client_secret"}, needs: proxyPassword,
			change: func(h *house, i *integrationv1.Integration) {
				i.Proxy.Url, i.Trust, i.Authentication.Credential = "http://"+h.witness.addr(), nil, secretInVariable(secretVariable)
			},
		},
		{
			// Whoever stands before an https:// proxy with a certificate of that authority reads the password.
			name: "the trusted authority, with the client secret alone", mask: []string{"trust.ca_pem", clientSecret}, needs: proxyPassword,
			change: func(h *house, i *integrationv1.Integration) {
				i.Trust.CaPem = string(h.witness.ca)
				bringsSecret(h, i)
			},
		},
	}
}

// An update that decides where a stored secret or its tokens go must bring the secret: without it nothing is changed, nothing is sent
// anywhere, and collecting goes on as before. What it leads to here is allowed, trusted, and listens.
func TestAnUpdateNeverLeadsAStoredSecretAway(t *testing.T) {
	t.Parallel()
	lead := map[string]string{}
	proxy, err := defendertest.NewProxy(defendertest.ProxyOptions{
		Kind: defendertest.ProxyHTTPS, Username: proxyUser, Password: proxyPassword, Hosts: lead,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	h := newHouse(t, named, func(h *house) {
		h.options.AllowEndpoints = append(h.options.AllowEndpoints, proxy.Addr(), fmt.Sprintf("%s:%d", apiHost, h.witness.port()))
		h.planted.add("the proxy's password", proxyPassword)
	})
	lead[loginHost+":443"], lead[apiHost+":443"] = h.address(), h.address()
	stored := h.register(h.settings("stored", func(i *integrationv1.Integration) {
		byName(i)
		i.Proxy = &integrationv1.Proxy{Url: proxy.URL(), Username: proxyUser, Password: proxyPassword}
		i.Trust = &integrationv1.Trust{CaPem: string(proxy.CAPEM())}
	}))
	h.waitCollected("stored")

	for _, row := range leadingsAway() {
		// One after the other: each finds what the others left, which must be what was there.
		if !t.Run(row.name, func(t *testing.T) {
			changed := h.get("stored")
			row.change(h, changed)
			changed.Etag = ""
			_, err := h.client.UpdateIntegration(t.Context(), &integrationv1.UpdateIntegrationRequest{
				Integration: changed, UpdateMask: &fieldmaskpb.FieldMask{Paths: row.mask},
			})
			if row.needs == "" {
				row.needs = "authentication.client_secret.value"
			}
			if status.Code(err) != codes.FailedPrecondition || client.Reason(err) != integrationv1.ErrorReason_ERROR_REASON_CREDENTIALS_REQUIRED ||
				fieldOf(err) != row.needs {
				t.Errorf("the update is answered %v about %q, want CREDENTIALS_REQUIRED about %q", err, fieldOf(err), row.needs)
			}
			if etag := h.get("stored").GetEtag(); etag != stored.GetEtag() {
				t.Errorf("the etag is %s, want %s as before", etag, stored.GetEtag())
			}
			h.witness.wantSilence(t)
		}) {
			// What goes on from there would not be what was stored.
			return
		}
	}
	h.raise("second")
	s := h.open(h.following("stored"))
	s.wantAlert("first")
	s.wantAlert("second")
	h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: 1})
}

// fieldOf returns the field that a failure is about.
func fieldOf(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()["field"]
		}
	}
	return ""
}

// Naming an integration that is registered lends nobody its secret: neither to a test of other settings, nor to registering it again.
func TestARegisteredNameLendsNoSecret(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register(h.settings("stored"))
	h.waitCollected("stored")
	borrowing := h.settings("stored", func(i *integrationv1.Integration) {
		i.Endpoint = h.atWitness()
		i.Authentication.Credential = secretValue("")
	})
	_, err := h.client.TestConnectivity(t.Context(), &integrationv1.TestConnectivityRequest{
		Subject: &integrationv1.TestConnectivityRequest_Integration{Integration: borrowing},
	})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("testing other settings under the name is answered %v", err)
	}
	register := &integrationv1.RegisterIntegrationRequest{Integration: borrowing}
	if _, err = h.client.RegisterIntegration(t.Context(), register); status.Code(err) != codes.InvalidArgument {
		t.Errorf("registering without a secret is answered %v", err)
	}
	borrowing.Authentication.Credential = secretValue("guessed-secret")
	if _, err = h.client.RegisterIntegration(t.Context(), register); status.Code(err) != codes.AlreadyExists {
		t.Errorf("registering with another secret is answered %v", err)
	}
	h.waitPolls(2)
	h.wantAsked(appID, map[defendertest.Resource]int{defendertest.Graph: 1})
	if !slices.Contains(h.options.AllowEndpoints, h.witness.addr()) {
		t.Error("the witness is not allowed, so that nothing could have reached it")
	}
}
