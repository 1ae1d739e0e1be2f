package collector

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/store"
)

// The keys of notes: servers.INCARNATION, leases.APPLICATION, wishes.JOURNAL.INCARNATION.PART and presents.JOURNAL.
const (
	serverNotes  = "servers"
	leaseNotes   = "leases"
	wishNotes    = "wishes"
	presentNotes = "presents"
)

func serverKey(server uint64) string   { return fmt.Sprintf("%s.%016x", serverNotes, server) }
func leaseKey(app string) string       { return leaseNotes + "." + app }
func presentKey(journal string) string { return presentNotes + "." + journal }

func wishKey(journal string, server uint64, part int) string {
	return fmt.Sprintf("%s.%s.%016x.%d", wishNotes, journal, server, part)
}

// posted is a note as it was told last.
type posted struct {
	note     *storev1.Note // nil where a later version wrote it
	revision uint64
	seen     time.Time // when it was told, by this machine's clock
}

// board is what is known of the notes. It needs no lock of its own: whoever has it guards it.
type board struct {
	servers  map[uint64]posted
	leases   map[string]posted                    // by application
	wishes   map[string]map[uint64]map[int]posted // by journal, server and part
	presents map[string]posted                    // by journal
}

func newBoard() *board {
	return &board{
		servers:  map[uint64]posted{},
		leases:   map[string]posted{},
		wishes:   map[string]map[uint64]map[int]posted{},
		presents: map[string]posted{},
	}
}

// subject is what a note is about.
type subject struct {
	kind    string
	server  uint64
	app     string
	journal string
	part    int
}

// subjectOf takes a key apart; false where it is none of this version's.
func subjectOf(key string) (subject, bool) {
	parts := strings.Split(key, ".")
	s := subject{kind: parts[0]}
	var err error
	switch {
	case s.kind == serverNotes && len(parts) == 2:
		s.server, err = strconv.ParseUint(parts[1], 16, 64)
	case s.kind == leaseNotes && len(parts) == 2:
		s.app = parts[1]
	case s.kind == presentNotes && len(parts) == 2:
		s.journal = parts[1]
	case s.kind == wishNotes && len(parts) == 4:
		s.journal = parts[1]
		if s.server, err = strconv.ParseUint(parts[2], 16, 64); err == nil {
			s.part, err = strconv.Atoi(parts[3])
		}
	default:
		return subject{}, false
	}
	return s, err == nil
}

// post takes a change of a note in.
func (b *board) post(s subject, change store.NoteChange, now time.Time) {
	p := posted{note: change.Note, revision: change.Revision, seen: now}
	switch s.kind {
	case serverNotes:
		set(b.servers, s.server, p, change.Deleted)
	case leaseNotes:
		set(b.leases, s.app, p, change.Deleted)
	case presentNotes:
		set(b.presents, s.journal, p, change.Deleted)
	case wishNotes:
		servers := b.wishes[s.journal]
		if servers == nil {
			servers = map[uint64]map[int]posted{}
			b.wishes[s.journal] = servers
		}
		if servers[s.server] == nil {
			servers[s.server] = map[int]posted{}
		}
		set(servers[s.server], s.part, p, change.Deleted)
		if len(servers[s.server]) == 0 {
			delete(servers, s.server)
		}
		if len(servers) == 0 {
			delete(b.wishes, s.journal)
		}
	}
}

func set[K comparable](notes map[K]posted, key K, p posted, deleted bool) {
	if deleted {
		delete(notes, key)
		return
	}
	notes[key] = p
}

// wish puts the parts of a server's wish together; nil where it has none, or not all parts of one have come.
func (b *board) wish(journal string, server uint64) *storev1.Wish {
	parts := b.wishes[journal][server]
	first := parts[0].note.GetWish()
	if first == nil {
		return nil
	}
	whole := &storev1.Wish{
		Generation: first.GetGeneration(), Version: first.GetVersion(), Parts: first.GetParts(),
		Streams: first.GetStreams(), Reach: first.GetReach(), Damaged: first.GetDamaged(),
	}
	for i := range int(first.GetParts()) {
		part := parts[i].note.GetWish()
		if part.GetVersion() != first.GetVersion() {
			return nil
		}
		whole.Keys = append(whole.Keys, part.GetKeys()...)
		whole.Closings = append(whole.Closings, part.GetClosings()...)
		whole.Questions = append(whole.Questions, part.GetQuestions()...)
	}
	return whole
}

// wishing returns the servers that have a wish for an integration's collector.
func (b *board) wishing(journal string) []uint64 { return slices.Sorted(maps.Keys(b.wishes[journal])) }
