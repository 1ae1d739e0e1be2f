package defendertest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxISODuration is longer than anything is kept, and short enough to be reckoned with.
const maxISODuration = 10 * 365 * 24 * time.Hour

// parseISODuration reads a duration of ISO 8601 in days, hours, minutes and seconds, all whole: P30D, PT10M, P1DT12H.
func parseISODuration(text string) (time.Duration, error) {
	rest, ok := strings.CutPrefix(text, "P")
	days, clock, timed := strings.Cut(rest, "T")
	if !ok || rest == "" || timed && clock == "" {
		return 0, fmt.Errorf("%q is no duration of ISO 8601", text)
	}
	var total time.Duration
	for _, part := range []struct {
		rest  *string
		unit  string
		worth time.Duration
	}{{&days, "D", 24 * time.Hour}, {&clock, "H", time.Hour}, {&clock, "M", time.Minute}, {&clock, "S", time.Second}} {
		number, after, ok := strings.Cut(*part.rest, part.unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || time.Duration(n) > maxISODuration/part.worth {
			return 0, fmt.Errorf("%q is no duration of ISO 8601 that is played", text)
		}
		total += time.Duration(n) * part.worth
		*part.rest = after
	}
	if days != "" || clock != "" {
		return 0, fmt.Errorf("%q is no duration of ISO 8601 in days, hours, minutes and seconds", text)
	}
	return total, nil
}
