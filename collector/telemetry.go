package collector

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/protobuf/types/known/timestamppb"

	"defender-integration/defender"
	storev1 "defender-integration/gen/defender/integration/store/v1"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// gatherQuestions is how long the first question waits for others, since streams close together.
const gatherQuestions = 2 * time.Second

// rememberAnswers is for how long it is remembered that a question has its answer in the journal.
const rememberAnswers = 10 * time.Minute

// Question is what a stream asks telemetry for, once it has its pair.
type Question struct {
	// ID names the question, and the answer in the journal: who asks the same gets the same answer.
	ID [16]byte
	// Asks is what is looked for.
	Asks *defender.TelemetryQuestion
}

// question is one that was asked and has no answer in the journal yet.
type question struct {
	Question
	asked   time.Time
	members map[*Member]struct{} // who waits for it
	asking  bool                 // it is being asked
	answer  *integrationv1.Telemetry
}

// Ask asks telemetry. Questions of all streams are gathered into as few calls as can be, and each has its answer in the journal at the
// latest when the hunting limit is over: what was found, or why nothing could be. Asked again, a question changes nothing.
func (m *Member) Ask(questions []Question) {
	c := m.collector
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.members[m]; !ok {
		return
	}
	for _, q := range questions {
		c.ask(m, q)
	}
}

// ask makes a member wait for a question's answer. The caller holds mu.
func (c *Collector) ask(m *Member, q Question) {
	if time.Since(c.answered[q.ID]) < rememberAnswers {
		return // The stream has not come to the answer yet.
	}
	one := c.questions[q.ID]
	if one == nil {
		one = &question{Question: q, asked: time.Now(), members: map[*Member]struct{}{}}
		c.questions[q.ID] = one
		c.wakeUp()
	}
	one.members[m] = struct{}{}
}

// withdraw takes a member from the questions that it waits for, but for those that it still asks. What nobody waits for is not asked.
// The caller holds mu.
func (c *Collector) withdraw(m *Member, asks func([16]byte) bool) {
	for id, q := range c.questions {
		if asks(id) {
			continue
		}
		if delete(q.members, m); len(q.members) == 0 && !q.asking {
			delete(c.questions, id)
		}
	}
}

// questionsDue returns when telemetry is to be asked next; false where there is nothing to ask. The caller holds mu.
func (c *Collector) questionsDue() (time.Time, bool) {
	if c.telemetryDone {
		return time.Time{}, false // What became of the last batch is noted first.
	}
	var first time.Time
	for _, q := range c.questions {
		switch {
		case q.asking:
			return time.Time{}, false // One batch at a time.
		case q.answer == nil && (first.IsZero() || q.asked.Before(first)):
			first = q.asked
		}
	}
	return laterOf(first.Add(gatherQuestions), c.plan.telemetry.Add(c.settings.HuntingInterval)), !first.IsZero()
}

// answersDue returns when answers are to be appended: at once where there are some, else when a question has waited long enough. One
// that is being asked has its answer when that ends. The caller holds mu.
func (c *Collector) answersDue(now time.Time) (time.Time, bool) {
	due := time.Time{}
	for _, q := range c.questions {
		switch {
		case q.answer != nil:
			return now, true
		case q.asking:
		case due.IsZero() || c.answerBy(q).Before(due):
			due = c.answerBy(q)
		}
	}
	return due, !due.IsZero()
}

// answerBy returns until when a question waits for its answer. Where telemetry is not to be asked again in its time, it does not.
func (c *Collector) answerBy(q *question) time.Time {
	limit := q.asked.Add(c.settings.HuntingLimit)
	if g := c.plan.telemetryGate; g.retired || g.until.After(limit) {
		return q.asked
	}
	return limit
}

// askTelemetry asks everything that is to be asked, in the background: a slow answer holds no poll up.
func (c *Collector) askTelemetry(ctx context.Context) error {
	now := time.Now()
	c.plan.telemetry = now
	telemetry := c.source.Telemetry()
	c.mu.Lock()
	defer c.mu.Unlock()
	var batch []*question
	var asks []*defender.TelemetryQuestion
	until := now.Add(c.settings.HuntingLimit)
	for _, q := range c.questions {
		if q.answer != nil {
			continue
		}
		if telemetry == nil {
			q.answer = unanswered(noTelemetry())
			continue
		}
		q.asking = true
		batch, asks = append(batch, q), append(asks, q.Asks)
		if limit := q.asked.Add(c.settings.HuntingLimit); limit.Before(until) {
			until = limit
		}
	}
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, laterOf(until, now.Add(lastTry/4)))
	ctx, c.setTelemetryAside = context.WithCancelCause(ctx)
	links := c.questionLinks(batch)
	c.background.Go(func() {
		defer cancel()
		traced, span := c.span(ctx, "ask telemetry", links...)
		span.SetAttributes(attribute.Int("defender.questions", len(asks)))
		answers, err := telemetry.FindTraces(traced, asks)
		defender.EndSpan(span, err)
		c.mu.Lock()
		defer c.mu.Unlock()
		aside := errors.Is(context.Cause(ctx), errSetAside)
		for i, q := range batch {
			// What was kept from being asked is asked when that is over.
			if q.asking = false; err == nil && (!aside || answers[i].GetProblem() == nil) {
				q.answer = answers[i]
			}
			if len(q.members) == 0 {
				delete(c.questions, q.ID)
			}
		}
		if !aside {
			c.telemetryDone, c.telemetryFailed = true, err
		}
		c.wakeUp()
	})
	return nil
}

// noteTelemetry takes note of what became of the last batch. Where only a change could mend it, what waits is told at once, as
// answerBy does where it cannot be asked again in time.
func (c *Collector) noteTelemetry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.telemetryDone {
		return
	}
	err := c.telemetryFailed
	c.telemetryDone, c.telemetryFailed = false, nil
	c.plan.unanswered = nil
	if err == nil {
		c.plan.telemetryGate = gate{}
		return
	}
	c.plan.unanswered, _ = c.plan.telemetryGate.note(c.settings, err)
	again := c.plan.telemetryGate.until
	c.metrics.failed(c.id, operationTelemetry, c.plan.unanswered)
	c.log.Warn("telemetry could not be asked", "reason", c.plan.unanswered.GetReason().String(), "error", err, "again_at", again)
	if failure, ok := errors.AsType[*defender.Error](err); !ok || !failure.Permanent {
		return
	}
	for _, q := range c.questions {
		if q.answer == nil {
			q.answer = unanswered(c.plan.unanswered)
		}
	}
}

// appendAnswers appends the answers that came, and for questions that have waited long enough that there is none.
func (c *Collector) appendAnswers(ctx context.Context) error {
	now := time.Now()
	return c.locked(ctx, func(ctx context.Context) error {
		c.mu.Lock()
		why := c.whyUnanswered()
		var answered []*question
		for _, q := range c.questions {
			if q.answer == nil && !q.asking && !c.answerBy(q).After(now) {
				q.answer = unanswered(why)
			}
			if q.answer != nil {
				answered = append(answered, q)
			}
		}
		c.mu.Unlock()
		if len(answered) == 0 {
			return nil
		}
		slices.SortFunc(answered, func(a, b *question) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		for _, q := range answered {
			c.add(&storev1.Entry{
				EntryTime: timestamppb.New(now),
				Body:      &storev1.Entry_TelemetryAnswer{TelemetryAnswer: &storev1.TelemetryAnswer{Question: q.ID[:], Telemetry: q.answer}},
			})
			if len(c.pending) >= pendingEntries || c.size >= pendingBytes {
				if err := c.flush(ctx); err != nil {
					return err
				}
			}
		}
		if err := c.flush(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, q := range answered {
			delete(c.questions, q.ID)
			c.answered[q.ID] = now
		}
		maps.DeleteFunc(c.answered, func(_ [16]byte, at time.Time) bool { return now.Sub(at) >= rememberAnswers })
		return nil
	})
}

// whyUnanswered says why telemetry was not asked in time. The caller holds mu.
func (c *Collector) whyUnanswered() *integrationv1.Problem {
	switch {
	case c.record.GetIntegration().GetPaused():
		return &integrationv1.Problem{
			Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
			Message: "Telemetry was not asked, since the integration is paused.",
			Remedy:  "Resume the integration, and ask for the stream again with its last token.",
		}
	case c.plan.connectError != nil:
		return connectProblem(c.plan.connectError)
	case c.plan.unanswered != nil:
		return c.plan.unanswered
	}
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_UPSTREAM_FAILED,
		Message: "Telemetry did not answer in time.",
		Remedy:  "Ask for the stream again with its last token: telemetry is asked again.",
	}
}

// noTelemetry says that an integration's API has no telemetry.
func noTelemetry() *integrationv1.Problem {
	return &integrationv1.Problem{
		Reason:  integrationv1.ErrorReason_ERROR_REASON_CONFIGURATION_INVALID,
		Message: "Telemetry can be asked over API_GRAPH_SECURITY alone.",
		Remedy:  "Register the tenant with API_GRAPH_SECURITY, or do not ask for telemetry.",
	}
}

// unanswered is the answer where there is none.
func unanswered(problem *integrationv1.Problem) *integrationv1.Telemetry {
	return &integrationv1.Telemetry{AskedTime: timestamppb.Now(), Problem: problem}
}
