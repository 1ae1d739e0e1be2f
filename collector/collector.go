package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/internal/announce"
	"defender-integration/store"
)

// ErrStopped says that the collector is no more: its integration was deleted, or the process ends.
var ErrStopped = errors.New("the collector has stopped")

// Collector reads the alerts of one integration. One goroutine does all of its work; the rest is for its members.
type Collector struct {
	id, uid  string
	part     float64 // of the interval, at which this integration polls
	settings Settings
	options  *Options
	budgets  *budgets
	metrics  *metrics
	cluster  *cluster // nil where the server is alone with its store
	log      *slog.Logger

	wake      chan struct{} // capacity 1: something the schedule depends on has changed
	recovered chan struct{} // closed when the journal was recovered for the first time
	done      chan struct{} // closed when the collector has stopped
	// appending is held, as a semaphore, while entries and the checkpoint behind them are written, so that a stream joins either
	// before or after a pair, never in between.
	appending chan struct{}
	journal   store.Journal // set before recovered is closed

	mu       sync.Mutex
	record   *storev1.Record
	members  map[*Member]struct{}
	closings map[*Member]struct{} // the members that wait for a closing read
	reaching map[*Member]struct{} // the members that ask for alerts since a time
	interest map[string]int       // how many members have a key
	fresh    []string             // keys that came since facts were last appended
	// unresolved says that a member joined whom no device of the last look-up fits.
	unresolved bool
	damaged    bool          // somebody found the journal damaged
	clock      time.Duration // Microsoft's clock less this machine's
	now        Snapshot
	changed    chan struct{}          // closed and made anew when now changes
	questions  map[[16]byte]*question // what telemetry is asked, without an answer in the journal
	answered   map[[16]byte]time.Time // those that were answered of late, and when
	// telemetryDone says that asking telemetry came to its end, telemetryFailed how it failed; the collector's goroutine takes note.
	telemetryDone   bool
	telemetryFailed error
	setAside        context.CancelCauseFunc // ends the read under way, or one that is over; nil before the first

	setTelemetryAside context.CancelCauseFunc // likewise, of asking telemetry

	traces     map[*Member]trace.SpanContext // the spans of the members that are traced
	lease      *hold                         // of the application, while this server has it
	unassign   context.CancelFunc            // ends what is done since the lease was last another's
	holding    bool                          // this server collects: what other servers' streams want is taken in
	remotes    map[uint64]*remote            // and is here, by server
	generation uint64                        // how often keys came
	numbers    uint64                        // how many closings were asked for
	// damagedIdentity is the journal's identity in which a stream here found damage.
	damagedIdentity string
	wishing         sync.Mutex // held while what a server's streams want is taken in; before mu

	background sync.WaitGroup // what asks telemetry

	// What metrics tell, besides the above: how many entries were taken and not appended yet, and, guarded by mu, the journal's
	// size when it was last looked at and who knows until when the credentials are good.
	waiting   atomic.Int64
	journaled journaled
	expiring  Expiring

	// All that follows belongs to the collector's goroutine.
	hold       *hold            // what it collects under; nil where the server is alone, or while it follows
	posting    posting          // what it has told the server that collects
	took       *storev1.Present // what that told last
	source     Source
	sharing    string // the application whose budget source spends
	index      *index
	facts      map[string][]*fact // those of the journal, by device id, ascending
	checkpoint *storev1.Checkpoint
	watching   time.Time // since when this process has polled without a failure, by Microsoft's clock; zero while it does not
	absences   []absence // those that are over, ascending
	bare       bare
	missing    *integrationv1.Problem // what reads passed over, while there is such; with since when
	unclosed   *integrationv1.Problem // why the last closing read failed; nil where it did not
	pending    []*storev1.Entry       // taken, and not appended yet
	size       int                    // of pending, in bytes
	plan       plan
}

func newCollector(m *Manager, record *storev1.Record) *Collector {
	id := record.GetIntegration().GetIntegrationId()
	c := &Collector{
		id:        id,
		uid:       record.GetUid(),
		part:      partOf(record.GetUid()),
		settings:  m.options.Settings,
		options:   &m.options,
		budgets:   m.budgets,
		metrics:   m.metrics,
		log:       m.options.Log.With("integration_id", id),
		wake:      make(chan struct{}, 1),
		recovered: make(chan struct{}),
		done:      make(chan struct{}),
		appending: make(chan struct{}, 1),
		record:    record,
		members:   map[*Member]struct{}{},
		closings:  map[*Member]struct{}{},
		reaching:  map[*Member]struct{}{},
		interest:  map[string]int{},
		questions: map[[16]byte]*question{},
		answered:  map[[16]byte]time.Time{},
		changed:   make(chan struct{}),
		cluster:   m.cluster,
		remotes:   map[uint64]*remote{},
	}
	c.now.state = stateOf(record)
	c.now.since = time.Now()
	if c.cluster != nil {
		c.now.Elsewhere = &LookUp{} // Until this server collects.
	}
	return c
}

// UID names the integration's journal.
func (c *Collector) UID() string { return c.uid }

// Done is closed when the collector has stopped.
func (c *Collector) Done() <-chan struct{} { return c.done }

// run works until ctx ends.
func (c *Collector) run(ctx context.Context) {
	defer close(c.done)
	if c.cluster == nil {
		c.collect(ctx)
		return
	}
	c.takeTurns(ctx)
}

// collect collects until ctx ends, or another collects in its place. What fails in the store is tried again, from recovering the journal
// on.
func (c *Collector) collect(ctx context.Context) {
	defer c.background.Wait()
	defer c.disconnect()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := c.settings.RetryMin
	for ctx.Err() == nil {
		began := time.Now()
		err := c.work(ctx)
		if ctx.Err() != nil || errors.Is(err, ErrStopped) {
			return
		}
		c.log.ErrorContext(ctx, "the journal cannot be written; recovering it", "error", err)
		c.metrics.failed(c.id, operationStore, storeProblem(err))
		c.lookAway()
		c.setProblem(storeProblem(err), time.Time{}, time.Time{})
		if time.Since(began) > c.settings.RetryMax {
			wait = c.settings.RetryMin
		}
		// Not cut short by streams that come and go: each try ends in a call at Microsoft.
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, c.settings.RetryMax)
		if errors.Is(err, store.ErrFenced) && !c.confirmed(ctx) {
			return // Whoever wrote to the journal has the lease.
		}
	}
}

// confirmed waits until it is sure that the lease is this server's, and says whether it is. Before, the journal is not to be recovered: that
// would refuse the writes of whoever has it.
func (c *Collector) confirmed(ctx context.Context) bool {
	for c.hold != nil && !c.cluster.confirm(ctx, c.hold) {
		select {
		case <-time.After(c.settings.RetryMin):
		case <-ctx.Done():
		}
		if c.hold.over() || ctx.Err() != nil {
			return false
		}
	}
	return true
}

// work recovers the journal and does what the schedule says, until the journal fails or ctx ends.
func (c *Collector) work(ctx context.Context) error {
	if err := c.recover(ctx); err != nil {
		return err
	}
	c.plan = newPlan(c.settings, time.Now())
	for ctx.Err() == nil {
		if err := c.connect(); err != nil && !c.plan.record.GetIntegration().GetPaused() {
			c.setProblem(connectProblem(err), time.Time{}, time.Time{})
		}
		if c.foundDamaged() {
			return &storeError{store.ErrDamaged}
		}
		c.noteTelemetry()
		c.tellNextPoll()
		c.tellCoverage()
		step, at := c.next(time.Now())
		if wait := time.Until(at); wait > 0 || step == nil {
			c.sleep(ctx, wait)
			continue
		}
		// What fails upstream is a matter of the schedule; what is returned has failed in the store.
		if err := step(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}

// Recover makes the collector recover the journal, which somebody found damaged when reading it; where another server collects, that one's.
func (c *Collector) Recover() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged = true
	if c.journal != nil {
		c.damagedIdentity = c.journal.Checkpoint().GetIdentity()
	}
	c.wakeUp()
}

func (c *Collector) foundDamaged() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.damaged
	c.damaged = false
	return found
}

// sleep waits for a time, or until the schedule may have changed.
func (c *Collector) sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.wake:
	case <-ctx.Done():
	}
}

func (c *Collector) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// recover makes this collector the journal's writer and learns what is in it.
func (c *Collector) recover(ctx context.Context) error {
	if c.hold != nil && !c.hold.good() {
		c.hold.end()
		return fmt.Errorf("recover the journal: the lease is over: %w", ErrStopped)
	}
	journal, err := c.options.Store.Journal(ctx, c.uid)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	before := journal.Checkpoint().GetIdentity()
	checkpoint, err := journal.Recover(ctx)
	if err != nil {
		return fmt.Errorf("recover the journal: %w", err)
	}
	if before != checkpoint.GetIdentity() {
		c.metrics.replaced.WithLabelValues(c.id).Inc()
	}
	announce.Point(announce.Recovered)
	stats, err := journal.Stats(ctx)
	if err != nil {
		return fmt.Errorf("recover the journal: %w", err)
	}
	c.index, c.facts, c.pending, c.size = newIndex(), map[string][]*fact{}, nil, 0
	c.waiting.Store(0)
	for p, err := range journal.Read(ctx, stats.First, checkpoint.GetLastSequence()) {
		if err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		c.index.add(p.Sequence, p.Entry)
		c.learn(p.Sequence, p.Entry)
	}
	renewed := c.checkpoint != nil && c.checkpoint.GetIdentity() != checkpoint.GetIdentity()
	c.checkpoint = proto.CloneOf(checkpoint)
	if renewed {
		// What they rest on is gone, and what was read is to be read again.
		c.absences = nil
		c.update(func(s *Snapshot) { s.Pairs = nil })
	}
	c.measured(stats)
	c.mu.Lock()
	c.clock = checkpoint.GetClock().AsDuration()
	c.journal = journal
	c.fresh = nil
	for k := range c.interest {
		c.fresh = append(c.fresh, k)
	}
	c.mu.Unlock()
	if c.hold != nil {
		// What the holder before appends late is refused from here on.
		c.add(c.takeOver())
		if err := c.locked(ctx, c.flush); err != nil {
			return err
		}
	}
	select {
	case <-c.recovered:
	default:
		close(c.recovered)
	}
	c.log.InfoContext(ctx, "journal recovered", "entries", len(c.index.entries), "alerts", len(c.index.alerts), "last_sequence", checkpoint.GetLastSequence())
	return nil
}

// connect makes the adapter where there is none, or where the record is another.
func (c *Collector) connect() error {
	c.mu.Lock()
	record := c.record
	c.mu.Unlock()
	if c.plan.record == record {
		// What kept the adapter from being made, such as a file that is not there, may be mended without a new record.
		if c.source == nil && !time.Now().Before(c.plan.reconnect) {
			c.makeSource(record)
		}
		return c.plan.connectError
	}
	before := c.plan.record
	c.plan.record = record
	// After the journal was recovered, what was wrong is so until a read is good.
	if before != nil || record.GetIntegration().GetPaused() {
		c.setState(stateOf(record))
	}
	if record.GetIntegration().GetPaused() {
		c.lookAway()
	}
	for _, g := range []*gate{&c.plan.alertGate, &c.plan.devicesGate, &c.plan.telemetryGate} {
		if g.retired {
			*g = gate{}
		}
	}
	if c.source != nil && onlyPausing(before, record) {
		return nil
	}
	if before != nil && !proto.Equal(before.GetIntegration().GetDeviceSource(), record.GetIntegration().GetDeviceSource()) {
		// What the other source said is nothing of this one's.
		c.plan.devices = time.Time{}
		c.update(func(s *Snapshot) { s.Devices, s.DeviceProblem = nil, nil })
	}
	c.disconnect()
	c.plan.release(application(before.GetIntegration()) == application(record.GetIntegration()))
	// What was mended is seen at once.
	c.plan.poll = time.Time{}
	c.makeSource(record)
	return c.plan.connectError
}

// makeSource makes the adapter, or says when to try again.
func (c *Collector) makeSource(record *storev1.Record) {
	source, err := c.options.Connect(record, c.metrics.counting(c.id, c.spender(application(record.GetIntegration()))))
	c.plan.connectError = err
	if err != nil {
		c.lookAway()
		c.plan.reconnect = time.Now().Add(c.settings.RetryPermanent)
		c.metrics.failed(c.id, operationConnect, connectProblem(err))
		c.log.Warn("the connection cannot be made", "reason", connectProblem(err).GetReason().String(), "error", err, "again_at", c.plan.reconnect)
		return
	}
	c.source = source
	c.setExpiring(source)
	c.sharing = application(record.GetIntegration())
	c.budgets.share(c.sharing, c)
}

// spender returns what is asked before each call: it lets none through that the lease is over for, and ends that then. Whoever stood still
// may find out here first.
func (c *Collector) spender(app string) defender.SpendFunc {
	spend, h := c.budgets.spender(app), c.hold
	if h == nil {
		return spend
	}
	return func(ctx context.Context, limit defender.Limit) error {
		err := spend(ctx, limit)
		if err == nil && !h.good() {
			h.end()
			return fmt.Errorf("the lease is over: %w", ErrStopped)
		}
		return err
	}
}

// application names what the collector's calls are counted by.
func (c *Collector) application() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return application(c.record.GetIntegration())
}

// onlyPausing says that two versions of a record differ in nothing that the adapter is made from.
func onlyPausing(a, b *storev1.Record) bool {
	if a == nil {
		return false
	}
	x := proto.CloneOf(a)
	x.Integration.Paused = b.GetIntegration().GetPaused()
	x.Integration.UpdateTime = b.GetIntegration().GetUpdateTime()
	return proto.Equal(x, b)
}

func (c *Collector) disconnect() {
	if c.source != nil {
		c.setExpiring(nil)
		c.source.Close()
		c.source = nil
		c.budgets.unshare(c.sharing, c)
	}
}

// set gives the collector a new version of its record.
func (c *Collector) set(record *storev1.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.record.GetIntegration().GetPaused() && !record.GetIntegration().GetPaused() {
		for m := range c.closings {
			m.stood += max(time.Since(laterOf(c.now.pausedAt, c.triedFrom(m))), 0)
		}
	}
	if !c.record.GetIntegration().GetPaused() && record.GetIntegration().GetPaused() {
		c.now.pausedAt = time.Now()
	}
	if record.GetIntegration().GetPaused() || !onlyPausing(c.record, record) {
		for _, setAside := range []context.CancelCauseFunc{c.setAside, c.setTelemetryAside} {
			if setAside != nil {
				setAside(errSetAside)
			}
		}
	}
	c.record = record
	c.wakeUp()
}

// The bounds of what is appended at once.
const (
	pendingEntries = 400
	pendingBytes   = 5 << 20
)

// take takes an element that was read: what the journal has not is appended, at the latest by the next flush.
func (c *Collector) take(ctx context.Context, e *defender.Element) error {
	if e.Known {
		return nil
	}
	e.Key = boundedKey(e.Key)
	if e.ReadTime {
		e.Updated = e.Updated.Add(max(0, c.clock+clockSlack))
	}
	if floor := c.checkpoint.GetFloorTime(); floor != nil && e.Updated.Before(floor.AsTime()) {
		return nil
	}
	if !c.index.admits(e) {
		return nil
	}
	now := time.Now()
	if e.WithoutEvidence && !c.bare.passes(e, now, c.settings.EvidenceWait) {
		return nil
	}
	firstSeen, previous := c.index.before(e.Key, now)
	entry := newRevision(e, now, firstSeen, previous)
	entry.GetRevision().ArrivedLate, entry.GetRevision().Away = c.arrivedLate(e), c.away(e, previous == 0, now)
	c.metrics.revision(c.id, entry.GetRevision())
	c.observeLateness(e, now)
	c.add(entry)
	if len(c.pending) >= pendingEntries || c.size >= pendingBytes {
		return c.locked(ctx, c.flush)
	}
	return nil
}

// clockSlack is added to what is known of Microsoft's clock where it must not be too early: a read's `through` is the Date header, which
// tells whole seconds, less the round trip and a second. An element without a readable last update counts as updated when it was read,
// and where Microsoft's clock is ahead by that: what its list filters by then lies before that time, and no read from a floor behind it
// brings it again.
const clockSlack = 2 * time.Second

// add lines an entry up for the next flush.
func (c *Collector) add(entry *storev1.Entry) {
	sequence := c.checkpoint.GetLastSequence() + uint64(len(c.pending)) + 1
	c.index.add(sequence, entry)
	c.learn(sequence, entry)
	c.pending = append(c.pending, entry)
	c.waiting.Store(int64(len(c.pending)))
	c.size += sizeOf(entry)
}

// flush appends what was lined up and moves the checkpoint behind it. The caller holds appending.
func (c *Collector) flush(ctx context.Context) error {
	if len(c.pending) == 0 {
		return nil
	}
	ctx, span := c.span(ctx, "append")
	defer span.End()
	span.SetAttributes(attribute.Int("defender.entries", len(c.pending)), attribute.Int("defender.bytes", c.size))
	announce.Point(announce.Append)
	last, err := c.journal.Append(c.writing(ctx), c.pending)
	if err != nil {
		defender.NoteError(span, err)
		return c.failedWrite(fmt.Errorf("append to the journal: %w", err))
	}
	if want := c.checkpoint.GetLastSequence() + uint64(len(c.pending)); last != want {
		return &storeError{fmt.Errorf("append to the journal: the last sequence is %d, not %d", last, want)}
	}
	c.pending, c.size = nil, 0
	c.waiting.Store(0)
	c.checkpoint.LastSequence = last
	announce.Point(announce.Checkpoint)
	return c.save(ctx)
}

// save makes the checkpoint durable.
func (c *Collector) save(ctx context.Context) error {
	if err := c.journal.SaveCheckpoint(c.writing(ctx), proto.CloneOf(c.checkpoint)); err != nil {
		return c.failedWrite(fmt.Errorf("save the checkpoint: %w", err))
	}
	return nil
}

// writing returns the context of a write that has begun. Where another server may take over, it comes to its end whatever becomes of the
// lease: the journal says whether it counts, and the next holder finds it whole or not at all.
func (c *Collector) writing(ctx context.Context) context.Context {
	if c.cluster == nil {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// failedWrite takes note of a write that failed in the store.
func (c *Collector) failedWrite(err error) error {
	if errors.Is(err, store.ErrFenced) {
		c.metrics.fencedWrites.WithLabelValues(c.id).Inc()
		c.log.Warn("the journal refused a late write: another has written since", "error", err)
	}
	return &storeError{err}
}

// locked calls f while appending is held.
func (c *Collector) locked(ctx context.Context, f func(context.Context) error) error {
	select {
	case c.appending <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.appending }()
	return f(ctx)
}

// storeError is what failed in the store, to be told from what failed upstream.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

// storeProblem is what an operator is told of a failing store.
func storeProblem(err error) *integrationv1.Problem {
	p := &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE,
		Message: "The journal cannot be written.",
		Remedy: "See that the data directory has room and can be written, or on a NATS cluster that a majority of its servers runs and has " +
			"room, and read the service's log. It is tried again by itself.",
	}
	switch {
	case errors.Is(err, store.ErrFenced):
		p.Message = "Another process writes to the journal."
		p.Remedy = "Let only one service collect an integration."
	case errors.Is(err, store.ErrVersion):
		p.Message = "A later version of this service wrote what is stored. This version cannot read it, and leaves it as it is."
		p.Remedy = "Run the version that wrote it, or a later one."
	}
	return p
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
