package defendertest

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The names of the routes, for [Fault] and [Call].
const (
	// RouteToken is Entra's token endpoints, v2.0 and v1.
	RouteToken = "token"
	// RouteOpenID is the description of a tenant's endpoints at Entra.
	RouteOpenID = "openid-configuration"
	// RouteIdentity is a machine's managed identity endpoints.
	RouteIdentity = "managed-identity"
	// RouteAlerts is Graph's list of alerts.
	RouteAlerts = "alerts_v2"
	// RouteHunting is Graph's advanced hunting.
	RouteHunting = "hunting"
	// RouteMachines is Defender for Endpoint's list of machines.
	RouteMachines = "machines"
	// RouteEndpointAlerts is Defender for Endpoint's list of alerts.
	RouteEndpointAlerts = "alerts"
	// RouteSIEM is the alert exporter, the legacy SIEM API.
	RouteSIEM = "siem"
	// RouteUnknown is everything else.
	RouteUnknown = "unknown"
)

// route is one API call that is played.
type route struct {
	name     string
	patterns []string // of net/http's ServeMux
	// takes says which requests are this route's, where a later one has the same pattern; nil: all.
	takes func(*Server, *http.Request) bool
	// api is whose errors it answers with, and whose tokens it takes; nil: no token is needed.
	api api
	// roles are those that open it; a token needs one of them. Where there are none, it needs none.
	roles []string
	// rates are its limits. Routes of one counter are counted together; where it has no name, the route is counted alone. Calls are
	// counted for each application, or for all of the tenant's together.
	rates     func(Limits) []Rate
	counter   string
	perTenant bool
	handle    func(*Server, *exchange) *Answer
}

// endpointCounter is what Defender for Endpoint counts calls by, besides tenant and application: the destination.
const endpointCounter = "Destination"

// endpointAlertsPattern is where Defender for Endpoint has its list of alerts and the alert exporter, at another host, its detections.
const endpointAlertsPattern = "GET /api/alerts"

// routes is the table of all that is played.
func routes() []route {
	return []route{
		{
			name:     RouteToken,
			patterns: []string{"/{tenant}/oauth2/v2.0/token", "/{tenant}/oauth2/token"},
			handle:   (*Server).tokenEndpoint,
		},
		{
			name:     RouteOpenID,
			patterns: []string{"GET /{tenant}/v2.0/.well-known/openid-configuration"},
			handle:   (*Server).openIDConfiguration,
		},
		{
			name:     RouteIdentity,
			patterns: []string{"GET " + appServicePath, "GET " + metadataPath},
			handle:   (*Server).managedIdentity,
		},
		{
			name:     RouteAlerts,
			patterns: []string{"GET /v1.0/security/alerts_v2"},
			api:      graphAPI{},
			roles:    []string{RoleSecurityAlertRead, RoleSecurityAlertReadWrite, RoleSecurityIncidentRead, RoleSecurityIncidentReadWrite},
			rates:    func(l Limits) []Rate { return l.GraphAlerts },
			handle:   (*Server).listAlerts,
		},
		{
			name: RouteHunting,
			patterns: []string{
				"POST /v1.0/security/runHuntingQuery", "POST /v1.0/security/microsoft.graph.security.runHuntingQuery",
				"POST /beta/security/runHuntingQuery", "POST /beta/security/microsoft.graph.security.runHuntingQuery",
			},
			api:       huntingAPI{},
			roles:     []string{RoleThreatHuntingRead},
			rates:     func(l Limits) []Rate { return l.Hunting },
			perTenant: true,
			handle:    (*Server).runHuntingQuery,
		},
		{
			name:     RouteMachines,
			patterns: []string{"GET /api/machines", "GET /api/v1.0/machines"},
			api:      endpointAPI{},
			roles:    []string{RoleMachineRead, RoleMachineReadWrite},
			rates:    func(l Limits) []Rate { return l.Machines },
			counter:  endpointCounter,
			handle:   (*Server).listMachines,
		},
		{
			name:     RouteSIEM,
			patterns: []string{endpointAlertsPattern},
			takes:    (*Server).isForSIEM,
			api:      siemAPI{},
			rates:    func(l Limits) []Rate { return l.SIEM },
			handle:   (*Server).listDetections,
		},
		{
			name:     RouteEndpointAlerts,
			patterns: []string{endpointAlertsPattern, "GET /api/v1.0/alerts"},
			api:      endpointAPI{},
			roles:    []string{RoleAlertRead, RoleAlertReadWrite},
			rates:    func(l Limits) []Rate { return l.Machines },
			counter:  endpointCounter,
			handle:   (*Server).listEndpointAlerts,
		},
		{
			name:     RouteUnknown,
			patterns: []string{"/"},
			handle:   (*Server).unknown,
		},
	}
}

// api is one of Microsoft's data APIs, as far as its calls share it: whose tokens it takes, and how it words its refusals.
type api interface {
	resource() Resource
	badToken(x *exchange, fault tokenFault) *Answer
	forbidden(x *exchange, message string) *Answer
	throttled(x *exchange, spent Rate, wait time.Duration) *Answer
}

// exchange is one request on its way through a route.
type exchange struct {
	server    *Server
	request   *http.Request
	now       time.Time // when it came, by the server's clock
	asOf      time.Time // what the answer knows of: now, or before it where a replica lags
	requestID string
	tenant    *Tenant // the grant's; nil on routes without a token
	call      Call
}

// handler serves the table.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	byPattern := map[string][]route{}
	for _, route := range routes() {
		for _, pattern := range route.patterns {
			byPattern[pattern] = append(byPattern[pattern], route)
		}
	}
	for pattern, routes := range byPattern {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			i := slices.IndexFunc(routes, func(route route) bool { return route.takes == nil || route.takes(s, r) })
			s.serve(routes[i], w, r)
		})
	}
	return mux
}

// maxRequestBody is how large a request's body may be: a hunting query about hundreds of devices has its room.
const maxRequestBody = 1 << 20

// serve takes a request through faults, token, roles and limits to the route's handler, and records it.
func (s *Server) serve(route route, w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	r.Body = http.MaxBytesReader(w, r.Body, maxRequestBody)

	x := &exchange{server: s, request: r, now: s.clock.Now(), requestID: newGUID()}
	x.asOf = x.now
	x.call = Call{Time: x.now, Route: route.name, Method: r.Method, Path: r.URL.Path, Query: r.URL.Query()}
	fault := s.faults.take(route.name, r)
	x.call.Faulty = fault != nil
	x.call.Number = s.calls.begin(x.call)

	next := func() *Answer { return s.answer(route, x) }
	var answer *Answer
	if fault != nil {
		x.asOf = x.now.Add(-fault.Lag)
		answer = fault.Respond(ctx, r, next)
	} else {
		answer = next()
	}

	if answer != nil {
		x.call.Status = answer.Status
		x.setHeaders(w.Header(), route)
		delivered := answer.send(ctx, w)
		if delivered && answer.delivers() {
			x.tenant.markServed(answer.held, x.now)
		}
	}
	s.calls.finish(x.call)
	if answer != nil && answer.Reset {
		resetConnection(r.Context())
	}
	if answer == nil || answer.Cut {
		// This is how net/http is asked to drop a connection, of HTTP/1 and HTTP/2 alike, without a word in the log.
		panic(http.ErrAbortHandler)
	}
}

// answer is what a request is answered with when no fault has a hand in it.
func (s *Server) answer(route route, x *exchange) *Answer {
	if route.api == nil {
		return route.handle(s, x)
	}
	g, fault := s.authorize(x.request, route.api.resource())
	if fault != tokenGood {
		return route.api.badToken(x, fault)
	}
	x.tenant = g.app.tenant
	x.call.Tenant, x.call.App = x.tenant.id, g.app.id
	key := limitKey{counter: cmp.Or(route.counter, route.name), tenant: x.tenant.id, app: g.app.id}
	if route.perTenant {
		key.app = ""
	}
	if ok, spent, wait := s.limiter.take(key, route.rates(s.limits()), x.now); !ok {
		return route.api.throttled(x, spent, wait)
	}
	if len(route.roles) > 0 && !slices.ContainsFunc(route.roles, func(role string) bool { return slices.Contains(g.roles, role) }) {
		return route.api.forbidden(x, fmt.Sprintf("Missing application roles. API required roles: %s, application roles: %s.",
			strings.Join(route.roles, ","), strings.Join(g.roles, ",")))
	}
	return route.handle(s, x)
}

// setHeaders sets what every answer carries. The Date has whole seconds, as HTTP has.
func (x *exchange) setHeaders(h http.Header, route route) {
	h.Set("Date", x.server.clock.Now().Format(http.TimeFormat))
	h.Set("Cache-Control", "no-store, no-cache")
	if route.name == RouteToken || route.name == RouteOpenID {
		h.Set("X-Ms-Request-Id", x.requestID)
		return
	}
	h.Set("Request-Id", x.requestID)
	h.Set("Client-Request-Id", x.clientRequestID())
}

// clientRequestID is the caller's id of the request; the server's where it gave none.
func (x *exchange) clientRequestID() string {
	if id := x.request.Header.Get("Client-Request-Id"); id != "" {
		return id
	}
	return x.requestID
}

// link is the address of the request's own path with other query options, for a next link.
func (x *exchange) link(rawQuery string) string {
	link := url.URL{Scheme: "http", Host: x.request.Host, Path: x.request.URL.Path, RawQuery: rawQuery}
	if x.request.TLS != nil {
		link.Scheme = "https"
	}
	return link.String()
}

// unknown refuses what is not played: as Graph does below its versions, as Defender for Endpoint does below /api.
func (s *Server) unknown(x *exchange) *Answer {
	path := x.request.URL.Path
	switch {
	case strings.HasPrefix(path, "/v1.0/") || strings.HasPrefix(path, "/beta/"):
		segments := strings.Split(strings.Trim(path, "/"), "/")
		return graphError(x, http.StatusBadRequest, "BadRequest", fmt.Sprintf("Resource not found for the segment '%s'.", segments[len(segments)-1]))
	case strings.HasPrefix(path, "/api/"):
		return endpointError(x, http.StatusNotFound, "ResourceNotFound", "No HTTP resource was found that matches the request URI.")
	}
	return &Answer{Status: http.StatusNotFound, Header: http.Header{}}
}

// newGUID makes a random GUID.
func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
