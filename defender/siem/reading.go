package siem

import (
	"context"
	"io"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/page"
	"defender-integration/defender/reading"
)

// Bounds of one read.
const (
	// margin is how far before its lower bound a range is asked for. It covers bounds that do not belong to the range, and back
	// ends that round times to the second.
	margin = time.Second
	// shortest is how long a range is that is not divided any more.
	shortest = time.Second
	// bound is what bounds may be rounded down to, by us or by back ends: a range is told as missing from what the part before it was
	// answered until.
	bound = time.Second
	// fine is how long a range may be that Microsoft is known to fail on and that is not divided any more: the shortest, and what may be
	// asked for with what is around it.
	fine = shortest + 2*margin
	// Where more is too much at once, ranges are no shorter than this, and no more than so many.
	shortRange = time.Minute
	maxRanges  = 256
)

// ranges is one read under way.
type ranges struct {
	*reading.Elements
	reading.Narrowing

	ctx     context.Context //nolint:containedctx // A reading lives as long as the call that makes it.
	source  *Source
	decoder *Decoder
}

func (s *Source) newReading(ctx context.Context, known defender.KnownFunc, yield func(*defender.Element) error) *ranges {
	decoder := NewDecoder()
	return &ranges{Elements: reading.NewElements(s.client, decoder, known, yield), ctx: ctx, source: s, decoder: decoder}
}

// everything reads everything from a time on: the ranges that Microsoft is known to fail on by themselves, and what is around them.
func (r *ranges) everything(since time.Time) error {
	for _, known := range r.source.failing.Since(since, time.Now()) {
		if since.Before(known.Start) {
			if err := r.between(since, known.Start); err != nil {
				return err
			}
		}
		if err := r.retry(known); err != nil {
			return err
		}
		since = known.End
	}
	return r.between(since, time.Time{})
}

// retry reads what can be read of a range that Microsoft failed on before, and passes over the rest.
func (r *ranges) retry(known reading.Range) error {
	for _, part := range known.Parts(fine) {
		part.Start, part.End = part.Start.Truncate(bound), part.End.Truncate(bound)
		err := r.ask(part.Start, part.End)
		if r.Failed(err) {
			err = r.Pass(part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// between reads a range; a zero to is no end. It is asked for as a whole, or, where that is too much, in shorter ranges one after the
// other. What Microsoft fails on by itself is passed over. Each turn of the loop isolates a failure, for which a read has so many calls,
// or comes nearer to the end by shortRange at least.
func (r *ranges) between(from, to time.Time) error {
	// length is that of the shorter ranges; zero while the range is whole.
	var length time.Duration
	for {
		until := to
		if next := from.Add(length); length > 0 && next.Before(r.end(to)) {
			until = next
		}
		// It is asked for from a margin before, and a back end may take that for somewhat earlier still.
		r.Forget(from.Add(-2 * margin))
		err := r.ask(from, until)
		switch {
		case err == nil && until.Equal(to):
			return nil
		case err == nil:
			from = until
			continue
		case !r.Failed(err):
			return err
		}
		if from, length, err = r.isolate(from, r.end(until)); err != nil {
			return err
		}
		if !to.IsZero() && !from.Before(to) || from.Add(-margin).After(r.Now()) {
			return nil // nothing is left
		}
	}
}

// end returns where a range ends: until, or now where that is zero.
func (r *ranges) end(until time.Time) time.Time {
	if until.IsZero() {
		return r.Now()
	}
	return until
}

// isolate is for a range that Microsoft fails on: it gives what shorter ones hold, passes over what fails by itself, and returns where
// reading goes on, and how long the ranges may be from there on; zero for as long as there is.
func (r *ranges) isolate(from, end time.Time) (time.Time, time.Duration, error) {
	span := max(shortest, end.Sub(from))
	worked := shortRange
	failing, err := r.Narrow(int64(span), int64(shortest), func(next int64) error {
		until := from.Add(time.Duration(next))
		if err := r.ask(from, until); err != nil {
			return err
		}
		from, worked = until, max(worked, time.Duration(next))
		return nil
	})
	if err != nil || !failing {
		return from, max(worked, span/maxRanges), err
	}
	next, err := r.pass(from)
	return next, 0, err
}

// pass passes over the shortest range from a time on, and returns where reading goes on. Where what is behind it fails too and now does,
// Microsoft fails and not the range: that is the error. Otherwise a time is searched for from which on all can be read. A range that fails
// no more once something else does not is not passed over.
func (r *ranges) pass(from time.Time) (time.Time, error) {
	from = from.Truncate(bound)
	// What is asked for from there on begins before it, and must not reach back into what fails.
	end := from.Add(fine)
	short := func(at time.Time) error { return r.ask(at, at.Add(shortest)) }
	now := r.Now()
	behindFails, err := r.Ask(func() error { return short(end) })
	if behindFails {
		err = r.Answers(func() error { return r.ask(now, time.Time{}) })
	}
	if err != nil {
		return from, err
	}
	if fails, err := r.Ask(func() error { return short(from) }); err != nil || !fails {
		return from.Add(shortest), err
	}
	if behindFails && now.After(end) {
		if end, err = r.Behind(end, now, shortest, short); err != nil {
			return from, err
		}
		end = end.Truncate(bound)
	}
	return end, r.Pass(reading.Range{Start: from, End: end})
}

// ask reads what was processed from a time on, until another; zero for none.
func (r *ranges) ask(from, until time.Time) error {
	return r.fetch(query{since: from.Add(-margin), until: until})
}

// fetch reads one answer.
func (r *ranges) fetch(q query) error {
	target := *r.source.list
	target.RawQuery = q.encode()
	return r.Fetch(r.ctx, &target, func(body io.Reader, element func([]byte) error) error {
		_, err := page.ReadArray(body, r.decoder.isDetection, element)
		return err
	}, func(raw []byte) error {
		_, err := r.Give(raw)
		return err
	})
}
