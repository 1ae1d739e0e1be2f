package sequences_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/store"
)

// witness writes down what became readable in the journal, over all processes, and says which writes fail. It is safe for
// concurrent use.
type witness struct {
	mu     sync.Mutex
	logs   map[string]*log // by the journal's identity
	log    *log            // of the identity in force
	faults faults
	// began is when the first call began that may have made readable what was not written down yet; zero where there was none.
	began time.Time
	// unsure is a trimming that failed, and may have been made; nil where there is none.
	unsure *trimmed
	// life is the process that may write; what another one writes late is refused, as by a dead process.
	life *life
}

// log is all that was ever readable of a journal while it had one identity. What the witness gives out is a copy, which later entries
// leave as it is.
type log struct {
	identity string
	entries  []*storev1.Entry // entries[i] has the sequence i+1
	// Each became readable between the two: when the call that made it so began, and when it had ended. In fake time they are one, but for
	// what a call left that failed.
	earliest, times []time.Time
	floors          []time.Time // the floor when each was appended
	trims           []trimmed
}

// trimmed is a trimming: when it began, which entry was the first one then, and where the floor was.
type trimmed struct {
	at, floor time.Time
	first     uint64
}

// faults are the faults of the store that are to come.
type faults struct {
	// unavailable is until when every call fails.
	unavailable time.Time
	// append says that the next append fails after it stored `stored` entries.
	append bool
	stored int
	// checkpoint says that the next checkpoint fails, after it was saved where saved says so; trim says that the next trimming does.
	checkpoint, saved, trim bool
	// crash is how many writes from now the process is killed, before the write or after it; zero: it is not.
	crash      int
	crashAfter bool
}

var errDead = errors.New("the process is dead")

// last is the sequence of the last entry.
func (l *log) last() uint64 { return uint64(len(l.entries)) }

// first is the sequence of the first entry that is there at a time.
func (l *log) first(at time.Time) uint64 {
	first := uint64(1)
	for _, t := range l.trims {
		if !t.at.After(at) {
			first = t.first
		}
	}
	return first
}

// floor is where the floor was at a time; zero where there was none.
func (l *log) floor(at time.Time) time.Time {
	var floor time.Time
	for _, t := range l.trims {
		if !t.at.After(at) {
			floor = t.floor
		}
	}
	return floor
}

// readable returns how many entries of a log were readable at a time, whatever the moment at which each became so.
func (l *log) readable(at time.Time) uint64 { return through(l.times, at) }

// perhaps returns how many entries of a log may have been readable at a time.
func (l *log) perhaps(at time.Time) uint64 { return through(l.earliest, at) }

// through returns how many of some ascending times lie at a time or before.
func through(times []time.Time, at time.Time) uint64 {
	n, _ := slices.BinarySearchFunc(times, at, func(made, at time.Time) int {
		if made.After(at) {
			return 1
		}
		return -1
	})
	return uint64(n)
}

// begin begins a call that may make entries readable. A stream may send them before the call has returned, and also where it then
// fails, as one of a process that is killed: so what look writes down next was readable now at the earliest.
func (w *witness) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began.IsZero() {
		w.began = time.Now()
	}
}

// look writes down what became readable of a journal by the calls that began since it was last done.
func (w *witness) look(ctx context.Context, j store.Journal) error {
	checkpoint := j.Checkpoint()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.log == nil || w.log.identity != checkpoint.GetIdentity() {
		w.log = &log{identity: checkpoint.GetIdentity()}
		w.logs[w.log.identity] = w.log
		w.unsure = nil
	}
	if w.unsure != nil && !checkpoint.GetFloorTime().AsTime().Before(w.unsure.floor) {
		w.log.trims = append(w.log.trims, *w.unsure)
	}
	w.unsure = nil
	now := time.Now()
	for p, err := range j.Read(context.WithoutCancel(ctx), w.log.last()+1, checkpoint.GetLastSequence()) {
		if err != nil {
			return err
		}
		w.log.entries = append(w.log.entries, p.Entry)
		w.log.earliest = append(w.log.earliest, w.began)
		w.log.times = append(w.log.times, now)
		w.log.floors = append(w.log.floors, w.log.floor(now))
	}
	w.began = time.Time{}
	return nil
}

// trimmed writes down a trimming that was made, by when it began: a stream may know of it before the call has returned. Of one that
// failed, as of a process that is killed, the next look learns whether it was made.
func (w *witness) trimmed(t trimmed, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.unsure = &t
		return
	}
	w.log.trims = append(w.log.trims, t)
}

// copied returns a log as it is now; nil for none. The caller holds mu.
func copied(l *log) *log {
	if l == nil {
		return nil
	}
	now := *l // What is appended to its lists later lies behind the ends that these have.
	return &now
}

// of returns the log of an identity; nil where there is none.
func (w *witness) of(identity string) *log {
	w.mu.Lock()
	defer w.mu.Unlock()
	return copied(w.logs[identity])
}

// all returns the logs of all identities.
func (w *witness) all() []*log {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]*log, 0, len(w.logs))
	for _, l := range w.logs {
		all = append(all, copied(l))
	}
	return all
}

// current returns the log in force; nil before the first.
func (w *witness) current() *log {
	w.mu.Lock()
	defer w.mu.Unlock()
	return copied(w.log)
}

// set changes the faults.
func (w *witness) set(change func(*faults)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.faults)
}

// usable returns why a call of a life fails.
func (w *witness) usable(l *life) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.life != l:
		return errDead
	case time.Now().Before(w.faults.unavailable):
		return store.ErrUnavailable
	}
	return nil
}

// write makes a write of a life, and kills it before or after where that is to be.
func (w *witness) write(l *life, write func() error) error {
	if err := w.usable(l); err != nil {
		return err
	}
	w.mu.Lock()
	dies, after := w.faults.crash == 1, w.faults.crashAfter
	w.faults.crash = max(w.faults.crash-1, 0)
	w.mu.Unlock()
	if dies && !after {
		w.kill(l)
		return errDead
	}
	err := write()
	if dies {
		w.kill(l)
		return errDead
	}
	return err
}

// kill ends a life: nothing that it does from now on reaches the store. It is dead before a call of it can be told so, since what a
// stream says of that is heard as long as its process lives.
func (w *witness) kill(l *life) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life == l {
		w.life = nil
	}
	l.die()
}

// watchedStore is the store of one life.
type watchedStore struct {
	store.Store
	witness *witness
	life    *life
}

func (s *watchedStore) Record(ctx context.Context, id string) (*storev1.Record, uint64, error) {
	if err := s.witness.usable(s.life); err != nil {
		return nil, 0, err
	}
	return s.Store.Record(ctx, id)
}

func (s *watchedStore) Ledger(ctx context.Context, key string) (*storev1.Ledger, uint64, error) {
	if err := s.witness.usable(s.life); err != nil {
		return nil, 0, err
	}
	return s.Store.Ledger(ctx, key)
}

func (s *watchedStore) PutLedger(ctx context.Context, key string, ledger *storev1.Ledger, revision uint64) (uint64, error) {
	if err := s.witness.usable(s.life); err != nil {
		return 0, err
	}
	return s.Store.PutLedger(ctx, key, ledger, revision)
}

func (s *watchedStore) Journal(ctx context.Context, uid string) (store.Journal, error) {
	if err := s.witness.usable(s.life); err != nil {
		return nil, err
	}
	journal, err := s.Store.Journal(ctx, uid)
	if err != nil {
		return nil, err
	}
	return &watchedJournal{Journal: journal, witness: s.witness, life: s.life}, nil
}

// watchedJournal is a journal of one life.
type watchedJournal struct {
	store.Journal
	witness *witness
	life    *life
}

func (j *watchedJournal) Recover(ctx context.Context) (*storev1.Checkpoint, error) {
	if err := j.witness.usable(j.life); err != nil {
		return nil, err
	}
	j.witness.begin()
	checkpoint, err := j.Journal.Recover(ctx)
	if err != nil {
		return nil, err
	}
	return checkpoint, j.witness.look(ctx, j.Journal)
}

func (j *watchedJournal) Append(ctx context.Context, entries []*storev1.Entry) (last uint64, err error) {
	err = j.witness.write(j.life, func() error {
		fails, stored := false, 0
		j.witness.set(func(f *faults) { fails, stored, f.append = f.append, f.stored, false })
		if !fails {
			last, err = j.Journal.Append(ctx, entries)
			return err
		}
		if stored = min(stored, len(entries)); stored > 0 {
			if _, err := j.Journal.Append(ctx, entries[:stored]); err != nil {
				return err
			}
		}
		return store.ErrUnavailable
	})
	return last, err
}

func (j *watchedJournal) SaveCheckpoint(ctx context.Context, checkpoint *storev1.Checkpoint) error {
	return j.witness.write(j.life, func() error {
		fails, saved := false, false
		j.witness.set(func(f *faults) { fails, saved, f.checkpoint = f.checkpoint, f.saved, false })
		if fails && !saved {
			return store.ErrUnavailable
		}
		j.witness.begin()
		if err := j.Journal.SaveCheckpoint(ctx, checkpoint); err != nil {
			return err
		}
		if err := j.witness.look(ctx, j.Journal); err != nil {
			return err
		}
		if fails {
			return store.ErrUnavailable
		}
		return nil
	})
}

func (j *watchedJournal) Trim(ctx context.Context, before uint64, floor time.Time) error {
	return j.witness.write(j.life, func() error {
		fails := false
		j.witness.set(func(f *faults) { fails, f.trim = f.trim, false })
		if fails {
			return store.ErrUnavailable
		}
		t := trimmed{at: time.Now(), floor: floor, first: before}
		err := j.Journal.Trim(ctx, before, floor)
		j.witness.trimmed(t, err)
		return err
	})
}

func (j *watchedJournal) Get(ctx context.Context, sequence uint64) (store.Positioned, error) {
	if err := j.witness.usable(j.life); err != nil {
		return store.Positioned{}, err
	}
	return j.Journal.Get(ctx, sequence)
}
