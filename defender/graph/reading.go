package graph

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/page"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Bounds of one read.
const (
	// maxRounds is how often the time boundary may move, and how many links may be followed on end.
	maxRounds = 10_000
	// maxLinks is how many next links are followed on end: a million alerts in full pages.
	maxLinks = 1000
	// A page that Microsoft fails on is asked for again with a quarter of its size, so often, and never fewer.
	maxNarrowings = 2
	minSize       = 50
)

// disorderedInstant tells that $orderby is not honoured for one instant.
const disorderedInstant = "Microsoft Graph's alerts of one instant do not come in the order of their creation, so they cannot be paged."

// reading is one read under way.
type reading struct {
	ctx     context.Context //nolint:containedctx // A reading lives as long as the call that makes it.
	source  *Source
	known   defender.KnownFunc
	yield   func(*defender.Element) error
	decoder *Decoder

	result    defender.Read
	date      time.Time
	received  time.Time
	roundTrip time.Duration
	size      int
	narrowed  int
	// given has the bytes that were given already and can come again, with their last update (zero where it cannot be read).
	given map[[sha256.Size]byte]time.Time
	// keys has the alerts seen since the first page of a run of links.
	keys map[string]bool
}

func (s *Source) newReading(ctx context.Context, known defender.KnownFunc, yield func(*defender.Element) error) *reading {
	if known == nil {
		known = func([sha256.Size]byte) (defender.Known, bool) { return defender.Known{}, false }
	}
	return &reading{
		ctx: ctx, source: s, known: known, yield: yield, decoder: NewDecoder(), size: s.pageSize,
		given: map[[sha256.Size]byte]time.Time{}, keys: map[string]bool{},
	}
}

// pageRead is what paging needs to know of a page.
type pageRead struct {
	elements int
	// full says that it had as many elements as were asked for: there may be more.
	full bool
	link string
	// last and lastCreated are the latest times in it; zero where none can be read.
	last, lastCreated time.Time
	// disordered says that it was not in the order that was asked for.
	disordered bool
	// changed says that an alert came a second time with other bytes.
	changed bool
}

func (p pageRead) more() bool { return p.full || p.link != "" }

// everything reads all pages from a time on. An instant that holds more than can be paged costs what it holds, and the read, but
// not what comes after it.
func (r *reading) everything(boundary time.Time) error {
	follow := true
	var tooFull error
	for range maxRounds {
		p, err := r.run(query{since: boundary}, follow)
		if err != nil {
			return err
		}
		switch {
		case p.changed && p.disordered:
			return r.invalid("Microsoft Graph's alerts changed while they were read, and do not come in the order that was asked for, so some may be missing.")
		case p.changed:
			// Pages behind links may have lost what shifted. The time boundary loses nothing, and is kept to from here on.
			follow = false
		case !p.more():
			return tooFull
		case p.disordered:
			return r.invalid("Microsoft Graph's alerts do not come in the order of their last update, so they cannot be paged.")
		case p.last.After(boundary):
			boundary = p.last
			r.forget(boundary)
		case !p.last.Equal(boundary):
			return r.invalid("Microsoft Graph's alerts are not those that were asked for, so they cannot be paged.")
		default:
			if err := r.instant(boundary); isTooFull(err) {
				tooFull = err
			} else if err != nil {
				return err
			}
			boundary = boundary.Add(tick)
			r.forget(boundary)
		}
	}
	return r.invalid("Microsoft Graph's list of alerts does not end.")
}

// isTooFull says that an instant holds more than can be paged.
func isTooFull(err error) bool {
	e, ok := errors.AsType[*defender.Error](err)
	return ok && e.Problem.GetReason() == integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INSTANT_TOO_FULL
}

// run reads a page and, where follow says so, the pages that its links lead to, and tells of them as of one page.
func (r *reading) run(q query, follow bool) (pageRead, error) {
	clear(r.keys)
	all, err := r.page(q)
	if err != nil || !follow || all.link == "" {
		// One page is one answer: an alert that is in it twice has not changed.
		all.changed = false
		return all, err
	}
	followed := map[string]bool{}
	for len(followed) < maxLinks {
		target, err := r.source.list.Parse(all.link)
		if err != nil || target.Host == "" {
			return all, r.invalid("Microsoft Graph's next link is no address.")
		}
		if followed[target.String()] {
			return all, r.invalid("Microsoft Graph's next link leads round in a circle.")
		}
		followed[target.String()] = true
		p, err := r.fetch(target, query{since: q.since}, r.size)
		if err != nil {
			return all, err
		}
		all.disordered = all.disordered || p.disordered || p.elements > 0 && !p.last.IsZero() && p.last.Before(all.last)
		if p.last.After(all.last) {
			all.last = p.last
		}
		all.changed = all.changed || p.changed
		all.link = p.link
		if all.link == "" {
			// Where links are given, a page without one is the last, however full.
			all.full = false
			return all, nil
		}
	}
	return all, r.invalid("Microsoft Graph's next links do not end.")
}

// instant reads what was last updated at one instant, by moving a boundary of creation. What shares both times is skipped
// through, half a page at a time, so that what shifts while it reads is still met.
func (r *reading) instant(at time.Time) error {
	q := query{since: at, instant: true}
	for range maxRounds {
		p, err := r.page(q)
		switch {
		case err != nil:
			return err
		case !p.more():
			return nil
		case p.disordered:
			return r.invalid(disorderedInstant)
		case p.lastCreated.After(q.created):
			q.created = p.lastCreated
		default:
			done, err := r.skipThrough(q)
			if err != nil || done {
				return err
			}
			q.created = q.created.Add(tick)
		}
	}
	return r.invalid("Microsoft Graph's list of alerts of one instant does not end.")
}

// skipThrough reads what shares both times, behind the first page of it; done says that nothing of the instant is left.
func (r *reading) skipThrough(q query) (done bool, err error) {
	step := max(1, r.size/2)
	for q.skip = step; q.skip <= maxSkip; q.skip += step {
		p, err := r.page(q)
		if err != nil || !p.more() {
			return err == nil, err
		}
		if p.disordered {
			return false, r.invalid(disorderedInstant)
		}
		if p.lastCreated.After(q.created) {
			return false, nil // what shares both times is behind us
		}
	}
	return false, &defender.Error{
		Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INSTANT_TOO_FULL,
			Message: fmt.Sprintf("More than %d alerts were last updated at %s and created at one instant: Microsoft Graph cannot page through them.",
				maxSkip+r.size, literal(q.since)),
			Remedy: "Alerts of that instant can be missing until they change. Look at them in the Defender portal, and report this to Microsoft's support.",
		},
		Permanent: true,
	}
}

// forget drops what cannot come again once the boundary is at a time.
func (r *reading) forget(boundary time.Time) {
	for hash, updated := range r.given {
		if !updated.IsZero() && updated.Before(boundary) {
			delete(r.given, hash)
		}
	}
}

// page asks a query, with smaller pages where Microsoft fails on one.
func (r *reading) page(q query) (pageRead, error) {
	for {
		target := *r.source.list
		target.RawQuery = q.encode(r.size)
		p, err := r.fetch(&target, q, r.size)
		if !r.narrow(err) {
			return p, err
		}
	}
}

// narrow makes pages smaller where err is a failure that a smaller page may avoid, and says whether it did.
func (r *reading) narrow(err error) bool {
	var e *defender.Error
	if !errors.As(err, &e) || e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED ||
		e.Problem.GetHttpStatus() < 500 || r.narrowed == maxNarrowings || r.size <= minSize {
		return false
	}
	r.narrowed++
	r.size = max(minSize, r.size/4)
	return true
}

// fetch reads one page; q is what was asked for, size how much of it.
func (r *reading) fetch(target *url.URL, q query, size int) (pageRead, error) {
	answer, calls, err := r.source.client.Get(r.ctx, target)
	r.result.Calls += calls
	if err != nil {
		return pageRead{}, err
	}
	defer answer.Close()
	if err := r.begin(answer); err != nil {
		return pageRead{}, err
	}
	var p pageRead
	var yieldErr error
	read, err := page.Read(answer.Body, func(raw []byte) error {
		yieldErr = r.element(raw, q, &p)
		return yieldErr
	})
	p.elements, p.link, p.full = read.Elements, read.NextLink, read.Elements >= size
	switch {
	case err == nil:
		return p, nil
	case yieldErr != nil:
		return p, yieldErr
	case errors.Is(err, page.ErrInvalid), errors.Is(err, page.ErrTooLarge):
		return p, r.source.client.Invalid(answer, "Microsoft Graph answered what is no list of alerts: "+err.Error()+".", nil)
	default:
		return p, r.source.client.BodyError(r.ctx, answer, err)
	}
}

// begin works out, at the first answer, when the read began by Microsoft's clock.
func (r *reading) begin(answer *rest.Answer) error {
	if !r.date.IsZero() {
		return nil
	}
	if answer.Date.IsZero() {
		// Completeness is told by Microsoft's clock; by ours it would be a guess.
		return r.source.client.Invalid(answer, "Microsoft Graph's answer has no Date, so it cannot be told through when the alerts are complete.", nil)
	}
	r.date, r.received, r.roundTrip = answer.Date.UTC(), answer.Received, answer.RoundTrip
	// The header has whole seconds, cut or rounded: a second covers both.
	r.result.Through = r.date.Add(-answer.RoundTrip - time.Second)
	return nil
}

// element gives one element on, unless its bytes were given already, and takes its times down for paging.
func (r *reading) element(raw []byte, q query, p *pageRead) error {
	e := &defender.Element{Raw: raw, RawHash: sha256.Sum256(raw)}
	updated, again := r.given[e.RawHash]
	if !again {
		var err error
		if updated, err = r.fill(e); err != nil {
			return err
		}
		p.changed = p.changed || r.keys[e.Key]
		r.keys[e.Key] = true
	}
	if err := r.order(raw, updated, q, p); err != nil {
		return err
	}
	if again {
		return nil
	}
	r.given[e.RawHash] = updated
	r.result.Elements++
	return r.yield(e)
}

// order takes an element's times down, and whether it comes in order.
func (r *reading) order(raw []byte, updated time.Time, q query, p *pageRead) error {
	if !updated.IsZero() {
		p.disordered = p.disordered || !q.instant && updated.Before(p.last)
		if updated.After(p.last) {
			p.last = updated
		}
	}
	if !q.instant {
		return nil
	}
	created, err := r.decoder.created(raw)
	if err != nil {
		return r.unreadable()
	}
	if !created.IsZero() {
		p.disordered = p.disordered || created.Before(p.lastCreated)
		if created.After(p.lastCreated) {
			p.lastCreated = created
		}
	}
	return nil
}

// fill sets what an element is, by what is known of its bytes or by decoding them, and returns its last update; zero where it
// cannot be read.
func (r *reading) fill(e *defender.Element) (time.Time, error) {
	if known, ok := r.known(e.RawHash); ok {
		e.Known, e.Key, e.Updated, e.ReadTime = true, known.Key, known.Updated, known.Updated.IsZero()
		if e.ReadTime {
			e.Updated = time.Now().UTC()
		}
		return known.Updated, nil
	}
	decoded, err := r.decoder.Decode(e.Raw)
	if err != nil {
		return time.Time{}, r.unreadable()
	}
	e.Key, e.ContentHash, e.Alert = decoded.Key, decoded.ContentHash, decoded.Alert
	if at := decoded.Alert.GetLastUpdateTime(); at != nil {
		e.Updated = at.AsTime()
		return e.Updated, nil
	}
	e.Updated, e.ReadTime = time.Now().UTC(), true
	return time.Time{}, nil
}

func (r *reading) unreadable() error {
	return r.invalid("Microsoft Graph's answer holds an alert that is no JSON.")
}

func (r *reading) invalid(message string) error {
	return r.source.client.Invalid(nil, message, nil)
}
