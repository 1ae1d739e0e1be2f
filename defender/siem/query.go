package siem

import (
	"fmt"
	"time"
)

// query is one question for detections. Its times bound LastProcessedTimeUtc, when a detection arrived at the back end. Whether
// the bounds belong to the range is not documented.
type query struct {
	// since is the lower bound. It is always sent: without it Microsoft goes back two hours.
	since time.Time
	// until is the upper bound; zero for none.
	until time.Time
	// limit is how many there may be; zero for all. Microsoft leaves out the oldest.
	limit int
}

// encode writes the query's options.
func (q query) encode() string {
	text := "sinceTimeUtc=" + literal(q.since)
	if !q.until.IsZero() {
		text += "&untilTimeUtc=" + literal(q.until)
	}
	if q.limit > 0 {
		text += fmt.Sprintf("&limit=%d", q.limit)
	}
	return text
}

// literal writes a time as Microsoft's examples do: UTC without saying so, rounded down to the millisecond.
func literal(t time.Time) string {
	return t.UTC().Format("2006-01-02T15:04:05.000")
}
