package reading

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Tick is the resolution of Microsoft's times: seven digits.
const Tick = 100 * time.Nanosecond

// query is one question for alerts. It never filters on status or source: an alert that leaves the filter would be lost.
type query struct {
	// since bounds the last update from below, inclusively.
	since time.Time
	// until bounds it from above, inclusively; zero does not.
	until time.Time
	// instant asks for what was last updated exactly at since, in the order of creation.
	instant bool
	// created bounds the creation from below, inclusively; zero does not.
	created time.Time
	// skip passes over so many.
	skip int
}

// encode writes the query's options for a list: top is how many elements there may be.
func (q query) encode(l *List, top int) string {
	filter, order := l.Updated+" ge "+literal(q.since), l.Updated+" asc"
	until := q.until
	if q.instant {
		until, order = q.since, l.Created+" asc"
	}
	if !until.IsZero() {
		filter += " and " + l.Updated + " le " + literal(until)
	}
	if !q.created.IsZero() {
		filter += " and " + l.Created + " ge " + literal(q.created)
	}
	text := fmt.Sprintf("$filter=%s&$orderby=%s&$top=%d", escape(filter), escape(order), top)
	if q.skip > 0 {
		text += fmt.Sprintf("&$skip=%d", q.skip)
	}
	if l.Expand != "" {
		text += "&$expand=" + escape(l.Expand)
	}
	return text
}

// literal writes a time with all digits that Microsoft's have, rounded down.
func literal(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
}

// escape writes a space as %20: a plus sign is a form's spelling of it, not a URL's.
func escape(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}
