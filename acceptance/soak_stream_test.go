package acceptance_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"defender-integration/client"
	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The kinds of streams of a soak.
const (
	witnessStream  = "witness"    // follows everything, and tells the ledger what the journal has
	everyStream    = "everything" // follows everything
	steadyStream   = "steady"     // follows one Actor
	slowStream     = "slow"       // follows one Actor and stalls now and then
	restlessStream = "restless"   // follows one Actor, is cut now and then and resumes
	boundedStream  = "bounded"    // is about one Actor and a short window, and is begun anew when it is completed
)

// kindOfStream spreads the kinds: one witness, and of each hundred 1 of everything, 10 slow, 15 restless and 15 bounded.
func kindOfStream(i int) string {
	switch n := i % 100; {
	case i == 0:
		return witnessStream
	case n < 2:
		return everyStream
	case n < 12:
		return slowStream
	case n < 27:
		return restlessStream
	case n < 42:
		return boundedStream
	}
	return steadyStream
}

// soakStream is one stream: what it asks for, and what it got. One goroutine receives; others may audit meanwhile.
type soakStream struct {
	t        *testing.T
	settings soakSettings
	house    *house
	ledger   *ledger
	line     *soakLine
	rng      *rand.Rand
	number   int
	kind     string
	names    []string // of the devices

	mu                      sync.Mutex
	now                     *soakWindow   // what it asks for now
	passed                  []*soakWindow // those that are completed and not yet audited to their end
	alerts, gaps, completed int
}

// soakWindow is one request and what came of it.
type soakWindow struct {
	device int
	since  time.Time // what was last updated before does not concern it
	token  string    // the newest

	// got has a bit for each revision that came, by its number; count is how many.
	got    []uint64
	count  int
	cursor int // how many of the journal's revisions about the device were audited
}

// take takes a revision down; false where it came before.
func (w *soakWindow) take(number int) bool {
	for len(w.got) <= number/64 {
		w.got = append(w.got, 0)
	}
	if w.has(number) {
		return false
	}
	w.got[number/64] |= 1 << (number % 64)
	w.count++
	return true
}

func (w *soakWindow) has(number int) bool {
	return number/64 < len(w.got) && w.got[number/64]&(1<<(number%64)) != 0
}

func newSoakStream(r *soakRun, i int) *soakStream {
	s := &soakStream{
		t: r.t, settings: r.settings, house: r.house, ledger: r.ledger, line: r.lines[i%len(r.lines)],
		rng: r.random(firstStreamParty + uint64(i)), number: i, kind: kindOfStream(i),
	}
	for _, device := range r.script.devices {
		s.names = append(s.names, device.DNSName)
	}
	s.window(r.house.microsoft.Now().Add(-time.Minute))
	return s
}

// window begins a window of a device at random.
func (s *soakStream) window(since time.Time) {
	device := s.rng.IntN(len(s.names))
	if s.kind == witnessStream || s.kind == everyStream {
		device = everyDevice
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = &soakWindow{device: device, since: since}
}

// begun says whether the stream was told anything.
func (s *soakStream) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.token != "" || s.completed > 0
}

// request asks for the window, to an end where there is one. Some Actors are known by their device id, the others by their full name.
func (s *soakStream) request(end time.Time) *integrationv1.StreamAlertsRequest {
	var actors []*integrationv1.Actor
	if device := s.now.device; device != everyDevice {
		actor := &integrationv1.Actor{ActorId: "actor"}
		if s.number%3 == 0 {
			actor.MdeDeviceId = defendertest.DeviceID(s.names[device])
		} else {
			actor.FqHostName = s.names[device]
		}
		actors = append(actors, actor)
	}
	request := following(s.now.since, actors...)
	if !end.IsZero() {
		request = bounded(s.now.since, end, actors...)
	}
	request.Reference, request.IncludeRaw, request.Tolerance = fmt.Sprint(s.kind, "-", s.number), s.kind == everyStream, durationpb.New(0)
	return request
}

// run receives until ctx ends.
func (s *soakStream) run(ctx context.Context) {
	if s.kind == boundedStream {
		for ctx.Err() == nil && !s.t.Failed() {
			s.window(s.house.microsoft.Now().Add(-upTo(s.rng, s.settings.window/4)))
			s.receive(ctx, s.line.client.Alerts(s.request(s.house.microsoft.Now().Add(around(s.rng, s.settings.window)+time.Millisecond))))
		}
		return
	}
	stream := s.line.client.Alerts(s.request(time.Time{}))
	for ctx.Err() == nil && !s.t.Failed() {
		staying, leave := context.WithCancel(ctx)
		if s.kind == restlessStream {
			// No deadline: the service would be told of it, and could end the stream first.
			timer := time.AfterFunc(around(s.rng, s.settings.stay), leave)
			s.receive(staying, stream)
			timer.Stop()
		} else {
			s.receive(staying, stream)
		}
		leave()
	}
}

// receive takes events until the stream is completed or ctx ends.
func (s *soakStream) receive(ctx context.Context, stream *client.Stream) {
	for event, err := range stream.Events(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				s.t.Errorf("%s stream %d: %v", s.kind, s.number, err)
			}
			return
		}
		s.take(event)
		event.Ack()
		if s.kind == slowStream && s.rng.IntN(10) == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(around(s.rng, s.settings.stall)):
			}
		}
	}
}

// take takes an event down and looks whether it belongs here.
func (s *soakStream) take(event *client.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.now
	w.token = event.GetResumeToken()
	if gap := event.GetGap(); gap != nil {
		s.gaps++
		s.t.Errorf("%s stream %d: a gap: %v", s.kind, s.number, gap)
	}
	if completed := event.GetCompleted(); completed != nil {
		s.complete(completed)
		return
	}
	alert := event.GetAlert().GetAlert()
	if alert == nil {
		return
	}
	s.alerts++
	number := numberOf(alert.GetTitle())
	revision, ok := s.ledger.get(number)
	switch {
	case !ok || alert.GetId() != revision.alert || !alert.GetLastUpdateTime().AsTime().Equal(revision.updated):
		s.t.Errorf("%s stream %d: %q of %s was never at Microsoft", s.kind, s.number, alert.GetTitle(), alert.GetId())
	case w.device != everyDevice && w.device != revision.device, revision.updated.Before(w.since):
		s.t.Errorf("%s stream %d: revision %d does not concern it: %+v", s.kind, s.number, number, revision)
	case !w.take(number):
		s.t.Errorf("%s stream %d: revision %d came twice", s.kind, s.number, number)
	case s.kind == witnessStream:
		at, err := placeOf(w.token)
		if err != nil {
			s.t.Error(err)
		}
		s.ledger.enter(number, at.sequence)
	}
}

// complete looks whether the proof is true: everything that could be read when the closing read began has come. By Microsoft's clock
// that was at the pair's `through` or later; it may be wrong by what it is moved.
func (s *soakStream) complete(completed *integrationv1.CompletedEvent) {
	w := s.now
	s.completed++
	s.passed = append(s.passed, w)
	if problem := completed.GetFailedClosing(); problem != nil {
		s.t.Errorf("bounded stream %d: no closing read succeeded: %v", s.number, problem)
		return
	}
	by := completed.GetPair().GetThrough().AsTime().Add(-s.settings.swing)
	for _, number := range s.ledger.visible(w.device, w.since, by) {
		if !w.has(number) {
			revision, _ := s.ledger.get(number)
			s.t.Errorf("bounded stream %d: completed by %v without revision %d: %+v", s.number, completed.GetPair(), number, revision)
		}
	}
}

// audit looks whether the stream had all that the journal has for it before where it stands.
func (s *soakStream) audit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	reached := s.ledger.reached()
	open := s.passed[:0]
	for _, w := range s.passed {
		if s.auditWindow(w) > reached {
			open = append(open, w)
		}
	}
	s.passed = open
	s.auditWindow(s.now)
}

// auditWindow audits one window and returns the sequence through which it has everything.
func (s *soakStream) auditWindow(w *soakWindow) uint64 {
	if w.token == "" {
		return 0
	}
	at, err := placeOf(w.token)
	if err != nil {
		s.t.Error(err)
		return 0
	}
	through := at.sequence
	if at.ordinal != math.MaxUint32 {
		through--
	}
	for _, e := range s.ledger.entries(w.device, w.cursor) {
		if e.sequence > through {
			break
		}
		w.cursor++
		revision, _ := s.ledger.get(e.number)
		if !revision.updated.Before(w.since) && !w.has(e.number) {
			s.t.Errorf("%s stream %d stands at %d and was never given revision %d, which the journal has at %d: %+v",
				s.kind, s.number, through, e.number, e.sequence, revision)
		}
	}
	return through
}

// owed returns how many revisions a stream that follows has yet to get.
func (s *soakStream) owed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kind == boundedStream {
		return 0
	}
	return s.ledger.count(s.now.device) - s.now.count
}
