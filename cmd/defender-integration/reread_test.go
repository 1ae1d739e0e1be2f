package main

import (
	"slices"
	"testing"
	"time"

	"defender-integration/collector"
)

func TestRereads(t *testing.T) {
	defaults := collector.DefaultSettings().Rereads
	for _, tt := range []struct {
		values []string
		want   []collector.Reread
	}{
		{nil, defaults},
		{[]string{"none"}, nil},
		{[]string{"2h=48h", "5m=30m"}, []collector.Reread{{Interval: 5 * time.Minute, Span: 30 * time.Minute}, {Interval: 2 * time.Hour, Span: 48 * time.Hour}}},
	} {
		if got, err := rereads(defaults, tt.values); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %v, %v, want %v", tt.values, got, err, tt.want)
		}
	}
	for _, bad := range []string{"", "10m", "10m=", "=2h", "0s=2h", "10m=-2h", "x=2h", "10m=2h=3h"} {
		if got, err := rereads(defaults, []string{bad}); err == nil {
			t.Errorf("%q is taken: %v", bad, got)
		}
	}
	if got, err := rereads(defaults, []string{"10m=2h", "none"}); err == nil {
		t.Errorf("none beside another is taken: %v", got)
	}
}
