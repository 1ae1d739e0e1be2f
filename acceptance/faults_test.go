package acceptance_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// faultsAtOnce is how many rows run side by side: most of their time they wait.
const faultsAtOnce = 10

// TestFaults makes the simulated Microsoft fail in every way that it can, each beside a service of its own, with a stream of everything
// and one for two Actors open throughout, while alerts appear and change; and compares what the streams got with the simulated side's
// record. With docs/faults.md it compares what came of it, or writes that: see writeMatrix.
func TestFaults(t *testing.T) {
	t.Parallel()
	program, rows := service(t), faultRows()
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = matrixRow{Fault: row.fault, Where: row.where}.name()
	}
	m := newMatrix("microsoft", names)
	var running sync.WaitGroup
	places := make(chan struct{}, faultsAtOnce)
	for i, row := range rows {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			t.Run(names[i], func(t *testing.T) { m.add(t, row.run(t, program)) })
		})
	}
	running.Wait()
	m.settle(t)
}

// What is told.
var (
	failing = func(reason integrationv1.ErrorReason) telling {
		return telling{reason: reason, state: integrationv1.IntegrationStatus_STATE_FAILING}
	}
	throttled = telling{reason: integrationv1.ErrorReason_ERROR_REASON_THROTTLED, state: integrationv1.IntegrationStatus_STATE_THROTTLED, untilWhen: true}

	unreachable = failing(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_UNREACHABLE)
	failed      = failing(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED)
	// What comes after an answer's end is dropped, or begins the next answer, which is no HTTP then.
	surplus = telling{reason: failed.reason, also: unreachable.reason, state: failed.state}
	invalid = failing(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INVALID_ANSWER)
	refused = failing(integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_REFUSED)
	noToken = failing(integrationv1.ErrorReason_ERROR_REASON_AUTHENTICATION_FAILED)
	noRole  = failing(integrationv1.ErrorReason_ERROR_REASON_PERMISSION_MISSING)
	nothing = telling{}
)

// devicesFail is what is told where only the devices cannot be looked up: alerts are collected, and the state says so.
func devicesFail(t telling) telling {
	return telling{reason: t.reason, state: integrationv1.IntegrationStatus_STATE_ACTIVE}
}

// The routes, as the page names them.
var routeNames = map[string]string{
	defendertest.RouteAlerts: "alerts", defendertest.RouteToken: "tokens", defendertest.RouteMachines: "machines",
}

// injected is a row of a fault that a responder makes, on every request of a route until its end. Where it is about tokens, those that
// are there are revoked first, so that new ones are asked for.
func injected(fault, route string, tells telling, respond func(*faultRun) defendertest.Responder) faultRow {
	return faultRow{
		fault: fault, where: routeNames[route], route: route, meets: 2, tells: tells,
		begin: func(r *faultRun) func() {
			remove := r.microsoft.Inject(defendertest.Fault{Route: route, Times: -1, Respond: respond(r)})
			if route == defendertest.RouteToken {
				r.app.RevokeTokens()
			}
			return remove
		},
	}
}

// always is a responder that needs nothing of the run.
func always(respond defendertest.Responder) func(*faultRun) defendertest.Responder {
	return func(*faultRun) defendertest.Responder { return respond }
}

// everywhere makes a row for each route, by what is told of the fault at each.
func everywhere(fault string, alerts, tokens, machines telling, respond func(*faultRun) defendertest.Responder) []faultRow {
	return []faultRow{
		injected(fault, defendertest.RouteAlerts, alerts, respond),
		injected(fault, defendertest.RouteToken, tokens, respond),
		injected(fault, defendertest.RouteMachines, machines, respond),
	}
}

// once lets a row's fault be met by one request: what hangs is not asked again before it is over.
func once(rows ...faultRow) []faultRow {
	for i := range rows {
		rows[i].meets = 1
	}
	return rows
}

// faultRows are the rows, in the page's order.
func faultRows() []faultRow {
	var rows []faultRow
	for _, group := range [][]faultRow{connectionFaults(), answerFaults(), statusFaults(), pagingFaults(), alertFaults()} {
		rows = append(rows, group...)
	}
	return rows
}

// connectionFaults are those of connections.
func connectionFaults() []faultRow {
	door := func(fault string, tells telling, door defendertest.Door, options defendertest.Options) faultRow {
		return faultRow{fault: fault, where: "connections", server: options, tells: tells, begin: func(r *faultRun) func() {
			set := func(door defendertest.Door) {
				if err := r.microsoft.SetDoor(door); err != nil {
					r.t.Error(err)
				}
			}
			// A request that is under way would be cut, which is another fault.
			r.quiet()
			set(door)
			return func() { set(defendertest.DoorOpen) }
		}}
	}
	rows := []faultRow{
		door("not accepted", nothing, defendertest.DoorFull, defendertest.Options{}),
		door("accepted, and nothing said", nothing, defendertest.DoorSilent, defendertest.Options{}),
		door("hang in the TLS handshake", nothing, defendertest.DoorSilent, defendertest.Options{TLS: true}),
		door("reset when made", unreachable, defendertest.DoorReset, defendertest.Options{}),
	}
	for _, group := range [][]faultRow{
		everywhere("delayed by 0.3 s", nothing, nothing, nothing, always(defendertest.Delay(300*time.Millisecond))),
		once(everywhere("hang before the headers", nothing, nothing, nothing, func(r *faultRun) defendertest.Responder { return defendertest.Hold(r.over) })...),
		once(everywhere("hang within the body", nothing, nothing, nothing, func(r *faultRun) defendertest.Responder { return defendertest.Pause(100, r.over) })...),
		everywhere("cut before the answer", unreachable, unreachable, devicesFail(unreachable), always(defendertest.Cut())),
		everywhere("reset before the answer", unreachable, unreachable, devicesFail(unreachable), always(defendertest.Reset(-1))),
		{injected("reset within the body", defendertest.RouteAlerts, failed, always(defendertest.Reset(100)))},
		everywhere("cut within the body", failed, unreachable, devicesFail(failed), always(defendertest.Truncate(100))),
		everywhere("truncated and ended well", failed, invalid, devicesFail(failed), always(defendertest.TruncateCleanly(100))),
	} {
		rows = append(rows, group...)
	}
	return rows
}

// answerFaults are those of what is answered with 200.
func answerFaults() []faultRow {
	respond := func(contentType, body string) func(*faultRun) defendertest.Responder {
		return always(defendertest.Respond(http.StatusOK, http.Header{"Content-Type": {contentType}}, body))
	}
	const json, page = "application/json", "<!DOCTYPE html><html><body>Sign in</body></html>"
	alerts := func(fault string, tells telling, respond defendertest.Responder) []faultRow {
		return []faultRow{injected(fault, defendertest.RouteAlerts, tells, always(respond))}
	}
	var rows []faultRow
	for _, group := range [][]faultRow{
		everywhere("no HTTP", unreachable, unreachable, devicesFail(unreachable), always(defendertest.Noise("\x16\x03\x00garbage\r\n\r\n"))),
		everywhere("garbage for a body", invalid, invalid, devicesFail(invalid), respond(json, "\x00\xff\x1f{{]garbage")),
		everywhere("JSON of another shape", invalid, invalid, devicesFail(invalid), respond(json, `{"value":{"id":"a"},"access_token":7}`)),
		everywhere("a wrong Content-Type", invalid, nothing, devicesFail(invalid), always(defendertest.Edit(func(a *defendertest.Answer) {
			a.Header.Set("Content-Type", "image/png")
			a.Spoiled = true
		}))),
		everywhere("HTML with 200", invalid, invalid, devicesFail(invalid), respond("text/html; charset=utf-8", page)),
		everywhere("a Content-Length too long", failed, unreachable, devicesFail(failed), always(defendertest.WrongLength(100))),
		alerts("a Content-Length too short", surplus, defendertest.WrongLength(-100)),
		alerts("gzip that is none", failed, defendertest.GzipLie()),
		alerts("gzip that breaks off", failed, defendertest.GzipCut(50)),
		alerts("a gzip bomb", invalid, defendertest.GzipBomb(2<<30)),
		alerts("gzip as it should be", nothing, defendertest.Gzip()),
	} {
		rows = append(rows, group...)
	}
	return rows
}

// statusFaults are those of other statuses.
func statusFaults() []faultRow {
	status := func(status int, body string) func(*faultRun) defendertest.Responder {
		return always(defendertest.Respond(status, nil, body))
	}
	throttle := func(status int, retryAfter string) func(*faultRun) defendertest.Responder {
		return always(defendertest.Throttle(status, retryAfter))
	}
	const refusal = `{"error":{"code":"Refused","message":"Simulated."}}`
	alerts := func(fault string, tells telling, respond func(*faultRun) defendertest.Responder) []faultRow {
		return []faultRow{injected(fault, defendertest.RouteAlerts, tells, respond)}
	}
	deviceThrottled := telling{reason: throttled.reason, state: integrationv1.IntegrationStatus_STATE_ACTIVE}
	var rows []faultRow
	for _, group := range [][]faultRow{
		everywhere("401", noToken, invalid, devicesFail(noToken), status(http.StatusUnauthorized, refusal)),
		{injected("401 for a wrong secret", defendertest.RouteToken, noToken, func(r *faultRun) defendertest.Responder {
			return func(context.Context, *http.Request, func() *defendertest.Answer) *defendertest.Answer {
				return r.microsoft.EntraError(http.StatusUnauthorized, "invalid_client", 7000215, "Invalid client secret provided.")
			}
		})},
		everywhere("403", noRole, invalid, devicesFail(noRole), status(http.StatusForbidden, refusal)),
		everywhere("404", refused, invalid, devicesFail(refused), status(http.StatusNotFound, "")),
		everywhere("429 with Retry-After in seconds", throttled, throttled, deviceThrottled, throttle(http.StatusTooManyRequests, "1")),
		alerts("429 with a fraction of a second", throttled, throttle(http.StatusTooManyRequests, "0.5")),
		alerts("429 with a date", throttled, func(r *faultRun) defendertest.Responder {
			const away = 2 * time.Second
			return defendertest.Throttle(http.StatusTooManyRequests, r.microsoft.Now().Add(away).UTC().Format(http.TimeFormat))
		}),
		alerts("429 with an absurd Retry-After", throttled, throttle(http.StatusTooManyRequests, "-7 fortnights")),
		alerts("429 without Retry-After", throttled, throttle(http.StatusTooManyRequests, "")),
		alerts("503 with Retry-After", throttled, throttle(http.StatusServiceUnavailable, "1")),
		alerts("504 with Retry-After", throttled, throttle(http.StatusGatewayTimeout, "1")),
		everywhere("500", failed, failed, devicesFail(failed), status(http.StatusInternalServerError, refusal)),
		alerts("503", failed, status(http.StatusServiceUnavailable, "")),
		alerts("206", invalid, always(defendertest.Edit(func(a *defendertest.Answer) { a.Status = http.StatusPartialContent }))),
		{{
			fault: "tokens revoked", where: "tokens", route: defendertest.RouteAlerts,
			begin: func(r *faultRun) func() {
				r.app.RevokeTokens()
				return r.app.RevokeTokens
			},
		}},
	} {
		rows = append(rows, group...)
	}
	return rows
}
