package sequences_test

import (
	"slices"
	"strings"
	"time"

	"defender-integration/collector"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/match"
)

// expected is an event that a stream must send.
type expected struct {
	// sequence is the entry that makes it; own is the revision's entry, which lies before that where a device fact made it match.
	sequence, own uint64
	revision      *storev1.Revision
	// matches says that it concerns the stream still; before is the revision of the alert that was sent before, 0 where none was, and
	// anchor the last one before that concerned it.
	matches        bool
	before, anchor uint64
	// closing is what a completed rests on; nil for an alert. alerts are how many alerts match then, inside how many of them have
	// their activity in the window, for each Actor, and surely how many of those by more than what the evidence of alerts shows.
	closing        *storev1.Entry
	alerts         int
	inside, surely map[string]int
	// shown says that the alert concerned the stream, at this event or before, by no more than what the evidence of alerts shows: once
	// that is trimmed, nobody who begins later knows it.
	shown bool
}

// model works out what a stream must send: the law of design.md, without its shortcuts.
type model struct {
	request *integrationv1.StreamAlertsRequest
	// start is the entry that the stream began behind.
	start     uint64
	tolerance time.Duration
	explicit  bool

	passed []numbered                       // the revisions so far
	sent   map[string]uint64                // by alert, the entry that was sent last
	anchor map[string]uint64                // by alert, the entry that was sent last and concerned the stream
	facts  map[string]*integrationv1.Device // by id, what is so now
	shown  map[string]bool                  // the alerts that were sent by no more than what evidence shows
	events []expected
}

// numbered is a revision with its entry's sequence.
type numbered struct {
	sequence uint64
	revision *storev1.Revision
}

// expect returns what a stream that began behind a position must send of a journal, in order, with what was lost, which is told, but
// for completions: the stream ends with the last of a number of them.
func expect(request *integrationv1.StreamAlertsRequest, l *log, start uint64, completions int, again []uint64, lost []loss) ([]expected, map[string]bool) {
	m := &model{
		request: request, start: start, tolerance: request.GetTolerance().AsDuration(), explicit: request.GetWindow().GetStartTime() != nil,
		sent: map[string]uint64{}, anchor: map[string]uint64{}, facts: map[string]*integrationv1.Device{},
		shown: map[string]bool{},
	}
	base := start
	for i, entry := range l.entries {
		sequence := uint64(i + 1)
		switch {
		case entry.GetRevision() != nil:
			m.revision(sequence, entry.GetRevision())
		case entry.GetDeviceFact() != nil:
			m.fact(sequence, entry.GetDeviceFact())
		case slices.ContainsFunc(lost, func(l loss) bool { return sequence > l.after && sequence < l.first }):
		case m.closes(entry) && sequence > base:
			m.complete(sequence, entry)
			if base = sequence; len(again) > 0 {
				base, again = again[0], again[1:]
			}
			if completions--; completions == 0 {
				return m.events, m.shown
			}
		}
	}
	return m.events, m.shown
}

// revision passes a revision: it is sent where it concerns the stream, and where an earlier one of its alert was sent.
func (m *model) revision(sequence uint64, revision *storev1.Revision) {
	if !m.explicit && sequence <= m.start {
		return
	}
	one := numbered{sequence, revision}
	m.passed = append(m.passed, one)
	m.send(sequence, one)
	// It may show a device of an Actor's.
	m.lookAgain(sequence)
}

// lookAgain sends what was passed and matches now.
func (m *model) lookAgain(at uint64) {
	if len(m.request.GetActors()) == 0 {
		return
	}
	for _, one := range m.passed {
		m.send(at, one)
	}
}

func (m *model) send(at uint64, one numbered) {
	key := one.revision.GetKey()
	before, was := m.sent[key]
	matches := m.matches(one.revision.GetAlert())
	if was && before >= one.sequence || !was && (!matches || !m.reaches(one.revision)) {
		return
	}
	if matches && !m.matchesSurely(one.revision.GetAlert()) {
		m.shown[key] = true
	}
	m.events = append(m.events, expected{
		sequence: at, own: one.sequence, revision: one.revision, matches: matches, before: before, anchor: m.anchor[key], shown: m.shown[key],
	})
	if m.sent[key] = one.sequence; matches {
		m.anchor[key] = one.sequence
	}
}

// reaches says that a revision may be about the window: it was not last updated before it.
func (m *model) reaches(revision *storev1.Revision) bool {
	return !m.explicit || !revision.GetUpdatedTime().AsTime().Before(m.request.GetWindow().GetStartTime().AsTime().Add(-m.tolerance))
}

// fact passes a device fact, after which all that was passed is looked through again: what matches now is sent now. What trimming
// repeats is no news.
func (m *model) fact(sequence uint64, fact *storev1.DeviceFact) {
	if fact.GetRepeats() != 0 {
		return
	}
	if id := fact.GetDevice().GetMdeDeviceId(); fact.GetGone() {
		delete(m.facts, id)
	} else {
		m.facts[id] = fact.GetDevice()
	}
	m.lookAgain(sequence)
}

// closes says that an entry is what a bounded stream waits for: a pair that names it, from the window's start less the tolerance, or earlier,
// through its end and the wait, or later; or that none could be had.
func (m *model) closes(entry *storev1.Entry) bool {
	window := m.request.GetWindow()
	if window.GetEndTime() == nil {
		return false
	}
	since, due := window.GetStartTime().AsTime().Add(-m.tolerance), window.GetEndTime().AsTime().Add(m.request.GetWait().AsDuration())
	if pair := entry.GetPair().GetPair(); pair != nil {
		return slices.Contains(entry.GetPair().GetWaiting().GetStreams(), nameOf(m.request)) && !pair.GetSince().AsTime().After(since) && !pair.GetThrough().AsTime().Before(due)
	}
	failed := entry.GetFailedClosing()
	return failed != nil && failed.GetSince().AsTime().Equal(since) && failed.GetDue().AsTime().Equal(due)
}

// nameOf returns what a pair names a stream by.
func nameOf(request *integrationv1.StreamAlertsRequest) uint64 {
	var keys []string
	for _, a := range request.GetActors() {
		for _, k := range match.ActorKeys(a) {
			keys = append(keys, k.String())
		}
	}
	return collector.StreamName(keys)
}

// complete ends the stream: each alert is judged by its last revision, with the devices as they are now.
func (m *model) complete(sequence uint64, entry *storev1.Entry) {
	last := map[string]*integrationv1.Alert{}
	for _, one := range m.passed {
		if m.reaches(one.revision) {
			last[one.revision.GetKey()] = one.revision.GetAlert()
		}
	}
	e := expected{sequence: sequence, own: sequence, closing: entry, inside: map[string]int{}, surely: map[string]int{}}
	for _, alert := range last {
		if !m.matches(alert) {
			continue
		}
		e.alerts++
		began := alert.GetFirstActivityTime().AsTime()
		if began.Before(m.request.GetWindow().GetStartTime().AsTime().Add(-m.tolerance)) ||
			began.After(m.request.GetWindow().GetEndTime().AsTime().Add(m.tolerance)) {
			continue
		}
		for _, actor := range m.request.GetActors() {
			if m.about(alert, actor) {
				e.inside[actor.GetActorId()]++
			}
			if m.surely(alert, actor) {
				e.surely[actor.GetActorId()]++
			}
		}
	}
	m.events = append(m.events, e)
}

// matches says that an alert concerns the stream now.
func (m *model) matches(alert *integrationv1.Alert) bool {
	return len(m.request.GetActors()) == 0 ||
		slices.ContainsFunc(m.request.GetActors(), func(actor *integrationv1.Actor) bool { return m.about(alert, actor) })
}

// matchesSurely says that an alert concerns the stream by more than what the evidence of other alerts shows.
func (m *model) matchesSurely(alert *integrationv1.Alert) bool {
	return len(m.request.GetActors()) == 0 ||
		slices.ContainsFunc(m.request.GetActors(), func(actor *integrationv1.Actor) bool { return m.surely(alert, actor) })
}

// about says that an alert is about an Actor: by what it tells itself of its device, or since the device is the Actor's by the facts, or
// where no fact fits it by the evidence of alerts.
func (m *model) about(alert *integrationv1.Alert, actor *integrationv1.Actor) bool {
	if m.surely(alert, actor) {
		return true
	}
	id := alert.GetEvidence()[0].GetDevice().GetMdeDeviceId()
	return id != "" && len(m.devices(actor)) == 0 && slices.ContainsFunc(m.passed, func(one numbered) bool {
		shown := one.revision.GetAlert().GetEvidence()[0].GetDevice()
		return shown.GetMdeDeviceId() == id && fits(actor, id, shown.GetDeviceDnsName())
	})
}

// surely says that an alert is about an Actor by what it tells itself of its device, or since the device is the Actor's by the facts.
func (m *model) surely(alert *integrationv1.Alert, actor *integrationv1.Actor) bool {
	evidence := alert.GetEvidence()[0].GetDevice()
	return fits(actor, evidence.GetMdeDeviceId(), evidence.GetDeviceDnsName()) ||
		evidence.GetMdeDeviceId() != "" && m.devices(actor)[evidence.GetMdeDeviceId()]
}

// devices returns the ids of an Actor's devices: those that fit it, and those that these were merged into.
func (m *model) devices(actor *integrationv1.Actor) map[string]bool {
	ids := map[string]bool{}
	for id, device := range m.facts {
		if fits(actor, id, device.GetDeviceDnsName()) {
			for _, one := range m.merges(id) {
				ids[one] = true
			}
		}
	}
	return ids
}

// merges returns a device, what it was merged into, and so on to the last that is there. Where that leads round in a circle, nothing
// was merged.
func (m *model) merges(id string) []string {
	way := []string{id}
	for {
		into := m.facts[way[len(way)-1]].GetMergedIntoDeviceId()
		switch {
		case m.facts[into] == nil || into == way[len(way)-1]:
			return way
		case slices.Contains(way, into):
			return way[:1]
		}
		way = append(way, into)
	}
}

// fits says that a device is the Actor by its own id or name: a full name equals a full name, a short one the first label.
func fits(actor *integrationv1.Actor, id, name string) bool {
	if id != "" && actor.GetMdeDeviceId() == id {
		return true
	}
	if name == "" {
		return false
	}
	label, _, _ := strings.Cut(name, ".")
	return actor.GetFqHostName() == name || actor.GetHostName() == label || slices.Contains(actor.GetAlternateHostNames(), name)
}
