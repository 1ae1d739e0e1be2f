package reading

import (
	"errors"
	"time"
)

const (
	// fine is how long a range may be that Microsoft fails on and that is not divided any more. A longer one is asked for in halves by
	// the next reads, so that each takes what can be read out of it.
	fine = time.Millisecond
	// maxBeside is how many alerts that fail side by side are passed over one by one.
	maxBeside = 3
)

// errEnd says that nothing is left to be read.
var errEnd = errors.New("nothing is left")

// position is a place in a list: a query, of whose answer so many elements were given already. They share the query's lower bound, so
// that asking for them again loses nothing when others before them change.
type position struct {
	query

	given int
}

// behind returns the place behind a page that was asked for at a place.
func (r *pages) behind(at position, p pageRead) position {
	if at.skipped() && p.last.After(at.since) {
		return at.unskipped()
	}
	return r.following(at, p)
}

// following returns the place behind a page that was asked for at a place, where nothing shifted to before what was skipped to.
func (r *pages) following(at position, p pageRead) position {
	switch {
	case !at.instant && p.last.After(at.since):
		r.reached = p.last
		at.since, at.skip, at.given = p.last, 0, p.atLast
	case at.instant && p.lastCreated.After(at.created):
		at.created, at.skip, at.given = p.lastCreated, 0, p.atLast
	default:
		at.given = p.elements
	}
	return at
}

// skipped says that a place in the order of last updates skips part of an instant, which was passed over.
func (at position) skipped() bool { return !at.instant && at.skip > 0 }

// unskipped returns where reading goes on once that instant is behind: right behind it. When some of those that were given change
// meanwhile, others shift to before what was skipped to, also later ones.
func (at position) unskipped() position {
	return position{query: query{since: at.since.Add(Tick), until: at.until}}
}

// isolate is for a place whose page Microsoft fails on: it gives what smaller pages hold, passes over what fails by itself, and returns
// where reading goes on, or errEnd.
func (r *pages) isolate(at position) (position, error) {
	size, worked := max(1, r.size-at.given), 0
	failing, err := r.Narrow(int64(size), 1, func(next int64) error {
		p, err := r.page(at.query, min(at.given+int(next), r.list.PageSize))
		switch {
		case err != nil:
			return err
		case !p.more() && at.skipped():
			at = at.unskipped()
			return nil
		case !p.more():
			return errEnd
		case p.disordered:
			return r.Invalid("is not in the order that was asked for, so it cannot be paged.")
		}
		at, worked = r.behind(at, p), max(worked, int(next))
		return nil
	})
	switch {
	case err != nil:
		return at, err
	case failing:
		// Pages were not too large, and have their size again.
		r.size = r.list.PageSize
		return r.pass(at)
	default:
		r.size = min(r.size, max(worked, minSize))
		return at, nil
	}
}

// pass passes over the element at a place, which fails by itself, and returns where reading goes on, or errEnd.
//
// What is behind it in the list tells how far it may be. Where that fails too and now does, Microsoft fails and not the element: that
// is the error. Where it cannot be asked for, an instant is read in the order of creation or its rest is left, and otherwise a time is
// searched for from which on all can be read. An element that fails no more once something else does not is not passed over.
func (r *pages) pass(at position) (position, error) {
	next, follows, err := r.follower(at)
	if err != nil {
		return at, err
	}
	var again pageRead
	fails, err := r.ask(at.query, at.given+1, &again)
	switch {
	case err != nil:
		return at, err
	case !fails && !again.more() && at.skipped():
		return at.unskipped(), nil
	case !fails && !again.more():
		return at, errEnd
	case !fails && again.disordered:
		return at, r.Invalid("is not in the order that was asked for, so it cannot be paged.")
	case !fails:
		return r.behind(at, again), nil
	case follows != nil:
		return r.over(at, next, *follows)
	case at.instant:
		return r.last(at)
	case next.skip > r.list.MaxSkip && at.given > 0:
		err := r.instant(at.since, true)
		if isTooFull(err) {
			r.tooFull, err = err, nil
		}
		return position{query: query{since: at.since.Add(Tick), until: at.until}}, err
	default:
		return r.search(at)
	}
}

// follower asks for what is behind the element at a place, or else behind some more, and returns where that is; nil where it cannot be
// asked for. The error is the last failure where Microsoft fails on what is now, too.
func (r *pages) follower(at position) (next position, follows *pageRead, err error) {
	next, next.given = at, 0
	for beside := 1; beside <= maxBeside; beside++ {
		next.skip = at.skip + at.given + beside
		beyond := next.skip > r.list.MaxSkip
		if !beyond {
			var p pageRead
			if fails, err := r.ask(next.query, 1, &p); err != nil || !fails {
				return next, &p, err
			}
		}
		if beside == 1 {
			err = r.answers()
		}
		if err != nil || beyond {
			break
		}
	}
	return next, nil, err
}

// ask asks a query for a page of at most size elements that paging would not ask for; see [Narrowing.Ask].
func (r *pages) ask(q query, size int, p *pageRead) (fails bool, err error) {
	return r.Ask(func() (err error) {
		*p, err = r.page(q, min(size, r.list.PageSize))
		return err
	})
}

// answers returns the last failure where Microsoft fails on what is now, too.
func (r *pages) answers() error {
	return r.Answers(func() error {
		_, err := r.page(query{since: r.Now()}, 1)
		return err
	})
}

// over passes over what is between two places, of which next is followed by p, and returns where reading goes on, or errEnd.
func (r *pages) over(at, next position, p pageRead) (position, error) {
	if p.elements == 0 {
		return r.last(at)
	}
	if p.last.Before(at.since) {
		return r.search(at) // where it is cannot be told by a time that cannot be read
	}
	next = r.following(next, p)
	return next, r.Pass(Range{at.since, laterOf(next.since, at.since.Add(Tick))})
}

// last passes over all that is behind a place, and returns errEnd.
func (r *pages) last(at position) (position, error) {
	end := at.since.Add(Tick)
	switch {
	case at.instant:
	case at.until.IsZero():
		end = laterOf(end, r.Now())
	default:
		end = laterOf(end, at.until.Add(Tick))
	}
	if err := r.Pass(Range{at.since, end}); err != nil {
		return at, err
	}
	return at, errEnd
}

// search passes over what is between a place and a time from which on all can be read, and returns where that is.
func (r *pages) search(at position) (position, error) {
	end, err := r.Behind(at.since, laterOf(r.Now(), at.since.Add(Tick)), Tick, func(from time.Time) error {
		q := query{since: from}
		if !from.After(at.until) {
			q.until = at.until
		}
		_, err := r.page(q, 1)
		return err
	})
	if err != nil {
		return at, err
	}
	if !at.until.IsZero() {
		end = earlierOf(end, at.until.Add(Tick))
	}
	return position{query: query{since: end, until: at.until}}, r.Pass(Range{at.since, end})
}
