// Package defendertest is a simulated Microsoft: a real HTTP or HTTPS server that plays Entra's token endpoints, Graph's security
// alerts and its advanced hunting, Defender for Endpoint's lists of alerts and of machines, and the legacy SIEM API, the alert
// exporter, with their checks, limits, refusals and oddities. One listener plays all hosts; the path says which, and for `/api/alerts`,
// which two of them have, the query options and the token.
//
// A test makes a [Server], adds a [Tenant] with applications, devices and alerts, and points the adapter at [Server.URL]. It
// scripts when alerts appear, change or become visible late, moves the server's [Clock], and injects a [Fault]. Afterwards the
// record tells what was held and what was served ([Tenant.Revisions], [Server.Calls]): from it a test works out what must have
// been delivered, without asking the side under test. One script serves all APIs: each shows the same alerts and devices in its own
// shape, and the record has the bytes of each ([Revision.Elements]).
//
// What is not played is refused as the real one refuses what it does not know, so that a caller cannot come to rely on it.
//
// # Adding an API
//
// One file for each API: its handler, its limits, and a line in the table of routes (route.go). A handler takes an exchange and
// returns an [Answer]; tokens, roles, limits, faults, the record, request ids and the Date header are the table's business. An API
// of alerts has its bytes of a revision made when they are first asked for, and its [Resource] names it in the record.
//
// # Where the facts are from
//
// Each file names the pages of Microsoft's documentation it follows. Where those are silent, the behaviour is what users of the
// API observed; the comment says so.
package defendertest
