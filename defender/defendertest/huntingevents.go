package defendertest

import (
	"slices"
	"strings"
	"time"
)

// The query that asks each table of events for one row, from a table to the next.
const (
	probeHead = "union\n("
	probeTail = "\n| where Timestamp > ago(1h)\n| take 1\n| project SourceTable = "
)

// parseTablesProbe reads the query that asks tables of events for one row each, and returns the tables.
func parseTablesProbe(text string) ([]string, bool) {
	rest, ok := strings.CutPrefix(text, probeHead)
	if !ok {
		return nil, false
	}
	rest, ok = strings.CutSuffix(rest, ")")
	if !ok {
		return nil, false
	}
	var tables []string
	for leg := range strings.SplitSeq(rest, "),\n(") {
		table, name, ok := strings.Cut(leg, probeTail)
		if !ok || eventColumns(table) == nil || name != `"`+table+`"` {
			return nil, false
		}
		tables = append(tables, table)
	}
	return tables, true
}

// answerTablesProbe answers with a row for each table that has one of the last hour.
func (s *Server) answerTablesProbe(x *exchange, tables []string, w *jsonWriter) error {
	if missing := x.tenant.firstMissing(tables...); missing != "" {
		return unresolvedTable(missing)
	}
	x.tenant.mu.Lock()
	defer x.tenant.mu.Unlock()
	found := slices.DeleteFunc(slices.Clone(tables), func(table string) bool {
		return !slices.ContainsFunc(x.tenant.events, func(e Event) bool {
			return e.Table == table && e.Time.After(x.now.Add(-time.Hour)) && !e.Time.After(x.now)
		})
	})
	x.call.Elements = len(found)
	w.huntingAnswer([][2]string{{sourceTable, "String"}}, len(found), func(i int) {
		w.object("", func() { w.text(sourceTable, found[i]) })
	})
	return nil
}

// sourceTable is the column that tells the table of a row.
const sourceTable = "SourceTable"

// answerTraces answers a search of the tables of events.
func (s *Server) answerTraces(x *exchange, query *tracesQuery, lookBack time.Duration, w *jsonWriter) error {
	if missing := x.tenant.firstMissing(query.tables()...); missing != "" {
		return unresolvedTable(missing)
	}
	options := s.options.Hunting
	if values, span := query.values(); options.MaxValues > 0 && values > options.MaxValues || options.MaxSpan > 0 && span > options.MaxSpan {
		return engineError(huntingTooHeavy)
	}
	columns := query.columns()
	var rows []Event
	for _, leg := range query.legs {
		rows = append(rows, x.tenant.eventsOf(leg, query.lists, x.now.Add(-lookBack), x.now)...)
	}
	rows = rows[:min(len(rows), options.MaxRows)]
	x.call.Elements = len(rows)
	w.huntingAnswer(columns, len(rows), func(i int) { rows[i].render(w, columns) })
	return nil
}

// columns are those of a query's answer: of all its legs, each once.
func (q *tracesQuery) columns() [][2]string {
	columns := [][2]string{{sourceTable, "String"}}
	for _, leg := range q.legs {
		for _, name := range leg.columns {
			kind, _ := typeOf(leg.table, name)
			if column := [2]string{name, kind}; !slices.Contains(columns, column) {
				columns = append(columns, column)
			}
		}
	}
	return columns
}

// eventsOf returns the rows of a leg, oldest first. Those from before the look-back are gone, and those to come are not there yet.
func (t *Tenant) eventsOf(leg tracesLeg, lists map[string][]string, after, now time.Time) []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	var rows []Event
	for _, e := range t.events {
		if e.Table != leg.table || e.Time.Before(leg.since) || e.Time.After(leg.through) || !e.Time.After(after) || e.Time.After(now) {
			continue
		}
		fits := func(c tracesCondition) bool { return c.fits(&e, lists[c.list]) }
		if slices.ContainsFunc(leg.devices, fits) && slices.ContainsFunc(leg.conditions, fits) {
			rows = append(rows, e)
		}
	}
	slices.SortStableFunc(rows, func(x, y Event) int { return x.Time.Compare(y.Time) })
	return rows[:min(len(rows), leg.top)]
}

// render writes an event as Graph does: a text that is not known is empty, a time an empty object, a number null; a number has its type
// beside it. A column that its table does not have is as one that is not known.
func (e *Event) render(w *jsonWriter, columns [][2]string) {
	w.object("", func() {
		for _, column := range columns {
			name, kind := column[0], column[1]
			var cell any
			if name == sourceTable {
				cell = e.Table
			} else if _, ok := typeOf(e.Table, name); ok {
				cell = e.cell(name)
			}
			switch value := cell.(type) {
			case time.Time:
				w.time(name, value)
			case int64:
				w.text(name+"@odata.type", "#Int64")
				w.number(name, value)
			case string:
				w.present(name, value)
			default:
				switch kind {
				case "DateTime":
					w.raw(name, "{}")
				case "Int64":
					w.null(name)
				default:
					w.present(name, "")
				}
			}
		}
	})
}
