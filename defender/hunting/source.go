// Package hunting asks advanced hunting over Microsoft Graph
// (https://learn.microsoft.com/en-us/graph/api/security-security-runhuntingquery): for devices, of which the table DeviceInfo tells
// (https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceinfo-table), and for the traces of attacks in the tables of
// events (see eventTables).
package hunting

import (
	"context"
	"net/url"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Source reads devices and finds traces. It is safe for concurrent use.
type Source struct {
	client *rest.Client
	run    *url.URL
	// size is of look-ups of devices, traceSize of searches for traces.
	size, traceSize size
	// lacking are the tables of events that the tenant does not have.
	lacking lacking
}

var _ defender.DeviceSource = (*Source)(nil)

// NewSource returns a source that calls through client, under an API version such as `v1.0`. Microsoft works up to three minutes on a
// query (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview): a client that does not wait as long has the query asked in
// smaller parts.
func NewSource(client *rest.Client, version string) *Source {
	return &Source{client: client, run: client.Base().JoinPath(version, "security", "runHuntingQuery")}
}

// ReadDevices reads the devices that are wanted, and those that they were merged into; see [defender.DeviceSource]. Each is given once.
// Where nothing is wanted, nothing is called, and Through and Asked are zero, as where the answer does not tell the time.
//
// One query asks for all that is wanted: one call for a thousand Actors. What Microsoft finds too much is asked for in halves, for an
// hour.
// Of the addresses of a device with several network adapters, only those of the adapter that was reported last are told.
//
// Advanced hunting knows the last 30 days: a device without a row was not seen in them, which does not say that Defender never
// knew it. A value that no device can have (see quote.go) is left out, and finds none.
func (s *Source) ReadDevices(ctx context.Context, wanted defender.Wanted, yield func(*integrationv1.Device) error) (defender.Read, error) {
	r := s.newReading(ctx, yield)
	err := r.everything(valuesOf(wanted))
	return r.result, err
}

// Probe reads at most one device that was seen in the last day, whichever: that devices can be read. An empty answer is a good one.
func (s *Source) Probe(ctx context.Context) (defender.Probed, error) {
	r := s.newReading(ctx, func(*integrationv1.Device) error { return nil })
	err := r.ask(probeQuery)
	return defender.Probed{Elements: int(r.result.Elements), Date: r.date, Received: r.received, RoundTrip: r.roundTrip}, err
}

// Permission runs a query that needs no table: that the application may hunt at all. A tenant without Defender for Endpoint
// permits that too, but refuses [Source.Probe], for it has no DeviceInfo.
func (s *Source) Permission(ctx context.Context) error {
	return s.newReading(ctx, func(*integrationv1.Device) error { return nil }).ask(permissionQuery)
}

// ProbeTables asks each of the tables of events for one row of the last hour, whichever: that they can be read. It returns those that the
// tenant does not have, which take one call more each. An empty answer is a good one.
func (s *Source) ProbeTables(ctx context.Context) (missing []string, err error) {
	h := s.newHunt(ctx)
	h.tables, h.lacking = eventTables(), nil
	for {
		_, err := s.ask(ctx, probeTablesQuery(h.tables), ofTraces(), func([]byte, time.Time) error { return nil })
		if !h.lacks(err) || len(h.tables) == 0 {
			return h.lacking, err
		}
	}
}
