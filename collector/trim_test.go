package collector_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/collector"
	"defender-integration/collector/collectortest"
	"defender-integration/defender"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// tick is the least that times are told apart by.
const tick = 100 * time.Nanosecond

// entered takes down every revision that was ever in the journal, since trimming takes them away.
type entered struct {
	*bench

	seen map[uint64]string // id and title, by sequence
}

// look takes down what is in the journal now.
func (e *entered) look() {
	synctest.Wait() // Trimming may be at it.
	for _, p := range e.entries() {
		if rev := p.Entry.GetRevision(); rev != nil {
			e.seen[p.Sequence] = rev.GetKey() + " " + rev.GetAlert().GetTitle()
		}
	}
}

// run lets time pass, looking every minute.
func (e *entered) run(span time.Duration) {
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(time.Minute) {
		e.look()
	}
	e.look()
}

// all returns every revision that ever was in the journal, sorted.
func (e *entered) all() []string {
	var list []string
	for _, text := range e.seen {
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

// floor returns the journal's floor.
func (b *bench) floor() time.Time {
	b.t.Helper()
	journal, err := b.store.Journal(b.t.Context(), "uid")
	if err != nil {
		b.t.Fatal(err)
	}
	return journal.Checkpoint().GetFloorTime().AsTime()
}

// short keeps entries for an hour, and re-reads deeper than that.
func short() collector.Settings {
	settings := collector.DefaultSettings()
	settings.RetentionAge = time.Hour
	settings.Rereads = []collector.Reread{{Interval: time.Minute, Span: 24 * time.Hour}}
	return settings
}

// What trimming took away and Microsoft still shows enters no more, while what is news enters, down to the tick of the floor.
func TestTrimmedRevisionsEnterOnce(t *testing.T) {
	at := func(base time.Time, after time.Duration, id, title string) *integrationv1.Alert {
		return titled(id, title, base.Add(after))
	}
	for name, test := range map[string]struct {
		// before is shown at the start, after when the journal was trimmed, by then with that floor.
		before func(base time.Time) []*integrationv1.Alert
		after  func(base, floor time.Time) []*integrationv1.Alert
		want   []string
	}{
		"still shown": {
			before: func(base time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, 0, "a", "1"), at(base, time.Second, "b", "1")}
			},
			want: []string{"a 1", "b 1"},
		},
		"another alert of the newest trimmed update": {
			before: func(base time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, time.Second, "a", "1")}
			},
			after: func(base, _ time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, time.Second, "b", "1")}
			},
			want: []string{"a 1"},
		},
		"other content at the newest trimmed update": {
			before: func(base time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, time.Second, "a", "1")}
			},
			after: func(base, _ time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, time.Second, "a", "2")}
			},
			want: []string{"a 1"},
		},
		"at the floor's own instant": {
			before: func(base time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, time.Second, "a", "1")}
			},
			after: func(_, floor time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(floor, 0, "b", "1"), at(floor, 0, "a", "2")}
			},
			want: []string{"a 1", "a 2", "b 1"},
		},
		"a tick before the floor": {
			before: func(base time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, time.Second, "a", "1")}
			},
			after: func(_, floor time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(floor, -tick, "b", "1"), at(floor, -tick, "a", "2")}
			},
			want: []string{"a 1"},
		},
		"the older of two revisions again": {
			before: func(base time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, time.Second, "a", "1")}
			},
			after: func(base, _ time.Time) []*integrationv1.Alert {
				return []*integrationv1.Alert{at(base, 2*time.Hour, "a", "2"), at(base, time.Second, "a", "1"), at(base, 2*time.Hour, "a", "2")}
			},
			want: []string{"a 1", "a 2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, short())
				defer func() { b.stop() }()
				e := &entered{bench: b, seen: map[uint64]string{}}
				base := time.Now()
				for _, a := range test.before(base) {
					b.source.Put(a, base)
				}
				e.run(3 * time.Hour)
				if left := b.revisions(); len(left) != 0 {
					t.Fatalf("not trimmed: %q", left)
				}
				if test.after != nil {
					// In the place of one of the same id that was shown for a while.
					last := ""
					for _, a := range test.after(base, b.floor()) {
						if a.GetId() == last {
							e.run(2 * time.Minute)
						}
						b.source.Put(a, time.Now())
						last = a.GetId()
					}
				}
				e.run(3 * time.Hour)
				b.stop()
				b.start(short())
				e.run(time.Hour)
				if got := e.all(); !slices.Equal(got, test.want) {
					t.Errorf("entered %q, want %q", got, test.want)
				}
			})
		})
	}
}

// An alert of which only the older revision was trimmed, and that alternates between the two, enters with neither again: also where both
// have one last update.
func TestAlternatingAcrossTrimming(t *testing.T) {
	for name, apart := range map[string]time.Duration{"an hour apart": time.Hour, "at one instant": 0} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				settings := short()
				settings.RetentionAge = 2 * time.Hour
				b := newBench(t, settings)
				defer func() { b.stop() }()
				e := &entered{bench: b, seen: map[uint64]string{}}
				base := time.Now()
				older, newer := titled("a", "1", base), titled("a", "2", base.Add(apart))
				b.source.Put(older, base)
				b.source.Put(newer, base.Add(time.Hour))
				for after := 90 * time.Minute; after < 8*time.Hour; after += 20 * time.Minute {
					b.source.Put(older, base.Add(after))
					b.source.Put(newer, base.Add(after+10*time.Minute))
				}
				e.run(130 * time.Minute)
				if left := b.revisions(); len(left) != 1 {
					t.Fatalf("left is %q, want the newer one", left)
				}
				e.run(6 * time.Hour)
				if got, want := e.all(), []string{"a 1", "a 2"}; !slices.Equal(got, want) {
					t.Errorf("entered %q, want %q", got, want)
				}
			})
		})
	}
}

// timeless serves one element that tells no last update, by a time of its own that only its filter knows, and by a clock of its own. Its
// bytes change without its content.
type timeless struct {
	*collectortest.Source

	skew time.Duration // its clock less this machine's

	mu      sync.Mutex
	updated time.Time // of the element, as its filter sees it; zero before there is one
	title   string
}

// set gives the element other content now.
func (s *timeless) set(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.title, s.updated = title, time.Now().Add(s.skew)
}

func (s *timeless) Alerts() defender.AlertSource { return s }

func (s *timeless) ReadAlerts(_ context.Context, since time.Time, known defender.KnownFunc, yield func(*defender.Element) error) (defender.Read, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	read := defender.Read{Through: time.Now().Add(s.skew - time.Second), Asked: time.Now(), Calls: 1}
	if s.updated.IsZero() || s.updated.Before(since) {
		return read, nil
	}
	alert := &integrationv1.Alert{Id: "t", Title: s.title, CreatedTime: timestamppb.New(s.updated)}
	raw := fmt.Appendf(nil, "%s %d", s.title, time.Now().Unix()/600)
	e := &defender.Element{
		Raw: raw, RawHash: sha256.Sum256(raw), ContentHash: sha256.Sum256([]byte(s.title)), Key: "t", Updated: time.Now(), ReadTime: true, Alert: alert,
	}
	if _, ok := known(e.RawHash); ok {
		e.Known = true
	}
	read.Elements++
	return read, yield(e)
}

// An element without a readable last update counts as updated when it was first read, by Microsoft's clock. That lies behind what its
// source filters by, so once it is trimmed no read reaches back to it, and it enters once; with other content it enters again.
func TestElementsWithoutATimeAcrossTrimming(t *testing.T) {
	for _, skew := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, short())
				b.stop()
				s := &timeless{Source: b.source, skew: skew}
				b.startOn(short(), s, b.store)
				defer func() { b.stop() }()
				e := &entered{bench: b, seen: map[uint64]string{}}
				for _, title := range []string{"1", "2"} {
					e.run(10 * time.Minute)
					s.set(title)
					e.run(5 * time.Hour)
					if left := b.revisions(); len(left) != 0 {
						t.Fatalf("not trimmed: %q", left)
					}
				}
				if got, want := e.all(), []string{"t 1", "t 2"}; !slices.Equal(got, want) {
					t.Errorf("entered %q, want %q", got, want)
				}
			})
		})
	}
}
