// Package hunting reads devices from the table DeviceInfo of advanced hunting, over Microsoft Graph
// (https://learn.microsoft.com/en-us/graph/api/security-security-runhuntingquery,
// https://learn.microsoft.com/en-us/defender-xdr/advanced-hunting-deviceinfo-table).
package hunting

import (
	"context"
	"net/url"

	"defender-integration/defender"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Source reads devices. It is safe for concurrent use.
type Source struct {
	client *rest.Client
	run    *url.URL
	size   size
}

var _ defender.DeviceSource = (*Source)(nil)

// NewSource returns a source that calls through client, under an API version such as `v1.0`. Microsoft works up to three minutes on a
// query (https://learn.microsoft.com/en-us/graph/api/resources/security-api-overview): a client that does not wait as long has the query asked in
// smaller parts.
func NewSource(client *rest.Client, version string) *Source {
	return &Source{client: client, run: client.Base().JoinPath(version, "security", "runHuntingQuery")}
}

// ReadDevices reads the devices that are wanted, and those that they were merged into; see [defender.DeviceSource]. Each is given once.
// Where nothing is wanted, nothing is called, and Through is zero, as where the answer does not tell the time.
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
