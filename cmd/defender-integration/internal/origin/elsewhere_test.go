package origin_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"strings"
	"testing"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// leading is an answer of Microsoft's side that leads elsewhere: to a host that the service is allowed to call and trusts.
type leading struct {
	name string
	// route is what answers so, every time; respond makes the answer, given the witness's host and port.
	route   string
	respond func(h *house, elsewhere string) defendertest.Responder
	// change changes the integration that meets the answer.
	change func(*house, *integrationv1.Integration)
	// goesOn says that the answer is a good one all the same: alerts are collected. Otherwise the integration fails, or where devices is
	// set, the look-up of devices does.
	goesOn, devices bool
	// clear has Microsoft spoken to in clear.
	clear bool
}

// redirect answers with a redirect to the same path elsewhere.
func redirect(status int) func(*house, string) defendertest.Responder {
	return func(_ *house, elsewhere string) defendertest.Responder {
		return func(_ context.Context, r *http.Request, _ func() *defendertest.Answer) *defendertest.Answer {
			answer := defendertest.NewAnswer(status, "")
			answer.Header.Set("Location", "https://"+elsewhere+r.URL.RequestURI())
			return answer
		}
	}
}

// headers adds headers to the true answer.
func headers(values map[string]string) func(*house, string) defendertest.Responder {
	return func(_ *house, elsewhere string) defendertest.Responder {
		return defendertest.Edit(func(a *defendertest.Answer) {
			for name, value := range values {
				a.Header.Set(name, strings.ReplaceAll(value, "ELSEWHERE", elsewhere))
			}
		})
	}
}

// answers makes an answer that stands in place of the true one. In header and body ELSEWHERE stands for the witness, HERE for Microsoft.
func answers(status int, header http.Header, body string) func(*house, string) defendertest.Responder {
	return func(h *house, elsewhere string) defendertest.Responder {
		placed := strings.NewReplacer("ELSEWHERE", elsewhere, "HERE", h.address())
		filled := maps.Clone(header)
		for name, values := range filled {
			filled[name] = []string{placed.Replace(values[0])}
		}
		return defendertest.Respond(status, filled, placed.Replace(body))
	}
}

// nextLink adds a next link to the true answer. In it ELSEWHERE stands for the witness, HERE for Microsoft.
func nextLink(link string) func(*house, string) defendertest.Responder {
	return func(h *house, elsewhere string) defendertest.Responder {
		link := strings.NewReplacer("ELSEWHERE", elsewhere, "HERE", h.address()).Replace(link)
		return defendertest.Edit(func(a *defendertest.Answer) {
			body := bytes.Join(a.Body, nil)
			a.Body = [][]byte{bytes.Replace(body, []byte(`"value":[`), []byte(`"@odata.nextLink":"`+link+`","value":[`), 1)}
		})
	}
}

// openID is a description of a tenant's endpoints that names another token endpoint. Its issuer is the true one: the library that reads
// it looks at that.
const openID = `{"token_endpoint":"https://ELSEWHERE/` + tenantID + `/oauth2/v2.0/token",` +
	`"authorization_endpoint":"https://HERE/` + tenantID + `/oauth2/v2.0/authorize","issuer":"https://HERE/` + tenantID + `/v2.0"}`

// pac is a script of the kind that browsers take a proxy from.
const pac = `function FindProxyForURL(url, host) { return "PROXY ELSEWHERE; HTTPS ELSEWHERE; SOCKS5 ELSEWHERE"; }`

// The changes of integrations.
func byCertificate(h *house, i *integrationv1.Integration) {
	write(h.t, h.folder+"/certificate.pem", h.certificate())
	i.Authentication.Credential = certificateFile("certificate.pem")
}

func byWorkload(h *house, i *integrationv1.Integration) {
	write(h.t, h.folder+"/federated", h.federatedToken())
	i.Authentication.Credential = workload("federated")
}

func byEndpoint(_ *house, i *integrationv1.Integration) {
	i.Api = integrationv1.Api_API_DEFENDER_FOR_ENDPOINT
}

func bySIEM(_ *house, i *integrationv1.Integration) { i.Api = integrationv1.Api_API_SIEM }

func withDevices(kind integrationv1.DeviceSource_Kind) func(*house, *integrationv1.Integration) {
	return func(h *house, i *integrationv1.Integration) {
		i.DeviceSource = &integrationv1.DeviceSource{Kind: kind, Endpoint: h.host()}
	}
}

func leadings() []leading {
	const (
		token, alerts = defendertest.RouteToken, defendertest.RouteAlerts
		machines      = integrationv1.DeviceSource_KIND_MACHINES
	)
	rows := []leading{
		{name: "a certificate's token endpoint redirects", route: token, respond: redirect(307), change: byCertificate},
		{name: "a federated token's token endpoint redirects", route: token, respond: redirect(308), change: byWorkload},
		{name: "a v1 token endpoint redirects", route: token, respond: redirect(307), change: func(h *house, i *integrationv1.Integration) {
			i.Authentication.AuthorizationUrl = h.microsoft.TokenURLV1(tenantID)
		}},
		{
			name: "a machine's identity endpoint redirects", route: defendertest.RouteIdentity, respond: redirect(307), clear: true,
			change: func(h *house, i *integrationv1.Integration) {
				h.app.SetManagedIdentity()
				h.managed(i.GetAuthentication(), "")
			},
		},

		{name: "Defender for Endpoint's alerts redirect", route: defendertest.RouteEndpointAlerts, respond: redirect(308), change: byEndpoint},
		{name: "the SIEM API redirects", route: defendertest.RouteSIEM, respond: redirect(302), change: bySIEM},
		{name: "machines redirect", route: defendertest.RouteMachines, respond: redirect(307), change: withDevices(machines), devices: true},
		{
			name: "hunting redirects", route: defendertest.RouteHunting, respond: redirect(308), devices: true,
			change: withDevices(integrationv1.DeviceSource_KIND_HUNTING),
		},

		{name: "a next link to another host", route: alerts, respond: nextLink("https://ELSEWHERE/v1.0/security/alerts_v2?$skiptoken=x")},
		{name: "a next link by another name of the host", route: alerts, respond: nextLink("https://localhost/v1.0/security/alerts_v2")},
		{name: "a next link in clear", route: alerts, respond: nextLink("http://ELSEWHERE/v1.0/security/alerts_v2")},
		{name: "a next link with Microsoft as its user", route: alerts, respond: nextLink("https://HERE@ELSEWHERE/v1.0/security/alerts_v2")},
		{name: "a next link with the host as its password", route: alerts, respond: nextLink("https://u:p@HERE/v1.0/security/alerts_v2")},
		{name: "a next link without a scheme", route: alerts, respond: nextLink("//ELSEWHERE/v1.0/security/alerts_v2")},
		{name: "a next link with a backslash", route: alerts, respond: nextLink(`https://HERE\\@ELSEWHERE/v1.0/security/alerts_v2`)},
		{name: "a next link of Defender for Endpoint", route: defendertest.RouteEndpointAlerts, change: byEndpoint, respond: nextLink("https://ELSEWHERE/api/alerts")},
		{
			name: "a next link of the machines", route: defendertest.RouteMachines, change: withDevices(machines), devices: true,
			respond: nextLink("https://ELSEWHERE/api/machines"),
		},

		{name: "a certificate's OpenID document names another", route: defendertest.RouteOpenID, respond: answers(200, nil, openID), change: byCertificate},
		{name: "a federated token's OpenID document names another", route: defendertest.RouteOpenID, respond: answers(200, nil, openID), change: byWorkload},
		{name: "an OpenID document redirects", route: defendertest.RouteOpenID, respond: redirect(302), change: byCertificate},

		{name: "a 401 of the API names who gives tokens", route: alerts, respond: answers(401, http.Header{"Www-Authenticate": {
			`Bearer realm="", authorization_uri="https://ELSEWHERE/common/oauth2/authorize", resource_metadata="https://ELSEWHERE/", client_id="00000003-0000-0000-c000-000000000000"`,
		}}, `{"error":{"code":"InvalidAuthenticationToken","message":"Ask https://ELSEWHERE/ for a token."}}`)},
		{name: "a 401 of the token endpoint asks for more", route: token, respond: answers(401, http.Header{"Www-Authenticate": {
			`Basic realm="https://ELSEWHERE/", Negotiate`,
		}}, `{"error":"invalid_client","error_description":"AADSTS7000215: See https://ELSEWHERE/"}`)},
		{name: "a 407 of the API itself", route: alerts, respond: answers(407, http.Header{"Proxy-Authenticate": {`Basic realm="https://ELSEWHERE/"`}}, "{}")},
		{name: "a 305 of the API", route: alerts, respond: redirect(305)},
		{name: "a script for proxies in an API's place", route: alerts, respond: answers(200, http.Header{"Content-Type": {"application/x-ns-proxy-autoconfig"}}, pac)},
		{name: "a script for proxies in the token endpoint's place", route: token, respond: answers(200, http.Header{"Content-Type": {"application/x-ns-proxy-autoconfig"}}, pac)},

		{name: "a token with a Location", route: token, goesOn: true, respond: headers(map[string]string{
			"Location": "https://ELSEWHERE/", "Refresh": "0; url=https://ELSEWHERE/",
		})},
		{name: "alerts with headers that lead elsewhere", route: alerts, goesOn: true, respond: headers(map[string]string{
			"Location": "https://ELSEWHERE/", "Content-Location": "https://ELSEWHERE/", "Refresh": "0; url=https://ELSEWHERE/",
			"Link": `<https://ELSEWHERE/>; rel="next"`, "Alt-Svc": `h2="ELSEWHERE"; ma=86400, http/1.1="ELSEWHERE"`,
			"Set-Cookie": "Domain=localhost; led=elsewhere", "Operation-Location": "https://ELSEWHERE/",
		})},
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		text := http.StatusText(status)
		rows = append(rows, leading{name: "the token endpoint redirects: " + text, route: token, respond: redirect(status)},
			leading{name: "alerts redirect: " + text, route: alerts, respond: redirect(status)})
	}
	return rows
}

// Whatever Microsoft's side answers, nothing is sent to another origin, also not to one that the service may call and trusts: not by
// collecting, and not by a test of the links.
//
//nolint:paralleltest // What is in the environment is for all.
func TestNoAnswerLeadsElsewhere(t *testing.T) {
	for _, row := range leadings() {
		t.Run(row.name, func(t *testing.T) {
			var settings []setting
			if row.clear {
				settings = append(settings, inClear)
			} else {
				t.Parallel()
			}
			h := newHouse(t, settings...)
			integration := h.settings("led")
			if row.change != nil {
				row.change(h, integration)
			}
			h.microsoft.Inject(defendertest.Fault{Route: row.route, Times: -1, Respond: row.respond(h, h.witness.addr())})
			h.register(integration)
			switch {
			case row.devices:
				s := h.open(h.following("led"))
				s.next("the failure of the look-up", func(event *integrationv1.StreamAlertsResponse) bool {
					return event.GetActors().GetProblem() != nil
				})
			case row.goesOn:
				h.waitCollected("led")
				h.waitPolls(2)
			default:
				h.waitFailing("led")
			}
			healthy := integrationv1.ConnectivityTest_HEALTH_HEALTHY
			if test := h.test("led"); !row.goesOn && !strings.HasPrefix(row.name, "a next link") && test.GetHealth() == healthy {
				t.Errorf("the test finds nothing wrong: %v", test)
			}
			if len(h.microsoft.Calls(func(c defendertest.Call) bool { return c.Faulty && c.Status != 0 })) == 0 {
				t.Error("Microsoft never led elsewhere")
			}
			h.witness.wantSilence(t)
		})
	}
}
