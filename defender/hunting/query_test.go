package hunting

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"defender-integration/defender"
)

// The query is what advanced hunting is asked, to the letter.
func TestQuery(t *testing.T) {
	got := lookUp(valuesOf(defender.Wanted{
		DeviceIDs: []string{"0A1B2C3D4E5F60718293A4B5C6D7E8F901234567"},
		EntraIDs:  []string{"aaaaaaaa-1111-4111-8111-000000000004"},
		FullNames: []string{"ws-01.contoso.test", "Büro.contoso.test"}, ShortNames: []string{"ws-01", "WS-01"},
		Labels: []string{"WS-02"}, Addresses: []string{"192.0.2.10", "2001:DB8:0:0::10", "::ffff:192.0.2.11"},
	}))
	want := `DeviceInfo
| where Timestamp > ago(30d)
| where isnotempty(OSPlatform)
| where DeviceId in ("0a1b2c3d4e5f60718293a4b5c6d7e8f901234567") or AadDeviceId in~ ("aaaaaaaa-1111-4111-8111-000000000004") or DeviceName in~ ("büro.contoso.test", "ws-01", "ws-01.contoso.test") or tolower(tostring(split(DeviceName, ".")[0])) in ("büro", "ws-02") or DeviceId in ((DeviceNetworkInfo | where Timestamp > ago(1d) | where IPAddresses has_any ("192.0.2.10", "192.0.2.11", "2001:db8::10") | distinct DeviceId))
| summarize arg_max(Timestamp, DeviceName, AadDeviceId, PublicIP, OSPlatform, OSVersion, MachineGroup, OnboardingStatus, SensorHealthState, IsExcluded, MergedToDeviceId), FirstSeen = min(Timestamp) by DeviceId
| join kind=leftouter (DeviceNetworkInfo | where Timestamp > ago(1d) | summarize IPAddresses = make_set(IPAddresses, 64) by DeviceId) on DeviceId
| project DeviceId, DeviceName, AadDeviceId, PublicIP, OSPlatform, OSVersion, MachineGroup, OnboardingStatus, SensorHealthState, IsExcluded, MergedToDeviceId, FirstSeen, LastSeen = Timestamp, IPAddresses`
	if got != want {
		t.Errorf("the query is\n%s\nwant\n%s", got, want)
	}

	const probe = "DeviceInfo\n| where Timestamp > ago(1d)\n| take 1\n| project DeviceId, DeviceName"
	if probeQuery != probe {
		t.Errorf("the probe is\n%s\nwant\n%s", probeQuery, probe)
	}
}

// Hostile names stay values, or are left out; no text of a caller's is ever query.
func TestHostileNames(t *testing.T) {
	tests := []struct {
		name string
		// literal is how it stands in the query; empty where it must not.
		literal string
	}{
		{`ws-01`, `"ws-01"`},
		{`x") or true //`, `"x\") or true //"`},
		{`x\`, `"x\\"`},
		{`x\") | take 1`, `"x\\\") | take 1"`},
		{`x\\"`, `"x\\\\\""`},
		{`'x' or 1==1`, `"'x' or 1==1"`},
		{`h@"x"`, `"h@\"x\""`},
		{"x```y", "\"x```y\""},
		{`anna_AndroidForWork_11/2/2026_9:05 AM`, `"anna_androidforwork_11/2/2026_9:05 am"`},
		{`Anna’s iPhone`, `"anna’s iphone"`},
		{`станция-1`, `"станция-1"`},
		{`x😀y`, `"x😀y"`},
		{strings.Repeat("x", 255), `"` + strings.Repeat("x", 255) + `"`},
		{strings.Repeat("x", 256), ""},
		{"", ""},
		{"x\ny", ""},
		{"x\r\n| where true", ""},
		{"x\x00", ""},
		{"x\ty", ""},
		{"x\x7f", ""},
		{"x\u0085y", ""},
		{"x\u2028y", ""},
		{"x\u200by", ""},
		{"x\u202ey", ""},
		{"x\u00a0y", ""},
		{"x\ufeffy", ""},
		{"x\xffy", ""},
		{"x\ue000y", ""},
	}
	for _, tt := range tests {
		query := ""
		if values := valuesOf(defender.Wanted{ShortNames: []string{tt.name, "ordinary"}}); len(values) > 0 {
			query = lookUp(values)
		}
		want := "DeviceName in~ (" + strings.Join(sortedTexts(`"ordinary"`, tt.literal), ", ") + ")"
		if !strings.Contains(query, "| where "+want+"\n") && !strings.Contains(query, "| where "+want+" or tolower(") {
			t.Errorf("%q: the query is\n%s\nwant %s", tt.name, query, want)
		}
	}
}

// sortedTexts returns those that are not empty in the order of values.
func sortedTexts(literals ...string) []string {
	literals = slices.DeleteFunc(literals, func(text string) bool { return text == "" })
	slices.SortFunc(literals, func(x, y string) int { return strings.Compare(unquoted(x), unquoted(y)) })
	return literals
}

func unquoted(literal string) string {
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(literal[1 : len(literal)-1])
}

func TestValues(t *testing.T) {
	tests := []struct {
		name   string
		wanted defender.Wanted
		want   string
	}{
		{"nothing", defender.Wanted{}, ""},
		{"ids of both kinds", defender.Wanted{DeviceIDs: []string{"AB", "ab"}, EntraIDs: []string{"0-A"}}, "0:ab 1:0-a"},
		{"no ids", defender.Wanted{DeviceIDs: []string{"", "xyz", "a b", `a"`, strings.Repeat("a", 65)}, EntraIDs: []string{"{a}"}}, ""},
		{"names by their labels", defender.Wanted{Labels: []string{"PC", "pc"}}, "3:pc"},
		{"no label", defender.Wanted{Labels: []string{"pc.contoso.test", ".", ""}}, ""},
		{"a foreign name is asked for by its label too", defender.Wanted{FullNames: []string{"ÄPFEL.contoso.test", "pc.contoso.test"}},
			"2:pc.contoso.test 2:äpfel.contoso.test 3:äpfel"},
		{"addresses", defender.Wanted{Addresses: []string{"10.0.0.1", "::FFFF:10.0.0.1", "fe80::1%eth0"}}, "4:10.0.0.1 4:fe80::1"},
		{"no addresses", defender.Wanted{Addresses: []string{"127.0.0.1", "::1", "::ffff:127.0.0.2", "0.0.0.0", "::", "10.0.0", "", "10.0.0.1/8", `1.2.3.4"`}}, ""},
	}
	for _, tt := range tests {
		var got []string
		for _, v := range valuesOf(tt.wanted) {
			got = append(got, fmt.Sprintf("%d:%s", v.kind, v.text))
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: values are %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestOneQuery(t *testing.T) {
	long := strings.Repeat("x", 200)
	tests := []struct {
		name   string
		values []string
		want   int
	}{
		{"one", []string{"a"}, 1},
		{"full", texts(maxValues), maxValues},
		{"one too many", texts(maxValues + 1), maxValues},
		{"long ones", slices.Repeat([]string{long}, maxText/len(long)+1), maxText / len(long)},
		{"one that is too long goes alone", []string{strings.Repeat("x", maxText+1), "a"}, 1},
	}
	for _, tt := range tests {
		var values []value
		for _, text := range tt.values {
			values = append(values, value{fullOrShort, text})
		}
		if got := oneQuery(values, maxValues); got != tt.want {
			t.Errorf("%s: %d values go into a query, want %d", tt.name, got, tt.want)
		}
	}
}

// tokens takes a query apart by the rules of the language alone: what stands in string literals, decoded, and what stands around
// them, with a hole for each. It knows nothing of how queries are made.
func tokensOf(t *testing.T, query string) (around string, literals []string) {
	t.Helper()
	var text, literal strings.Builder
	in := false
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case !in && c == '"':
			in = true
			text.WriteString(`"…`)
		case !in:
			if c == '\'' || c == '`' || c == '\\' || c == '@' || c > unicode.MaxASCII {
				t.Fatalf("%q stands outside of a literal in\n%s", c, query)
			}
			text.WriteByte(c)
		case c == '"':
			in = false
			text.WriteByte('"')
			literals = append(literals, literal.String())
			literal.Reset()
		case c == '\\':
			i++
			if i == len(query) || (query[i] != '"' && query[i] != '\\') {
				t.Fatalf("an escape that is not one in\n%s", query)
			}
			literal.WriteByte(query[i])
		case c == '\n' || c == '\r':
			t.Fatalf("a literal is broken by a line's end in\n%s", query)
		default:
			literal.WriteByte(c)
		}
	}
	if in {
		t.Fatalf("a literal does not end in\n%s", query)
	}
	return text.String(), literals
}

func FuzzQuote(f *testing.F) {
	for _, text := range []string{"", "ws-01", `"`, `\`, `\"`, "x\ny", "ж", "\xff", `') or "`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, ok := parseName(text)
		if !ok {
			return
		}
		if !strings.EqualFold(parsed, text) && strings.ToLower(text) != parsed {
			t.Errorf("%q is read as %q", text, parsed)
		}
		if around, literals := tokensOf(t, quote(parsed)); around != `"…"` || len(literals) != 1 || literals[0] != parsed {
			t.Errorf("%q becomes %s: around %q, literals %q", parsed, quote(parsed), around, literals)
		}
	})
}

// FuzzQuery holds that nothing a caller names changes anything but the literals, and that these are exactly what was let in.
func FuzzQuery(f *testing.F) {
	f.Add("0a1b", "aaaa-1111", "ws-01.contoso.test", "ws-02", "10.0.0.1")
	f.Add(`") or true //`, `\`, `x\") | take 1`, "a'b`c", "::1%\"")
	f.Add("a\n| take 1", "b", "ж.x", "x\u2028", "fe80::1%eth0")
	f.Fuzz(func(t *testing.T, id, entra, name, short, ip string) {
		wanted := defender.Wanted{
			DeviceIDs: []string{id}, EntraIDs: []string{entra}, FullNames: []string{name}, ShortNames: []string{short},
			Labels: []string{short, name}, Addresses: []string{ip},
		}
		values := valuesOf(wanted)
		if len(values) == 0 {
			return
		}
		query := lookUp(values)
		harmless := make([]value, len(values))
		want := make([]string, 0, len(values))
		split := ""
		for i, v := range values {
			harmless[i] = value{v.kind, "x"}
			if v.kind == label && split == "" {
				// The dot that names are split at is a literal of the query's own.
				split = "."
				want = append(want, split)
			}
			want = append(want, v.text)
		}
		around, literals := tokensOf(t, query)
		if ordinary, _ := tokensOf(t, lookUp(harmless)); around != ordinary {
			t.Errorf("the query is\n%s\nwhich has\n%s\nwhere an ordinary one has\n%s", query, around, ordinary)
		}
		if !slices.Equal(literals, want) {
			t.Errorf("the literals are %q, want %q", literals, want)
		}
		if strings.Contains(query, "\n\n") || strings.Count(query, "\n") != 6 || !utf8.ValidString(query) {
			t.Errorf("the query is not six lines of text:\n%s", query)
		}
	})
}

func BenchmarkQuery(b *testing.B) {
	wanted := defender.Wanted{FullNames: texts(maxValues)}
	b.ReportAllocs()
	for b.Loop() {
		if len(lookUp(valuesOf(wanted))) < maxValues {
			b.Fatal("short")
		}
	}
}
