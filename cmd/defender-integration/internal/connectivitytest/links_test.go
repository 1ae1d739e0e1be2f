package connectivitytest_test

import (
	"crypto/tls"
	"time"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// brokenLinks are set-ups in which the way to a host is broken: its name, the connection, or its certificate.
func brokenLinks() []setUp {
	// Names that do not resolve, of hosts that the operator allows.
	const noLogin, noAPI, noDevices = "login.contoso.invalid:443", "graph.contoso.invalid:443", "devices.contoso.invalid:443"
	yesterday, lastYear := time.Now().AddDate(0, 0, -1), time.Now().AddDate(-1, 0, 0)
	expired := hostOptions{from: lastYear, until: yesterday}
	early := hostOptions{from: time.Now().AddDate(0, 0, 1), until: time.Now().AddDate(1, 0, 0)}
	// trusted starts a host whose authority the integration trusts.
	trusted := func(w *world, options hostOptions) string {
		hostPort, authority := startHost(w.t, options)
		w.trust(authority)
		return hostPort
	}
	return []setUp{
		{
			name: "dns-login", is: "The authorization host's name does not resolve.",
			change: func(w *world) { w.loginAt(noLogin) },
			want: want{
				fails: "DNS AUTHORIZATION", seen: "the name login.contoso.invalid does not resolve",
				remedy: "Check the host's name, and this machine's DNS.", reason: unreachable,
			},
		},
		{
			name: "dns-api", is: "The API's host's name does not resolve.",
			change: func(w *world) { w.apiAt(noAPI) },
			want: want{
				fails: "DNS API", seen: "the name graph.contoso.invalid does not resolve",
				remedy: "Check the host's name, and this machine's DNS.", reason: unreachable,
			},
		},
		{
			name: "dns-devices", is: "The device source's host's name does not resolve.",
			change: func(w *world) { w.devicesAt(noDevices) },
			want: want{
				fails: "DNS DEVICE_SOURCE", seen: "the name devices.contoso.invalid does not resolve",
				remedy: "Check the host's name, and this machine's DNS.", reason: unreachable,
			},
		},
		{
			name: "dns-api-and-devices", is: "Alerts and devices are at one host, whose name does not resolve: that is one failure.",
			change: func(w *world) {
				w.apiAt(noAPI)
				w.devicesAt(noAPI)
			},
			want: want{
				fails: "DNS API", seen: "the name graph.contoso.invalid does not resolve",
				remedy: "Check the host's name, and this machine's DNS.", reason: unreachable,
			},
		},
		{
			name: "dns-fails", is: "The name servers fail, whatever name they are asked for: that is one failure.",
			change: func(w *world) {
				w.loginAt("login." + unserved + ":443")
				w.apiAt("graph." + unserved + ":443")
				w.devicesAt("devices." + unserved + ":443")
			},
			want: want{
				fails: "DNS AUTHORIZATION", seen: "the name login." + unserved + " does not resolve",
				remedy: "Check the host's name, and this machine's DNS.", reason: unreachable,
			},
		},
		{
			name: "port-login", is: "Nobody listens at the authorization host's port.",
			change: func(w *world) { w.loginAt(closedPort(w.t)) },
			want: want{
				fails: "TCP AUTHORIZATION", seen: "the host refuses the connection",
				remedy: "Check that this service's network lets it reach 127.0.0.1:", reason: unreachable,
			},
		},
		{
			name: "port-api", is: "Nobody listens at the API's port.",
			change: func(w *world) { w.apiAt(closedPort(w.t)) },
			want: want{
				fails: "TCP API", seen: "the host refuses the connection",
				remedy: "Check that this service's network lets it reach 127.0.0.1:", reason: unreachable,
			},
		},
		{
			name: "port-all", is: "Nobody listens at the port of the one host that all are at: that is one failure.",
			change: func(w *world) {
				port := closedPort(w.t)
				w.loginAt(port)
				w.apiAt(port)
				w.devicesAt(port)
			},
			want: want{
				fails: "TCP AUTHORIZATION", seen: "the host refuses the connection",
				remedy: "Check that this service's network lets it reach 127.0.0.1:", reason: unreachable,
			},
		},
		{
			name: "metadata-address", is: "The name of a host of Microsoft's resolves to the metadata service of clouds.",
			change: func(w *world) { w.settings.Endpoint = nil },
			want: want{
				fails: "TCP API", seen: "169.254.169.254", remedy: "Check the host's name and this machine's DNS.", reason: forbiddenAddr,
			},
		},
		{
			name: "wrong-host-login", is: "What answers at the authorization host is some other host, with a certificate of its own.",
			change: func(w *world) {
				hostPort, _ := startHost(w.t, hostOptions{selfSigned: true})
				w.loginAt(hostPort)
			},
			want: want{
				fails: "TLS AUTHORIZATION", seen: "the host's certificate is self-signed, by A host of Contoso's, and is not trusted",
				remedy: "check the host's name and port", reason: untrusted,
			},
		},
		{
			name: "wrong-host-api", is: "What answers at the API's host is some other host, with a certificate of an authority that nobody trusts.",
			change: func(w *world) {
				hostPort, _ := startHost(w.t, hostOptions{})
				w.apiAt(hostPort)
			},
			want: want{
				fails: "TLS API", seen: "the host's certificate is signed by Contoso's own authority, an authority that is not trusted",
				remedy: "give its authority's certificate as the integration's trust", reason: untrusted,
			},
		},
		{
			name: "web-server-login", is: "What answers at the authorization host is a web server that is trusted, with a page of HTML.",
			change: func(w *world) { w.loginAt(trusted(w, hostOptions{})) },
			want: want{
				fails: "TOKEN API", seen: "answered something else than the JSON of a token",
				remedy: "Check the authorization URL, and whether a proxy or a sign-in page answers in Entra's place.", reason: invalidAnswer,
			},
		},
		{
			name: "web-server-api", is: "What answers at the API's host is a web server that is trusted, with a page of HTML.",
			change: func(w *world) { w.apiAt(trusted(w, hostOptions{})) },
			want: want{
				fails: "ALERTS API", seen: "answered text/html where JSON is documented",
				remedy: "whether a proxy or a sign-in page answers in Microsoft's place", reason: invalidAnswer,
			},
		},
		{
			name: "certificate-expired-login", is: "The authorization host's certificate has expired.",
			change: func(w *world) { w.loginAt(trusted(w, expired)) },
			want: want{
				fails: "TLS AUTHORIZATION", seen: "the host's certificate, issued by Contoso's own authority, expired on",
				remedy: "Check this machine's clock. If it is right, the certificate must be renewed", reason: untrusted,
			},
		},
		{
			name: "certificate-expired-api", is: "The API's host's certificate has expired.",
			change: func(w *world) { w.apiAt(trusted(w, expired)) },
			want: want{
				fails: "TLS API", seen: "the host's certificate, issued by Contoso's own authority, expired on",
				remedy: "Check this machine's clock. If it is right, the certificate must be renewed", reason: untrusted,
			},
		},
		{
			name: "certificate-early", is: "The authorization host's certificate is not valid yet, or this machine's clock is behind.",
			change: func(w *world) { w.loginAt(trusted(w, early)) },
			want: want{
				fails: "TLS AUTHORIZATION", seen: "is not valid before", remedy: "Check this machine's clock.", reason: untrusted,
			},
		},
		{
			name: "certificate-of-another", is: "The API's host's certificate is for another name.",
			change: func(w *world) { w.apiAt(trusted(w, hostOptions{name: "intranet.contoso.test"})) },
			want: want{
				fails: "TLS API", seen: "is for intranet.contoso.test, not for 127.0.0.1", remedy: "Check the host's name and port", reason: untrusted,
			},
		},
		{
			name: "certificate-expires-soon", is: "The API's host's certificate expires in three days.",
			change: func(w *world) {
				w.apiAt(trusted(w, hostOptions{handler: w.before(), from: yesterday, until: time.Now().AddDate(0, 0, 3)}))
			},
			want: want{
				warns: []string{"TLS API"}, seen: "verifies and is good until", remedy: "about to expire", reason: untrusted,
			},
		},
		{
			name: "old-tls", is: "The authorization host speaks no newer TLS than 1.1.",
			change: func(w *world) { w.loginAt(trusted(w, hostOptions{maxVersion: tls.VersionTLS11})) },
			want: want{
				fails: "TLS AUTHORIZATION", seen: "protocol version not supported", remedy: "It may speak no TLS 1.2", reason: untrusted,
			},
		},
		{
			name: "no-tls", is: "The API's port is spoken to over HTTPS, and speaks HTTP in clear.",
			change: func(w *world) { w.apiAt(w.inClear()) },
			want: want{
				fails: "TLS API", seen: "what answers does not speak TLS", remedy: "Check the protocol, the host's name and its port.", reason: untrusted,
			},
		},
		{
			name: "no-http", is: "The API's port is spoken to over HTTP in clear, and speaks HTTPS.",
			change: func(w *world) { w.settings.Endpoint.Protocol = integrationv1.Protocol_PROTOCOL_HTTP },
			want: want{
				fails: "ALERTS API", seen: "refused the call (HTTP status 400)", remedy: "Check the endpoint's", reason: refused,
			},
		},
	}
}
