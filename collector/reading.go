package collector

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
	"defender-integration/internal/announce"
)

// saveInterval is how far polling may get on without anything new before it is made durable. What is not is read again after a
// restart.
const saveInterval = time.Minute

// poll reads what was updated since shortly before the last poll.
func (c *Collector) poll(ctx context.Context) error {
	c.plan.poll = time.Now()
	ctx, span := c.span(ctx, "poll")
	defer span.End()
	since := c.pollSince()
	before := c.checkpoint.GetLastSequence()
	pair, err := c.read(withReserve(ctx), integrationv1.Pair_DEPTH_POLL, since)
	if pair == nil {
		return err
	}
	c.watch(pair)
	if through := pair.GetThrough().AsTime(); c.checkpoint.GetLastSequence() != before || through.Sub(c.plan.saved) >= saveInterval {
		if err := c.locked(ctx, c.save); err != nil {
			return err
		}
		c.plan.saved = through
	}
	return c.prove(ctx, pair, false)
}

// pollSince returns where a poll begins: before what was polled through; after the journal was lost, where polling once began;
// at first, when the integration was registered.
func (c *Collector) pollSince() time.Time {
	if t := c.checkpoint.GetPolledThrough(); t != nil {
		return t.AsTime().Add(-c.settings.Overlap)
	}
	if t := c.checkpoint.GetPolledSince(); t != nil {
		return t.AsTime()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.record.GetIntegration().GetCreateTime().AsTime().Add(-c.settings.Overlap)
}

// nextPoll returns when the next poll is due.
func (c *Collector) nextPoll() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return laterOf(c.pollDue(), c.plan.alertGate.until)
}

// tellNextPoll tells when the next poll is due, where it is other than was told: streams came or went.
func (c *Collector) tellNextPoll() {
	c.mu.Lock()
	told, paused := c.now.NextPoll, c.record.GetIntegration().GetPaused()
	c.mu.Unlock()
	if at := c.nextPoll(); !told.IsZero() && !paused && !at.Equal(told) {
		c.update(func(s *Snapshot) { s.NextPoll = at })
	}
}

// reread reads deeper, for what became visible late.
func (c *Collector) reread(ctx context.Context, i int) error {
	c.plan.rereads[i] = time.Now()
	ctx, span := c.span(ctx, "reread")
	defer span.End()
	return c.readDeep(ctx, integrationv1.Pair_DEPTH_REREAD, time.Now().Add(c.clock).Add(-c.settings.Rereads[i].Span))
}

// readDeep reads deeper than a poll, and makes an entry of the pair where it reaches as far back as it was to, or completes a stream.
func (c *Collector) readDeep(ctx context.Context, depth integrationv1.Pair_Depth, since time.Time) error {
	pair, err := c.read(ctx, depth, since)
	if pair == nil {
		return err
	}
	reached := laterOf(since, c.earliest(time.Now()))
	return c.prove(ctx, pair, !pair.GetSince().AsTime().After(reached))
}

// read reads everything since a time, or since the earliest that can be read whole. It returns the pair where the read was whole, which
// begins behind what it had to pass over; otherwise no pair, with an error only where the store failed.
func (c *Collector) read(ctx context.Context, depth integrationv1.Pair_Depth, since time.Time) (*integrationv1.Pair, error) {
	since = laterOf(since, c.earliest(time.Now()))
	announce.Point(announce.Poll)
	c.bare.begin()
	began := time.Now()
	timed, done := c.bounded(ctx)
	defer done()
	read, err := c.source.Alerts().ReadAlerts(timed, since, c.index.known, func(e *defender.Element) error { return c.take(ctx, e) })
	if _, ok := errors.AsType[*storeError](err); ok {
		return nil, err
	}
	passedOver := missingIn(err, read)
	if err == nil || passedOver != nil {
		if bare := c.bare.end(since); bare != nil {
			err, passedOver = bare, nil
		}
	}
	// What was read is good, also where the rest could not be.
	if flushErr := c.locked(ctx, c.flush); flushErr != nil {
		return nil, flushErr
	}
	if err != nil && timed.Err() != nil && ctx.Err() == nil {
		err = context.Cause(timed)
	}
	if errors.Is(err, errSetAside) || errors.Is(err, ErrStopped) || err != nil && ctx.Err() != nil {
		return nil, nil // Called off, and no failure. It comes again when it is next due, by whoever collects then.
	}
	c.metrics.read(c.id, depth, time.Since(began), err)
	noteRead(ctx, since, read, err)
	c.setPace(depth, read.Calls)
	if depth == integrationv1.Pair_DEPTH_CLOSING {
		c.noteClosing(err)
	}
	from := since
	switch {
	case passedOver != nil:
		since = passedOver.GetMissing()[len(passedOver.GetMissing())-1].GetEndTime().AsTime()
	case err != nil:
		c.failed(ctx, err)
		return nil, nil
	}
	c.plan.alertGate = gate{}
	c.mu.Lock()
	c.clock = read.Through.Sub(read.Asked) // The read itself may have waited before: for the budget, for a token, or to ask again.
	c.checkpoint.Clock = durationpb.New(c.clock)
	c.mu.Unlock()
	pair := &integrationv1.Pair{
		Depth:    depth,
		Since:    timestamppb.New(since),
		Through:  timestamppb.New(read.Through),
		Elements: read.Elements,
	}
	c.cover(ctx, from, pair, passedOver)
	c.setGood(pair)
	return pair, nil
}

// failed takes note of a read that failed upstream.
func (c *Collector) failed(ctx context.Context, err error) {
	if !purposeOf(ctx).reserve && problemOf(err).GetReason() == integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT {
		// What is left is for polls and closing reads. This read comes again when it is next due.
		c.log.WarnContext(ctx, "a deeper read is left out: the budget's share for it is spent", "error", err)
		return
	}
	// Also where a deeper read failed: polls wait with it.
	c.lookAway()
	problem, until := c.plan.alertGate.note(c.settings, err)
	c.log.WarnContext(ctx, "reading alerts failed", "reason", problem.GetReason().String(), "error", err, "again_at", c.plan.alertGate.until)
	c.setProblem(problem, until, c.nextPoll())
}

// note closes a gate for an error, and returns what to tell of it: the problem, and until when Microsoft or the budget keeps us
// from calling.
func (g *gate) note(settings Settings, err error) (*integrationv1.Problem, time.Time) {
	e, ok := errors.AsType[*defender.Error](err)
	if !ok {
		e = &defender.Error{Problem: problemOf(err)}
	}
	g.fail(settings, time.Now(), e.RetryAt, e.Permanent)
	throttled := g.told
	switch e.Problem.GetReason() {
	case integrationv1.ErrorReason_ERROR_REASON_API_RETIRED:
		g.retired = true
	case integrationv1.ErrorReason_ERROR_REASON_THROTTLED, integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT:
		throttled = true
	}
	if throttled {
		return e.Problem, g.until
	}
	return e.Problem, time.Time{}
}

// prove appends a pair where it is to be an entry: always for a re-read and a closing read, for a poll where it completes a
// stream. The facts that the verdicts of those streams rest on are appended before it. Where the budget does not let the devices be looked
// up now, it completes none, and those streams wait for the next.
func (c *Collector) prove(ctx context.Context, pair *integrationv1.Pair, always bool) error {
	due, waits := c.waitsFor(pair)
	if !waits && !always {
		return nil
	}
	fresh := true
	if waits {
		var err error
		if fresh, err = c.freshDevices(ctx, due); err != nil || !fresh && !always {
			return err
		}
	}
	return c.locked(ctx, func(ctx context.Context) error {
		// Asked again: streams came meanwhile.
		keys, waiting := c.waitingFor(pair)
		if !fresh {
			waiting = nil
		}
		c.addFacts(keys, len(waiting) > 0)
		c.add(&storev1.Entry{
			EntryTime: timestamppb.Now(),
			Body: &storev1.Entry_Pair{Pair: &storev1.PairProof{
				Pair: proto.CloneOf(pair), Devices: c.deviceLookup(), Waiting: &storev1.Waiting{Streams: namesOf(waiting)},
			}},
		})
		if err := c.flush(ctx); err != nil {
			return err
		}
		c.answer(waiting)
		return nil
	})
}

// maxWaiting bounds how many streams a pair names, so that its entry stays below what an entry may have. Who is beyond it waits for the next.
const maxWaiting = 20_000

// waitsFor says whether a stream waits for a pair, and when the last of those was due, by the clock of their windows.
func (c *Collector) waitsFor(pair *integrationv1.Pair) (due time.Time, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := range c.closings {
		if m.closing.answeredBy(pair) {
			found = true
			if m.closing.Due.After(due) {
				due = m.closing.Due
			}
		}
	}
	return due, found
}

// waitingFor returns the members that wait for a pair, and the keys of all, theirs among them.
func (c *Collector) waitingFor(pair *integrationv1.Pair) (keys []string, members []*Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := range c.closings {
		if m.closing.answeredBy(pair) && len(members) < maxWaiting {
			members = append(members, m)
		}
	}
	return slices.Collect(maps.Keys(c.interest)), members
}

// namesOf returns what a pair names the streams of members by, each once and ascending.
func namesOf(members []*Member) []uint64 {
	var names []uint64
	for _, m := range members {
		names = append(names, m.stream)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// answeredBy says whether a pair is what a closing waits for.
func (w *Closing) answeredBy(pair *integrationv1.Pair) bool {
	return !pair.GetSince().AsTime().After(w.Since) && !pair.GetThrough().AsTime().Before(w.Due)
}

// answer marks the members whose closing was answered: those that waited when the entry was made, since who came while it was appended is
// not among those that it names.
func (c *Collector) answer(waited []*Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range waited {
		delete(c.closings, m)
	}
}
