package defendertest

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestHuntingRefusesWhatIsNotPlayed(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Hunting: []Rate{}}})
	token := w.huntingToken()
	good := lookUp(`DeviceName in~ ("a", "b")`)
	if w.hunt(token, good).status != http.StatusOK {
		t.Fatal("the query that the others are made of is refused")
	}
	for name, query := range map[string]string{
		"another table": "DeviceEvents\n| take 1", "a blank line": strings.Replace(good, "\n", "\n\n", 1), "a line more": good + "\n| take 1",
		"a blank more": strings.Replace(good, "in~ (", "in~  (", 1),
		"take two":     strings.Replace(oneDeviceQuery, "take 1", "take 2", 1), "any of two days": strings.Replace(oneDeviceQuery, "1d", "2d", 1),
		"any with more": oneDeviceQuery + ", OSPlatform", "no clause": lookUp(""), "no values": lookUp(`DeviceName in~ ()`), "a column": lookUp(`PublicIP in ("a")`),
		"another operator": lookUp(`DeviceName has ("a")`), "and": strings.Replace(lookUp(`DeviceId in ("a")`, `DeviceId in ("b")`), " or ", " and ", 1),
		"single quotes": lookUp(`DeviceName in~ ('a')`), "an escape": lookUp(`DeviceName in~ ("a\n")`), "a verbatim string": lookUp(`DeviceName in~ (@"a")`),
		"a tab": lookUp("DeviceName in~ (\"a\tb\")"), "a line end in a value": lookUp("DeviceName in~ (\"a\nb\")"), "DEL": lookUp("DeviceName in~ (\"a\x7fb\")"),
		"C1": lookUp("DeviceName in~ (\"a\u0085b\")"), "a line separator": lookUp("DeviceName in~ (\"a\u2028b\")"),
		"an open value": lookUp(`DeviceName in~ ("a)`), "a comment": good + " // all", "two statements": good + "; DeviceInfo",
		"print": "print ok = 2", "other columns": strings.Replace(good, "PublicIP, ", "", 1),
	} {
		t.Run(name, func(t *testing.T) {
			checkError(t, w.hunt(token, query), http.StatusBadRequest, "BadRequest", string(errUnreadable))
		})
	}
	for name, query := range map[string]string{
		"empty": "", "blanks": " \n", "half": good[:len(lookUpHead)], "half a value": lookUpHead + `DeviceName in~ ("a`, "half a list": lookUpHead + `DeviceName in~ ("a", `,
		"half a clause": lookUpHead + `DeviceName in~ ("a"`, "no end": lookUpHead + `DeviceName in~ ("a")`, "a line end": good + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			checkError(t, w.hunt(token, query), http.StatusBadRequest, "BadRequest", string(errBreaksOff))
		})
	}
}

// literalsOf takes a query apart by rules of its own: the values of its literals, and the query with empty ones in their place.
func literalsOf(query string) (values []string, skeleton string) {
	var outside, value strings.Builder
	open, escaped := false, false
	for _, c := range query {
		switch {
		case !open:
			outside.WriteRune(c)
			open = c == '"'
		case escaped:
			value.WriteRune(c)
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			outside.WriteRune(c)
			values = append(values, value.String())
			value.Reset()
			open = false
		default:
			value.WriteRune(c)
		}
	}
	return values, outside.String()
}

// FuzzParseHunting holds that a query is read for what it says: the values are those of its literals, and what stands around them is
// the look-up's text.
func FuzzParseHunting(f *testing.F) {
	f.Add(permissionQuery)
	f.Add(oneDeviceQuery)
	for _, clause := range []string{
		`DeviceId in ("a", "b")`, `AadDeviceId in~ ("é")`, `DeviceName in~ ("a\"b\\c\'d")`, `tolower(tostring(split(DeviceName, ".")[0])) in ("x")`,
		`DeviceId in ((DeviceNetworkInfo | where Timestamp > ago(1d) | where IPAddresses has_any ("10.0.0.1") | distinct DeviceId))`,
		`DeviceName in~ ("\x")`, "DeviceName in~ (\"\xff\")", `DeviceName in~ ("a")) or true`, `DeviceName in~ ("\\'", "a or b")`,
	} {
		f.Add(lookUp(clause))
		f.Add(lookUp(clause, `DeviceId in ("z")`))
	}
	f.Add(tracesText)
	f.Add(strings.Replace(tracesText, `"evil.exe"`, `"a\"b\\c", "d]);\n"`, 1))
	f.Add(tablesText)
	f.Fuzz(func(t *testing.T, text string) {
		query, err := parseHunting(text)
		if err != nil {
			return
		}
		if query.traces != nil || query.tables != nil {
			checkTraces(t, text, query)
			return
		}
		values, skeleton := literalsOf(text)
		// The name's labels are split at a literal, which is no value.
		values = slices.DeleteFunc(values, func(value string) bool { return value == "." })
		where := permissionQuery
		switch {
		case query.one:
			where = oneDeviceQuery
		case !query.permission:
			clauses, ok := strings.CutPrefix(skeleton, lookUpHead)
			clauses, whole := strings.CutSuffix(clauses, lookUpTail)
			for clause := range strings.SplitSeq(clauses, " or ") {
				for strings.Contains(clause, `"", ""`) {
					clause = strings.ReplaceAll(clause, `"", ""`, `""`)
				}
				if !slices.ContainsFunc(clauseForms(), func(form clauseForm) bool {
					return clause == strings.Replace(form.before, `"."`, `""`, 1)+`""`+form.after
				}) {
					t.Fatalf("%q is no clause, in %q", clause, text)
				}
			}
			if !ok || !whole {
				t.Fatalf("the look-up's text is another in %q", text)
			}
			where = skeleton
		}
		var read []string
		for _, clause := range query.clauses {
			read = append(read, slices.DeleteFunc(slices.Clone(clause.values), func(value string) bool { return value == "." })...)
		}
		if skeleton != where || !slices.Equal(read, values) {
			t.Fatalf("%q reads as %q, its literals are %q", text, read, values)
		}
	})
}

func TestHasTerm(t *testing.T) {
	tests := []struct {
		text, value string
		want        bool
	}{
		{"10.0.0.11", "10.0.0.1", false}, {"10.0.0.1", "10.0.0.1", true}, {"210.0.0.1,10.0.0.1", "10.0.0.1", true}, {"210.0.0.1", "10.0.0.1", false},
		{"fd00::1:2", "FD00::1", true}, {"", "a", false}, {"a", "", false}, {"aa a", "a", true}, {"äa", "a", false},
	}
	for _, test := range tests {
		if got := hasTerm(test.text, test.value); got != test.want {
			t.Errorf("%q has %q: %v", test.text, test.value, got)
		}
	}
}

// A search of two tables, and the query whether they are there.
const (
	tracesText = `let DeviceIds = dynamic(["0a1b"]);
let ProcessIds = dynamic([4711, 12]);
let FileNames = dynamic(["evil.exe"]);
let Terms = dynamic(["attack"]);
let Blocking = dynamic(["AsrRansomwareBlocked"]);
union
(DeviceEvents
| where Timestamp between (datetime(2026-11-20T08:00:00.0000000Z) .. datetime(2026-11-20T09:30:00.1234567Z))
| where DeviceId in (DeviceIds) or DeviceName in~ (FileNames) or tolower(tostring(split(DeviceName, ".")[0])) in (Terms)
| where ActionType in (Blocking) or ProcessId in (ProcessIds) or FileName in~ (FileNames) or ProcessCommandLine has_any (Terms)
| top 3 by Timestamp asc
| project SourceTable = "DeviceEvents", Timestamp, DeviceId, ActionType, ProcessId, ProcessCreationTime, FileName, RemoteIP),
(DeviceFileEvents
| where Timestamp between (datetime(2026-11-20T08:00:00.0000000Z) .. datetime(2026-11-20T09:30:00.1234567Z))
| where DeviceId in (DeviceIds)
| where FileName in~ (FileNames)
| top 3 by Timestamp asc
| project SourceTable = "DeviceFileEvents", Timestamp, DeviceId, ActionType, FileName, InitiatingProcessId)`
	tablesText = `union
(DeviceEvents
| where Timestamp > ago(1h)
| take 1
| project SourceTable = "DeviceEvents"),
(DeviceFileEvents
| where Timestamp > ago(1h)
| take 1
| project SourceTable = "DeviceFileEvents")`
)

// checkTraces holds that a search's values are those of its literals and numbers.
func checkTraces(t *testing.T, text string, query huntingQuery) {
	t.Helper()
	literals, _ := literalsOf(text)
	var read []string
	if query.tables != nil {
		read = query.tables
	} else {
		for _, name := range query.traces.names {
			read = append(read, query.traces.lists[name]...)
		}
	}
	for _, literal := range literals {
		if !slices.Contains(read, literal) && literal != "." && eventColumns(literal) == nil {
			t.Fatalf("%q is a literal of %q, and no value of %q", literal, text, read)
		}
	}
	for _, value := range read {
		if !slices.Contains(literals, value) && strings.Trim(value, "0123456789") != "" {
			t.Fatalf("%q is a value of %q, and no literal", value, text)
		}
	}
}

// What differs from the form of a search in anything is refused, in the engine's words.
func TestHuntingRefusesOtherSearches(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Hunting: []Rate{}}})
	token := w.huntingToken()
	if w.hunt(token, tracesText).status != http.StatusOK || w.hunt(token, tablesText).status != http.StatusOK {
		t.Fatal("the queries that the others are made of are refused")
	}
	scalar := func(name string) string {
		return "'where' operator: Failed to resolve scalar expression named '" + name + "'. Fix semantic errors in your query."
	}
	swap := func(old, by string) string { return strings.Replace(tracesText, old, by, 1) }
	for name, test := range map[string]struct{ query, words string }{
		"an empty list":             {swap(`["evil.exe"]`, "[]"), string(errUnreadable)},
		"a list twice":              {swap("let Terms", "let FileNames"), string(errUnreadable)},
		"a negative number":         {swap("[4711", "[-4711"), string(errUnreadable)},
		"a number with zeros":       {swap("[4711", "[04711"), string(errUnreadable)},
		"another table":             {swap("(DeviceEvents", "(EmailEvents"), string(errUnreadable)},
		"another time":              {swap("08:00:00.0000000Z", "08:00:00Z"), string(errUnreadable)},
		"no such day":               {swap("2026-11-20T08", "2026-11-31T08"), string(errUnreadable)},
		"a column of another table": {swap("FileName, InitiatingProcessId", "FileName, ProcessId"), scalar("ProcessId")},
		"a condition of another":    {swap("| where FileName in~ (FileNames)", "| where RemoteIP in~ (FileNames)"), scalar("RemoteIP")},
		"a list that is not there":  {swap("ActionType in (Blocking)", "ActionType in (Others)"), scalar("Others")},
		"another operator":          {swap("FileName in~", "FileName contains"), string(errUnreadable)},
		"and":                       {swap(" or ProcessId", " and ProcessId"), string(errUnreadable)},
		"no bound":                  {swap("| top 3 by Timestamp asc\n", ""), string(errUnreadable)},
		"the newest":                {swap("Timestamp asc", "Timestamp desc"), string(errUnreadable)},
		"another name of its own":   {swap(`SourceTable = "DeviceEvents"`, `SourceTable = "DeviceFileEvents"`), string(errUnreadable)},
		"more behind it":            {tracesText + "\n| take 1", string(errUnreadable)},
		"a blank line":              {swap("union\n", "union\n\n"), string(errUnreadable)},
		"tables: another column":    {strings.Replace(tablesText, "SourceTable", "Table", 1), string(errUnreadable)},
		"tables: of a day":          {strings.Replace(tablesText, "1h", "1d", 1), string(errUnreadable)},
		"tables: one that is not":   {strings.ReplaceAll(tablesText, "DeviceFileEvents", "EmailEvents"), string(errUnreadable)},
	} {
		t.Run(name, func(t *testing.T) {
			checkError(t, w.hunt(token, test.query), http.StatusBadRequest, "BadRequest", test.words)
		})
	}
	w.tenant.RemoveTable(TableFileEvents)
	const missing = "'where' operator: Failed to resolve table or column expression named 'DeviceFileEvents'. Fix semantic errors in your query."
	checkError(t, w.hunt(token, tracesText), http.StatusBadRequest, "BadRequest", missing)
	checkError(t, w.hunt(token, tablesText), http.StatusBadRequest, "BadRequest", missing)
	w.tenant.RemoveTable("DeviceInfo")
	checkError(t, w.hunt(token, oneDeviceQuery), http.StatusBadRequest, "BadRequest", strings.Replace(missing, "DeviceFileEvents", "DeviceInfo", 1))
}

// Rows come as Graph writes them: oldest first, as many as are asked for, and what a table or an event lacks as null.
func TestHuntingEventsOnTheWire(t *testing.T) {
	w := newWorld(t, Options{})
	token := w.huntingToken()
	at := time.Date(2026, 11, 20, 9, 0, 0, 123456700, time.UTC)
	w.server.AdvanceClock(at.Add(time.Hour).Sub(w.server.Now()))
	put := func(e Event) {
		e.DeviceID = "0a1b"
		w.tenant.PutEvent(e)
	}
	put(Event{Table: TableFileEvents, Time: at, Action: "FileCreated", File: EventFile{Name: "EVIL.exe"}, By: EventProcess{ID: 7}})
	put(Event{Time: at, Action: "DriverLoad", Process: EventProcess{ID: 4711, Created: at}})
	put(Event{Time: at.Add(-time.Minute), Action: "AsrRansomwareBlocked", RemoteIP: "10.0.0.1"})
	put(Event{Time: at, Action: "DriverLoad", Process: EventProcess{ID: 1}})
	put(Event{Time: at.Add(time.Minute), Action: "DriverLoad", Process: EventProcess{CommandLine: "an attack of"}})
	put(Event{Time: at.Add(2 * time.Minute), Action: "DriverLoad", Process: EventProcess{ID: 12}})
	put(Event{Time: at.Add(time.Hour), Action: "AsrRansomwareBlocked"})
	got := w.hunt(token, tracesText)
	const want = `"results":[` +
		`{"SourceTable":"DeviceEvents","Timestamp":"2026-11-20T08:59:00.1234567Z","DeviceId":"0a1b","ActionType":"AsrRansomwareBlocked","ProcessId":null,"ProcessCreationTime":{},"FileName":"","RemoteIP":"10.0.0.1","InitiatingProcessId":null},` +
		`{"SourceTable":"DeviceEvents","Timestamp":"2026-11-20T09:00:00.1234567Z","DeviceId":"0a1b","ActionType":"DriverLoad","ProcessId@odata.type":"#Int64","ProcessId":4711,"ProcessCreationTime":"2026-11-20T09:00:00.1234567Z","FileName":"","RemoteIP":"","InitiatingProcessId":null},` +
		`{"SourceTable":"DeviceEvents","Timestamp":"2026-11-20T09:01:00.1234567Z","DeviceId":"0a1b","ActionType":"DriverLoad","ProcessId":null,"ProcessCreationTime":{},"FileName":"","RemoteIP":"","InitiatingProcessId":null},` +
		`{"SourceTable":"DeviceFileEvents","Timestamp":"2026-11-20T09:00:00.1234567Z","DeviceId":"0a1b","ActionType":"FileCreated","ProcessId":null,"ProcessCreationTime":{},"FileName":"EVIL.exe","RemoteIP":"","InitiatingProcessId@odata.type":"#Int64","InitiatingProcessId":7}]}`
	if got.status != http.StatusOK || !strings.HasSuffix(got.body, want) {
		t.Errorf("%d %s\nwant\n%s", got.status, got.body, want)
	}
	if got := w.hunt(token, tablesText); !strings.HasSuffix(got.body, `"results":[{"SourceTable":"DeviceEvents"}]}`) {
		t.Errorf("tables with rows of the last hour: %s", got.body)
	}
	w.server.AdvanceClock(30 * 24 * time.Hour)
	if got := w.hunt(w.token(Graph), tracesText); !strings.HasSuffix(got.body, `"results":[]}`) {
		t.Errorf("after 30 days: %s", got.body)
	}
}
