package siem

import (
	"context"
	"net/url"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/reading"
	"defender-integration/defender/rest"
)

// Source reads detections. It is safe for concurrent use.
type Source struct {
	client *rest.Client
	list   *url.URL
	// failing is what reads found that Microsoft fails on.
	failing reading.Failing
}

var _ defender.AlertSource = (*Source)(nil)

// NewSource returns a source that calls through client. The API has no versions.
func NewSource(client *rest.Client) *Source {
	return &Source{client: client, list: client.Base().JoinPath("api", "alerts")}
}

// ReadAlerts reads everything that was processed at or after since, and what Microsoft tells of the second before; see
// [defender.AlertSource].
//
// One answer has all of it, and is read as it arrives. Where Microsoft fails on it, does not answer in time or breaks off, shorter
// ranges are asked for, each of which begins a little before the end of the one before it, and the last has no end. Some seconds that
// fail by themselves are passed over. All else is read, and the error then tells what may be missing; see [reading.Narrowing].
//
// Microsoft promises no order, and none is made: that would mean to hold the whole answer. Order is for revisions of one alert,
// of which an older one is dropped that comes after a newer; a detection has one revision for ever.
func (s *Source) ReadAlerts(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	r := s.newReading(ctx, known, yield)
	err := r.Finish(&s.failing, since, r.everything(since))
	return r.Result(), err
}

// Probe reads one detection at most and returns what the read found out: that detections can be read. since bounds their
// processing from below. An empty answer is a good one.
func (s *Source) Probe(ctx context.Context, since time.Time) (defender.Probed, error) {
	r := s.newReading(ctx, nil, func(*defender.Element) error { return nil })
	err := r.fetch(query{since: since, limit: 1})
	return r.Probed(), err
}
