// Package store keeps everything that outlives the process: the registry of integrations, the journal of each, how far each is
// durable, and what was spent of Microsoft's limits.
//
// There are two stores behind one interface, held to each other by one conformance test: [OpenJetStream], in the process or on
// a NATS cluster, and [NewMemory], its twin for tests in fake time.
package store

import (
	"context"
	"errors"
	"iter"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// Errors that callers branch on. What a store returns wraps one of them where it applies.
var (
	// ErrNotFound says that there is no such record or journal.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a record of that id exists.
	ErrExists = errors.New("exists already")
	// ErrConflict says that a record or ledger changed since its revision was read.
	ErrConflict = errors.New("changed meanwhile")
	// ErrFenced says that another wrote to the journal since it was recovered: the writer must stop, or recover again.
	ErrFenced = errors.New("another wrote to the journal")
	// ErrDamaged says that entries before the checkpoint are missing or unreadable. Recover gives the journal a new identity.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrVersion says that a later version of the service wrote what was to be read. It is whole: that version reads it. Nothing of
	// it is changed, neither by Recover.
	ErrVersion = errors.New("written by a later version of the service")
	// ErrTrimmed says that entries that were asked for were dropped by trimming.
	ErrTrimmed = errors.New("the entries were trimmed")
	// ErrTooLarge says that an entry passes MaxEntrySize.
	ErrTooLarge = errors.New("the entry is too large")
	// ErrUnavailable says that the engine does not answer, or has no room.
	ErrUnavailable = errors.New("the store is unavailable")
	// ErrSetup says that a NATS cluster cannot be used as it is, and that an operator has to mend it. Waiting does not help.
	ErrSetup = errors.New("the NATS cluster cannot be used")
)

// MaxEntrySize is how large an encoded entry may be, in bytes: below the engine's limit for a message (1 MB by default), with
// room for framing and headers.
const MaxEntrySize = 1_000_000

// Store keeps everything that outlives the process. It is safe for concurrent use.
type Store interface {
	Registry
	Ledgers
	Tests
	Seals
	Notes

	// Journal opens the journal that uid names, and makes it where there is none.
	Journal(ctx context.Context, uid string) (Journal, error)
	// DeleteJournal deletes the journal that uid names, with its checkpoint and what Tests keeps of it. Readers that wait get ErrNotFound.
	// It is no error if there is none.
	DeleteJournal(ctx context.Context, uid string) error
	// Ready returns nil while the store answers and can take entries.
	Ready(ctx context.Context) error
	// Close stops the store. What was acknowledged is durable before.
	Close() error
}

// Registry keeps the records of the integrations. A record's revision is its etag.
type Registry interface {
	// CreateRecord stores a new record under its integration's id, or returns ErrExists.
	CreateRecord(ctx context.Context, record *storev1.Record) (revision uint64, err error)
	// Record returns a record and its revision, or ErrNotFound.
	Record(ctx context.Context, id string) (*storev1.Record, uint64, error)
	// Records returns at most limit records in the order of their ids, beginning after the id `after`.
	Records(ctx context.Context, after string, limit int) ([]Versioned, error)
	// UpdateRecord replaces the record that has this revision, or returns ErrConflict or ErrNotFound.
	UpdateRecord(ctx context.Context, record *storev1.Record, revision uint64) (uint64, error)
	// DeleteRecord deletes the record that has this revision, or returns ErrConflict or ErrNotFound.
	DeleteRecord(ctx context.Context, id string, revision uint64) error
	// WatchRecords returns every record that is there, then a change with Synced set, then every change, until ctx ends, which
	// closes the channel. A receiver that is slow misses intermediate versions of a record, never the last one.
	WatchRecords(ctx context.Context) (<-chan Change, error)
}

// Versioned is a record with its revision.
type Versioned struct {
	Record   *storev1.Record
	Revision uint64
}

// Change is a change of the registry.
type Change struct {
	Versioned
	// ID is the integration's id.
	ID string
	// Deleted says that the record is gone; Record is nil then.
	Deleted bool
	// Synced says that everything that was there when the watch began has been told; ID is empty then.
	Synced bool
}

// Ledgers keep what was spent of Microsoft's limits.
type Ledgers interface {
	// Ledger returns a ledger and its revision; an empty ledger with revision 0 where there is none.
	Ledger(ctx context.Context, key string) (*storev1.Ledger, uint64, error)
	// PutLedger replaces the ledger that has this revision (0: there is none), or returns ErrConflict. It is durable when it
	// returns.
	PutLedger(ctx context.Context, key string, ledger *storev1.Ledger, revision uint64) (uint64, error)
}

// Tests keep the last test of each integration's links, by what names its journal. They are no part of a record: a test changes no
// etag.
type Tests interface {
	// SaveTest keeps a test in place of the one before.
	SaveTest(ctx context.Context, uid string, test *integrationv1.ConnectivityTest) error
	// LastTest returns the last test; nil where there is none.
	LastTest(ctx context.Context, uid string) (*integrationv1.ConnectivityTest, error)
}

// Notes are what the servers that share a store tell each other: each under a key, for a while.
type Notes interface {
	// Note returns the note under a key and its revision, or ErrNotFound.
	Note(ctx context.Context, key string) (*storev1.Note, uint64, error)
	// PutNote replaces the note that has this revision (0: there is none), or returns ErrConflict. It lapses when `life` is over, unless
	// it is replaced before; life counts whole seconds, at least one.
	PutNote(ctx context.Context, key string, note *storev1.Note, revision uint64, life time.Duration) (uint64, error)
	// DeleteNote deletes the note that has this revision, or returns ErrConflict.
	DeleteNote(ctx context.Context, key string, revision uint64) error
	// WatchNotes returns every note that is there, then a change with Synced set, then every change, a note that lapsed told as deleted,
	// until ctx ends, which closes the channel. A receiver that is slow misses intermediate versions of a note, never the last one.
	WatchNotes(ctx context.Context) (<-chan NoteChange, error)
}

// NoteChange is a change of a note.
type NoteChange struct {
	// Key is the note's key; empty where Synced is set.
	Key string
	// Note is what it says; nil where it is gone, or where this version cannot read it: a later one wrote it.
	Note     *storev1.Note
	Revision uint64
	// Deleted says that the note was deleted, or has lapsed.
	Deleted bool
	// Synced says that everything that was there when the watch began has been told.
	Synced bool
}

// Journal is the durable, ordered log of one integration. Sequences begin at 1 and have no holes. It has one writer, which
// recovers before it appends, and any number of readers, which never see an entry beyond the checkpoint.
type Journal interface {
	// Recover makes the caller the writer: it verifies that what the checkpoint names is there, and takes entries beyond it,
	// which an end between appending and checkpointing left, into a new checkpoint. Where the end went back, or an entry is
	// missing or unreadable, it drops everything and gives the journal a new identity, with polled_since kept (so that the
	// collector knows how far to read back), polled_through and floor unset. Where a later version of the service wrote any of it,
	// it changes nothing and returns ErrVersion.
	Recover(ctx context.Context) (*storev1.Checkpoint, error)
	// Append appends the entries in order, and returns the last one's sequence when all are durable. It is refused with
	// ErrFenced where another wrote since Recover, or where it was not recovered. After ErrTooLarge nothing was stored and the
	// writer may go on; after any other error it must Recover to learn what was stored: none, all, or some from the front.
	// Readers see entries only after SaveCheckpoint. The entries belong to the journal from then on, which may give readers these
	// very ones: do not modify them after the call.
	Append(ctx context.Context, entries []*storev1.Entry) (last uint64, err error)
	// SaveCheckpoint makes a checkpoint durable and wakes the readers. Its format and identity are set by the journal.
	// last_sequence must not be beyond what was appended, nor before the last one. A floor that is earlier than the last one, or
	// left out, stays as it is; all else is replaced. It is refused with ErrFenced where another recovered the journal; after
	// ErrUnavailable the writer must Recover, since it may have been saved.
	SaveCheckpoint(ctx context.Context, checkpoint *storev1.Checkpoint) error
	// Trim drops the entries before the sequence `before` and saves the checkpoint with the floor given, first the checkpoint.
	// The floor never goes back. Entries beyond the checkpoint stay, whatever `before` is. It has the errors of SaveCheckpoint.
	Trim(ctx context.Context, before uint64, floor time.Time) error
	// Stats tells the journal's bounds and size.
	Stats(ctx context.Context) (Stats, error)

	// Checkpoint returns the newest checkpoint that this process knows of. Do not modify it.
	Checkpoint() *storev1.Checkpoint
	// Refresh returns the newest checkpoint that any process saved, and makes it known to this one, which may not have been told of it
	// yet; ErrNotFound where the journal was deleted.
	Refresh(ctx context.Context) (*storev1.Checkpoint, error)
	// Wait returns the newest checkpoint as soon as its last_sequence is beyond `after`, its identity is another than `identity`,
	// or its floor is later than `floor`; ErrNotFound when the journal is deleted.
	Wait(ctx context.Context, identity string, after uint64, floor time.Time) (*storev1.Checkpoint, error)
	// Read reads the entries from `from` through `through`, or through the checkpoint where that is less, in order. It ends with
	// ErrTrimmed where the first of them are gone, with ErrDamaged where one is missing or unreadable, with ErrVersion where a later
	// version of the service wrote one. Others may have the same
	// entries: do not modify them.
	Read(ctx context.Context, from, through uint64) iter.Seq2[Positioned, error]
	// Get reads one entry, with the errors of Read; beyond the checkpoint it returns ErrNotFound.
	Get(ctx context.Context, sequence uint64) (Positioned, error)
}

// Positioned is an entry with its sequence.
type Positioned struct {
	Sequence uint64
	Entry    *storev1.Entry
}

// Stats are a journal's bounds and size.
type Stats struct {
	// First and Last are the sequences of the first and the last entry; First is Last+1 where there is none.
	First, Last uint64
	// Bytes is what the journal takes in the engine.
	Bytes uint64
}
