package hunting

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	var s size
	now := time.Now()
	for _, step := range []struct {
		after  time.Duration
		failed int
		want   int
	}{
		{0, 3, maxValues},           // Microsoft failed, whatever was asked
		{0, leastValues, maxValues}, // no less can be asked for
		{0, 2000, 1000},
		{time.Minute, 4000, 1000}, // what is less stays
		{time.Minute, 400, leastValues},
		{remembered, 0, maxValues},
		{0, 1000, 500},
	} {
		now = now.Add(step.after)
		s.failed(step.failed, now)
		if got := s.most(now); got != step.want {
			t.Errorf("after %d values: %d, want %d", step.failed, got, step.want)
		}
	}
}
