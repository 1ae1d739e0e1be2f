package lenient

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// The bounds of what is told of oddities.
const (
	maxOddities   = 32
	maxOddityText = 128
)

// Kinds of oddities that this package tells.
const (
	unknownEnum     = integrationv1.Oddity_KIND_UNKNOWN_ENUM_VALUE
	wrongType       = integrationv1.Oddity_KIND_WRONG_TYPE
	badTime         = integrationv1.Oddity_KIND_BAD_TIME
	missingField    = integrationv1.Oddity_KIND_MISSING_FIELD
	unknownProperty = integrationv1.Oddity_KIND_UNKNOWN_PROPERTY
	invalidUTF8     = integrationv1.Oddity_KIND_INVALID_UTF8
	beyondBound     = integrationv1.Oddity_KIND_BEYOND_BOUND
)

// Value is a value of a document, while it is being read into a message.
type Value struct {
	r  *reader
	at int
}

// reader is what all values of one reading share.
type reader struct {
	doc      *Document
	path     []step
	oddities []*integrationv1.Oddity
}

// step is one step down: a member's name, or an index where key is nil.
type step struct {
	key   []byte
	index int
}

// Read reads the document into a message, and returns what was odd, at most 32 of it. A document that is no object leaves the
// message empty. Members that the table does not know are told, unless they are annotations of OData, and so are the required
// ones that are not there, are null or are empty.
func Read[M any](d *Document, fields Fields[M], message M, required ...string) []*integrationv1.Oddity {
	r := &reader{doc: d}
	root := Value{r, 0}
	if !root.IsObject() {
		root.Odd(wrongType)
		return r.oddities
	}
	// First, so that they are told whatever else is odd.
	for _, key := range required {
		if member, ok := root.Member(key); !ok || member.Empty() {
			r.odd(missingField, "/"+key, nil)
		}
	}
	ReadObject(root, fields, message, nil)
	return r.oddities
}

// Root returns the whole document as a value, to look at single members of it.
func (d *Document) Root() Value { return Value{&reader{doc: d}, 0} }

func (v Value) node() *node { return &v.r.doc.nodes[v.at] }

// IsObject says whether the value is an object.
func (v Value) IsObject() bool { return v.node().kind == kindObject }

// Empty says whether the value says nothing: it is null or an empty string.
func (v Value) Empty() bool {
	n := v.node()
	return n.kind == kindNull || (n.kind == kindString && len(n.text) == 0)
}

// Member returns a member of an object.
func (v Value) Member(key string) (Value, bool) {
	at := v.r.doc.member(v.at, key)
	return Value{v.r, at}, at >= 0
}

// Odd tells that the value is odd.
func (v Value) Odd(kind integrationv1.Oddity_Kind) {
	if v.node().kind == kindBeyond {
		kind = beyondBound
	}
	n := v.node()
	text := n.text
	if n.kind != kindString {
		text = n.raw
	}
	v.r.odd(kind, "", text)
}

// OddText tells that the value is odd, with another text than its own.
func (v Value) OddText(kind integrationv1.Oddity_Kind, text string) { v.r.odd(kind, "", []byte(text)) }

func (r *reader) odd(kind integrationv1.Oddity_Kind, below string, text []byte) {
	if len(r.oddities) == maxOddities {
		return
	}
	r.oddities = append(r.oddities, &integrationv1.Oddity{Kind: kind, Path: r.pointer() + below, Value: shorten(text)})
}

// pointer returns the JSON Pointer of the value that is being read.
func (r *reader) pointer() string {
	var b strings.Builder
	for _, s := range r.path {
		b.WriteByte('/')
		if s.key == nil {
			b.WriteString(strconv.Itoa(s.index))
			continue
		}
		escaped := strings.ReplaceAll(strings.ToValidUTF8(shorten(s.key), "\uFFFD"), "~", "~0")
		b.WriteString(strings.ReplaceAll(escaped, "/", "~1"))
	}
	return b.String()
}

// shorten returns at most maxOddityText characters of text, as valid UTF-8.
func shorten(text []byte) string {
	// Four bytes a character at most: what is beyond need not be looked at.
	s := strings.ToValidUTF8(string(text[:min(len(text), maxOddityText*utf8.UTFMax)]), "\uFFFD")
	for i := range s {
		if maxOddityText == utf8.RuneCountInString(s[:i]) {
			return s[:i]
		}
	}
	return s
}

func (r *reader) push(s step) { r.path = append(r.path, s) }
func (r *reader) pop()        { r.path = r.path[:len(r.path)-1] }

// Text reads a string; a number is taken in its spelling.
func (v Value) Text() string {
	n := v.node()
	switch n.kind {
	case kindNull:
		return ""
	case kindString:
		if n.invalid {
			v.Odd(invalidUTF8)
		}
		return string(n.text)
	case kindNumber:
		return string(n.text)
	}
	v.Odd(wrongType)
	return ""
}

// Int reads a whole number, or a string that spells one.
func (v Value) Int() int64 {
	n := v.node()
	if n.kind == kindNumber || n.kind == kindString {
		if v.Empty() {
			return 0
		}
		if number, err := strconv.ParseInt(string(n.text), 10, 64); err == nil {
			return number
		}
		v.Odd(wrongType)
		return 0
	}
	if n.kind != kindNull {
		v.Odd(wrongType)
	}
	return 0
}

// Float reads a number, or a string that spells one.
func (v Value) Float() float64 {
	n := v.node()
	if v.Empty() {
		return 0
	}
	if n.kind == kindNumber || n.kind == kindString {
		if number, err := strconv.ParseFloat(string(n.text), 64); err == nil {
			return number
		}
	}
	v.Odd(wrongType)
	return 0
}

// Bool reads true or false, or a string that spells one in any case.
func (v Value) Bool() bool {
	truth, _ := v.truth()
	return truth
}

// truth is Bool, and says whether the value tells one.
func (v Value) truth() (truth, known bool) {
	n := v.node()
	switch {
	case v.Empty():
		return false, false
	case n.kind == kindTrue, n.kind == kindFalse:
		return n.kind == kindTrue, true
	case n.kind == kindString && strings.EqualFold(string(n.text), "true"):
		return true, true
	case n.kind == kindString && strings.EqualFold(string(n.text), "false"):
		return false, true
	}
	v.Odd(wrongType)
	return false, false
}

// Time reads a time of RFC 3339 with any number of digits; one without a zone is UTC. Microsoft's year 1, which stands for no
// time, gives nil.
func (v Value) Time() *timestamppb.Timestamp {
	n := v.node()
	if v.Empty() {
		return nil
	}
	if n.kind != kindString {
		v.Odd(wrongType)
		return nil
	}
	t, err := ParseTime(string(n.text))
	if err != nil {
		v.Odd(badTime)
		return nil
	}
	if t.Year() <= 1 {
		return nil
	}
	return timestamppb.New(t)
}

// ParseTime reads a time of RFC 3339 with any number of digits; one without a zone is UTC.
func ParseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err == nil {
		return t.UTC(), nil
	}
	return time.Parse("2006-01-02T15:04:05", text)
}

// JSON returns an object as it stood.
func (v Value) JSON() string {
	if v.Empty() {
		return ""
	}
	if k := v.node().kind; k != kindObject && k != kindBeyond {
		v.Odd(wrongType)
		return ""
	}
	raw := v.node().raw
	if utf8.Valid(raw) {
		return string(raw)
	}
	v.r.odd(invalidUTF8, "", nil)
	return strings.ToValidUTF8(string(raw), "\uFFFD")
}

// Each calls read for each item of an array, with the item as the value that oddities are told of. A value that is no array is
// taken for its only item, and told; null has no items.
func (v Value) Each(read func(Value)) {
	n := v.node()
	switch {
	case n.kind == kindArray:
	case v.Empty():
		return
	case n.kind == kindBeyond:
		v.Odd(beyondBound)
		return
	default:
		v.Odd(wrongType)
		read(v)
		return
	}
	index := 0
	for at := v.at + 1; at < n.end; at = v.r.doc.nodes[at].end {
		v.r.push(step{index: index})
		read(Value{v.r, at})
		v.r.pop()
		index++
	}
}
