package acceptance_test

import (
	"fmt"
	"sync"
	"time"

	"defender-integration/defender/defendertest"
)

// everyDevice stands for the number of a device where all are meant.
const everyDevice = -1

// ledger is what the simulated side holds, and where the journal has it. Of each revision it keeps a few words, so that a long run
// does not weigh. It is safe for concurrent use.
type ledger struct {
	mu        sync.Mutex
	revisions []soakRevision // by number
	// byDevice are the numbers of a device's revisions, and under everyDevice of all.
	byDevice map[int][]int
	// journal is what the journal has of a device, and under everyDevice of all, in its order. The witness, a stream of everything,
	// tells it.
	journal map[int][]entered
	// settled are the alerts whose newest revision is in the journal, by that revision's number.
	settled []int
}

// soakRevision is one revision. Its number is in the alert's title.
type soakRevision struct {
	alert   string
	device  int
	updated time.Time
	visible time.Time // at the latest, by this machine's clock; zero while it is withheld
}

// entered is a revision in the journal.
type entered struct {
	number   int
	sequence uint64
}

func newLedger() *ledger { return &ledger{byDevice: map[int][]int{}, journal: map[int][]entered{}} }

// titleOfRevision is the title of the revision of a number.
func titleOfRevision(number int) string { return fmt.Sprintf("Revision %d", number) }

// numberOf reads the number in a title; -1 where there is none.
func numberOf(title string) int {
	var number int
	if _, err := fmt.Sscanf(title, "Revision %d", &number); err != nil {
		return -1
	}
	return number
}

// add enters a revision about a device that create gives Microsoft under a title, before any stream can ask for it. It returns its
// number and its alert's id.
func (l *ledger) add(device int, withheld bool, create func(title string) (defendertest.Alert, error)) (number int, alert string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number = len(l.revisions)
	a, err := create(titleOfRevision(number))
	if err != nil {
		return 0, "", err
	}
	revision := soakRevision{alert: a.ID, device: device, updated: a.LastUpdate}
	if !withheld {
		revision.visible = time.Now()
	}
	l.revisions = append(l.revisions, revision)
	for _, d := range []int{device, everyDevice} {
		l.byDevice[d] = append(l.byDevice[d], number)
	}
	return number, a.ID, nil
}

// shown says that a revision can be read from now on.
func (l *ledger) shown(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.revisions[number].visible = time.Now()
}

// get returns the revision of a number; false where there is none.
func (l *ledger) get(number int) (soakRevision, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number < 0 || number >= len(l.revisions) {
		return soakRevision{}, false
	}
	return l.revisions[number], true
}

// enter is told by the witness where the journal has a revision.
func (l *ledger) enter(number int, sequence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range []int{l.revisions[number].device, everyDevice} {
		l.journal[d] = append(l.journal[d], entered{number, sequence})
	}
	l.settled = append(l.settled, number)
}

// entries returns what the journal has of a device, from an index on.
func (l *ledger) entries(device, from int) []entered {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.journal[device][from:]
}

// reached returns the sequence of the newest revision that the journal is known to have.
func (l *ledger) reached() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.journal[everyDevice]
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].sequence
}

// take takes out one of the alerts that may change, by its newest revision's number: what was replaced before anybody could read it,
// nobody can be expected to deliver. pick is told how many there are.
func (l *ledger) take(pick func(n int) int) (number int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.settled)
	if n == 0 {
		return 0, false
	}
	i := pick(n)
	number = l.settled[i]
	l.settled[i] = l.settled[n-1]
	l.settled = l.settled[:n-1]
	return number, true
}

// visible returns the numbers of the revisions about a device that were last updated at or after a time of Microsoft's clock, and could
// be read by a time of this machine's.
func (l *ledger) visible(device int, since, by time.Time) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var numbers []int
	for _, number := range l.byDevice[device] {
		r := l.revisions[number]
		if !r.updated.Before(since) && !r.visible.IsZero() && !r.visible.After(by) {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// count returns how many revisions there are about a device.
func (l *ledger) count(device int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byDevice[device])
}

// alertCount returns how many alerts there are.
func (l *ledger) alertCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := map[string]bool{}
	for _, revision := range l.revisions {
		ids[revision.alert] = true
	}
	return len(ids)
}
