package store

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// laterWords is what is told of what a later version wrote.
const laterWords = "written by a later version of the service (format 2; this version reads 1)"

// wantLater wants ErrVersion in words that tell the formats, and no damage.
func wantLater(t *testing.T, what string, err error) {
	t.Helper()
	wantError(t, err, ErrVersion)
	if !strings.Contains(err.Error(), laterWords) || strings.Contains(err.Error(), "damaged") {
		t.Errorf("%s: %v", what, err)
	}
}

// A frame tells its version by itself, and a version byte that is damaged is damage.
func TestFrameTellsItsVersion(t *testing.T) {
	framed, err := frame(nil, entry(1))
	must(t, err)
	_, err = unframe(later(framed), 0, new(storev1.Entry))
	wantLater(t, "a frame", err)
	// Also one whose content this version could not take apart.
	empty := later(framed[:frameHeader])
	_, err = unframe(empty, sequenceSize, new(storev1.Entry))
	wantLater(t, "an empty frame", err)
	for bit := range 8 {
		flipped := append([]byte(nil), framed...)
		flipped[0] ^= 1 << bit
		_, err := unframe(flipped, 0, new(storev1.Entry))
		wantError(t, err, errFrame)
	}
	wantError(t, checkFormat(0), errFrame)
}

// laterEntries has, for each store, how its journal gets an entry of a later version: among those that the checkpoint names, or
// behind it.
var laterEntries = map[string]func(t *testing.T) (s Store, makeLater func(j Journal, sequence uint64)){
	"memory": func(t *testing.T) (Store, func(Journal, uint64)) {
		m := NewMemory()
		t.Cleanup(func() { closeStore(t, m) })
		return m, func(j Journal, sequence uint64) { m.Later(j.(*memoryJournal).uid, sequence) }
	},
	"JetStream": func(t *testing.T) (Store, func(Journal, uint64)) {
		s := openDir(t, t.TempDir())
		return s, func(opened Journal, sequence uint64) {
			j := opened.(*jetJournal)
			identity := j.Checkpoint().GetIdentity()
			stream, err := s.js.Stream(t.Context(), j.stream(identity))
			must(t, err)
			message, err := stream.GetMsg(t.Context(), sequence)
			must(t, err)
			// The engine changes no message: all from that one on are written anew.
			tail := [][]byte{later(message.Data)}
			for next := sequence + 1; next <= stream.CachedInfo().State.LastSeq; next++ {
				message, err := stream.GetMsg(t.Context(), next)
				must(t, err)
				tail = append(tail, message.Data)
			}
			head := make([][]byte, 0, sequence)
			for before := uint64(1); before < sequence; before++ {
				message, err := stream.GetMsg(t.Context(), before)
				must(t, err)
				head = append(head, message.Data)
			}
			must(t, s.js.DeleteStream(t.Context(), j.stream(identity)))
			must(t, j.createStream(t.Context(), identity))
			for _, data := range append(head, tail...) {
				_, err := s.js.Publish(t.Context(), j.subject(identity), data)
				must(t, err)
			}
			s.recent.forget(identity)
		}
	},
}

// An entry of a later version is no damage: readers are told, Recover refuses and changes nothing, and the version that wrote it
// finds all as it was.
func TestEntryOfALaterVersion(t *testing.T) {
	for name, open := range laterEntries {
		for _, c := range []struct {
			name       string
			checkpoint uint64
			// read says that readers can see the entry.
			read bool
		}{{"named by the checkpoint", 5, true}, {"the checkpoint's own", 4, true}, {"behind the checkpoint", 3, false}} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				s, makeLater := open(t)
				j, first := writer(t, s, "uid")
				_, err := j.Append(t.Context(), entries(1, 5))
				must(t, err)
				save(t, j, c.checkpoint)
				makeLater(j, 4)
				if c.read {
					_, err = j.Get(t.Context(), 4)
					wantLater(t, "Get", err)
					for _, err = range j.Read(t.Context(), 1, 9) {
						if err != nil {
							break
						}
					}
					wantLater(t, "Read", err)
				}
				recovered, err := j.Recover(t.Context())
				if c.checkpoint == 5 {
					// Recover reads what no reader can have seen. Whoever reads the rest is told.
					must(t, err)
				} else {
					wantLater(t, "Recover", err)
					_, err = j.Append(t.Context(), entries(6, 6))
					wantError(t, err, ErrFenced)
					recovered = j.Checkpoint()
				}
				if recovered.GetIdentity() != first.GetIdentity() || recovered.GetLastSequence() != c.checkpoint {
					t.Errorf("the checkpoint is %v, was %v", recovered, first)
				}
				stats, err := j.Stats(t.Context())
				must(t, err)
				if stats.First != 1 || stats.Last != 5 {
					t.Errorf("of 5 entries, %d through %d are left", stats.First, stats.Last)
				}
			})
		}
	}
}

// A checkpoint of a later version is no damage either, whether it is found when the journal is opened or when it is recovered.
func TestCheckpointOfALaterVersion(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	j, first := writer(t, s, "uid")
	_, err := j.Append(t.Context(), entries(1, 5))
	must(t, err)
	save(t, j, 5)
	stored, err := s.checkpoints.Get(t.Context(), "uid")
	must(t, err)
	_, err = s.checkpoints.Put(t.Context(), "uid", later(stored.Value()))
	must(t, err)
	_, err = j.Recover(t.Context())
	wantLater(t, "Recover", err)
	closeStore(t, s)

	s = openDir(t, dir)
	_, err = s.Journal(t.Context(), "uid")
	wantLater(t, "Journal", err)
	// One within the frame of this version.
	checkpoint := proto.CloneOf(first)
	checkpoint.Format = 2
	framed, err := frame(make([]byte, firstSize), checkpoint)
	must(t, err)
	_, err = decodeSaved(framed)
	wantLater(t, "the checkpoint's own format", err)

	// The version that wrote it comes back, and finds all as it was.
	_, err = s.checkpoints.Put(t.Context(), "uid", stored.Value())
	must(t, err)
	j, recovered := writer(t, s, "uid")
	if recovered.GetIdentity() != first.GetIdentity() {
		t.Errorf("the journal has the identity %s, had %s", recovered.GetIdentity(), first.GetIdentity())
	}
	wantEntries(t, j, 1, 9, 1, 5)
}

// Records, ledgers, tests and notes of a later version are told as such, and stay as they are.
func TestValuesOfALaterVersion(t *testing.T) {
	encode := func(message proto.Message) []byte {
		value, err := proto.Marshal(message)
		must(t, err)
		return value
	}
	ahead := record("one", "uid")
	ahead.Format = 2
	ledger := &storev1.Ledger{Format: 2}
	test, err := encodeTest("uid", &integrationv1.ConnectivityTest{Health: integrationv1.ConnectivityTest_HEALTH_HEALTHY})
	must(t, err)
	note, err := encodeNote("note", &storev1.Note{Body: &storev1.Note_Lease{Lease: &storev1.Lease{Holder: 1}}})
	must(t, err)

	memory := NewMemory()
	t.Cleanup(func() { closeStore(t, memory) })
	memory.data.records["one"] = memoryValue{revision: 7, value: encode(ahead)}
	memory.data.ledgers["key"] = memoryValue{revision: 7, value: encode(ledger)}
	memory.data.tests["uid"] = later(test)
	memory.data.notes["note"] = memoryValue{revision: 7, value: later(note)}
	jet := openDir(t, filepath.Join(t.TempDir(), "data"))
	notes, err := jet.noteBucket(t.Context())
	must(t, err)
	for _, put := range []struct {
		bucket jetstream.KeyValue
		key    string
		value  []byte
	}{{jet.records, "one", encode(ahead)}, {jet.ledgers, "key", encode(ledger)}, {jet.tests, "uid", later(test)}, {notes, "note", later(note)}} {
		_, err := put.bucket.Put(t.Context(), put.key, put.value)
		must(t, err)
	}
	for name, s := range map[string]Store{"memory": memory, "JetStream": jet} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			_, revision, err := s.Record(ctx, "one")
			wantLater(t, "Record", err)
			_, err = s.Records(ctx, "", 10)
			wantLater(t, "Records", err)
			_, err = s.CreateRecord(ctx, record("one", "other"))
			wantError(t, err, ErrExists)
			if s == Store(jet) {
				// The twin compares revisions alone, and nobody knows one of a record that cannot be read.
				wantLater(t, "DeleteRecord", s.DeleteRecord(ctx, "one", revision))
			}
			_, _, err = s.Ledger(ctx, "key")
			wantLater(t, "Ledger", err)
			_, err = s.LastTest(ctx, "uid")
			wantLater(t, "LastTest", err)
			_, revision, err = s.Note(ctx, "note")
			wantLater(t, "Note", err)
			changes, err := s.WatchNotes(t.Context())
			must(t, err)
			// That there is a note is known, and nothing of what it says.
			if change := receive(t, changes); change.Key != "note" || change.Revision != revision || change.Deleted || change.Note != nil {
				t.Errorf("the watch tells %+v", change)
			}
		})
	}
}
