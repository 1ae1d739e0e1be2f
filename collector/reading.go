package collector

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
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
	since := c.pollSince()
	before := c.checkpoint.GetLastSequence()
	pair, err := c.read(withReserve(ctx), integrationv1.Pair_DEPTH_POLL, since)
	if pair == nil {
		return err
	}
	c.checkpoint.PolledThrough = pair.GetThrough()
	if c.checkpoint.GetPolledSince() == nil {
		c.checkpoint.PolledSince = pair.GetSince()
	}
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
	return laterOf(c.plan.poll.Add(c.interval()), c.plan.alertGate.until)
}

// reread reads deeper, for what became visible late.
func (c *Collector) reread(ctx context.Context, i int) error {
	c.plan.rereads[i] = time.Now()
	pair, err := c.read(ctx, integrationv1.Pair_DEPTH_REREAD, time.Now().Add(c.clock).Add(-c.settings.Rereads[i].Span))
	if pair == nil {
		return err
	}
	return c.prove(ctx, pair, true)
}

// read reads everything since a time. It returns the pair where the read was whole; otherwise no pair, with an error only where
// the store failed.
func (c *Collector) read(ctx context.Context, depth integrationv1.Pair_Depth, since time.Time) (*integrationv1.Pair, error) {
	if floor := timeOf(c.checkpoint.GetFloorTime()); since.Before(floor) {
		since = floor
	}
	announce.Point(announce.Poll)
	began := time.Now()
	read, err := c.source.Alerts().ReadAlerts(ctx, since, c.index.known, func(e *defender.Element) error { return c.take(ctx, e) })
	var inStore *storeError
	if errors.As(err, &inStore) {
		return nil, err
	}
	// What was read is good, also where the rest could not be.
	if flushErr := c.locked(ctx, c.flush); flushErr != nil {
		return nil, flushErr
	}
	c.metrics.read(c.id, depth, time.Since(began), err)
	if err != nil {
		c.failed(ctx, err)
		return nil, nil
	}
	c.plan.alertGate = gate{}
	c.clock = read.Through.Sub(began)
	pair := &integrationv1.Pair{
		Depth:    depth,
		Since:    timestamppb.New(since),
		Through:  timestamppb.New(read.Through),
		Elements: read.Elements,
	}
	c.setGood(pair)
	return pair, nil
}

// failed takes note of a read that failed upstream.
func (c *Collector) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	problem, until := c.plan.alertGate.note(c.settings, err)
	c.log.Warn("Reading alerts failed.", "reason", problem.GetReason(), "error", err, "again_at", c.plan.alertGate.until)
	c.setProblem(problem, until, c.nextPoll())
}

// note closes a gate for an error, and returns what to tell of it: the problem, and until when Microsoft or the budget keeps us
// from calling.
func (g *gate) note(settings Settings, err error) (*integrationv1.Problem, time.Time) {
	var e *defender.Error
	if !errors.As(err, &e) {
		e = &defender.Error{Problem: problemOf(err)}
	}
	g.fail(settings, time.Now(), e.RetryAt, e.Permanent)
	switch e.Problem.GetReason() {
	case integrationv1.ErrorReason_ERROR_REASON_THROTTLED, integrationv1.ErrorReason_ERROR_REASON_BUDGET_SPENT:
		return e.Problem, g.until
	}
	return e.Problem, time.Time{}
}

// prove appends a pair where it is to be an entry: always for a re-read and a closing read, for a poll where it completes a
// stream. The facts that the verdicts of those streams rest on are appended before it.
func (c *Collector) prove(ctx context.Context, pair *integrationv1.Pair, always bool) error {
	completes := c.completes(pair)
	if !completes && !always {
		return nil
	}
	if completes {
		if err := c.freshDevices(ctx); err != nil {
			return err
		}
	}
	return c.locked(ctx, func(ctx context.Context) error {
		// Asked again: streams joined meanwhile.
		if c.completes(pair) {
			c.addFacts(c.keys(), true)
		}
		c.add(&storev1.Entry{
			EntryTime: timestamppb.Now(),
			Body:      &storev1.Entry_Pair{Pair: &storev1.PairProof{Pair: proto.Clone(pair).(*integrationv1.Pair), Devices: c.deviceLookup()}},
		})
		if err := c.flush(ctx); err != nil {
			return err
		}
		c.answer(func(closing *Closing) bool { return closing.answeredBy(pair) })
		return nil
	})
}

// completes says whether a pair completes a stream.
func (c *Collector) completes(pair *integrationv1.Pair) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := false
	for m := range c.closings {
		found = found || m.closing.answeredBy(pair)
	}
	return found
}

// answeredBy says whether a pair is what a closing waits for.
func (w *Closing) answeredBy(pair *integrationv1.Pair) bool {
	return !pair.GetSince().AsTime().After(w.Since) && !pair.GetThrough().AsTime().Before(w.Due)
}

// answer marks the members whose closing was answered.
func (c *Collector) answer(answered func(*Closing) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := range c.closings {
		if answered(m.closing) {
			delete(c.closings, m)
		}
	}
}
