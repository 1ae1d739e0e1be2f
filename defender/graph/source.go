package graph

import (
	"context"
	"net/url"
	"time"

	"defender-integration/defender"
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
	client   *rest.Client
	list     *url.URL
	pageSize int
}

var _ defender.AlertSource = (*Source)(nil)

// NewSource returns a source that calls through client, under an API version such as `v1.0`.
func NewSource(client *rest.Client, version string) *Source {
	return &Source{client: client, list: client.Base().JoinPath(version, "security", "alerts_v2"), pageSize: maxTop}
}

// ReadAlerts reads everything with a last update at or after since; see [defender.AlertSource].
//
// It pages by moving the time boundary to the last element's, inclusively, and leaves out what it gave already; so nothing is
// lost when alerts change while it reads. Where an answer has a next link, that is followed instead; when an alert turns out to
// have changed meanwhile, which may have shifted others past the link, the pages are read again by time. An instant that fills
// a page is split by creation time. A page that is not in the order of last updates, and has neither end nor link, fails the read.
func (s *Source) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	r := s.newReading(ctx, known, yield)
	err := r.everything(since.UTC().Truncate(tick))
	return r.result, err
}

// Probe reads one page of at most one alert and returns what the read found out: that alerts can be read. since bounds the
// last update from below. An empty answer is a good one.
func (s *Source) Probe(ctx context.Context, since time.Time) (Probed, error) {
	r := s.newReading(ctx, nil, func(*defender.Element) error { return nil })
	r.size = 1
	p, err := r.page(query{since: since.UTC().Truncate(tick)})
	return Probed{Alerts: p.elements, Date: r.date, Received: r.received, RoundTrip: r.roundTrip}, err
}

// Probed is what a probe found out.
type Probed struct {
	// Alerts is how many alerts the answer had.
	Alerts int
	// Date is the answer's Date header, Received when it came by this machine's clock, RoundTrip how long it took.
	Date      time.Time
	Received  time.Time
	RoundTrip time.Duration
}
