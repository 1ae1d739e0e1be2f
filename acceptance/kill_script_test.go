package acceptance_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
)

// script makes alerts appear and change at the simulated Microsoft. It changes an alert again only when the revision before was
// read and kept: what was replaced before anybody could read it, or died with the process that read it, nobody can be expected to
// deliver.
type script struct {
	t       *testing.T
	rng     *rand.Rand
	house   *house
	devices []defendertest.Device

	// pinned are the alerts that are about the third device and no other Actor's. They stay so: which revisions of an alert that moved
	// are to be sent when the device becomes an Actor's depends on when the service learned of that.
	pinned map[string]bool

	settled []string       // the alerts whose newest revision is in the journal
	open    []string       // the others
	added   map[string]int // at which step an alert was added
	began   time.Time
	number  int // of steps, and so of revisions
}

func newScript(t *testing.T, rng *rand.Rand, h *house) *script {
	return &script{t: t, rng: rng, house: h, devices: defendertest.SampleDevices(), pinned: map[string]bool{}, added: map[string]int{}}
}

// polling is told when the service is about to read; restarted says that it is the first time in its life. The service reads, keeps
// what it read, and only then is about to read again. So all that was served since the time before is kept.
func (s *script) polling(restarted bool) {
	if !restarted && !s.began.IsZero() {
		done, cancel := context.WithCancel(s.t.Context())
		cancel() // It is asked, not waited for.
		var open []string
		for _, id := range s.open {
			if s.house.tenant.WaitServedSince(done, s.began, id) == nil {
				s.settled = append(s.settled, id)
			} else {
				open = append(open, id)
			}
		}
		s.open = open
	}
	s.began = s.house.microsoft.Now()
}

// step adds an alert or changes one.
func (s *script) step() {
	s.number++
	// What an alert's first revision made a stream know of it must not be trimmed before its last one.
	s.settled = slices.DeleteFunc(s.settled, func(id string) bool { return s.number-s.added[id] > changeable })
	if len(s.settled) == 0 || s.rng.IntN(5) < 2 {
		s.add()
		return
	}
	i := s.rng.IntN(len(s.settled))
	id := s.settled[i]
	s.settled[i] = s.settled[len(s.settled)-1]
	s.settled = s.settled[:len(s.settled)-1]
	s.open = append(s.open, id)
	_, err := s.house.tenant.Change(id, func(a *defendertest.Alert) {
		a.Title = fmt.Sprintf("Change %d", s.number)
		if !s.pinned[id] && s.rng.IntN(4) == 0 {
			// It moves to another device: it may begin to match, and it goes on being sent where it no longer does.
			a.Evidence = s.about(0, 1, 3, 4)
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// add adds an alert, now and then about the third device alone.
func (s *script) add() {
	third := s.rng.IntN(5) == 0
	evidence := s.about(0, 1, 3, 4)
	if third {
		evidence = s.about(2)
	}
	a := s.house.tenant.AddAlert(defendertest.Alert{Title: fmt.Sprintf("Alert %d", s.number), Evidence: evidence})
	s.open = append(s.open, a.ID)
	s.pinned[a.ID], s.added[a.ID] = third, s.number
}

// about makes evidence about one of the devices, or two.
func (s *script) about(devices ...int) []defendertest.Evidence {
	var all []defendertest.Evidence
	s.rng.Shuffle(len(devices), func(i, j int) { devices[i], devices[j] = devices[j], devices[i] })
	for _, i := range devices[:min(1+s.rng.IntN(2), len(devices))] {
		all = append(all, defendertest.DeviceEvidence{Device: s.devices[i]})
	}
	return all
}
