package endpoint

import (
	"context"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/reading"
	"defender-integration/defender/rest"
)

// What is asked for at once. Microsoft allows a $top of 10,000, but fails on large ones with evidence. How much may be skipped is
// not documented: as much as one page could have had (https://learn.microsoft.com/en-us/defender-endpoint/api/get-alerts).
const (
	maxTop  = 1000
	maxSkip = 10_000
)

// Source reads alerts over the Defender for Endpoint API. It is safe for concurrent use.
type Source struct {
	list reading.List
}

var _ defender.AlertSource = (*Source)(nil)

// NewSource returns a source that calls through client, under an API version such as `v1.0`, or Microsoft's newest where
// version is empty.
//
// Microsoft documents neither $orderby nor the order without it. Others use $orderby in production; a page that comes in another
// order is noticed. An answer to $top has no next link, however much there is behind it; should there be links, they end where
// $top does (https://github.com/MicrosoftDocs/microsoft-365-docs/issues/8489).
func NewSource(client *rest.Client, version string) *Source {
	return &Source{list: reading.List{
		Client: client, URL: client.Base().JoinPath("api", version, "alerts"),
		NewDecoder: func() reading.Decoder { return NewDecoder() },
		Updated:    propertyUpdated, Created: propertyCreated, Expand: propertyEvidence,
		PageSize: maxTop, MaxSkip: maxSkip, TopIsTotal: true, NotFoundIsEmpty: true,
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
