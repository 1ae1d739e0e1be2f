package reading

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/lenient"
	"defender-integration/defender/page"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Bounds of one read.
const (
	// maxRounds is how often the time boundary may move.
	maxRounds = 10_000
	// maxLinks is how many next links are followed on end: a million alerts in full pages.
	maxLinks = 1000
	// A page that Microsoft fails on is asked for again with a quarter of its size, so often, and never fewer.
	maxNarrowings = 2
	minSize       = 50
)

// disorderedInstant tells that $orderby is not honoured for one instant.
const disorderedInstant = "does not give the alerts of one instant in the order of their creation, so they cannot be paged."

// pages is one read of a list under way.
type pages struct {
	*Elements

	ctx  context.Context //nolint:containedctx // A reading lives as long as the call that makes it.
	list *List
	// document is for looking at elements that are not decoded.
	document lenient.Document

	size     int
	narrowed int
	// keys has the alerts seen since the first page of a run of links.
	keys map[string]bool
}

func (l *List) newReading(ctx context.Context, known defender.KnownFunc, yield func(*defender.Element) error) *pages {
	elements := NewElements(l.Client, l.NewDecoder(), known, yield)
	elements.NotFoundIsEmpty = l.NotFoundIsEmpty
	return &pages{Elements: elements, ctx: ctx, list: l, size: l.PageSize, keys: map[string]bool{}}
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
func (r *pages) everything(boundary time.Time) error {
	follow := true
	var tooFull error
	for range maxRounds {
		p, err := r.run(query{since: boundary}, follow)
		if err != nil {
			return err
		}
		switch {
		case p.changed && p.disordered:
			return r.Invalid("changed while it was read, and is not in the order that was asked for, so alerts may be missing.")
		case p.changed:
			// Pages behind links may have lost what shifted. The time boundary loses nothing, and is kept to from here on.
			follow = false
		case !p.more():
			return tooFull
		case p.disordered:
			return r.Invalid("is not in the order of the last updates, so it cannot be paged.")
		case p.last.After(boundary):
			boundary = p.last
			r.Forget(boundary)
		case !p.last.Equal(boundary):
			return r.Invalid("gives alerts that are not those that were asked for, so it cannot be paged.")
		default:
			if err := r.instant(boundary); isTooFull(err) {
				tooFull = err
			} else if err != nil {
				return err
			}
			boundary = boundary.Add(Tick)
			r.Forget(boundary)
		}
	}
	return r.Invalid("does not end.")
}

// isTooFull says that an instant holds more than can be paged.
func isTooFull(err error) bool {
	e, ok := errors.AsType[*defender.Error](err)
	return ok && e.Problem.GetReason() == integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INSTANT_TOO_FULL
}

// run reads a page and, where follow says so, the pages that its links lead to, and tells of them as of one page.
func (r *pages) run(q query, follow bool) (pageRead, error) {
	clear(r.keys)
	all, err := r.page(q)
	if err != nil || !follow || all.link == "" {
		// One page is one answer: an alert that is in it twice has not changed.
		all.changed = false
		return all, err
	}
	followed := map[string]bool{}
	for len(followed) < maxLinks {
		target, err := r.list.URL.Parse(all.link)
		if err != nil || target.Host == "" {
			return all, r.Invalid("has a next link that is no address.")
		}
		if followed[target.String()] {
			return all, r.Invalid("has next links that lead round in a circle.")
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
		all.elements += p.elements
		all.link = p.link
		if all.link == "" {
			// Where links are given, a page without one is the last, however full, unless the links end where $top does.
			all.full = r.list.TopIsTotal && all.elements >= r.size
			return all, nil
		}
	}
	return all, r.Invalid("has next links that do not end.")
}

// instant reads what was last updated at one instant, by moving a boundary of creation. What shares both times is skipped
// through. Links are left alone: they would only lead through a part of it that can shift.
func (r *pages) instant(at time.Time) error {
	q := query{since: at, instant: true}
	for range maxRounds {
		p, err := r.page(q)
		switch {
		case err != nil:
			return err
		case !p.more():
			return nil
		case p.disordered:
			return r.Invalid(disorderedInstant)
		case p.lastCreated.After(q.created):
			q.created = p.lastCreated
		default:
			done, err := r.skipThrough(q, p)
			if err != nil || done {
				return err
			}
			q.created = q.created.Add(Tick)
		}
	}
	return r.Invalid("has an instant whose alerts do not end.")
}

// skipThrough reads what shares both times, behind p, the first page of it; done says that nothing of the instant is left. It skips
// half of what a page had, so that what shifts while it reads is still met.
func (r *pages) skipThrough(q query, p pageRead) (done bool, err error) {
	for q.skip = half(p.elements); q.skip <= r.list.MaxSkip; q.skip += half(p.elements) {
		p, err = r.page(q)
		if err != nil || !p.more() {
			return err == nil, err
		}
		if p.disordered {
			return false, r.Invalid(disorderedInstant)
		}
		if p.lastCreated.After(q.created) {
			return false, nil // what shares both times is behind us
		}
	}
	return false, &defender.Error{
		Problem: &integrationv1.Problem{
			Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_INSTANT_TOO_FULL,
			Message: fmt.Sprintf("More than %d alerts were last updated at %s and created at one instant: %s cannot be paged through them.",
				r.list.MaxSkip+r.size, literal(q.since), r.list.Client.Name()),
			Remedy: "Alerts of that instant can be missing until they change. Look at them in the Defender portal, and report this to Microsoft's support.",
		},
		Permanent: true,
	}
}

// half is half of a page, and never nothing.
func half(elements int) int { return max(1, elements/2) }

// page asks a query, with smaller pages where Microsoft fails on one.
func (r *pages) page(q query) (pageRead, error) {
	for {
		target := *r.list.URL
		target.RawQuery = q.encode(r.list, r.size)
		p, err := r.fetch(&target, q, r.size)
		if !r.narrow(err) {
			return p, err
		}
	}
}

// narrow makes pages smaller where err is a failure that a smaller page may avoid, and says whether it did.
func (r *pages) narrow(err error) bool {
	e, ok := errors.AsType[*defender.Error](err)
	if !ok || e.Problem.GetReason() != integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED ||
		e.Problem.GetHttpStatus() < 500 || r.narrowed == maxNarrowings || r.size <= minSize {
		return false
	}
	r.narrowed++
	r.size = max(minSize, r.size/4)
	return true
}

// fetch reads one page; q is what was asked for, size how much of it.
func (r *pages) fetch(target *url.URL, q query, size int) (pageRead, error) {
	var p pageRead
	var read page.Page
	err := r.Fetch(r.ctx, target, func(body io.Reader, element func([]byte) error) error {
		var err error
		read, err = page.Read(body, element)
		return err
	}, func(raw []byte) error { return r.element(raw, q, &p) })
	p.elements, p.link, p.full = read.Elements, read.NextLink, read.Elements >= size
	return p, err
}

// element gives one element on, and takes down its times, and whether it comes in order.
func (r *pages) element(raw []byte, q query, p *pageRead) error {
	given, err := r.Give(raw)
	if err != nil {
		return err
	}
	if !given.Again {
		p.changed = p.changed || r.keys[given.Key]
		r.keys[given.Key] = true
	}
	if !given.Updated.IsZero() {
		p.disordered = p.disordered || !q.instant && given.Updated.Before(p.last)
		if given.Updated.After(p.last) {
			p.last = given.Updated
		}
	}
	if !q.instant {
		return nil
	}
	if created := r.created(raw); !created.IsZero() {
		p.disordered = p.disordered || created.Before(p.lastCreated)
		if created.After(p.lastCreated) {
			p.lastCreated = created
		}
	}
	return nil
}

// created returns an element's creation time, zero where none can be read.
func (r *pages) created(raw []byte) time.Time {
	if r.document.Parse(raw) != nil {
		return time.Time{} // it was no JSON, and is not given on
	}
	if created, ok := r.document.Root().Member(r.list.Created); ok {
		if at := created.Time(); at != nil {
			return at.AsTime()
		}
	}
	return time.Time{}
}
