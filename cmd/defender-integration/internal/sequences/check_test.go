package sequences_test

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// maxWrong is how much is told of what is wrong.
const maxWrong = 5

// check compares the journal with what Microsoft showed, and the streams with the journal. No stream runs.
func (p *play) check(healed time.Time) []string {
	p.proofs = nil
	var wrong []string
	for _, l := range p.witness.all() {
		wrong = append(wrong, p.checkLog(l)...)
	}
	wrong = append(wrong, p.checkEnd(healed)...)
	for _, d := range p.directors {
		wrong = append(wrong, p.checkDirector(d, true)...)
		wrong = append(wrong, p.checkEnded(d, healed)...)
		wrong = append(wrong, p.checkTwin(d)...)
	}
	return wrong[:min(len(wrong), maxWrong)]
}

// checkEnded says whether a bounded stream ended: not long after it was due, and everything was well.
func (p *play) checkEnded(d *director, healed time.Time) []string {
	window := d.request.GetWindow()
	if window.GetEndTime() == nil || d.done || len(d.faults) > 0 {
		return nil
	}
	due := window.GetEndTime().AsTime().Add(d.request.GetWait().AsDuration()).Add(-p.microsoft.skew)
	if due.Before(healed) {
		due = healed
	}
	if time.Since(due) > p.pace.of(settle/2)+2*time.Second {
		return []string{fmt.Sprintf("%s was to end at %v, and has not", d.name, due)}
	}
	return nil
}

// checkDirector compares what a stream sent with what it had to send. Whole says that it had the time to send everything.
func (p *play) checkDirector(d *director, whole bool) []string {
	var wrong []string
	for _, fault := range d.faults {
		wrong = append(wrong, fmt.Sprintf("%s: %s", d.name, fault))
	}
	for i, e := range d.eras {
		if len(e.kept) == 0 {
			continue
		}
		c := &comparison{play: p, director: d, era: e, log: p.witness.of(e.identity)}
		wrong = append(wrong, c.compare(whole && i == len(d.eras)-1)...)
	}
	return wrong
}

// comparison compares what a stream sent of a journal with what it had to send.
type comparison struct {
	*play
	director *director
	era      *era
	log      *log
	list     []expected
	gap      bool // that history is gone was told
	wrong    []string
}

func (c *comparison) faultf(format string, args ...any) {
	c.wrong = append(c.wrong, c.director.name+": "+fmt.Sprintf(format, args...))
}

func (c *comparison) compare(whole bool) []string {
	e := c.era
	if c.log == nil {
		c.faultf("it is of a journal that nobody saw, %s", e.identity)
		return c.wrong
	}
	if !e.anew && (e.start < c.log.readable(e.opened.Add(-1)) || e.start > c.log.perhaps(e.began)) {
		c.faultf("it began behind entry %d, and the journal had %d when it was asked for and %d at its first event",
			e.start, c.log.readable(e.opened), c.log.perhaps(e.began))
	}
	completions := 1
	var again []uint64 // behind which entries the window was judged again, by the tokens
	for i, r := range e.kept {
		if r.GetCompleted() != nil && (i < len(e.kept)-1 || !c.director.done) {
			completions++
		}
		if r.GetCompleted() != nil && i < len(e.kept)-1 {
			next := e.kept[i+1]
			start := next.token.GetStartSequence()
			if again = append(again, start); start < r.token.GetSequence() || start > c.log.perhaps(next.at) {
				c.faultf("it was completed by entry %d, and is judged again behind entry %d", r.token.GetSequence(), start)
			}
		}
		c.gap = c.gap || r.GetGap() != nil
	}
	var shown map[string]bool
	c.list, shown = expect(c.director.request, c.log, e.start, completions, again, e.lost)
	next := 0
	for _, r := range e.kept {
		switch {
		case r.ofJournal():
			if c.trimmedAny() && shown[r.GetAlert().GetAlert().GetId()] && !c.comes(r, next) {
				continue // What showed it was trimmed, and it was shown again.
			}
			if !c.comes(r, next) && c.cameLater(r) {
				continue
			}
			for next < len(c.list) && !c.agree(r, c.list[next]) && c.mayBeGone(c.list[next]) {
				next++
			}
			if next == len(c.list) {
				c.faultf("%s came, and nothing more was to", tell(r))
				return c.wrong
			}
			c.same(r, c.list[next])
			next++
		case r.GetProgress() != nil:
			for _, pair := range r.GetProgress().GetPairs() {
				c.pair(r, pair, c.list[next:])
			}
		}
		if len(c.wrong) > 0 {
			return c.wrong
		}
	}
	for _, x := range c.list[next:] {
		if whole && !c.mayBeGone(x) {
			c.faultf("%v never came", x)
			break
		}
	}
	return c.wrong
}

// agree says that an event is the expected one, by what cannot be the same of two.
func (c *comparison) agree(r *received, x expected) bool {
	if r.token.GetSequence() != x.sequence || (r.GetCompleted() != nil) != (x.closing != nil) {
		return false
	}
	return x.closing != nil || proto.Equal(r.GetAlert().GetAlert(), x.revision.GetAlert())
}

// mayBeGone says that an expected event need not come, since trimming dropped what it rests on.
func (c *comparison) mayBeGone(x expected) bool {
	trimmed := func(sequence uint64) bool { return sequence < c.log.first(time.Now()) }
	for _, l := range c.era.lost {
		if x.sequence > l.after && x.own < l.first {
			return true
		}
	}
	switch {
	case x.shown && c.trimmedAny():
		return true
	case x.own < c.log.first(c.era.began): // from before the stream
		return !c.reachable(x) || c.gap || c.era.anew || !c.hasWindow()
	case c.gap && trimmed(x.own):
		return true
	case trimmed(x.own) && x.own < x.sequence: // before the fact that would have brought it
		return true
	}
	return x.before != 0 && trimmed(x.anchor) && !x.matches
}

// trimmedAny says that something was trimmed.
func (c *comparison) trimmedAny() bool { return c.log.first(time.Now()) > 1 }

// comes says that an event is one that is expected from a place on.
func (c *comparison) comes(r *received, from int) bool {
	return slices.ContainsFunc(c.list[from:], func(x expected) bool { return c.agree(r, x) })
}

// cameLater says that an event brings a revision by a device fact that was to come before, as one that no longer matches: trimming had
// dropped by then what was sent of its alert.
func (c *comparison) cameLater(r *received) bool {
	return slices.ContainsFunc(c.list, func(x expected) bool {
		return x.closing == nil && !x.matches && x.before != 0 && x.anchor < c.log.first(time.Now()) &&
			r.token.GetSequence() > x.sequence && proto.Equal(r.GetAlert().GetAlert(), x.revision.GetAlert())
	})
}

// mayBeEither says that an event may be NEW as well as UPDATED: of what was trimmed, nobody who begins later knows that it was sent,
// nor, where the floor has passed the window's start, that it was not.
func (c *comparison) mayBeEither(x expected) bool {
	now := time.Now()
	if x.shown && c.trimmedAny() {
		return true
	}
	if x.before != 0 {
		return x.anchor < c.log.first(now)
	}
	before := x.revision.GetPreviousSequence()
	start := c.director.request.GetWindow().GetStartTime().AsTime().Add(-c.director.request.GetTolerance().AsDuration())
	return before != 0 && before < c.log.first(now) && c.hasWindow() && start.Before(c.log.floor(now))
}

func (c *comparison) hasWindow() bool { return c.director.request.GetWindow().GetStartTime() != nil }

// reachable says that a revision's last update was not below the floor when the stream began.
func (c *comparison) reachable(x expected) bool {
	return x.revision != nil && !x.revision.GetUpdatedTime().AsTime().Before(c.log.floor(c.era.began))
}

// same compares an event with the expected one.
func (c *comparison) same(r *received, x expected) {
	switch {
	case !c.agree(r, x):
		c.faultf("%s came, and not %v", tell(r), x)
	case r.GetCompleted() != nil:
		c.completed(r.GetCompleted(), x)
	default:
		a := r.GetAlert()
		want := integrationv1.AlertEvent_KIND_NEW
		if x.before != 0 {
			want = integrationv1.AlertEvent_KIND_UPDATED
		}
		if a.GetKind() != want && !c.mayBeEither(x) {
			c.faultf("%s came, and not %v", tell(r), x)
		}
		if x.shown && c.trimmedAny() {
			return // What showed whose the device is may be gone.
		}
		if every := len(c.director.request.GetActors()) == 0; a.GetNoLongerMatches() != (!x.matches && !every) || !every && x.matches != (len(a.GetActors()) > 0) {
			c.faultf("%s matches %d Actors, %v", tell(r), len(a.GetActors()), x)
		}
	}
}

// completed compares what a completed says with what it rests on.
func (c *comparison) completed(got *integrationv1.CompletedEvent, x expected) {
	if !proto.Equal(got.GetPair(), x.closing.GetPair().GetPair()) || (got.GetPair() == nil) != (x.closing.GetPair() == nil) {
		c.faultf("completed by %v, and not by %v", got, x.closing)
	}
	if c.log.first(time.Now()) == 1 && got.GetAlerts() != int64(x.alerts) {
		c.faultf("completed with %d alerts, and %d match: %v", got.GetAlerts(), x.alerts, got)
	}
	for _, v := range got.GetVerdicts() {
		inside := x.inside[v.GetActorId()]
		switch v.GetVerdict() {
		case integrationv1.Verdict_VERDICT_MISSED:
			if c.trimmedAny() {
				inside = x.surely[v.GetActorId()]
			}
			if inside > 0 || got.GetPair() == nil {
				c.faultf("judged as %v, with %d alerts in the window", v, inside)
			}
		case integrationv1.Verdict_VERDICT_PREVENTED, integrationv1.Verdict_VERDICT_DETECTED, integrationv1.Verdict_VERDICT_DETECTED_LATE:
			if inside == 0 {
				c.faultf("judged as %v, without an alert in the window", v)
			}
		}
	}
}

// pair checks that a pair is true, and that all before it was sent. Left are the events that were still to come.
func (c *comparison) pair(r *received, pair *integrationv1.Pair, left []expected) {
	sequence, why := c.proven(c.log, pair, r.at)
	if why != "" {
		c.faultf("it was told %v at %v: %s", pair, r.at, why)
		return
	}
	for _, x := range left {
		if x.sequence > sequence {
			return
		}
		if !c.mayBeGone(x) {
			c.faultf("it was told %v, before %v", pair, x)
			return
		}
	}
}

// checkTwin compares a stream with those of the same request: what both sent must be the same.
func (p *play) checkTwin(d *director) []string {
	for _, other := range p.directors {
		if other == d {
			break
		}
		mine, its := d.era(), other.era()
		if !proto.Equal(d.request, other.request) || mine.identity != its.identity || mine.start != its.start || mine.anew || its.anew ||
			len(mine.kept) == 0 || p.witness.of(mine.identity).first(time.Now()) > 1 {
			continue
		}
		a, b := journalled(mine.kept), journalled(its.kept)
		for i := range min(len(a), len(b)) {
			if i > 0 && a[i-1].GetCompleted() != nil {
				break // They were judged again by reads that were made after each came again.
			}
			if !proto.Equal(a[i].token.GetStartTime(), b[i].token.GetStartTime()) {
				break // Without a window their windows begin when they did.
			}
			if why := differ(a[i], b[i]); why != "" {
				return []string{fmt.Sprintf("%s and %s are of the same request: %s", d.name, other.name, why)}
			}
		}
	}
	return nil
}

// forgetting checks a stream before its last events are forgotten, and remembers them: they come again, and must be the same.
func (p *play) forgetting(d *director, forget int) {
	if wrong := p.checkDirector(d, false); len(wrong) > 0 {
		d.faults = append(d.faults, wrong...)
	}
	kept := d.era().kept
	d.forgotten = append(d.forgotten, kept[max(len(kept)-forget, min(len(kept), 1)):]...)
}

// readAgain reads each stream again, from a token in its middle, and checks that it says what it said; and that what was forgotten on
// the way came again as it was. What was trimmed, or damaged and not found yet, cannot be read again.
func (p *play) readAgain() []string {
	var wrong []string
	current := p.witness.current()
	if p.damaged[current.identity] || current.first(time.Now()) > 1 {
		return nil
	}
	for i, d := range p.directors {
		e := d.era()
		if len(e.kept) == 0 || current.identity != e.identity {
			continue
		}
		wrong = append(wrong, repeated(d)...)
		half := 1 + int((p.script.seed+uint64(i))%uint64(len(e.kept)))
		if e.kept[half-1].GetCompleted() != nil {
			continue // That asks for another judgement.
		}
		again := &director{house: p.house, request: d.request, name: d.name + " again"}
		again.eras = []*era{{identity: e.identity, start: e.start, kept: slices.Clone(e.kept[:half])}}
		want := journalled(e.kept[half:])
		if n := slices.IndexFunc(want, func(r *received) bool { return r.GetCompleted() != nil }); n >= 0 {
			want = want[:n+1] // Where it was judged again, that was asked for with the token of its completed.
		}
		again.resume(0)
		p.await(again, half, len(want))
		again.cut()
		got := journalled(again.era().kept[min(half, len(again.era().kept)):])
		for i, r := range want {
			if i == len(got) {
				wrong = append(wrong, fmt.Sprintf("%s, from event %d: %s did not come", again.name, half, tell(r)))
				break
			}
			if why := differ(r, got[i]); why != "" {
				wrong = append(wrong, fmt.Sprintf("%s, from event %d: %s", again.name, half, why))
				break
			}
		}
		wrong = append(wrong, again.faults...)
	}
	if p.witness.of(current.identity).first(time.Now()) > 1 {
		return nil // Trimming fell into it.
	}
	return wrong[:min(len(wrong), maxWrong)]
}

// await waits until a stream has sent what it has to.
func (p *play) await(d *director, half, events int) {
	deadline := time.Now().Add(time.Minute)
	for {
		wait := 5 * time.Millisecond
		if p.pace.fake {
			wait = p.pace.of(4)
		}
		select {
		case <-time.After(wait):
		case <-d.ended:
			return
		}
		if p.pace.fake || d.count(half) >= events || time.Now().After(deadline) {
			return
		}
	}
}

// repeated checks that events that were forgotten, and came again with the same token, are the same.
func repeated(d *director) []string {
	byToken := map[string]*received{}
	for _, r := range d.era().kept {
		if r.ofJournal() {
			byToken[r.GetResumeToken()] = r
		}
	}
	for _, r := range d.forgotten {
		again := byToken[r.GetResumeToken()]
		if !r.ofJournal() || again == nil {
			continue
		}
		if why := differ(r, again); why != "" {
			return []string{fmt.Sprintf("%s: sent again, %s", d.name, why)}
		}
	}
	return nil
}

// journalled returns the events that rest on the journal.
func journalled(events []*received) []*received {
	var list []*received
	for _, r := range events {
		if r.ofJournal() {
			list = append(list, r)
		}
	}
	return list
}

// differ says what differs between two events, their tokens apart where those were given to streams that began at other times.
func differ(a, b *received) string {
	if proto.Equal(a.GetAlert(), b.GetAlert()) && proto.Equal(a.GetCompleted(), b.GetCompleted()) &&
		a.token.GetSequence() == b.token.GetSequence() && a.token.GetOrdinal() == b.token.GetOrdinal() {
		return ""
	}
	return fmt.Sprintf("it was %v, and is %v", a.StreamAlertsResponse, b.StreamAlertsResponse)
}

// tell tells an event of the journal in few words.
func tell(r *received) string {
	if c := r.GetCompleted(); c != nil {
		return fmt.Sprintf("at %d completed", r.token.GetSequence())
	}
	a := r.GetAlert()
	return fmt.Sprintf("at %d %v of %s.%s", r.token.GetSequence(), a.GetKind(), a.GetAlert().GetId(), a.GetAlert().GetTitle())
}

func (x expected) String() string {
	if x.closing != nil {
		return fmt.Sprintf("at %d completed", x.sequence)
	}
	alert := x.revision.GetAlert()
	return fmt.Sprintf("at %d %s.%s (entry %d; sent before: entry %d; matches: %t)", x.sequence, alert.GetId(), alert.GetTitle(), x.own, x.before, x.matches)
}
