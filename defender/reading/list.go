package reading

import (
	"context"
	"net/url"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/rest"
)

// List is a list of alerts that OData's options ask for, such as Graph's alerts_v2. Its fields are not changed once it is in use,
// and it is then safe for concurrent use.
type List struct {
	// Client calls the list, which its name names, and URL is where.
	Client *rest.Client
	URL    *url.URL
	// NewDecoder returns a decoder for one read.
	NewDecoder func() Decoder
	// Updated and Created are the properties of the last update and of the creation.
	Updated, Created string
	// Expand is what is asked for besides; it may be empty.
	Expand string
	// PageSize is how many elements are asked for at once, MaxSkip how many may be passed over.
	PageSize, MaxSkip int
	// TopIsTotal says that $top bounds what all linked pages have together, and not each of them.
	TopIsTotal bool
	// NotFoundIsEmpty is that of [Elements].
	NotFoundIsEmpty bool

	// failing is what reads found that Microsoft fails on.
	failing Failing
}

// Read reads everything with a last update at or after since; see [defender.AlertSource].
//
// It pages by moving the time boundary to the last element's, inclusively, and leaves out what it gave already; so nothing is
// lost when alerts change while it reads. Where an answer has a next link, that is followed instead; when an alert turns out to
// have changed meanwhile, which may have shifted others past the link, the pages are read again by time. An instant that fills
// a page is split by creation time. A page that is not in the order of last updates, and has neither end nor link, fails the read.
//
// Where Microsoft fails on a page, it is asked for in smaller ones. What fails by itself is passed over: the alert, where what is behind
// it in the list can still be asked for, and else a range of last updates that is found by halving. All else is read, and the error
// then tells what may be missing; see [Narrowing]. The next reads ask for such a range apart, in halves, so that it shrinks to what fails.
func (l *List) Read(ctx context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	r := l.newReading(ctx, known, yield)
	since = since.UTC().Truncate(Tick)
	err := r.Finish(&l.failing, since, r.everything(since))
	return r.Result(), err
}

// Probe reads one page of at most one alert and returns what the read found out: that alerts can be read. since bounds the
// last update from below. An empty answer is a good one.
func (l *List) Probe(ctx context.Context, since time.Time) (defender.Probed, error) {
	r := l.newReading(ctx, nil, func(*defender.Element) error { return nil })
	_, err := r.page(query{since: since.UTC().Truncate(Tick)}, 1)
	return r.Probed(), err
}
