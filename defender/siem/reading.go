package siem

import (
	"context"
	"io"
	"time"

	"defender-integration/defender"
	"defender-integration/defender/page"
	"defender-integration/defender/reading"
	"defender-integration/defender/rest"
)

// Bounds of one read.
const (
	// margin is how far before its lower bound a range is asked for. It covers bounds that do not belong to the range, and back
	// ends that round times to the second.
	margin = time.Second
	// A range that Microsoft fails on is asked for in so many parts, so often, and never in shorter ones.
	parts      = 4
	maxSplits  = 4
	shortRange = time.Minute
)

// ranges is one read under way.
type ranges struct {
	*reading.Elements

	ctx     context.Context //nolint:containedctx // A reading lives as long as the call that makes it.
	source  *Source
	decoder *Decoder
}

func (s *Source) newReading(ctx context.Context, known defender.KnownFunc, yield func(*defender.Element) error) *ranges {
	decoder := NewDecoder()
	return &ranges{Elements: reading.NewElements(s.client, decoder, known, yield), ctx: ctx, source: s, decoder: decoder}
}

// everything reads the range from a time on: as a whole, or, where Microsoft fails on it, in shorter ranges one after the other.
// Each turn of the loop splits, which it may do maxSplits times, or comes nearer to end by shortRange at least.
func (r *ranges) everything(from time.Time) error {
	var (
		// end is when the range was split last: what begins before it and reaches beyond is asked for without an upper bound.
		end time.Time
		// length is that of the shorter ranges; zero while the range is whole.
		length time.Duration
		splits int
	)
	for {
		var until time.Time
		if next := from.Add(length); length > 0 && next.Before(end) {
			until = next
		}
		err := r.between(from, until)
		switch {
		case err == nil && until.IsZero():
			return nil
		case err == nil:
			from = until
		case splits == maxSplits || !rest.LessMayHelp(err):
			return err
		default:
			if until.IsZero() {
				end = r.now()
				length = end.Sub(from)
			}
			// Rounded up, so that the parts reach the end.
			if length = (length + parts - 1) / parts; length < shortRange {
				return err
			}
			splits++
		}
	}
}

// now returns the time, by Microsoft's clock where it was told.
func (r *ranges) now() time.Time {
	first := r.Probed()
	if first.Date.IsZero() {
		return time.Now()
	}
	return first.Date.Add(time.Since(first.Received))
}

// between reads what was processed from a time on, until another; zero for none.
func (r *ranges) between(from, until time.Time) error {
	q := query{since: from.Add(-margin), until: until}
	// A back end may take it for somewhat earlier still.
	r.Forget(q.since.Add(-margin))
	return r.fetch(q)
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
