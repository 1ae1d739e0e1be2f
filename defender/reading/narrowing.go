package reading

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	"defender-integration/defender/page"
	"defender-integration/defender/rest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Bounds of what one read spends on finding out what Microsoft fails on.
const (
	// maxExtraCalls is how many calls a read may make besides those that page. An alert that always fails takes about fourteen in a page
	// of a thousand; this does for two, and a search by time, within half of the hundred calls a minute of the tightest limit
	// ([defender.LimitEndpoint]). What it does not do for is found by the next read, which remembers what this one found.
	maxExtraCalls = 40
	// maxRanges is how many ranges a read may pass over. A read that remembers them makes three calls more for each.
	maxRanges = 8
	// maxHalvings is how often a search by time halves: of a day, down to one and a third of a second.
	maxHalvings = 16
)

// Narrowing is how one read narrows its queries around what Microsoft fails on, and what it passed over. It is not safe for
// concurrent use. The zero value is ready for use.
type Narrowing struct {
	calls   int
	failure *defender.Error
	missing []Range
}

// Failed says whether err is a failure that a query for less may avoid, and takes it down: it is what the read's own error tells of.
// Besides those of [rest.LessMayHelp] it is a list of which an element cannot be read.
func (n *Narrowing) Failed(err error) bool {
	e, ok := errors.AsType[*defender.Error](err)
	if !ok || !rest.LessMayHelp(err) && !errors.Is(err, page.ErrTooLarge) && !errors.Is(err, page.ErrTooMany) && !errors.Is(err, page.ErrElement) {
		return false
	}
	n.failure = e
	return true
}

// Ask makes a call that paging would not make, and says whether it fails as [Narrowing.Failed] says. The error is any other, or the
// last failure where the read may make no more such calls.
func (n *Narrowing) Ask(call func() error) (fails bool, err error) {
	if n.calls >= maxExtraCalls {
		return false, n.failure
	}
	n.calls++
	if err = call(); n.Failed(err) {
		return true, nil
	}
	return false, err
}

// Answers makes a call for what is now, and returns the last failure where that fails too: then it is Microsoft that fails, and not some
// of the alerts.
func (n *Narrowing) Answers(now func() error) error {
	fails, err := n.Ask(now)
	if fails {
		return n.failure
	}
	return err
}

// Narrow isolates what fails in a span that was asked for at once and failed. ask asks for so much of what comes next, and what it was
// given does not come again. failing says that the next smallest part fails by itself; otherwise all of the span was given, in parts.
//
// The smallest part comes first: where all fails, that is known at once. After the first part that is given, the rest is tried as a
// whole: it may have been too much at once. After that each part is half of what is left.
func (n *Narrowing) Narrow(span, smallest int64, ask func(next int64) error) (failing bool, err error) {
	triedRest := false
	for next, first := smallest, true; ; first = false {
		fails, err := n.Ask(func() error { return ask(next) })
		switch {
		case err != nil:
			return false, err
		case fails && next <= smallest:
			return true, nil
		case fails:
			span = next
		default:
			span -= next
		}
		switch {
		case span <= 0:
			return false, nil
		case !fails && !first && !triedRest:
			next, triedRest = span, true
		default:
			next = min(span, max(smallest, span/2))
		}
	}
}

// Behind searches for a time from which on reading can go on: by halving what is between a time that fails, and an end that does not, as
// far as the read's calls go. ask asks for what was last updated at a time or shortly after.
func (n *Narrowing) Behind(fails, end time.Time, finest time.Duration, ask func(at time.Time) error) (time.Time, error) {
	for range maxHalvings {
		length := end.Sub(fails)
		if length <= finest || n.calls >= maxExtraCalls {
			break
		}
		middle := fails.Add(length / 2).Truncate(Tick)
		failed, err := n.Ask(func() error { return ask(middle) })
		switch {
		case err != nil:
			return end, err
		case failed:
			fails = middle
		default:
			end = middle
		}
	}
	return end, nil
}

// Pass passes over a range, which does not begin before the one that was passed over last. The error is the last failure, where the
// read may pass over no more. Ranges that only touch stay apart while there is room, since each is halved by itself.
func (n *Narrowing) Pass(r Range) error {
	full := len(n.missing) == maxRanges
	if last := len(n.missing) - 1; last >= 0 {
		before := &n.missing[last]
		if before.End.After(r.Start) || full && before.End.Equal(r.Start) {
			before.End = laterOf(before.End, r.End)
			return nil
		}
	}
	if full {
		return n.failure
	}
	n.missing = append(n.missing, r)
	return nil
}

// Missing returns the ranges that were passed over, in order.
func (n *Narrowing) Missing() []Range { return n.missing }

// Finish returns the error of a read of what begins at since, which came to err: where that is nil, that what was passed over is
// missing, or nil where nothing was. failing learns what was.
func (n *Narrowing) Finish(failing *Failing, since time.Time, err error) error {
	if _, ok := errors.AsType[*defender.Error](err); err != nil && !ok {
		// Whether what was given was taken is not known, so all of it has to come again.
		return err
	}
	switch last := len(n.missing) - 1; {
	case err == nil:
		failing.Learn(since, time.Time{}, n.missing, time.Now())
	case last >= 0:
		// What could not be read behind it does not make the next read find it again.
		failing.Learn(since, n.missing[last].End, n.missing, time.Now())
	}
	if err != nil || len(n.missing) == 0 {
		return err
	}
	return n.rangeFailed()
}

// rangeFailed tells what was passed over.
func (n *Narrowing) rangeFailed() error {
	last := n.failure.Problem
	p := &integrationv1.Problem{
		Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_RANGE_FAILED,
		Remedy: "All other alerts were read, and these are asked for again with each read. Look at the alerts of that time in the Defender portal. " +
			"If it stays, report the time and the request id to Microsoft's support.",
		UpstreamCode: last.GetUpstreamCode(), HttpStatus: last.GetHttpStatus(), UpstreamRequestId: last.GetUpstreamRequestId(),
	}
	var spans []string
	for _, r := range joined(n.missing) {
		p.Missing = append(p.Missing, &integrationv1.TimeRange{StartTime: timestamppb.New(r.Start), EndTime: timestamppb.New(r.End)})
		spans = append(spans, "from "+literal(r.Start)+" to before "+literal(r.End))
	}
	p.Message = fmt.Sprintf("Alerts that were last updated %s may be missing: calls for them fail, however few are asked for. The last one: %s",
		strings.Join(spans, ", and "), last.GetMessage())
	return &defender.Error{Problem: p, Err: n.failure.Err}
}

// joined joins those of the ranges, which are in order, that touch.
func joined(ranges []Range) []Range {
	var all []Range
	for _, r := range ranges {
		if last := len(all) - 1; last >= 0 && !all[last].End.Before(r.Start) {
			all[last].End = r.End
			continue
		}
		all = append(all, r)
	}
	return all
}
