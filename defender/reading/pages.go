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
	// maxEmptyLinks is how many of them may lead to pages without an element on end: more would spend a minute's budget on nothing.
	maxEmptyLinks = 50
	// minSize is how small pages stay where larger ones were too much.
	minSize = 50
)

// disorderedInstant tells that $orderby is not honoured for one instant.
const disorderedInstant = "does not give the alerts of one instant in the order of their creation, so they cannot be paged."

// pages is one read of a list under way.
type pages struct {
	*Elements
	Narrowing

	ctx  context.Context //nolint:containedctx // A reading lives as long as the call that makes it.
	list *List
	// document is for looking at elements that are not decoded.
	document lenient.Document

	size int
	// tooFull is the error of an instant that holds more than can be paged.
	tooFull error
	// reached is the last update of what was given last.
	reached time.Time
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
	// last and lastCreated are the latest times in it; zero where none can be read. atLast is how many elements have the latest of those
	// that it is ordered by.
	last, lastCreated time.Time
	atLast            int
	// disordered says that it was not in the order that was asked for.
	disordered bool
	// changed says that an alert came a second time with other bytes.
	changed bool
	// broken says that Microsoft failed on what a link of it leads to.
	broken bool
}

func (p *pageRead) more() bool { return p.full || p.link != "" }

// note takes down the last update of so many elements of a page in the order of last updates; a zero time says nothing.
func (p *pageRead) note(last time.Time, elements int) {
	switch {
	case last.IsZero():
	case last.After(p.last):
		p.last, p.atLast = last, elements
	case last.Equal(p.last):
		p.atLast += elements
	}
}

// everything reads everything from a time on: the ranges that Microsoft is known to fail on by themselves, and what is around them. An
// instant that holds more than can be paged costs what it holds, and the read, but not what comes after it.
func (r *pages) everything(since time.Time) error {
	for _, known := range r.list.failing.Since(since, time.Now()) {
		if since.Before(known.Start) {
			if err := r.between(since, known.Start, true); err != nil {
				return err
			}
		}
		if err := r.retry(known); err != nil {
			return err
		}
		since = known.End
	}
	if err := r.between(since, time.Time{}, true); err != nil {
		return err
	}
	return r.tooFull
}

// retry reads what can be read of a range that Microsoft failed on before, and passes over the rest.
func (r *pages) retry(known Range) error {
	for _, part := range known.Parts(fine) {
		err := r.between(part.Start, part.End, false)
		if r.Failed(err) {
			err = r.Pass(part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// between reads all pages of what was last updated at a time or later, and before another; a zero to is no end. narrow says that what
// Microsoft fails on is isolated and passed over; otherwise it is the error.
func (r *pages) between(from, to time.Time, narrow bool) error {
	at, follow := position{query: query{since: from}}, true
	if !to.IsZero() {
		at.until = to.Add(-Tick)
	}
	for range maxRounds {
		if !at.until.IsZero() && at.since.After(at.until) {
			return nil
		}
		r.Forget(at.since)
		p, err := r.run(at.query, follow)
		if narrow && r.Failed(err) {
			follow = false
			at, err = r.isolate(at)
			if errors.Is(err, errEnd) {
				return nil
			}
			if err != nil {
				return err
			}
			continue
		}
		// Pages behind links may have lost what shifted. The time boundary loses nothing, and is kept to from then on.
		follow = follow && !p.changed && !p.broken
		switch {
		case err != nil:
			return err
		case p.changed && p.disordered:
			return r.Invalid("changed while it was read, and is not in the order that was asked for, so alerts may be missing.")
		case p.changed:
		case !p.more() && at.skipped():
			at = at.unskipped()
		case !p.more():
			return nil
		case p.disordered:
			return r.Invalid("is not in the order of the last updates, so it cannot be paged.")
		case p.last.After(at.since):
			at = r.behind(at, p)
		case !p.last.Equal(at.since):
			return r.Invalid("gives alerts that are not those that were asked for, so it cannot be paged.")
		default:
			if err := r.instant(at.since, narrow); isTooFull(err) {
				r.tooFull = err
			} else if err != nil {
				return err
			}
			at = position{query: query{since: at.since.Add(Tick), until: at.until}}
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
	all, err := r.page(q, r.size)
	if err != nil || !follow || all.link == "" {
		// One page is one answer: an alert that is in it twice has not changed.
		all.changed = false
		return all, err
	}
	followed, empty := map[string]bool{}, 0
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
		if r.Failed(err) && !all.last.IsZero() {
			all.full, all.broken = true, true
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if empty++; p.elements > 0 {
			empty = 0
		}
		if empty == maxEmptyLinks && p.link != "" {
			return all, r.Invalid("has next links that lead from one empty page to the next.")
		}
		all.disordered = all.disordered || p.disordered || p.elements > 0 && !p.last.IsZero() && p.last.Before(all.last)
		all.note(p.last, p.atLast)
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
// through. Links are left alone: they would only lead through a part of it that can shift. narrow is that of between.
func (r *pages) instant(updated time.Time, narrow bool) error {
	at := position{query: query{since: updated, instant: true}}
	for range maxRounds {
		p, err := r.page(at.query, r.size)
		if narrow && r.Failed(err) {
			at, err = r.isolate(at)
			if errors.Is(err, errEnd) {
				return nil
			}
			if err != nil {
				return err
			}
			continue
		}
		switch {
		case err != nil:
			return err
		case !p.more():
			return nil
		case p.disordered:
			return r.Invalid(disorderedInstant)
		case p.lastCreated.After(at.created):
			at = r.behind(at, p)
		default:
			done, err := r.skipThrough(at.query, p)
			if narrow && r.Failed(err) {
				return r.Pass(Range{updated, updated.Add(Tick)})
			}
			if err != nil || done {
				return err
			}
			at = position{query: query{since: updated, instant: true, created: at.created.Add(Tick)}}
		}
	}
	return r.Invalid("has an instant whose alerts do not end.")
}

// skipThrough reads what shares both times, behind p, the first page of it; done says that nothing of the instant is left. It skips
// half of what a page had, so that what shifts while it reads is still met.
func (r *pages) skipThrough(q query, p pageRead) (done bool, err error) {
	for q.skip += half(p.elements); q.skip <= r.list.MaxSkip; q.skip += half(p.elements) {
		p, err = r.page(q, r.size)
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

// page asks a query for a page of at most size elements.
func (r *pages) page(q query, size int) (pageRead, error) {
	target := *r.list.URL
	target.RawQuery = q.encode(r.list, size)
	r.MayBeEmpty = q.instant || q.skip > 0 || !q.since.Equal(r.reached)
	return r.fetch(&target, q, size)
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
	if !q.instant {
		p.disordered = p.disordered || !given.Updated.IsZero() && given.Updated.Before(p.last)
		p.note(given.Updated, 1)
		return nil
	}
	p.last = laterOf(p.last, given.Updated)
	if created := r.created(raw); !created.IsZero() {
		p.disordered = p.disordered || created.Before(p.lastCreated)
		if created.After(p.lastCreated) {
			p.lastCreated, p.atLast = created, 0
		}
		p.atLast++
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
