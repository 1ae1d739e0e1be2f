package judgement_test

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestCases plays every case through every API that it goes through.
func TestCases(t *testing.T) {
	t.Parallel()
	for _, f := range load(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			outcomes := f.play(t)
			for i, c := range f.cases {
				t.Run(c.name, func(t *testing.T) {
					for j, w := range c.ways {
						t.Run(spell(w.api), func(t *testing.T) {
							if wrong := outcomes[i][j].check(w.spec); len(wrong) > 0 {
								t.Errorf("%s: %q does not hold through %s:\n\t%s", f.name, c.name, spell(w.api), strings.Join(wrong, "\n\t"))
							}
						})
					}
				})
			}
		})
	}
}

// outcome is what came of a case through an API.
type outcome struct {
	recorded recorded
	streams  []*played
	err      error
}

// begin is when the first integration is registered.
func (f *file) begin() time.Time {
	begin := at("12:00")
	for _, c := range f.cases {
		for _, w := range c.ways {
			if registered := w.spec.registered(); registered.Before(begin) {
				begin = registered
			}
		}
	}
	return begin
}

// play plays the cases of a file, all at once, in one house. The outcomes are by case and by way.
func (f *file) play(t *testing.T) [][]*outcome {
	t.Helper()
	var all [][]*outcome
	for _, c := range f.cases {
		var ways []*outcome
		for _, w := range c.ways {
			ways = append(ways, &outcome{recorded: record(t, w.spec, w.api)})
		}
		all = append(all, ways)
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(f.begin()))
		h := newHouse(t)
		var playing sync.WaitGroup
		for i, c := range f.cases {
			for j, w := range c.ways {
				o := all[i][j]
				playing.Go(func() { o.streams, o.err = h.play(fmt.Sprintf("case-%d-%d", i, j), w.spec, w.api, o.recorded) })
			}
		}
		playing.Wait()
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	})
	return all
}

// check says what is other than a case expects.
func (o *outcome) check(s *spec) (wrong findings) {
	if o.err != nil {
		return findings{fmt.Sprint("it cannot be played: ", o.err)}
	}
	for i, wants := range s.allWants() {
		when := ""
		if i > 0 {
			when = "again at " + clock(s.Again[i-1].At.Time) + ": "
		}
		wrong = append(wrong, o.checkStream(i, wants, when)...)
	}
	for i := range wrong {
		wrong[i] = s.inItsWords(wrong[i])
	}
	return wrong
}

// inItsWords writes a text with the case's own words for the devices.
func (s *spec) inItsWords(text string) string {
	devices := slices.Clone(s.devices())
	for _, a := range s.Alerts {
		devices = append(devices, a.devices()...)
	}
	for _, d := range devices {
		text = strings.ReplaceAll(text, d.id(), cmp.Or(d.ID, d.name()))
	}
	return text
}

func (o *outcome) checkStream(i int, wants map[string]*want, when string) (wrong findings) {
	for _, id := range slices.Sorted(maps.Keys(wants)) {
		who := ""
		if len(wants) > 1 {
			who = "of " + id + ", "
		}
		for _, one := range wants[id].check(o.streams[i], id) {
			wrong = append(wrong, when+who+one)
		}
		if len(wrong) > 0 {
			wrong = append(wrong, when+who+"the verdict says: "+o.streams[i].verdict(id).GetExplanation())
		}
	}
	return wrong
}

// TestNoTwoCasesHaveOneName, and there are enough of them.
func TestNoTwoCasesHaveOneName(t *testing.T) {
	seen := map[string]string{}
	played := 0
	for _, f := range load(t) {
		for _, c := range f.cases {
			if where, twice := seen[c.name]; twice {
				t.Errorf("%s and %s have a case of the name %q", where, f.name, c.name)
			}
			seen[c.name] = f.name
			played += len(c.ways)
		}
	}
	t.Logf("%d cases, played %d times", len(seen), played)
	if len(seen) < leastCases {
		t.Errorf("there are %d cases, and must be at least %d", len(seen), leastCases)
	}
}

// unreachable are values that no stream of one service can be brought to say, each with the reason.
func unreachable() map[string]string {
	return map[string]string{}
}

// TestEveryWordOccurs holds that there is a case for each thing that a stream may say of an Actor.
func TestEveryWordOccurs(t *testing.T) {
	occurs := map[string]bool{}
	for _, f := range load(t) {
		for _, c := range f.cases {
			for _, w := range c.ways {
				note(reflect.ValueOf(w.spec), occurs)
			}
		}
	}
	for _, e := range []protoreflect.Enum{
		integrationv1.Verdict(0), integrationv1.CannotJudgeReason(0), integrationv1.MatchCriterion(0), integrationv1.TraceCriterion(0),
		integrationv1.Confidence(0), integrationv1.Activity(0), integrationv1.Outcome(0), integrationv1.CountingCriterion(0),
	} {
		values := e.Descriptor().Values()
		for i := 1; i < values.Len(); i++ {
			name := string(values.Get(i).Name())
			if _, cannot := unreachable()[name]; !cannot && !occurs[name] {
				t.Errorf("no case expects %s", name)
			}
		}
	}
}

// note takes note of the words that a case expects.
func note(v reflect.Value, occurs map[string]bool) {
	if v.Kind() == reflect.Struct && strings.HasPrefix(v.Type().Name(), "word[") {
		e := v.Interface().(interface{ enum() protoreflect.Enum }).enum()
		occurs[string(e.Descriptor().Values().ByNumber(e.Number()).Name())] = true
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			note(v.Elem(), occurs)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				note(v.Field(i), occurs)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			note(v.Index(i), occurs)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			note(v.MapIndex(key), occurs)
		}
	}
}
