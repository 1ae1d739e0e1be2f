package defendertest

import (
	"slices"
	"time"
)

// alertQuery is what a request for a list of alerts asks for, in whatever API's words.
type alertQuery struct {
	api    Resource
	filter filter
	by     property // propertyUpdated or propertyCreated
	desc   bool
	top    int // 0: not given
	skip   int
	count  bool
	after  *cursor
	expand bool // the evidence, where it must be asked for
}

// cursor is where a page that a next link leads to begins: after this place in the order; behind skip alerts where sequence is 0.
type cursor struct {
	at       time.Time
	sequence int
	skip     int
}

// selectAlerts returns a page, how many match in all (where the query asks for it), and whether there are more after the page. It
// is what was there at asOf, which is now or before it.
func (t *Tenant) selectAlerts(query alertQuery, size int, now, asOf time.Time) (page []*revision, total int, more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alerts.advance(now)

	// byTime is in the order of last updates, so bounds on it are found by search; all else is looked at one by one.
	list := t.alerts.byTime
	if asOf.Before(now) {
		list = t.alerts.asOf(asOf)
	}
	list = query.filter.narrow(list)
	if query.by == propertyCreated {
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b *revision) int { return a.created.Compare(b.created) })
	}
	skip := query.skip
	for i := range list {
		r := list[i]
		if query.desc {
			r = list[len(list)-1-i]
		}
		if !r.isIn(query.api) || !query.filter.takes(r) {
			continue
		}
		total++
		if query.after != nil && !query.isAfter(r) {
			continue
		}
		switch {
		case skip > 0:
			skip--
		case len(page) < size:
			page = append(page, r)
		default:
			more = true
			if !query.count {
				return page, total, more
			}
		}
	}
	return page, total, more
}

// sortTime is the time that the query orders by.
func (q *alertQuery) sortTime(r *revision) time.Time {
	if q.by == propertyCreated {
		return r.created
	}
	return r.updated
}

// isAfter tells whether a revision comes after the cursor.
func (q *alertQuery) isAfter(r *revision) bool {
	order := q.sortTime(r).Compare(q.after.at)
	if order == 0 {
		order = r.sequence - q.after.sequence
	}
	if q.desc {
		return order < 0
	}
	return order > 0
}
