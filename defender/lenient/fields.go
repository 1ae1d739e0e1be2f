package lenient

import (
	"bytes"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Field reads a value into one field of a message.
type Field[M any] func(v Value, message M)

// Fields says for each property, in its exact spelling, how it is read. It is not changed once it is in use.
type Fields[M any] map[string]Field[M]

// IgnoringCase returns the table for documents that ignore the case of names.
func IgnoringCase[M any](fields Fields[M]) Fields[M] {
	folded := make(Fields[M], len(fields))
	for name, field := range fields {
		folded[lower(name)] = field
	}
	return folded
}

// ReadObject reads an object's members into a message, by the table. A member that the table does not know goes to rest, which
// says whether it knows it; what nobody knows is told as an oddity, annotations of OData apart. rest may be nil.
func ReadObject[M any](v Value, fields Fields[M], message M, rest func(key string, v Value) bool) {
	r := v.r
	for at := v.at + 1; at < r.doc.nodes[v.at].end; at = r.doc.nodes[at].end {
		n := &r.doc.nodes[at]
		if n.dropped {
			continue
		}
		member := Value{r, at}
		r.push(step{key: n.name})
		if read, ok := fields[string(n.key)]; ok {
			read(member, message)
		} else if known := rest != nil && rest(string(n.key), member); !known && bytes.IndexByte(n.key, '@') < 0 {
			member.Odd(unknownProperty)
		}
		r.pop()
	}
}

// Text is a string's field.
func Text[M any](at func(M) *string) Field[M] {
	return func(v Value, message M) { *at(message) = v.Text() }
}

// Int is a whole number's field.
func Int[M any](at func(M) *int64) Field[M] {
	return func(v Value, message M) { *at(message) = v.Int() }
}

// Float is a number's field.
func Float[M any](at func(M) *float64) Field[M] {
	return func(v Value, message M) { *at(message) = v.Float() }
}

// Bool is a truth value's field.
func Bool[M any](at func(M) *bool) Field[M] {
	return func(v Value, message M) { *at(message) = v.Bool() }
}

// OptionalBool is the field of a truth value that need not be known: what says nothing, or cannot be read, leaves it not set.
func OptionalBool[M any](at func(M) **bool) Field[M] {
	return func(v Value, message M) {
		*at(message) = nil
		if truth, known := v.truth(); known {
			*at(message) = &truth
		}
	}
}

// Time is a time's field.
func Time[M any](at func(M) **timestamppb.Timestamp) Field[M] {
	return func(v Value, message M) { *at(message) = v.Time() }
}

// JSON is the field of an object that is kept as it stood.
func JSON[M any](at func(M) *string) Field[M] {
	return func(v Value, message M) { *at(message) = v.JSON() }
}

// Texts is the field of a list of strings; null and empty ones are left out.
func Texts[M any](at func(M) *[]string) Field[M] {
	return func(v Value, message M) {
		v.Each(func(item Value) {
			if text := item.Text(); text != "" {
				*at(message) = append(*at(message), text)
			}
		})
	}
}

// Object is a message's field.
func Object[M, C any](fields Fields[*C], at func(M) **C) Field[M] {
	return func(v Value, message M) {
		if child, ok := readChild(v, fields); ok {
			*at(message) = child
		}
	}
}

// Objects is the field of a list of messages.
func Objects[M, C any](fields Fields[*C], at func(M) *[]*C) Field[M] {
	return func(v Value, message M) {
		v.Each(func(item Value) {
			if child, ok := readChild(item, fields); ok {
				*at(message) = append(*at(message), child)
			}
		})
	}
}

func readChild[C any](v Value, fields Fields[*C]) (*C, bool) {
	if v.Empty() {
		return nil, false
	}
	if !v.IsObject() {
		v.Odd(wrongType)
		return nil, false
	}
	child := new(C)
	ReadObject(v, fields, child, nil)
	return child, true
}

// enum is an enumeration of the contract: its values 0 and 1 are UNSPECIFIED and UNRECOGNIZED.
type enum interface {
	~int32
	protoreflect.Enum
}

// Names says which words stand for which value of an enumeration, in lower case.
type Names[E enum] map[string]E

// NamesOf returns the words of an enumeration that follow from its values' names, so that `noThreatsFound` and
// `NoThreatsFound` stand for EVIDENCE_VERDICT_NO_THREATS_FOUND, and these others beside them.
func NamesOf[E enum](others Names[E]) Names[E] {
	names := Names[E]{}
	var zero E
	values := zero.Descriptor().Values()
	prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
	for i := range values.Len() {
		value := values.Get(i)
		if value.Number() > unrecognized {
			word := strings.TrimPrefix(string(value.Name()), prefix)
			names[strings.ToLower(strings.ReplaceAll(word, "_", ""))] = E(value.Number())
		}
	}
	for word, value := range others {
		names[strings.ToLower(word)] = value
	}
	return names
}

// unrecognized is the number of the value that stands for an unknown word in every enumeration.
const unrecognized = 1

// Enum is an enumeration's field. An unknown word gives UNRECOGNIZED, and is told.
func Enum[M any, E enum](names Names[E], at func(M) *E) Field[M] {
	return func(v Value, message M) {
		if v.Empty() {
			return
		}
		n := v.node()
		if n.kind != kindString {
			v.Odd(wrongType)
			return
		}
		var lower [64]byte
		if value, ok := names[string(appendLower(lower[:0], n.text))]; ok {
			*at(message) = value
			return
		}
		*at(message) = unrecognized
		v.Odd(unknownEnum)
	}
}

// lower returns text with its ASCII letters in lower case.
func lower(text string) string { return string(appendLower(nil, []byte(text))) }

// appendLower appends text with its ASCII letters in lower case.
func appendLower(to, text []byte) []byte {
	for _, c := range text {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		to = append(to, c)
	}
	return to
}
