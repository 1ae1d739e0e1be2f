package acceptance_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// received is an event as a stream got it, when by Microsoft's clock, and how many revisions Microsoft held then.
type received struct {
	at    time.Time
	held  int
	event *integrationv1.StreamAlertsResponse
}

// judgement is what the simulated side's record says of what one stream got.
type judgement struct {
	lost, twice, untruePairs int
	// stale are the revisions that came though Microsoft had served a newer one of their alert before.
	stale int
	// pairs is how many pairs were told, and vouched how many revisions they vouch for together: where that is nothing, they were
	// not tested.
	pairs, vouched int
	// complaints say what is wrong, each in a line.
	complaints []string
}

func (j *judgement) complainf(format string, values ...any) {
	j.complaints = append(j.complaints, fmt.Sprintf(format, values...))
}

// judge compares what a stream got with the revisions that concern it, in the record's order. lag is how much later than the record
// says a revision is visible everywhere, where a replica lags.
//
// What must be delivered is every content that Microsoft served whole before a newer one of its alert, and what Microsoft still
// shows; so a revision that was replaced before any read is not lost, and one that was first shown after a newer one need not come.
func judge(revisions []defendertest.Revision, events []received, lag time.Duration) judgement {
	var j judgement
	when := map[string][]int{} // by content: the places of the events that delivered it
	for i, e := range events {
		if alert := e.event.GetAlert(); alert != nil {
			raw := string(alert.GetRaw())
			when[raw] = append(when[raw], i)
		}
	}
	known := map[string]bool{}
	var due []defendertest.Revision
	for _, r := range revisions {
		if !known[string(r.Raw)] && isDue(r, revisions) {
			due = append(due, r)
			switch places := when[string(r.Raw)]; {
			case len(places) == 0:
				j.lost++
				j.complainf("lost: revision %d of %s, %s", r.Number, r.Key, history(r))
			case len(places) > 1:
				j.twice += len(places) - 1
				j.complainf("%d times: revision %d of %s, %s", len(places), r.Number, r.Key, history(r))
			}
		} else if !known[string(r.Raw)] && r.Served > 0 && len(when[string(r.Raw)]) > 0 {
			j.stale++
			j.complainf("after a newer one: revision %d of %s, %s", r.Number, r.Key, history(r))
		}
		known[string(r.Raw)] = true
	}
	for raw := range when {
		if !known[raw] {
			j.twice++
			j.complainf("delivered and never held: %.300s", raw)
		}
	}
	told := map[string]bool{}
	for i, e := range events {
		for _, pair := range pairsOf(e.event) {
			// Each counts from when it is first told: later there is no less that it rests on.
			if text := pair.String(); !told[text] {
				told[text] = true
				j.pairs++
				if !j.vouch(pair, i, e, due, when, lag) {
					j.untruePairs++
				}
			}
		}
	}
	return j
}

// isDue says whether a revision must be delivered.
func isDue(r defendertest.Revision, revisions []defendertest.Revision) bool {
	if r.Served == 0 {
		return r.Visible
	}
	return !slices.ContainsFunc(revisions, func(other defendertest.Revision) bool {
		return other.Key == r.Key && other.LastUpdate.After(r.LastUpdate) && other.Served > 0 && other.FirstServed.Before(r.FirstServed)
	})
}

// vouch says whether a pair that came in an event is true: what was visible when its read began, was last updated at or after where
// the read reached back to, and was there to be read, was delivered in an event before. What was replaced before the pair came, and
// never served, the read need not have met; what was added after it came it could not have, whatever the clocks say.
func (j *judgement) vouch(pair *integrationv1.Pair, place int, e received, due []defendertest.Revision, when map[string][]int, lag time.Duration) bool {
	since, through, ok := pair.GetSince().AsTime(), pair.GetThrough().AsTime(), true
	for _, r := range due {
		visible := !r.VisibleAt.IsZero() && !r.VisibleAt.Add(lag).After(through)
		gone := r.Served == 0 && !r.Replaced.IsZero() && !r.Replaced.After(e.at)
		if r.Sequence > e.held || r.LastUpdate.Before(since) || !visible || gone {
			continue
		}
		j.vouched++
		if places := when[string(r.Raw)]; len(places) == 0 || places[0] > place {
			ok = false
			j.complainf("untrue: complete since %s through %s, told at %s before revision %d of %s, %s", since.Format(time.StampMilli),
				through.Format(time.StampMilli), e.at.Format(time.StampMilli), r.Number, r.Key, history(r))
		}
	}
	return ok
}

// pairsOf are the pairs that an event tells.
func pairsOf(event *integrationv1.StreamAlertsResponse) []*integrationv1.Pair {
	if done := event.GetCompleted().GetPair(); done != nil {
		return []*integrationv1.Pair{done}
	}
	return event.GetProgress().GetPairs()
}

// concerning are the revisions that a stream for devices must get: all that name one of them, and all that follow of those alerts.
func concerning(revisions []defendertest.Revision, devices ...defendertest.Device) []defendertest.Revision {
	var some []defendertest.Revision
	matched := map[string]bool{}
	for _, r := range revisions {
		for _, device := range devices {
			matched[r.Key] = matched[r.Key] || bytes.Contains(r.Raw, []byte(device.DNSName))
		}
		if matched[r.Key] {
			some = append(some, r)
		}
	}
	return some
}

// TestJudge shows that what is wrong is found.
func TestJudge(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	served := func(raw string, seconds, servedAt int) defendertest.Revision {
		return defendertest.Revision{Key: raw[:1], Raw: []byte(raw), LastUpdate: at(seconds), VisibleAt: at(seconds), Visible: true, Served: 1, FirstServed: at(servedAt)}
	}
	replaced := func(r defendertest.Revision, seconds int) defendertest.Revision {
		r.Visible, r.Replaced = false, at(seconds)
		return r
	}
	unserved := func(r defendertest.Revision) defendertest.Revision {
		r.Served, r.FirstServed = 0, time.Time{}
		return r
	}
	alert := func(seconds int, raw string) received { return received{at(seconds), 0, alertEvent(raw)} }
	pair := func(seconds, since, through int) received {
		return received{at(seconds), 0, pairEvent(at(since), at(through))}
	}

	added := func(r defendertest.Revision, sequence int) defendertest.Revision {
		r.Sequence = sequence
		return r
	}

	for name, tt := range map[string]struct {
		revisions []defendertest.Revision
		events    []received
		lag       time.Duration
		want      judgement
	}{
		"all is well": {
			[]defendertest.Revision{replaced(served("a1", 1, 2), 3), served("a2", 3, 4), served("b1", 3, 4)},
			[]received{alert(2, "a1"), pair(2, 0, 1), alert(4, "a2"), alert(4, "b1"), pair(5, 0, 4)}, 0,
			judgement{pairs: 2, vouched: 4},
		},
		"lost, though served":        {[]defendertest.Revision{replaced(served("a1", 1, 2), 3)}, nil, 0, judgement{lost: 1}},
		"lost, though still shown":   {[]defendertest.Revision{unserved(served("a1", 1, 0))}, nil, 0, judgement{lost: 1}},
		"replaced before a read":     {[]defendertest.Revision{replaced(unserved(served("a1", 1, 0)), 2)}, []received{pair(3, 0, 2)}, 0, judgement{pairs: 1}},
		"twice":                      {[]defendertest.Revision{served("a1", 1, 2)}, []received{alert(2, "a1"), alert(3, "a1")}, 0, judgement{twice: 1}},
		"never held":                 {nil, []received{alert(2, "a1")}, 0, judgement{twice: 1}},
		"a pair before its alert":    {[]defendertest.Revision{served("a1", 1, 2)}, []received{pair(2, 0, 1), alert(2, "a1")}, 0, judgement{untruePairs: 1, pairs: 1, vouched: 1}},
		"updated before the pair":    {[]defendertest.Revision{served("a1", 1, 2)}, []received{pair(2, 2, 3), alert(3, "a1")}, 0, judgement{pairs: 1}},
		"visible after the pair":     {[]defendertest.Revision{served("a1", 3, 4)}, []received{pair(4, 0, 2), alert(4, "a1")}, 0, judgement{pairs: 1}},
		"added after the pair":       {[]defendertest.Revision{added(served("a1", 1, 2), 1)}, []received{pair(2, 0, 3), alert(3, "a1")}, 0, judgement{pairs: 1}},
		"the same pair again":        {[]defendertest.Revision{served("a1", 1, 2)}, []received{pair(2, 0, 1), pair(2, 0, 1), alert(2, "a1")}, 0, judgement{untruePairs: 1, pairs: 1, vouched: 1}},
		"visible on one replica yet": {[]defendertest.Revision{served("a1", 1, 2)}, []received{pair(2, 0, 1), alert(3, "a1")}, time.Second, judgement{pairs: 1}},
		"shown after a newer one":    {[]defendertest.Revision{replaced(served("a1", 1, 5), 3), served("a2", 3, 4)}, []received{alert(4, "a2"), pair(9, 0, 8)}, 0, judgement{pairs: 1, vouched: 1}},
		"delivered all the same":     {[]defendertest.Revision{replaced(served("a1", 1, 5), 3), served("a2", 3, 4)}, []received{alert(4, "a2"), alert(5, "a1")}, 0, judgement{stale: 1}},
		"one content, shown twice":   {[]defendertest.Revision{replaced(served("a1", 1, 2), 3), served("a1", 1, 4)}, []received{alert(2, "a1"), pair(9, 0, 8)}, 0, judgement{pairs: 1, vouched: 1}},
	} {
		got := judge(tt.revisions, tt.events, tt.lag)
		complaints := got.complaints
		got.complaints = nil
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: judged as %+v, want %+v: %q", name, got, tt.want, complaints)
		}
		if wrong := got.lost + got.twice + got.untruePairs + got.stale; wrong > 0 != (len(complaints) > 0) {
			t.Errorf("%s: %d are wrong and %q is said", name, wrong, complaints)
		}
	}
}
