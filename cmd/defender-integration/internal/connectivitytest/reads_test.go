package connectivitytest_test

import (
	"net/http"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// brokenRoles are set-ups in which the token has not the roles that are needed, or more.
func brokenRoles() []setUp {
	return []setUp{
		{
			name: "no-consent", is: "Nobody has consented to any of the application's permissions.",
			change: func(w *world) { w.app.SetRoles() },
			want: want{
				fails: "PERMISSIONS API", seen: "it has none at all of this API's: no administrator has consented to any",
				remedy: "add the application permission SecurityAlert.Read.All of Microsoft Graph", reason: noPermission,
				// The two permissions are granted one by one.
				alsoFails: []string{"PERMISSIONS DEVICE_SOURCE"},
			},
		},
		{
			name: "no-role-for-alerts", is: "The role for alerts is missing.",
			change: func(w *world) { w.app.SetRoles(defendertest.RoleMachineRead, defendertest.RoleThreatHuntingRead) },
			want: want{
				fails: "PERMISSIONS API", seen: "it has ThreatHunting.Read.All", remedy: "add the application permission SecurityAlert.Read.All of Microsoft Graph",
				reason: noPermission,
			},
		},
		{
			name: "no-role-for-devices", is: "The role for devices is missing.",
			change: func(w *world) {
				w.app.SetRoles(defendertest.RoleSecurityAlertRead, defendertest.RoleThreatHuntingRead)
			},
			want: want{
				fails: "PERMISSIONS DEVICE_SOURCE", seen: "none of the roles that are needed",
				remedy: "add the application permission Machine.Read.All of WindowsDefenderATP", reason: noPermission,
			},
		},
		{
			name: "no-role-for-hunting", is: "Devices are looked up by advanced hunting, and its role is missing.",
			change: func(w *world) {
				w.app.SetRoles(defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead)
				w.settings.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_HUNTING}
			},
			want: want{
				fails: "PERMISSIONS DEVICE_SOURCE", seen: "it has SecurityAlert.Read.All", remedy: "ThreatHunting.Read.All of Microsoft Graph", reason: noPermission,
				warns: []string{telemetry},
			},
		},
		{
			name: "no-role-for-telemetry", is: "The role for telemetry is missing, which is needed for what raises no alert alone.",
			change: func(w *world) { w.app.SetRoles(defendertest.RoleSecurityAlertRead, defendertest.RoleMachineRead) },
			want: want{
				warns: []string{telemetry}, seen: "lacks the permission for Microsoft Graph's advanced hunting", remedy: "Until then verdicts rest on alerts alone",
				reason: noPermission, code: "Forbidden",
			},
		},
		{
			name: "role-that-can-write", is: "The application may change alerts, which it need not.",
			change: func(w *world) {
				w.app.SetRoles(defendertest.RoleSecurityAlertReadWrite, defendertest.RoleMachineRead, defendertest.RoleThreatHuntingRead)
			},
			want: want{
				warns: []string{"PERMISSIONS API"}, seen: "which can change things: more than is needed", remedy: "Grant SecurityAlert.Read.All, and take",
				reason: mayWrite,
			},
		},
		{
			name: "scope-of-another-api", is: "The scope is that of Defender for Endpoint, and alerts are read at Microsoft Graph.",
			change: func(w *world) { w.settings.Authentication.Scope = "https://api.securitycenter.microsoft.com/.default" },
			want: want{
				fails: "PERMISSIONS API", seen: "it has Machine.Read.All", remedy: "where https://graph.microsoft.com/.default is the default: leave it out", reason: noPermission,
			},
		},
	}
}

// brokenReads are set-ups in which there is a token, and reading with it fails, or says what an operator should know.
func brokenReads() []setUp {
	const alerts, devices = "ALERTS API", "DEVICES DEVICE_SOURCE"
	answers := func(route string, status int, body string) func(*world) {
		return func(w *world) { w.inject(route, defendertest.Respond(status, nil, body)) }
	}
	return []setUp{
		{
			name: "alerts-forbidden", is: "The token has the role, and Microsoft Graph answers 403 all the same.",
			change: answers(defendertest.RouteAlerts, 403, `{"error":{"code":"Forbidden","message":"The application does not have any of the required delegated permissions."}}`),
			want: want{
				fails: alerts, seen: "The token lacks the permission for Microsoft Graph's list of alerts", remedy: "grant admin consent again",
				reason: noPermission, code: "Forbidden",
			},
		},
		{
			name: "siem-not-authorised", is: "The application is not authorised for the SIEM API.",
			change: func(w *world) {
				w.siem()
				w.inject(defendertest.RouteSIEM, defendertest.Respond(403, nil, ""))
			},
			want: want{
				fails: alerts, seen: "The SIEM API does not let the application in.", remedy: "under Settings > Endpoints > APIs > SIEM", reason: noPermission,
				warns: []string{"LIFECYCLE API"},
			},
		},
		{
			name: "siem-resource-wrong", is: "The SIEM API's token is asked for Microsoft Graph.",
			change: func(w *world) {
				w.siem()
				w.settings.Authentication.Resource = "https://graph.microsoft.com"
			},
			want: want{
				fails: alerts, seen: "refused the token, and a new one as well",
				remedy: "authentication.resource is https://graph.microsoft.com, where https://graph.windows.net is the default: leave it out",
				reason: notAuthentic,
				warns:  []string{"LIFECYCLE API"},
			},
		},
		{
			name: "unlicensed", is: "The tenant's Defender for Endpoint is not active.",
			change: answers(defendertest.RouteMachines, 403, `{"error":{"code":"Forbidden","message":"Unauthorized request - Account is not provisioned.","target":""}}`),
			want: want{
				fails: devices, seen: "knows no active Defender for Endpoint in this tenant", remedy: "Check that the tenant has a Defender for Endpoint licence",
				reason: notAuthentic, code: "Forbidden",
			},
		},
		{
			name: "throttled", is: "Microsoft Graph answers 429.",
			change: func(w *world) {
				w.inject(defendertest.RouteAlerts, defendertest.Respond(429, http.Header{"Retry-After": {"30"}},
					`{"error":{"code":"TooManyRequests","message":"Please retry again later."}}`))
			},
			want: want{
				fails: alerts, seen: "asked to be called less often (HTTP status 429)", remedy: "look for other programs that use the same application",
				reason: throttled, code: "TooManyRequests",
			},
		},
		{
			name: "budget-spent", is: "This service's own budget of calls is spent.", before: siemCalls,
			change: (*world).siem,
			want: want{
				fails: alerts, seen: `has spent its own budget of the limit "siem"`, remedy: "Test again in a while. If this stays, poll less often", reason: budgetSpent, warns: []string{"LIFECYCLE API"},
			},
		},
		{
			name: "alerts-fail", is: "Microsoft Graph answers 500.",
			change: answers(defendertest.RouteAlerts, 500, `{"error":{"code":"InternalServerError","message":"An error has occurred."}}`),
			want: want{
				fails: alerts, seen: "Microsoft Graph's list of alerts failed (HTTP status 500).", remedy: "Test again in a while. If it stays, look at Microsoft's service health",
				reason: upstreamFails, code: "InternalServerError",
			},
		},
		{
			name: "devices-fail", is: "Defender for Endpoint's list of machines answers 503.",
			change: answers(defendertest.RouteMachines, 503, ""),
			want: want{
				fails: devices, seen: "Defender for Endpoint's list of machines failed (HTTP status 503).", remedy: "Test again in a while. If it stays, look at Microsoft's service health",
				reason: upstreamFails,
			},
		},
		{
			name: "alerts-cut", is: "The connection breaks off before there is an answer.",
			change: func(w *world) { w.inject(defendertest.RouteAlerts, defendertest.Cut()) },
			want: want{
				fails: alerts, seen: "the connection failed", remedy: "Check that this service's network lets it reach 127.0.0.1:", reason: unreachable,
			},
		},
		{
			name: "alerts-redirect", is: "What answers in Microsoft's place redirects to a page to sign in at.",
			change: func(w *world) {
				w.inject(defendertest.RouteAlerts, defendertest.Respond(302, http.Header{"Location": {"https://signin.contoso.test/"}}, ""))
			},
			want: want{
				fails: alerts, seen: "answered with a redirect (HTTP status 302), which is not followed", remedy: "whether a proxy or a sign-in page answers",
				reason: invalidAnswer,
			},
		},
		{
			name: "alerts-no-list", is: "What answers is JSON, and no list of alerts.",
			change: answers(defendertest.RouteAlerts, 200, `{"status":"ok"}`),
			want: want{
				fails: alerts, seen: "it has no `value`", remedy: "whether a proxy changes what Microsoft answers", reason: invalidAnswer,
			},
		},
		{
			name: "version-unknown", is: "The API has no such version.",
			change: func(w *world) { w.settings.Endpoint.ApiVersion = "v9.9" },
			want: want{
				fails: alerts, seen: "is not found at", remedy: "Check the endpoint's host and version.", reason: refused,
			},
		},
		{
			name: "api-retired", is: "The SIEM API is gone, as Microsoft has announced.",
			change: func(w *world) {
				w.siem()
				w.inject(defendertest.RouteSIEM, defendertest.Respond(410, nil, ""))
			},
			want: want{
				fails: alerts, seen: "The SIEM API is no longer offered", remedy: "Ask ListEndpoints for what Microsoft still offers", reason: retired,
				warns: []string{"LIFECYCLE API"},
			},
		},
		{
			name: "hunting-without-table", is: "The tenant has no advanced hunting over devices.",
			change: func(w *world) {
				w.app.SetRoles(defendertest.RoleSecurityAlertRead, defendertest.RoleThreatHuntingRead)
				w.settings.DeviceSource = &integrationv1.DeviceSource{Kind: integrationv1.DeviceSource_KIND_HUNTING}
				w.tenant.RemoveTable("DeviceInfo")
			},
			want: want{
				fails: devices, seen: "has no table of devices in this tenant", remedy: "Defender for Endpoint Plan 2", reason: refused, code: "BadRequest",
			},
		},
		{
			name: "telemetry-without-table", is: "The tenant lacks one of the tables of telemetry.",
			change: func(w *world) { w.tenant.RemoveTable(defendertest.TableNetworkEvents) },
			want: want{
				warns: []string{telemetry}, seen: "has no table DeviceNetworkEvents; the others can be read", remedy: "rest on alerts and on the other tables",
				reason: refused,
			},
		},
		{
			name: "telemetry-fails", is: "Advanced hunting answers 504, as it does now and then.",
			change: answers(defendertest.RouteHunting, 504, `{"error":{"code":"UnknownError","message":""}}`),
			want: want{
				fails: telemetry, seen: "Microsoft Graph's advanced hunting failed (HTTP status 504).", remedy: "Test again in a while. If it stays, look at Microsoft's service health",
				reason: upstreamFails, code: "UnknownError",
			},
		},
		{
			name: "clock-behind", is: "This machine's clock is five minutes and a half behind.",
			change: func(w *world) { w.microsoft.SetClockOffset(5*time.Minute + 30*time.Second) },
			want: want{
				fails: "CLOCK", seen: "behind Microsoft's", remedy: "Synchronise this machine's clock", reason: clockSkew,
			},
		},
		{
			name: "clock-ahead", is: "This machine's clock is a minute and a half ahead.",
			change: func(w *world) { w.microsoft.SetClockOffset(-90 * time.Second) },
			want: want{
				warns: []string{"CLOCK"}, seen: "ahead of Microsoft's", remedy: "Synchronise this machine's clock", reason: clockSkew,
			},
		},
	}
}
