package main

import (
	"reflect"
	"testing"
	"time"

	"defender-integration/collector"
	"defender-integration/defender"
)

func TestBudgets(t *testing.T) {
	defaults := collector.DefaultSettings().Budgets
	got, err := budgets(defaults, []string{"graph-alerts=50/1m", "defender-for-endpoint=40/1m0s", "defender-for-endpoint=9000/24h"})
	want := map[defender.Limit][]collector.Allowance{
		defender.LimitGraphAlerts: {{Period: time.Minute, Calls: 50, Reserve: 10}},
		defender.LimitEndpoint: {
			{Period: time.Hour, Calls: 1200, Reserve: 240}, {Period: time.Minute, Calls: 40, Reserve: 8}, {Period: 24 * time.Hour, Calls: 9000, Reserve: 1800},
		},
		defender.LimitHunting:   defaults[defender.LimitHunting],
		defender.LimitTelemetry: defaults[defender.LimitTelemetry],
		defender.LimitSIEM:      defaults[defender.LimitSIEM],
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if got, err := budgets(defaults, nil); err != nil || !reflect.DeepEqual(got, collector.DefaultSettings().Budgets) {
		t.Errorf("the defaults are %v, %v", got, err)
	}
	for _, bad := range []string{"", "graph-alerts", "graph-alerts=120", "graph-alerts=0/1m", "graph-alerts=1/0s", "graph-alerts=x/1m", "nothing=1/1m"} {
		if got, err := budgets(defaults, []string{bad}); err == nil {
			t.Errorf("%q is taken: %v", bad, got)
		}
	}
}
