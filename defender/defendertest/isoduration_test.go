package defendertest

import (
	"testing"
	"time"
)

func TestParseISODuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"PT10M": 10 * time.Minute, "P30D": 720 * time.Hour, "P1DT12H": 36 * time.Hour, "PT1H2M3S": time.Hour + 2*time.Minute + 3*time.Second, "PT0S": 0,
	} {
		if got, err := parseISODuration(text); err != nil || got != want {
			t.Errorf("%s: %v %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "P", "PT", "10M", "P10M", "PT10", "PT1.5H", "P-1D", "P1W", "PT3M2H", "P1DT", "P99999999999D", "P4000D", "pt1m", "P1D/P2D"} {
		if got, err := parseISODuration(text); err == nil {
			t.Errorf("%q reads as %v", text, got)
		}
	}
}
