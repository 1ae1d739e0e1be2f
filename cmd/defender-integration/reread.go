package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"defender-integration/collector"
)

// rereads returns the deeper reads that the flag --reread asks for, the most frequent first; those that are there where it is not
// given; none where it is the word none. Each is given as INTERVAL=SPAN, such as 10m=2h.
func rereads(defaults []collector.Reread, values []string) ([]collector.Reread, error) {
	if len(values) == 0 {
		return defaults, nil
	}
	if slices.Equal(values, []string{"none"}) {
		return nil, nil
	}
	result := make([]collector.Reread, 0, len(values))
	for _, value := range values {
		interval, span, _ := strings.Cut(value, "=")
		var one collector.Reread
		var intervalErr, spanErr error
		one.Interval, intervalErr = time.ParseDuration(interval)
		one.Span, spanErr = time.ParseDuration(span)
		if intervalErr != nil || spanErr != nil || one.Interval <= 0 || one.Span <= 0 {
			return nil, usagef("--reread is %q and must be INTERVAL=SPAN, such as 10m=2h, or none", value)
		}
		result = append(result, one)
	}
	slices.SortFunc(result, func(a, b collector.Reread) int { return cmp.Compare(a.Interval, b.Interval) })
	return result, nil
}
