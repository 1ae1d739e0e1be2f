package defendertest

import (
	"net/http"
	"slices"
	"strings"
	"testing"
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
	f.Fuzz(func(t *testing.T, text string) {
		query, err := parseHunting(text)
		if err != nil {
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
