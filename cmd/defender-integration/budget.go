package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"defender-integration/collector"
	"defender-integration/defender"
)

// reserveShare is the part of an allowance, one in so many calls, that only polls and closing reads may spend.
const reserveShare = 5

// budgets returns the allowances with those of the flag --budget in place of the ones of the same limit and period. Each is given
// as LIMIT=CALLS/PERIOD, such as graph-alerts=120/1m.
func budgets(allowances map[defender.Limit][]collector.Allowance, values []string) (map[defender.Limit][]collector.Allowance, error) {
	result := maps.Clone(allowances)
	for _, value := range values {
		name, amount, _ := strings.Cut(value, "=")
		calls, period, _ := strings.Cut(amount, "/")
		limit := defender.Limit(name)
		one := collector.Allowance{}
		var callsErr, periodErr error
		one.Calls, callsErr = strconv.Atoi(calls)
		one.Period, periodErr = time.ParseDuration(period)
		if callsErr != nil || periodErr != nil || one.Calls <= 0 || one.Period <= 0 {
			return nil, usagef("--budget is %q and must be LIMIT=CALLS/PERIOD, such as graph-alerts=120/1m", value)
		}
		if result[limit] == nil {
			known := slices.Sorted(maps.Keys(result))
			return nil, usagef("--budget names the limit %q; there are: %q", name, known)
		}
		one.Reserve = one.Calls / reserveShare
		list := slices.DeleteFunc(slices.Clone(result[limit]), func(a collector.Allowance) bool { return a.Period == one.Period })
		result[limit] = append(list, one)
	}
	return result, nil
}
