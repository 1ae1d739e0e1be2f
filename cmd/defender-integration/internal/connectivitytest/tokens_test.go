package connectivitytest_test

import (
	"context"
	"net/http"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// entraSays has Entra refuse with a code and its words, to which it adds ids and the time.
func (w *world) entraSays(status int, standard string, code int, words string) {
	w.inject(defendertest.RouteToken, func(context.Context, *http.Request, func() *defendertest.Answer) *defendertest.Answer {
		return w.microsoft.EntraError(status, standard, code, words)
	})
}

// brokenTokens are set-ups in which Entra gives no token. It is asked twice, for alerts and for devices, and refuses both for one cause.
func brokenTokens() []setUp {
	const fails = "TOKEN API"
	return []setUp{
		{
			name: "wrong-tenant", is: "The tenant's id is wrong.",
			change: func(w *world) {
				w.settings.Authentication.AuthorizationUrl = w.microsoft.TokenURL("99999999-0000-4000-8000-000000000000")
			},
			want: want{
				fails: fails, seen: "Entra gave no token: there is no such tenant in this cloud",
				remedy: "Check the tenant id, and that the integration's cloud is the tenant's.", reason: notAuthentic, code: "AADSTS90002",
			},
		},
		{
			name: "wrong-client", is: "The application's id is wrong.",
			change: func(w *world) { w.settings.Authentication.ClientId = "99999999-0000-4000-8000-111111111111" },
			want: want{
				fails: fails, seen: "Entra gave no token: the tenant does not know the application",
				remedy: "Check the application (client) id and the tenant id.", reason: notAuthentic, code: "AADSTS700016",
			},
		},
		{
			name: "client-disabled", is: "The application is disabled in the tenant.",
			change: func(w *world) { w.app.SetDisabled(true) },
			want: want{
				fails: fails, seen: "the application is disabled in the tenant", remedy: "enable it for sign-in", reason: notAuthentic, code: "AADSTS7000112",
			},
		},
		{
			name: "secret-wrong", is: "The client secret is wrong: it is the secret's id.",
			change: func(w *world) { w.setSecret("88888888-0000-4000-8000-000000000000") },
			want: want{
				fails: fails, seen: "Entra gave no token: the client secret is wrong", remedy: "Give the secret's Value, not its Secret ID.",
				reason: notAuthentic, code: "AADSTS7000215",
			},
		},
		{
			name: "secret-expired", is: "The client secret has expired.",
			change: func(w *world) {
				w.app.RemoveSecret(plantedSecret)
				w.app.AddSecret(plantedSecret, time.Now().AddDate(0, 0, -1))
			},
			want: want{
				fails: fails, seen: "Entra gave no token: the client secret has expired", remedy: "make a new secret, then update the integration",
				reason: notAuthentic, code: "AADSTS7000222",
			},
		},
		{
			name: "client-certificate-unknown", is: "The client certificate is not one of the application's.",
			change: func(w *world) { w.setCertificate(w.certificate(certificateOptions{unregistered: true})) },
			want: want{
				fails: fails, seen: "the certificate is not one of the application's", remedy: "upload the certificate (without its private key)",
				reason: notAuthentic, code: "AADSTS700027",
			},
		},
		{
			name: "client-certificate-clock", is: "This machine's clock is half an hour ahead, so that what the certificate signs is not valid yet.",
			change: func(w *world) {
				w.setCertificate(w.certificate(certificateOptions{}))
				w.microsoft.SetClockOffset(-30 * time.Minute)
			},
			want: want{
				fails: fails, seen: "the assertion is not within its time", remedy: "Check this machine's clock.", reason: notAuthentic, code: "AADSTS700024",
			},
		},
		{
			name: "workload-identity-subject", is: "The federated token is of another service account than the application trusts.",
			change: func(w *world) {
				w.app.AddFederatedCredential(cluster(w.t), serviceAccount)
				w.setTokenFile(w.file("token", w.federatedToken("system:serviceaccount:default:default", time.Hour)))
			},
			want: want{
				fails: fails, seen: "none of the application's federated credentials has the federated token's subject",
				remedy: "under Federated credentials, compare issuer, subject and audience", reason: notAuthentic, code: "AADSTS700213",
			},
		},
		{
			name: "managed-identity-not-assigned", is: "The machine has no such user-assigned managed identity.",
			change: func(w *world) {
				w.onMachine()
				w.assigned("77777777-8888-4999-aaaa-cccccccccccc")
			},
			want: want{
				fails: fails, seen: "is not assigned to the Azure resource that this service runs on", remedy: "assign the user-assigned one", reason: notAuthentic,
			},
		},
		{
			name: "scope-wrong", is: "The scope is no scope of an application: /.default is missing.",
			change: func(w *world) { w.settings.Authentication.Scope = "https://graph.microsoft.com/SecurityAlert.Read.All" },
			want: want{
				fails: fails, seen: "the scope is not one that an application can ask for", remedy: "Give the scope as the API's root and /.default",
				reason: notAuthentic, code: "AADSTS1002012",
			},
		},
		{
			name: "scope-unknown", is: "The scope names a resource that there is none of.",
			change: func(w *world) { w.settings.Authentication.Scope = "https://graph.contoso.test/.default" },
			want: want{
				fails: fails, seen: "the resource that the scope names is not known in the tenant", remedy: "Check the scope and the tenant.",
				reason: notAuthentic, code: "AADSTS500011",
			},
		},
		{
			name: "wrong-cloud", is: "The tenant is in another national cloud.",
			change: func(w *world) {
				w.entraSays(400, "invalid_request", 900382, "Confidential Client is not supported in Cross Cloud request.")
			},
			want: want{
				fails: fails, seen: "the tenant is in another national cloud", remedy: "Register the integration with the tenant's cloud.",
				reason: notAuthentic, code: "AADSTS900382",
			},
		},
		{
			name: "no-subscription", is: "The tenant has no licence of Defender's.",
			change: func(w *world) {
				w.entraSays(400, "invalid_client", 650052, "The app needs access to a service ('https://api.securitycenter.microsoft.com') that your organization has not subscribed to or enabled. Contact your IT Admin to review the configuration of your service subscriptions.")
			},
			want: want{
				fails: fails, seen: "the tenant has no subscription to the service that the scope names", remedy: "Check the tenant's Defender licence",
				reason: notAuthentic, code: "AADSTS650052",
			},
		},
		{
			name: "conditional-access", is: "A Conditional Access policy blocks the application.",
			change: func(w *world) {
				w.entraSays(400, "invalid_grant", 53003, "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.")
			},
			want: want{
				fails: fails, seen: "a Conditional Access policy blocks the application", remedy: "allow this service's address",
				reason: notAuthentic, code: "AADSTS53003",
			},
		},
		{
			name: "no-consent-at-entra", is: "Entra refuses since nobody has consented to the application.",
			change: func(w *world) {
				w.entraSays(400, "invalid_grant", 65001, "The user or administrator has not consented to use the application with ID '"+clientID+"' named 'Defender integration'. Send an interactive authorization request for this user and resource.")
			},
			want: want{
				fails: fails, seen: "an administrator has not consented to the application's permissions", remedy: "grant admin consent",
				reason: notAuthentic, code: "AADSTS65001",
			},
		},
		{
			name: "entra-throttles", is: "Entra asks to be called less often.",
			change: func(w *world) {
				w.inject(defendertest.RouteToken, defendertest.Respond(429, http.Header{"Retry-After": {"30"}}, `{"error":"temporarily_unavailable"}`))
			},
			want: want{
				fails: fails, seen: "Entra asked to be called less often.", remedy: "look for other programs that ask for tokens with the same application",
				reason: throttled, code: "temporarily_unavailable",
			},
		},
		{
			name: "entra-fails", is: "Entra fails.",
			change: func(w *world) {
				w.entraSays(503, "temporarily_unavailable", 90033, "A transient error has occurred. Please try again.")
			},
			want: want{
				fails: fails, seen: "Entra gave no token: it failed (HTTP status 503)", remedy: "Test again in a while. If it stays, look at Microsoft's service health",
				reason: upstreamFails, code: "AADSTS90033",
			},
		},
		{
			name: "entra-redirects", is: "What answers in Entra's place redirects to a page to sign in at.",
			change: func(w *world) {
				w.inject(defendertest.RouteToken, defendertest.Respond(302, http.Header{"Location": {"https://signin.contoso.test/"}}, ""))
			},
			want: want{
				fails: fails, seen: "answered with a redirect (HTTP status 302), which is not followed", remedy: "Check the authorization URL.",
				reason: invalidAnswer,
			},
		},
		{
			name: "devices-not-provisioned", is: "The tenant has no Defender for Endpoint: Entra does not know its API.",
			change: func(w *world) { w.tenant.RemoveResource(defendertest.DefenderForEndpoint) },
			want: want{
				fails: "TOKEN DEVICE_SOURCE", seen: "the resource that the scope names is not known in the tenant",
				remedy: "the tenant has no Defender, or it was never set up", reason: notAuthentic, code: "AADSTS500011",
			},
		},
		{
			name: "resource-at-v2", is: "A resource is given with a v2.0 token endpoint, which takes a scope.",
			change: func(w *world) {
				w.settings.Authentication.Resource = "https://graph.microsoft.com"
				w.settings.Api = integrationv1.Api_API_GRAPH_SECURITY
			},
			want: want{
				fails: fails, seen: "a resource was sent to the v2.0 token endpoint, which takes a scope", remedy: "Give authentication.scope in place of the resource",
				reason: notAuthentic, code: "AADSTS901002",
			},
		},
	}
}
