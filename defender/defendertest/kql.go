package defendertest

import (
	"strings"
	"unicode/utf8"
)

// engineError is what the engine says of a query that it cannot read, as users report it.
type engineError string

const (
	errUnreadable engineError = "A recognition error occurred.. Fix syntax errors in your query."
	errBreaksOff  engineError = "The incomplete fragment is unexpected. Fix syntax errors in your query."
)

// Error returns the engine's words.
func (e engineError) Error() string { return string(e) }

// huntingQuery is a query as far as queries are played: the table-less one that tests a permission, the one for any device of the last
// day, the look-up of devices by clauses, the one for any row of tables of events, and the search of these for traces.
type huntingQuery struct {
	permission bool // permissionQuery
	one        bool // oneDeviceQuery
	clauses    []huntingClause
	tables     []string
	traces     *tracesQuery
}

// huntingClause is one comparison of the look-up's where: a column with values of which one must fit.
type huntingClause struct {
	fits   func(row *huntingRow, value string) bool
	values []string
}

// The queries that have no values.
const (
	permissionQuery = "print ok = 1"
	oneDeviceQuery  = `DeviceInfo
| where Timestamp > ago(1d)
| take 1
| project DeviceId, DeviceName`
)

// The look-up's text, from the table to the clauses and from there to the end.
const (
	lookUpHead = `DeviceInfo
| where Timestamp > ago(30d)
| where isnotempty(OSPlatform)
| where `
	lookUpTail = `
| summarize arg_max(Timestamp, DeviceName, AadDeviceId, PublicIP, OSPlatform, OSVersion, MachineGroup, OnboardingStatus, SensorHealthState, IsExcluded, MergedToDeviceId), FirstSeen = min(Timestamp) by DeviceId
| join kind=leftouter (DeviceNetworkInfo | where Timestamp > ago(1d) | summarize IPAddresses = make_set(IPAddresses, 64) by DeviceId) on DeviceId
| project DeviceId, DeviceName, AadDeviceId, PublicIP, OSPlatform, OSVersion, MachineGroup, OnboardingStatus, SensorHealthState, IsExcluded, MergedToDeviceId, FirstSeen, LastSeen = Timestamp, IPAddresses`
)

// clauseForm is how a clause is written: what stands around its list of values.
type clauseForm struct {
	before, after string
	fits          func(row *huntingRow, value string) bool
}

// clauseForms are the clauses of the look-up. Where one begins as another does, the longer is first.
func clauseForms() []clauseForm {
	return []clauseForm{
		{
			`DeviceId in ((DeviceNetworkInfo | where Timestamp > ago(1d) | where IPAddresses has_any (`, `) | distinct DeviceId))`,
			func(row *huntingRow, value string) bool { return hasTerm(row.addresses, value) },
		},
		{`DeviceId in (`, `)`, func(row *huntingRow, value string) bool { return row.device.ID == value }},
		{`AadDeviceId in~ (`, `)`, func(row *huntingRow, value string) bool { return lowerASCII(row.device.EntraID) == lowerASCII(value) }},
		{`DeviceName in~ (`, `)`, func(row *huntingRow, value string) bool { return lowerASCII(row.device.DNSName) == lowerASCII(value) }},
		{
			`tolower(tostring(split(DeviceName, ".")[0])) in (`, `)`,
			func(row *huntingRow, value string) bool {
				return strings.ToLower(firstLabel(row.device.DNSName)) == value
			},
		},
	}
}

// parseHunting reads a query. What differs from what is played in a single byte is refused as what the engine cannot read: a caller
// whose values become part of the query finds out.
func parseHunting(text string) (huntingQuery, error) {
	switch text {
	case permissionQuery:
		return huntingQuery{permission: true}, nil
	case oneDeviceQuery:
		return huntingQuery{one: true}, nil
	}
	if tables, ok := parseTablesProbe(text); ok {
		return huntingQuery{tables: tables}, nil
	}
	p := &kqlText{rest: text}
	if strings.HasPrefix(text, "let ") {
		traces, err := parseTraces(p)
		return huntingQuery{traces: traces}, err
	}
	if !p.accept(lookUpHead) {
		return huntingQuery{}, p.refusal()
	}
	query := huntingQuery{}
	for {
		clause, err := p.clause()
		if err != nil {
			return huntingQuery{}, err
		}
		query.clauses = append(query.clauses, clause)
		if !p.accept(" or ") {
			break
		}
	}
	if !p.accept(lookUpTail) || p.rest != "" {
		return huntingQuery{}, p.refusal()
	}
	return query, nil
}

// kqlText is a query while it is read.
type kqlText struct{ rest string }

// accept goes past a text where it comes next.
func (p *kqlText) accept(text string) bool {
	rest, ok := strings.CutPrefix(p.rest, text)
	if ok {
		p.rest = rest
	}
	return ok
}

// refusal is what the engine says where the query cannot be read on.
func (p *kqlText) refusal() error {
	if strings.TrimSpace(p.rest) == "" {
		return errBreaksOff
	}
	return errUnreadable
}

// clause reads one of the clauses.
func (p *kqlText) clause() (huntingClause, error) {
	for _, form := range clauseForms() {
		if !p.accept(form.before) {
			continue
		}
		clause := huntingClause{fits: form.fits}
		for {
			value, err := p.literal()
			if err != nil {
				return clause, err
			}
			clause.values = append(clause.values, value)
			if !p.accept(", ") {
				break
			}
		}
		if !p.accept(form.after) {
			return clause, p.refusal()
		}
		return clause, nil
	}
	return huntingClause{}, p.refusal()
}

// literal reads a string in double quotes (https://learn.microsoft.com/en-us/kusto/query/scalar-data-types/string): a backslash stands
// before a quote, an apostrophe or itself. Other escapes are not played, and control characters must not stand there.
func (p *kqlText) literal() (string, error) {
	if !p.accept(`"`) {
		return "", p.refusal()
	}
	var value strings.Builder
	for p.rest != "" {
		c, size := utf8.DecodeRuneInString(p.rest)
		switch {
		case c == '"':
			p.rest = p.rest[size:]
			return value.String(), nil
		case c == utf8.RuneError && size == 1, c < ' ', c >= 0x7f && c < 0xa0, c == '\u2028', c == '\u2029':
			return "", errUnreadable
		case c == '\\':
			p.rest = p.rest[size:]
			if c, size = utf8.DecodeRuneInString(p.rest); c != '\\' && c != '"' && c != '\'' {
				return "", errUnreadable
			}
		}
		value.WriteRune(c)
		p.rest = p.rest[size:]
	}
	return "", errBreaksOff
}

// lowerASCII is what operators without case compare: they know ASCII's letters alone
// (https://learn.microsoft.com/en-us/kusto/query/datatypes-string-operators). The function tolower knows all.
func lowerASCII(text string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, text)
}

// hasTerm is the operator `has`: the value stands in the text with no letter and no digit on either side, in whatever case
// (https://learn.microsoft.com/en-us/kusto/query/has-operator). So 10.0.0.1 is not in 10.0.0.11, and fd00::1 is in
// fd00::1:2.
func hasTerm(text, value string) bool {
	text, value = lowerASCII(text), lowerASCII(value)
	if value == "" {
		return false
	}
	for from := 0; ; {
		i := strings.Index(text[from:], value)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(value)
		if (start == 0 || !isTermByte(text[start-1])) && (end == len(text) || !isTermByte(text[end])) {
			return true
		}
		from = start + 1
	}
}

func isTermByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= utf8.RuneSelf
}
