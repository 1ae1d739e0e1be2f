package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	storev1 "defender-integration/gen/defender/integration/store/v1"
	"defender-integration/match"
	"defender-integration/store"
)

// batch is how many entries are taken from the feed at once.
const batch = 256

// Why a feed ends.
var (
	errReplaced = errors.New("the journal has a new identity")
	errDeleted  = errors.New("the journal was deleted")
)

// feed is the one reader of a journal in this process, for as long as the journal keeps its identity. It indexes every entry by
// what machines are recognised by, and wakes the subscribers that an entry concerns: what an entry costs does not depend on the
// streams that it does not concern.
type feed struct {
	journal  store.Journal
	identity string
	started  chan struct{} // closed when the feed has read the journal for the first time
	done     chan struct{} // closed when the feed has ended; err says why
	err      error

	// newest is when the newest entry was made that was read, in nanoseconds since 1970.
	newest atomic.Int64

	mu       sync.RWMutex
	first    uint64        // the first entry that is still there
	last     uint64        // everything through it is indexed
	moved    chan struct{} // closed when last is another; nil while nobody waits for that
	floor    time.Time
	postings map[match.Key][]uint64 // the entries about a machine, ascending
	later    map[string][]uint64    // the revisions of an alert after its first
	control  []uint64               // pairs and failed closings
	repeated map[match.Key][]uint64 // the facts that trimming repeated, ascending
	answers  map[[16]byte][]uint64  // what telemetry answered, by the question
	byKey    map[match.Key]map[*subscriber]struct{}
	byAlert  map[string]map[*subscriber]struct{}
	every    map[*subscriber]struct{} // those that everything concerns
	closing  map[*subscriber]struct{} // those that wait for a pair
	asking   map[[16]byte]map[*subscriber]struct{}
}

// subscriber is a stream as its feed knows it: what concerns it, and how to wake it. Its sets belong to the session, its
// registrations to the feed.
type subscriber struct {
	wake    chan struct{} // capacity 1
	every   bool
	bounded bool
	keys    map[match.Key]struct{}
	alerts  map[string]struct{}
	asked   map[[16]byte]struct{} // what it waits for an answer to
}

// size is how much concerns a subscriber: where it is another, what comes must be looked up anew.
func (s *subscriber) size() int { return len(s.keys) + len(s.asked) }

func newFeed(journal store.Journal) *feed {
	return &feed{
		journal:  journal,
		identity: journal.Checkpoint().GetIdentity(),
		started:  make(chan struct{}),
		done:     make(chan struct{}),
		postings: map[match.Key][]uint64{},
		later:    map[string][]uint64{},
		repeated: map[match.Key][]uint64{},
		answers:  map[[16]byte][]uint64{},
		byKey:    map[match.Key]map[*subscriber]struct{}{},
		byAlert:  map[string]map[*subscriber]struct{}{},
		every:    map[*subscriber]struct{}{},
		closing:  map[*subscriber]struct{}{},
		asking:   map[[16]byte]map[*subscriber]struct{}{},
	}
}

// run reads the journal until ctx ends, or it is deleted or replaced.
func (f *feed) run(ctx context.Context) {
	f.err = f.follow(ctx)
	close(f.done)
}

func (f *feed) follow(ctx context.Context) error {
	checkpoint := f.journal.Checkpoint()
	for {
		if checkpoint.GetIdentity() != f.identity {
			return errReplaced
		}
		// First what trimming repeated, then what it dropped.
		if err := f.read(ctx, checkpoint.GetLastSequence()); err != nil {
			return err
		}
		if err := f.trimmed(ctx, checkpoint); err != nil {
			return err
		}
		select {
		case <-f.started:
		default:
			close(f.started)
		}
		var err error
		checkpoint, err = f.journal.Wait(ctx, f.identity, f.last, f.floor)
		if errors.Is(err, store.ErrNotFound) {
			return errDeleted
		}
		if err != nil {
			return err
		}
	}
}

// read indexes the entries through a sequence.
func (f *feed) read(ctx context.Context, through uint64) error {
	for f.last < through {
		for p, err := range f.journal.Read(ctx, f.last+1, through) {
			if errors.Is(err, store.ErrTrimmed) {
				if err := f.trimmed(ctx, f.journal.Checkpoint()); err != nil {
					return err
				}
				break
			}
			if err != nil {
				return fmt.Errorf("read the journal: %w", err)
			}
			f.add(p)
		}
	}
	return nil
}

// trimmed forgets what trimming dropped.
func (f *feed) trimmed(ctx context.Context, checkpoint *storev1.Checkpoint) error {
	floor := checkpoint.GetFloorTime().AsTime()
	f.mu.RLock()
	known := f.first != 0 && floor.Equal(f.floor)
	f.mu.RUnlock()
	if known {
		return nil
	}
	stats, err := f.journal.Stats(ctx)
	if err != nil {
		return fmt.Errorf("read the journal's bounds: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.floor, f.first = floor, max(stats.First, 1)
	f.last = max(f.last, f.first-1)
	forget(f.postings, f.first)
	forget(f.repeated, f.first)
	forget(f.later, f.first)
	forget(f.answers, f.first)
	f.control = slices.Clone(after(f.control, f.first-1))
	for s := range f.every {
		s.wakeUp()
	}
	return nil
}

// forget drops what lies before a sequence.
func forget[K comparable](lists map[K][]uint64, first uint64) {
	for k, list := range lists {
		if list = after(list, first-1); len(list) == 0 {
			delete(lists, k)
			continue
		}
		lists[k] = slices.Clone(list)
	}
}

// add indexes an entry and wakes whom it concerns.
func (f *feed) add(p store.Positioned) {
	var keys, repeated []match.Key
	later := ""
	control := false
	var answered *[16]byte
	switch body := p.Entry.GetBody().(type) {
	case *storev1.Entry_Revision:
		keys = match.AlertKeys(body.Revision.GetAlert())
		if body.Revision.GetPreviousSequence() != 0 {
			later = body.Revision.GetKey()
		}
	case *storev1.Entry_DeviceFact:
		if body.DeviceFact.GetRepeats() != 0 {
			repeated = match.DeviceKeys(body.DeviceFact.GetDevice())
		} else {
			keys = match.DeviceKeys(body.DeviceFact.GetDevice())
		}
	case *storev1.Entry_Pair, *storev1.Entry_FailedClosing:
		control = true
	case *storev1.Entry_TelemetryAnswer:
		if id := body.TelemetryAnswer.GetQuestion(); len(id) == len(answered) {
			answered = (*[16]byte)(id)
		}
	}
	// Before the position can be that of a token. Entries come in the order of their positions, and clocks may go back.
	f.newest.Store(max(f.newest.Load(), madeAt(p.Entry)))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = p.Sequence
	if f.moved != nil {
		close(f.moved)
		f.moved = nil
	}
	for _, k := range repeated {
		f.repeated[k] = append(f.repeated[k], p.Sequence)
	}
	for _, k := range keys {
		f.postings[k] = append(f.postings[k], p.Sequence)
		for s := range f.byKey[k] {
			s.wakeUp()
		}
	}
	if later != "" {
		f.later[later] = append(f.later[later], p.Sequence)
		for s := range f.byAlert[later] {
			s.wakeUp()
		}
	}
	if answered != nil {
		f.answers[*answered] = append(f.answers[*answered], p.Sequence)
		for s := range f.asking[*answered] {
			s.wakeUp()
		}
	}
	if control {
		f.control = append(f.control, p.Sequence)
		for s := range f.closing {
			s.wakeUp()
		}
	}
	for s := range f.every {
		s.wakeUp()
	}
}

// madeAt returns when an entry was made, in nanoseconds since 1970; 0 where it does not say.
func madeAt(entry *storev1.Entry) int64 {
	if entry.GetEntryTime() == nil {
		return 0
	}
	return entry.GetEntryTime().AsTime().UnixNano()
}

func (s *subscriber) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// subscribe registers a subscriber that has no keys and alerts yet.
func (f *feed) subscribe(s *subscriber) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.every {
		f.every[s] = struct{}{}
	}
	if s.bounded {
		f.closing[s] = struct{}{}
	}
}

// listen adds a key to a subscriber, or an alert of which it wants the later revisions.
func (f *feed) listen(s *subscriber, key match.Key, alert string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if alert != "" {
		s.alerts[alert] = struct{}{}
		register(f.byAlert, alert, s)
		return
	}
	s.keys[key] = struct{}{}
	register(f.byKey, key, s)
}

// listenTo adds a question to a subscriber, of which it wants the answer.
func (f *feed) listenTo(s *subscriber, question [16]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.asked == nil {
		s.asked = map[[16]byte]struct{}{}
	}
	s.asked[question] = struct{}{}
	register(f.asking, question, s)
}

func register[K comparable](m map[K]map[*subscriber]struct{}, k K, s *subscriber) {
	if m[k] == nil {
		m[k] = map[*subscriber]struct{}{}
	}
	m[k][s] = struct{}{}
}

// unsubscribe takes a subscriber out.
func (f *feed) unsubscribe(s *subscriber) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.every, s)
	delete(f.closing, s)
	for k := range s.keys {
		if delete(f.byKey[k], s); len(f.byKey[k]) == 0 {
			delete(f.byKey, k)
		}
	}
	for k := range s.alerts {
		f.ignoreAlert(s, k)
	}
	for k := range s.asked {
		if delete(f.asking[k], s); len(f.asking[k]) == 0 {
			delete(f.asking, k)
		}
	}
}

// await waits until everything through a sequence is indexed.
func (f *feed) await(ctx context.Context, sequence uint64) error {
	for {
		f.mu.Lock()
		if f.last >= sequence {
			f.mu.Unlock()
			return nil
		}
		if f.moved == nil {
			f.moved = make(chan struct{})
		}
		moved := f.moved
		f.mu.Unlock()
		select {
		case <-moved:
		case <-f.done:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitTrim waits until the feed knows that a sequence was trimmed.
func (f *feed) awaitTrim(ctx context.Context, sequence uint64) error {
	for {
		if first, _, _ := f.bounds(); first > sequence {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-f.done:
			return f.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next returns the sequences after a position that concern a subscriber, ascending, at most a batch, and through where they are
// all that do: where there are fewer than a batch, through everything that is indexed.
func (f *feed) next(s *subscriber, position uint64) (sequences []uint64, through uint64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if s.every {
		through = min(f.last, position+batch)
		for sequence := max(position+1, f.first); sequence <= through; sequence++ {
			sequences = append(sequences, sequence)
		}
		return sequences, max(through, position)
	}
	take := func(list []uint64) {
		list = after(list, position)
		sequences = append(sequences, list[:min(len(list), batch)]...)
	}
	for k := range s.keys {
		take(f.postings[k])
	}
	for k := range s.alerts {
		take(f.later[k])
	}
	for k := range s.asked {
		take(f.answers[k])
	}
	if s.bounded {
		take(f.control)
	}
	slices.Sort(sequences)
	sequences = slices.Compact(sequences)
	if len(sequences) >= batch {
		sequences = sequences[:batch]
		return sequences, sequences[batch-1]
	}
	return sequences, max(f.last, position)
}

// about returns the sequences of the entries about a machine, from one through another.
func (f *feed) about(key match.Key, from, through uint64) []uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	list := after(f.postings[key], from-1)
	n, _ := slices.BinarySearch(list, through+1)
	return slices.Clone(list[:n])
}

// revisions returns the sequences of the revisions of an alert after one entry, through another, its first revision apart.
func (f *feed) revisions(key string, from, through uint64) []uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	list := after(f.later[key], from)
	n, _ := slices.BinarySearch(list, through+1)
	return slices.Clone(list[:n])
}

// repetitions returns the sequences of the facts about a machine that trimming repeated.
func (f *feed) repetitions(key match.Key) []uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Clone(f.repeated[key])
}

// bounds returns the first entry that is still there, the last that is indexed, and the floor.
func (f *feed) bounds() (first, last uint64, floor time.Time) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.first, f.last, f.floor
}

// entry returns an entry of the feed's identity; errReplaced where the journal has another.
func (f *feed) entry(ctx context.Context, sequence uint64) (store.Positioned, error) {
	p, err := f.journal.Get(ctx, sequence)
	// An identity never comes back: while it is the feed's, the entry is too.
	if f.journal.Checkpoint().GetIdentity() != f.identity {
		return store.Positioned{}, errReplaced
	}
	return p, err
}

// after returns the part of an ascending list that lies after a sequence.
func after(list []uint64, sequence uint64) []uint64 {
	if len(list) == 0 || list[len(list)-1] <= sequence {
		return nil
	}
	n, _ := slices.BinarySearch(list, sequence+1)
	return list[n:]
}
