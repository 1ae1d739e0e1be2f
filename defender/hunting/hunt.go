package hunting

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"defender-integration/defender"
)

// Bounds of one search.
const (
	// maxTraceQueries is how many queries one search makes: the collector's budget lets it spend nine calls a minute, of which one is
	// left for a call that is made again.
	maxTraceQueries = 8
	// maxTraceSplits is how often what Microsoft finds too much is halved: all that comes of one query, seven, is within the bound.
	maxTraceSplits = 2
)

// hunt is one search for traces under way.
type hunt struct {
	ctx     context.Context //nolint:containedctx // A hunt lives as long as the call that makes it.
	source  *Source
	decoder *eventDecoder
	actions map[string]control
	// tables are those that the tenant has, as far as is known; lacking are the names of the others.
	tables  []eventTable
	lacking []string
	// queries is how many were made.
	queries int
	// answered says that a query was, and failure what went wrong first.
	answered bool
	failure  error
	// over is why nothing is asked any more: what went wrong is not of one query.
	over error
}

func (s *Source) newHunt(ctx context.Context) *hunt {
	h := &hunt{ctx: ctx, source: s, decoder: newEventDecoder(), actions: controlsByAction()}
	for _, table := range eventTables() {
		if s.lacking.has(table.name, time.Now()) {
			h.lacking = append(h.lacking, table.name)
		} else {
			h.tables = append(h.tables, table)
		}
	}
	if len(h.tables) == 0 {
		// Nothing is left to ask; the tenant may have got them since.
		h.tables, h.lacking = eventTables(), nil
	}
	return h
}

// span is a span of time, both ends included; the zero value stands for all of the questions' own.
type span struct{ since, through time.Time }

// within returns the span in which the questions are asked.
func (s span) within(questions []*question) span {
	if !s.since.IsZero() {
		return s
	}
	s = span{questions[0].since, questions[0].through}
	for _, q := range questions {
		if q.since.Before(s.since) {
			s.since = q.since
		}
		if q.through.After(s.through) {
			s.through = q.through
		}
	}
	return s
}

// halves takes a span apart; false where it is too short for that.
func (s span) halves() (first, second span, ok bool) {
	middle := s.since.Add(s.through.Sub(s.since) / 2).Truncate(tick)
	return span{s.since, middle}, span{middle.Add(tick), s.through}, middle.Add(tick).Before(s.through)
}

// narrowing asks the questions, sorted by when they begin, within a span. Where Microsoft finds them too much, it asks them in halves, and
// a single one in halves of its time, so many times.
func (h *hunt) narrowing(questions []*question, within span, splits int) {
	if h.over != nil {
		h.fail(questions, h.over)
		return
	}
	within = within.within(questions)
	values := valuesOfAll(questions)
	found, err := h.ask(questions, values, within)
	if tooMuch(err) || err != nil && errors.Is(h.ctx.Err(), context.DeadlineExceeded) {
		// Remembered, for the time may not do to finish in parts what failed as a whole.
		h.source.traceSize.failed(len(values), time.Now())
	}
	if tooMuch(err) && splits > 0 && h.ctx.Err() == nil {
		if half := len(questions) / 2; half > 0 {
			h.narrowing(questions[:half], span{}, splits-1)
			h.narrowing(questions[half:], span{}, splits-1)
			return
		}
		if first, second, ok := within.halves(); ok {
			h.narrowing(questions, first, splits-1)
			h.narrowing(questions, second, splits-1)
			return
		}
	}
	for question, rows := range found {
		question.rows.merge(rows)
	}
	if err == nil || errors.Is(err, errPart) {
		h.answered = true
	}
	if err != nil {
		if !tooMuch(err) {
			h.over = err
		}
		h.fail(questions, err)
	}
}

// fail has the questions tell what went wrong, of several things the first.
func (h *hunt) fail(questions []*question, err error) {
	e, ok := errors.AsType[*defender.Error](err)
	if !ok {
		e = noTime(err)
	}
	if h.failure == nil {
		h.failure = e
	}
	for _, q := range questions {
		if q.problem == nil {
			q.problem = e.Problem
		}
	}
}

// valuesOfAll returns the values of all questions, sorted, each once.
func valuesOfAll(questions []*question) []value {
	var values []value
	for _, q := range questions {
		values = append(values, q.values...)
	}
	return sortedOnce(values)
}

// found are the rows that fit questions: of each the first ones alone, however many there are.
type found map[*question]*ranking

// ask runs the query for the questions, again without a table that the tenant turns out not to have, and returns what fits them.
func (h *hunt) ask(questions []*question, values []value, within span) (found, error) {
	for {
		if h.queries == maxTraceQueries {
			return nil, tooManyTraceQueries()
		}
		query := tracesQuery(h.tables, blockingActions(h.actions), values, within.since, within.through)
		if query == "" {
			return nil, noTables(h.lacking)
		}
		h.queries++
		now := time.Now()
		for _, q := range questions {
			q.askedAt = now
		}
		rows, err := h.run(query, questions, within)
		if !h.lacks(err) {
			return rows, err
		}
		if len(h.tables) == 0 {
			return nil, err
		}
	}
}

// lacks takes in that the tenant lacks a table; false where err does not say that of one that was asked.
func (h *hunt) lacks(err error) bool {
	name := missingTable(err)
	at := slices.IndexFunc(h.tables, func(t eventTable) bool { return strings.EqualFold(t.name, name) })
	if name == "" || at < 0 {
		return false
	}
	h.lacking = append(h.lacking, h.tables[at].name)
	h.source.lacking.add(h.tables[at].name, time.Now())
	h.tables = slices.Delete(h.tables, at, at+1)
	return true
}

// run runs one query, and returns what of its answer fits the questions. The error is errPart's where a table has more rows than were
// asked for.
func (h *hunt) run(query string, questions []*question, within span) (found, error) {
	fitting := found{}
	rows := map[string]int{}
	_, err := h.source.ask(h.ctx, query, ofTraces(), func(raw []byte, _ time.Time) error {
		e, err := h.decoder.decode(raw)
		if err != nil {
			return h.source.noJSON()
		}
		rows[e.table]++
		if e.at.Before(within.since) || e.at.After(within.through) {
			return nil
		}
		by := h.actions[e.action]
		if e.table != deviceEvents {
			by = control{}
		}
		blocked := e.stopped(by)
		for _, q := range questions {
			if !q.about(e) {
				continue
			}
			if fit, ok := q.attack.fits(e, blocked); ok {
				if fitting[q] == nil {
					fitting[q] = &ranking{}
				}
				fitting[q].add(newRow(e, by, blocked, fit, raw))
				q.noteMachine(e)
			}
		}
		return nil
	})
	if err != nil {
		return fitting, err
	}
	for _, n := range rows {
		if n >= legRows {
			return fitting, tooManyRows()
		}
	}
	return fitting, nil
}
