package defendertest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tracesQuery is a search of the tables of events.
type tracesQuery struct {
	// lists are the lists of values, by their names; names are these in the order of the text.
	lists map[string][]string
	names []string
	legs  []tracesLeg
}

// tracesLeg is what is asked of one table.
type tracesLeg struct {
	table          string
	since, through time.Time
	// devices and conditions: a row must fulfil one of each.
	devices, conditions []tracesCondition
	top                 int
	columns             []string
}

// tracesCondition compares a column with the values of a list, of which one must fit.
type tracesCondition struct {
	// label says that it is the first label of a name that is compared, in lower case.
	label                  bool
	column, operator, list string
}

// What stands between the parts of a search.
const (
	listEnd      = "]);\n"
	legTime      = "\n| where Timestamp between (datetime("
	legTimeUntil = ") .. datetime("
	legTimeEnd   = "))"
	legWhere     = "\n| where "
	legTop       = "\n| top "
	legTopEnd    = " by Timestamp asc"
	legProject   = "\n| project SourceTable = "
	legLabel     = `tolower(tostring(split(DeviceName, ".")[0])) in (`
)

// HuntingValues reads a query for the traces of attacks as the simulated Microsoft does, and returns the values of its lists, by their
// names, and its text without any value. It fails where the query is not exactly of the form that is played.
func HuntingValues(query string) (lists map[string][]string, shape string, err error) {
	q, err := parseTraces(&kqlText{rest: query})
	if err != nil {
		return nil, "", err
	}
	return q.lists, q.shape(), nil
}

// shape writes a query without its values: the names of its lists, and its legs with neither values nor times.
func (q *tracesQuery) shape() string {
	var b strings.Builder
	fmt.Fprintln(&b, strings.Join(q.names, " "))
	for _, leg := range q.legs {
		fmt.Fprintln(&b, leg.table, leg.devices, leg.conditions, leg.top, leg.columns)
	}
	return b.String()
}

// tables are the tables that a query asks.
func (q *tracesQuery) tables() []string {
	tables := make([]string, len(q.legs))
	for i, leg := range q.legs {
		tables[i] = leg.table
	}
	return tables
}

// values is how many values a query names, and span the longest time that it asks for.
func (q *tracesQuery) values() (values int, span time.Duration) {
	for _, list := range q.lists {
		values += len(list)
	}
	for _, leg := range q.legs {
		span = max(span, leg.through.Sub(leg.since))
	}
	return values, span
}

// parseTraces reads a search.
func parseTraces(p *kqlText) (*tracesQuery, error) {
	q := &tracesQuery{lists: map[string][]string{}}
	for p.accept("let ") {
		if err := q.parseList(p); err != nil {
			return nil, err
		}
	}
	if !p.accept("union\n") {
		return nil, p.refusal()
	}
	for {
		leg, err := q.parseLeg(p)
		if err != nil {
			return nil, err
		}
		q.legs = append(q.legs, leg)
		if !p.accept(",\n") {
			break
		}
	}
	if p.rest != "" {
		return nil, p.refusal()
	}
	return q, nil
}

// parseList reads a list of values, which has at least one.
func (q *tracesQuery) parseList(p *kqlText) error {
	name := p.word()
	if name == "" || q.lists[name] != nil || !p.accept(" = dynamic([") {
		return p.refusal()
	}
	for {
		value, err := p.scalar()
		if err != nil {
			return err
		}
		q.lists[name] = append(q.lists[name], value)
		if !p.accept(", ") {
			break
		}
	}
	if !p.accept(listEnd) {
		return p.refusal()
	}
	q.names = append(q.names, name)
	return nil
}

// parseLeg reads what is asked of one table.
func (q *tracesQuery) parseLeg(p *kqlText) (leg tracesLeg, err error) {
	if !p.accept("(") {
		return leg, p.refusal()
	}
	if leg.table = p.word(); eventColumns(leg.table) == nil {
		return leg, errUnreadable
	}
	if leg.since, err = p.instant(legTime, legTimeUntil); err != nil {
		return leg, err
	}
	if leg.through, err = p.instant("", legTimeEnd); err != nil {
		return leg, err
	}
	if leg.devices, err = q.parseConditions(p, leg.table); err != nil {
		return leg, err
	}
	if leg.conditions, err = q.parseConditions(p, leg.table); err != nil {
		return leg, err
	}
	if !p.accept(legTop) {
		return leg, p.refusal()
	}
	if leg.top, err = strconv.Atoi(p.word()); err != nil || leg.top < 1 || !p.accept(legTopEnd) || !p.accept(legProject) {
		return leg, errUnreadable
	}
	if name, err := p.literal(); err != nil || name != leg.table {
		return leg, errUnreadable
	}
	for p.accept(", ") {
		column := p.word()
		if _, ok := typeOf(leg.table, column); !ok {
			return leg, unresolved(column)
		}
		leg.columns = append(leg.columns, column)
	}
	if !p.accept(")") {
		return leg, p.refusal()
	}
	return leg, nil
}

// parseConditions reads a line of conditions.
func (q *tracesQuery) parseConditions(p *kqlText, table string) ([]tracesCondition, error) {
	if !p.accept(legWhere) {
		return nil, p.refusal()
	}
	var conditions []tracesCondition
	for {
		c := tracesCondition{column: "DeviceName", operator: "in", label: true}
		if !p.accept(legLabel) {
			c = tracesCondition{column: p.word()}
			if _, ok := typeOf(table, c.column); !ok {
				return nil, unresolved(c.column)
			}
			for _, operator := range []string{"in~", "in", "has_any"} {
				if p.accept(" " + operator + " (") {
					c.operator = operator
					break
				}
			}
		}
		c.list = p.word()
		switch {
		case c.operator == "" || !p.accept(")"):
			return nil, p.refusal()
		case q.lists[c.list] == nil:
			return nil, unresolved(c.list)
		}
		conditions = append(conditions, c)
		if !p.accept(" or ") {
			return conditions, nil
		}
	}
}

// unresolved is what the engine says of a name that stands for nothing.
func unresolved(name string) error {
	if name == "" {
		return errUnreadable
	}
	return engineError(fmt.Sprintf("'where' operator: Failed to resolve scalar expression named '%s'. Fix semantic errors in your query.", name))
}

// unresolvedTable is what the engine says of a table that the tenant does not have.
func unresolvedTable(name string) error {
	return engineError(fmt.Sprintf("'where' operator: Failed to resolve table or column expression named '%s'. Fix semantic errors in your query.", name))
}

// word reads letters and digits of ASCII; empty where none comes next.
func (p *kqlText) word() string {
	end := strings.IndexFunc(p.rest, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
	if end < 0 {
		end = len(p.rest)
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	return word
}

// scalar reads a string in double quotes, or a whole number without a sign.
func (p *kqlText) scalar() (string, error) {
	if strings.HasPrefix(p.rest, `"`) {
		return p.literal()
	}
	number := p.word()
	if n, err := strconv.ParseUint(number, 10, 63); err != nil || strconv.FormatUint(n, 10) != number {
		return "", p.refusal()
	}
	return number, nil
}

// instant reads a time between two texts, to its last digit.
func (p *kqlText) instant(before, after string) (time.Time, error) {
	const form = "2006-01-02T15:04:05.0000000Z"
	if !p.accept(before) || len(p.rest) < len(form) {
		return time.Time{}, p.refusal()
	}
	text := p.rest[:len(form)]
	at, err := time.Parse(form, text)
	if err != nil || at.Format(form) != text {
		return time.Time{}, errUnreadable
	}
	p.rest = p.rest[len(form):]
	if !p.accept(after) {
		return time.Time{}, p.refusal()
	}
	return at, nil
}

// fits says whether an event fulfils a condition.
func (c tracesCondition) fits(e *Event, values []string) bool {
	var cell string
	switch value := e.cell(c.column).(type) {
	case string:
		cell = value
	case int64:
		cell = strconv.FormatInt(value, 10)
	default:
		return false
	}
	if c.label {
		cell = strings.ToLower(firstLabel(cell))
	}
	return slices.ContainsFunc(values, func(value string) bool {
		switch c.operator {
		case "in":
			return cell == value
		case "in~":
			return lowerASCII(cell) == lowerASCII(value)
		default:
			return hasTerm(cell, value)
		}
	})
}
