package collector_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"defender-integration/collector"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Streams that ask for what lies before the first read make the collector read back, once for all, no further than is kept here and at
// Microsoft; it says so while it lasts, and no more when they are gone.
func TestReadingBack(t *testing.T) {
	for _, tt := range []struct {
		name           string
		kept, upstream time.Duration
		asked          []time.Duration
		want           time.Duration
		leave          bool
	}{
		{name: "the earliest that is asked for", kept: 720 * time.Hour, upstream: 4320 * time.Hour, asked: []time.Duration{10 * time.Hour, 30 * time.Hour, 20 * time.Hour}, want: 30 * time.Hour},
		{name: "no further than is kept", kept: 24 * time.Hour, upstream: 4320 * time.Hour, asked: []time.Duration{30 * time.Hour}, want: 24 * time.Hour},
		{name: "no further than Microsoft keeps", kept: 720 * time.Hour, upstream: 12 * time.Hour, asked: []time.Duration{30 * time.Hour}, want: 12 * time.Hour},
		{name: "nobody who asked is left", kept: 720 * time.Hour, upstream: 4320 * time.Hour, asked: []time.Duration{30 * time.Hour}, leave: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				settings := collector.DefaultSettings()
				settings.RetentionAge, settings.UpstreamRetention, settings.Rereads = tt.kept, tt.upstream, nil
				b := newBench(t, settings)
				b.stop()
				o := &odd{Source: b.source}
				failing := true
				o.fail = func(since time.Time) error {
					if failing && time.Since(since) > time.Hour {
						return &defender.Error{Problem: &integrationv1.Problem{Reason: integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED}}
					}
					return nil
				}
				b.startOdd(settings, o)
				defer func() { b.stop() }()
				c := b.collector()
				time.Sleep(10 * time.Second)
				began := time.Now()
				var members []*collector.Member
				for _, reach := range tt.asked {
					m, _, err := c.Join(t.Context(), nil)
					if err != nil {
						t.Fatal(err)
					}
					m.SetReach(began.Add(-reach))
					members = append(members, m)
				}
				time.Sleep(20 * time.Second)
				if s, _ := c.Snapshot(); s.ReadingBack.IsZero() || s.Covered.IsZero() || !s.ReadingBack.Before(s.Covered) {
					t.Errorf("covered since %v, reading back to %v", s.Covered, s.ReadingBack)
				}
				if tt.leave {
					for _, m := range members {
						m.Leave()
					}
				}
				o.mu.Lock()
				o.fail = nil
				o.mu.Unlock()
				before := len(b.source.Reads())
				time.Sleep(5 * time.Minute)
				s, _ := c.Snapshot()
				if !s.ReadingBack.IsZero() {
					t.Errorf("reading back to %v is told still", s.ReadingBack)
				}
				deep := slices.DeleteFunc(b.source.Reads()[before:], func(since time.Time) bool { return began.Sub(since) < time.Hour })
				if tt.leave {
					if len(deep) > 0 {
						t.Errorf("read back %d times for nobody", len(deep))
					}
					return
				}
				if len(deep) != 1 || !s.Covered.Equal(deep[0]) || began.Sub(deep[0]).Round(5*time.Minute) != tt.want {
					t.Errorf("covered since %v before, by %d deep reads, want %v by one", began.Sub(s.Covered), len(deep), tt.want)
				}
			})
		})
	}
}

// Of what Microsoft keeps no longer, no read proves anything: a closing that begins before is told so at once, and no pair reaches there.
func TestBeforeWhatMicrosoftKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := collector.DefaultSettings()
		b := newBench(t, settings)
		defer func() { b.stop() }()
		time.Sleep(time.Minute)
		now := time.Now()
		m, _, err := b.collector().Join(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Leave()
		m.SetClosing(collector.Closing{Since: now.Add(-settings.UpstreamRetention - time.Hour), Due: now.Add(-settings.UpstreamRetention)})
		time.Sleep(time.Minute)
		failed := 0
		for _, p := range b.entries() {
			if since := p.Entry.GetPair().GetPair().GetSince(); since != nil && since.AsTime().Before(now.Add(-settings.UpstreamRetention)) {
				t.Errorf("the pair %v passes what Microsoft does not keep", p.Entry.GetPair().GetPair())
			}
			if f := p.Entry.GetFailedClosing(); f != nil {
				failed++
				if f.GetProblem().GetReason() != integrationv1.ErrorReason_ERROR_REASON_HISTORY_GONE {
					t.Errorf("the failed closing tells %v", f.GetProblem())
				}
			}
		}
		if failed != 1 {
			t.Errorf("%d failed closings, want one", failed)
		}
	})
}
