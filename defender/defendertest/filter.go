package defendertest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// property is what a filter can compare of an alert.
type property int

const (
	propertyUpdated property = iota + 1
	propertyCreated
	propertyStatus
	propertySeverity
	propertySource
)

// vocabulary is how an API names what its alerts are filtered and sorted by.
type vocabulary struct {
	properties map[string]property
	// members are the values that a filter may compare an enum with, in the API's spelling and, beside it, in Graph's: that is the
	// one that revisions have.
	members map[property]map[string]string
}

// filter is a $filter: comparisons that must all hold. The zero value takes everything.
type filter []comparison

// comparison is one comparison of a property with a literal.
type comparison struct {
	property property
	operator string    // ge, gt, le, lt or eq
	time     time.Time // of the two times
	value    string    // of the enums, in Graph's spelling
}

// maxFilter is how long a $filter may be, in bytes.
const maxFilter = 8 << 10

// parseFilter reads the part of OData's $filter that is documented for lists of alerts: comparisons of the two times (unquoted) with
// ge, gt, le, lt and eq, and of enums (quoted) with eq, joined by `and`.
func (v vocabulary) parseFilter(text string) (filter, error) {
	if len(text) > maxFilter {
		return nil, errors.New("the filter is too long")
	}
	words, err := filterWords(text)
	if err != nil {
		return nil, err
	}
	var f filter
	for {
		if len(words) < 3 {
			return nil, errors.New("a comparison needs a property, an operator and a value")
		}
		c, err := v.parseComparison(words[0], words[1], words[2])
		if err != nil {
			return nil, err
		}
		f = append(f, c)
		if words = words[3:]; len(words) == 0 {
			return f, nil
		}
		if words[0] != "and" {
			return nil, fmt.Errorf("syntax error at '%s'", words[0])
		}
		words = words[1:]
	}
}

// filterWords splits a filter at its blanks. A quoted value is one word, with its quotes.
func filterWords(text string) ([]string, error) {
	var words []string
	for rest := strings.TrimLeft(text, " "); rest != ""; rest = strings.TrimLeft(rest, " ") {
		end := strings.IndexByte(rest, ' ')
		if rest[0] == '\'' {
			closing := strings.IndexByte(rest[1:], '\'')
			if closing < 0 {
				return nil, errors.New("there is an unterminated literal")
			}
			end = closing + 2
			if end < len(rest) && rest[end] != ' ' {
				return nil, fmt.Errorf("syntax error after %s", rest[:end])
			}
		}
		if end < 0 {
			end = len(rest)
		}
		words = append(words, rest[:end])
		rest = rest[end:]
	}
	return words, nil
}

func (v vocabulary) parseComparison(name, operator, literal string) (comparison, error) {
	c := comparison{property: v.properties[name], operator: operator}
	switch c.property {
	case 0:
		return c, fmt.Errorf("could not find a property named '%s'", name)
	case propertyUpdated, propertyCreated:
		if !slices.Contains([]string{"ge", "gt", "le", "lt", "eq"}, operator) {
			return c, fmt.Errorf("the operator '%s' is not supported for '%s'", operator, name)
		}
		at, err := time.Parse(time.RFC3339Nano, literal)
		if err != nil || at.UTC().Year() < 1 || at.UTC().Year() > 9999 {
			return c, fmt.Errorf("'%s' is not an Edm.DateTimeOffset", literal)
		}
		// A finer literal than Microsoft's times is cut to theirs.
		c.time = ticks(at)
		return c, nil
	default:
		if operator != "eq" {
			return c, fmt.Errorf("the operator '%s' is not supported for '%s'", operator, name)
		}
		if len(literal) < 2 || literal[0] != '\'' || literal[len(literal)-1] != '\'' {
			return c, fmt.Errorf("a value of '%s' must be quoted", name)
		}
		member := literal[1 : len(literal)-1]
		var ok bool
		if c.value, ok = v.members[c.property][member]; !ok {
			return c, fmt.Errorf("'%s' is not a member of the enumeration of '%s'", member, name)
		}
		return c, nil
	}
}

// parseOrder reads an $orderby: one of the two times, ascending where no direction is given.
func (v vocabulary) parseOrder(value string) (by property, desc, ok bool) {
	name, direction, _ := strings.Cut(value, " ")
	by = v.properties[name]
	ok = (by == propertyUpdated || by == propertyCreated) && (direction == "" || direction == "asc" || direction == "desc")
	return by, direction == "desc", ok
}

// sameSpelling are members that an API spells as Graph does.
func sameSpelling(members ...string) map[string]string {
	spelling := make(map[string]string, len(members))
	for _, member := range members {
		spelling[member] = member
	}
	return spelling
}

// narrow cuts a list in the order of last updates to what the filter's bounds on them leave.
func (f filter) narrow(list []*revision) []*revision {
	for _, c := range f {
		if c.property != propertyUpdated {
			continue
		}
		// from is the first that is at or after the bound, after the first that is later.
		from, _ := slices.BinarySearchFunc(list, c.time, func(r *revision, at time.Time) int { return r.updated.Compare(at) })
		after, _ := slices.BinarySearchFunc(list, c.time, func(r *revision, at time.Time) int {
			if r.updated.After(at) {
				return 1
			}
			return -1
		})
		switch c.operator {
		case "ge":
			list = list[from:]
		case "gt":
			list = list[after:]
		case "le":
			list = list[:after]
		case "lt":
			list = list[:from]
		case "eq":
			list = list[from:after]
		}
	}
	return list
}

// takes tells whether a revision passes the comparisons.
func (f filter) takes(r *revision) bool {
	return !slices.ContainsFunc(f, func(c comparison) bool { return !c.holds(r) })
}

func (c comparison) holds(r *revision) bool {
	switch c.property {
	case propertyUpdated:
		return compareTimes(r.updated, c.operator, c.time)
	case propertyCreated:
		return compareTimes(r.created, c.operator, c.time)
	case propertyStatus:
		return r.status == c.value
	case propertySeverity:
		return r.severity == c.value
	}
	return r.serviceSource == c.value
}

func compareTimes(a time.Time, operator string, b time.Time) bool {
	switch order := a.Compare(b); operator {
	case "ge":
		return order >= 0
	case "gt":
		return order > 0
	case "le":
		return order <= 0
	case "lt":
		return order < 0
	default:
		return order == 0
	}
}
