package connectivitytest_test

import (
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// healthySetUps are those in which nothing is broken: each API, each kind of credential, and each way out.
func healthySetUps() []setUp {
	return []setUp{
		{name: "healthy-graph", is: "Microsoft Graph's alerts, with devices of Defender for Endpoint."},
		{
			name: "healthy-graph-hunting", is: "Microsoft Graph's alerts, with devices of advanced hunting.",
			change: func(w *world) {
				w.app.SetRoles(defendertest.RoleSecurityAlertRead, defendertest.RoleThreatHuntingRead)
				w.settings.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_HUNTING}
				w.tenant.AddDevice(defendertest.Device{DNSName: "ws-1.contoso.test"})
			},
		},
		{
			name: "healthy-graph-alone", is: "Microsoft Graph's alerts, without devices.",
			change: func(w *world) {
				w.app.SetRoles(defendertest.RoleSecurityAlertRead, defendertest.RoleThreatHuntingRead)
				w.noDevices()
				w.tenant.AddAlert(defendertest.Alert{})
			},
		},
		{
			name: "healthy-endpoint", is: "Defender for Endpoint's alerts and devices.",
			change: func(w *world) {
				w.app.SetRoles(defendertest.RoleAlertRead, defendertest.RoleMachineRead)
				w.settings.Api = integrationv1.Api_API_DEFENDER_FOR_ENDPOINT
			},
			want: want{
				warns: []string{"LIFECYCLE API"}, seen: "Microsoft retires the Defender for Endpoint API on 1 February 2027",
				remedy: "Register the tenant with API_GRAPH_SECURITY in time", reason: retiring,
			},
		},
		{
			name: "healthy-siem", is: "The legacy SIEM API, with a token of the v1 token endpoint.",
			change: (*world).siem,
			want: want{
				warns: []string{"LIFECYCLE API"}, seen: "An empty answer of it proves nothing.",
				remedy: "Register the tenant with API_GRAPH_SECURITY in time", reason: retiring,
			},
		},
		{
			name: "healthy-names", is: "Hosts that are found by name.",
			change: func(w *world) {
				w.loginAt(w.under(namedLogin))
				w.apiAt(w.under(namedAPI))
			},
		},
		{
			name: "healthy-in-clear", is: "A simulated Microsoft that is spoken to in clear.",
			change: func(w *world) { w.use(defendertest.Options{}, w.tenant.ID()) },
		},

		{
			name: "healthy-secret-file", is: "A client secret in a file.",
			change: func(w *world) { w.setSecretFile(w.file("client-secret", plantedSecret+"\n")) },
		},
		{
			name: "healthy-certificate", is: "A certificate with its private key.",
			change: func(w *world) { w.setCertificate(w.certificate(certificateOptions{})) },
		},
		{
			name: "healthy-certificate-file", is: "A certificate with its private key, in a file.",
			change: func(w *world) { w.setCertificateFile(w.file("client.pem", w.certificate(certificateOptions{}))) },
		},
		{
			name: "healthy-secret-variable", is: "A client secret, in an environment variable that the service's operator lists.",
			change: func(w *world) { w.setSecretVariable(w.variable("SECRET", plantedSecret+"\n")) },
		},
		{
			name: "healthy-certificate-variable", is: "A certificate with its private key, in an environment variable.",
			change: func(w *world) {
				w.settings.Authentication.Credential = &integrationv1.Authentication_ClientCertificate{ClientCertificate: &integrationv1.ClientCertificate{
					EnvVariable: w.variable("CERTIFICATE", w.certificate(certificateOptions{})),
				}}
			},
		},
		{
			name: "healthy-workload-identity", is: "A token of a Kubernetes cluster that the application trusts.",
			change: func(w *world) {
				w.app.AddFederatedCredential(cluster(w.t), serviceAccount)
				w.setTokenFile(w.file("token", w.federatedToken(serviceAccount, time.Hour)))
			},
		},
		{
			name: "healthy-managed-identity", is: "The system-assigned managed identity of the machine.",
			change: func(w *world) {
				w.onMachine()
				w.settings.Authentication = &integrationv1.Authentication{Credential: &integrationv1.Authentication_ManagedIdentity{
					ManagedIdentity: &integrationv1.ManagedIdentity{},
				}}
				w.app.SetManagedIdentity()
			},
		},
		{
			name: "healthy-managed-identity-assigned", is: "A user-assigned managed identity of the machine.",
			change: func(w *world) {
				w.onMachine()
				w.assigned(assignedID).AssignToMachine()
			},
		},

		{
			name: "healthy-trust-of-the-operator", is: "The hosts' authority is one that the service's operator trusts.",
			change: func(w *world) { w.operatorTrusts, w.trusted = w.trusted, nil },
		},
		{name: "healthy-proxy-http", is: "Through an HTTP proxy of the integration's.", change: func(w *world) { w.throughProxy(defendertest.ProxyOptions{}) }},
		{
			name: "healthy-proxy-https", is: "Through an https:// proxy, whose authority the integration trusts.",
			change: func(w *world) {
				w.trust(w.throughProxy(defendertest.ProxyOptions{Kind: defendertest.ProxyHTTPS}).CAPEM())
			},
		},
		{
			name: "healthy-proxy-socks", is: "Through a SOCKS proxy with a password.",
			change: func(w *world) {
				w.throughProxy(withPassword(defendertest.ProxySOCKS5))
				w.settings.Proxy.Username, w.settings.Proxy.Password = "contoso", plantedPassword
			},
		},
		{
			name: "healthy-proxy-password-file", is: "Through an HTTP proxy with its password in a file.",
			change: func(w *world) {
				w.throughProxy(withPassword(defendertest.ProxyHTTP))
				w.settings.Proxy.Username, w.settings.Proxy.PasswordFile = "contoso", w.file("proxy-password", plantedPassword)
			},
		},
		{
			name: "healthy-proxy-password-variable", is: "Through an HTTP proxy with its password in an environment variable.",
			change: func(w *world) {
				w.throughProxy(withPassword(defendertest.ProxyHTTP))
				w.settings.Proxy.Username, w.settings.Proxy.PasswordEnvVariable = "contoso", w.variable("PASSWORD", plantedPassword)
			},
		},
		{
			name: "healthy-proxy-inspects", is: "Through a proxy that inspects TLS, whose authority the integration trusts.",
			change: func(w *world) { w.trust(w.throughProxy(defendertest.ProxyOptions{Inspect: true}).CAPEM()) },
		},
		{
			name: "healthy-proxy-of-the-operator", is: "Through a proxy of the service's own rules.",
			change: func(w *world) { w.proxyRule(w.ownProxy(defendertest.ProxyOptions{})) },
		},
		{
			name: "healthy-proxy-exception", is: "Directly, since the integration excepts the host from its proxy, which is not there.",
			change: func(w *world) {
				w.settings.Proxy = &integrationv1.Proxy{Url: "http://proxy.contoso.invalid:8080", Exceptions: []string{"127.0.0.0/8"}}
			},
		},
	}
}

// siem has the settings be those of the legacy SIEM API.
func (w *world) siem() {
	w.settings.Api = integrationv1.Api_API_SIEM
	w.settings.DeviceSource = nil
	w.settings.Authentication.AuthorizationUrl = w.microsoft.TokenURLV1(w.tenant.ID())
}
