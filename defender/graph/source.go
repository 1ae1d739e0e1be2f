package graph

import (
	"context"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/reading"
	"defender-integration/defender/rest"
)

// What a page may hold: Microsoft cuts a larger $top to 1,000 and refuses a larger $skip than 500
// (https://learn.microsoft.com/en-us/graph/api/resources/security-error-codes).
const (
	maxTop  = 1000
	maxSkip = 500
)

// Source reads alerts over alerts_v2. It is safe for concurrent use.
type Source struct {
	list reading.List
}

var _ defender.AlertSource = (*Source)(nil)

// NewSource returns a source that calls through client, under an API version such as `v1.0`.
//
// $orderby is not documented for alerts_v2, and used by others in production; a page that comes in another order is noticed.
func NewSource(client *rest.Client, version string) *Source {
	return &Source{list: reading.List{
		Client: client, URL: client.Base().JoinPath(version, "security", "alerts_v2"),
		NewDecoder: func() reading.Decoder { return NewDecoder() },
		Updated:    propertyUpdated, Created: propertyCreated, PageSize: maxTop, MaxSkip: maxSkip,
	}}
}

// ReadAlerts reads everything with a last update at or after since, as [reading.List] does; see [defender.AlertSource].
func (s *Source) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	return s.list.Read(ctx, since, known, yield)
}

// Probe reads one page of at most one alert and returns what the read found out: that alerts can be read. since bounds the
// last update from below. An empty answer is a good one.
func (s *Source) Probe(ctx context.Context, since time.Time) (defender.Probed, error) {
	return s.list.Probe(ctx, since)
}
