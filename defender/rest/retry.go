package rest

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter caps what is believed of a Retry-After.
const maxRetryAfter = time.Hour

// RetryAt returns when an answer asks to come again, by this machine's clock; zero where it does not say, or not readably.
// Retry-After comes in seconds, also with a fraction, or as a date, which is compared with the answer's own Date, since the two
// clocks may differ. More than an hour is taken as an hour.
func RetryAt(header http.Header) time.Time {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if text == "" {
		return time.Time{}
	}
	now := time.Now()
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		switch {
		case seconds >= maxRetryAfter.Seconds():
			return now.Add(maxRetryAfter)
		case seconds >= 0:
			return now.Add(time.Duration(seconds * float64(time.Second)))
		}
		return time.Time{} // negative, or not a number
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return time.Time{}
	}
	theirs, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		theirs = now
	}
	wait := at.Sub(theirs)
	return now.Add(max(0, min(wait, maxRetryAfter)))
}
