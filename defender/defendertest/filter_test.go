package defendertest

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseFilter(t *testing.T) {
	at := time.Date(2026, 11, 20, 10, 0, 0, 123456700, time.UTC)
	tests := []struct {
		text string
		want filter
	}{
		{"lastUpdateDateTime ge 2026-11-20T10:00:00.1234567Z", filter{{property: propertyUpdated, operator: "ge", time: at}}},
		{"  createdDateTime   lt 2026-11-20T11:00:00.123456789+01:00 ", filter{{property: propertyCreated, operator: "lt", time: at}}},
		{"status eq 'new' and severity eq 'high' and serviceSource eq 'microsoftSentinel'", filter{
			{property: propertyStatus, operator: "eq", value: "new"},
			{property: propertySeverity, operator: "eq", value: "high"},
			{property: propertySource, operator: "eq", value: "microsoftSentinel"},
		}},
		{"lastUpdateDateTime eq 2026-11-20T10:00:00.1234567Z and status eq 'resolved'", filter{
			{property: propertyUpdated, operator: "eq", time: at}, {property: propertyStatus, operator: "eq", value: "resolved"},
		}},
	}
	for _, test := range tests {
		got, err := graphWords().parseFilter(test.text)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: %v %v, want %v", test.text, got, err, test.want)
		}
	}
}

func TestParseFilterRefuses(t *testing.T) {
	tests := []struct{ text, words string }{
		{"", "needs a property"},
		{"status", "needs a property"},
		{"status eq", "needs a property"},
		{"status eq 'new' and", "needs a property"},
		{"status eq 'new' or status eq 'resolved'", "syntax error at 'or'"},
		{"not status eq 'new'", "could not find a property named 'not'"},
		{"(status eq 'new')", "syntax error after 'new'"},
		{"Status eq 'new'", "could not find a property"},
		{"status eq new", "must be quoted"},
		{"status eq 'New'", "not a member"},
		{"status ne 'new'", "operator 'ne'"},
		{"status eq 'new", "unterminated"},
		{"status eq 'new'and severity eq 'high'", "syntax error after"},
		{"lastUpdateDateTime ge '2026-11-20T10:00:00Z'", "not an Edm.DateTimeOffset"},
		{"lastUpdateDateTime ge 2026-11-20", "not an Edm.DateTimeOffset"},
		{"lastUpdateDateTime ge 2026-11-20T10:00:00", "not an Edm.DateTimeOffset"},
		{"lastUpdateDateTime ne 2026-11-20T10:00:00Z", "operator 'ne'"},
		{"investigationState eq 'running'", "could not find a property"},
		{strings.Repeat("status eq 'new' and ", 1000) + "status eq 'new'", "too long"},
	}
	for _, test := range tests {
		if got, err := graphWords().parseFilter(test.text); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%q: %v, %v; want words %q", test.text, got, err, test.words)
		}
	}
}

// FuzzParseFilter holds that what is taken is taken for what it says: written again, it reads the same; and that cutting by
// search agrees with looking at each.
func FuzzParseFilter(f *testing.F) {
	f.Add("lastUpdateDateTime ge 2026-11-20T10:00:00.1234567Z and status eq 'new'")
	f.Add("createdDateTime lt 2026-11-20T10:00:00Z and lastUpdateDateTime eq 2026-11-20T10:00:01Z")
	f.Add("lastUpdateDateTime gt 2026-11-20T10:00:00Z and lastUpdateDateTime le 2026-11-20T10:00:02Z")
	f.Add("'")
	var list []*revision
	for i := range 8 {
		list = append(list, &revision{
			sequence: i, updated: time.Date(2026, 11, 20, 10, 0, i/2, 0, time.UTC), created: time.Date(2026, 11, 20, 9, 59, i, 0, time.UTC),
			status: []string{"new", "resolved"}[i%2], severity: "high", serviceSource: "microsoftSentinel",
		})
	}
	names := map[property]string{}
	for name, property := range graphWords().properties {
		names[property] = name
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := graphWords().parseFilter(text)
		if err != nil {
			return
		}
		var words []string
		for _, c := range parsed {
			literal := formatTime(c.time)
			if c.value != "" {
				literal = "'" + c.value + "'"
			}
			words = append(words, names[c.property]+" "+c.operator+" "+literal)
		}
		again, err := graphWords().parseFilter(strings.Join(words, " and "))
		if err != nil || !slices.Equal(again, parsed) {
			t.Fatalf("%q reads as %v, again as %v (%v)", text, parsed, again, err)
		}
		takes := func(r *revision) bool { return parsed.takes(r) }
		var one []*revision
		for _, r := range list {
			if takes(r) {
				one = append(one, r)
			}
		}
		narrowed := parsed.narrow(slices.Clone(list))
		var two []*revision
		for _, r := range narrowed {
			if takes(r) {
				two = append(two, r)
			}
		}
		if !slices.Equal(one, two) {
			t.Fatalf("%q: looking at each takes %d, searching %d", text, len(one), len(two))
		}
	})
}
