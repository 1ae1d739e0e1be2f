package hunting

import (
	"strings"
	"time"
)

// legRows is how many rows of one table an answer has at the most, the oldest. Four tables of so many stay below what an answer may have of
// rows (100,000) and, at a kilobyte for each, of bytes (50 MB): beyond either Microsoft leaves rows out, or refuses.
const legRows = 10_000

// timeForm writes a time for a query, to the last digit that the tables have.
const timeForm = "2006-01-02T15:04:05.0000000Z"

// tracesQuery returns the query for what the tables hold, between two times, of devices with one of the first kinds of values that has one
// of the others; values are sorted. It is empty where no table has a column for any.
//
// One query asks all tables. Calls are what is scarce: 45 a minute for the whole tenant, look-ups of devices among them, while processor
// time, rows and bytes are the same however the tables are asked. So 200 questions take one call and not four. The price is that a
// table which the tenant lacks refuses the query for all of them; it is then asked again without (see [hunt.ask]), which is remembered.
// `union isfuzzy=true` would be spared that, but would not say what was missing.
//
// Each value stands once, in a list that all tables share, and the conditions are the same for all questions: which row fits which
// question is decided here (see [attack.fits]). A condition for each question would be exact, and let the engine evaluate hundreds
// of them for each row.
func tracesQuery(tables []eventTable, blocking []string, values []value, since, through time.Time) string {
	kinds := map[kind]bool{}
	var query strings.Builder
	for rest := values; len(rest) > 0; {
		kind := rest[0].kind
		kinds[kind] = true
		var literals []string
		for len(rest) > 0 && rest[0].kind == kind {
			literals = append(literals, kind.literal(rest[0].text))
			rest = rest[1:]
		}
		writeList(&query, kind.list(), literals)
	}
	var literals []string
	for _, action := range blocking {
		literals = append(literals, quote(action))
	}
	writeList(&query, blockingList, literals)
	span := "| where Timestamp between (datetime(" + since.UTC().Format(timeForm) + ") .. datetime(" + through.UTC().Format(timeForm) + "))\n"
	var legs []string
	for _, table := range tables {
		if conditions := table.conditions(kinds); len(conditions) > 0 {
			legs = append(legs, "("+table.name+"\n"+span+
				"| where "+strings.Join(deviceConditions(kinds), " or ")+"\n"+
				"| where "+strings.Join(conditions, " or ")+"\n"+
				"| top "+formatInt(legRows)+" by Timestamp asc\n"+
				"| project SourceTable = "+quote(table.name)+", "+strings.Join(table.columns, ", ")+")")
		}
	}
	if len(legs) == 0 {
		return ""
	}
	return query.String() + "union\n" + strings.Join(legs, ",\n")
}

// blockingList is the name of the list of actions that are blocks.
const blockingList = "Blocking"

func writeList(query *strings.Builder, name string, literals []string) {
	query.WriteString("let " + name + " = dynamic([" + strings.Join(literals, ", ") + "]);\n")
}

// list returns the name of the list that values of a kind stand in.
func (k kind) list() string {
	if name, ok := deviceLists()[k]; ok {
		return name
	}
	return lists()[k].name
}

// literal writes a value of a kind. The list is JSON as well as KQL, and a quoted text is the same in both.
func (k kind) literal(text string) string {
	if k == processID {
		return text
	}
	return quote(text)
}

// deviceConditions are what a row must fulfil one of, to be of one of the devices.
func deviceConditions(kinds map[kind]bool) []string {
	var conditions []string
	for _, kind := range []kind{deviceID, fullOrShort, label} {
		if kinds[kind] {
			conditions = append(conditions, kind.condition(kind.list()))
		}
	}
	return conditions
}

// conditions are what a row of the table must fulfil one of, to have one of the values of the kinds.
func (t eventTable) conditions(kinds map[kind]bool) []string {
	var conditions []string
	if t.controls {
		conditions = append(conditions, "ActionType in ("+blockingList+")")
	}
	for _, kind := range []kind{processID, hash, fileName, term, remoteIP} {
		if !kinds[kind] {
			continue
		}
		of := lists()[kind]
		for _, column := range of.columns {
			if t.has(column) {
				conditions = append(conditions, column+" "+of.operator+" ("+of.name+")")
			}
		}
	}
	return conditions
}

// probeTablesQuery asks each of the tables for one row of the last hour, whichever: that they are there.
func probeTablesQuery(tables []eventTable) string {
	legs := make([]string, len(tables))
	for i, table := range tables {
		legs[i] = "(" + table.name + "\n| where Timestamp > ago(1h)\n| take 1\n| project SourceTable = " + quote(table.name) + ")"
	}
	return "union\n" + strings.Join(legs, ",\n")
}
