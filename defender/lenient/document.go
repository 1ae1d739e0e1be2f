package lenient

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// The bounds of what is taken apart. What lies beyond stays one undivided value: it is hashed by its bytes and told as an oddity.
const (
	// MaxDepth is how deep containers may nest.
	MaxDepth = 100
	// maxNodes is how many values a document may have. A real alert has some hundred.
	maxNodes = 200_000
)

// kind is what a node is.
type kind uint8

const (
	kindNull kind = iota
	kindTrue
	kindFalse
	kindNumber
	kindString
	kindObject
	kindArray
	// kindBeyond is a container beyond a bound.
	kindBeyond
)

// node is one value. The children of a container follow it in the list.
type node struct {
	kind kind
	// invalid says that text held bytes that are not UTF-8, or half a surrogate pair; each stands as U+FFFD.
	invalid bool
	// dropped says that a later member of the same object has the same key.
	dropped bool
	// name is the member's name, decoded, and key what it is compared by; both are nil in an array.
	name, key []byte
	// text is a string, decoded, and the spelling of a number.
	text []byte
	// raw is the value as it stood.
	raw []byte
	// end is the index after the node and all that is in it.
	end int
	// members is how many children a container has, dropped ones left out; order is where an object's stand in the document's
	// order.
	members, order int
}

// Document is a JSON value taken apart. It refers to the bytes that it was read from. It can be reset and read again, and is
// not safe for concurrent use.
type Document struct {
	// IgnoreCase says that members' names are compared without the case of ASCII letters: two that differ in nothing else are
	// equal. It is set before Parse. Tables for such a document are made with [IgnoringCase].
	IgnoreCase bool

	nodes []node
	// order has the members of each object, sorted by key.
	order   []int
	scratch []byte
	decoder *jsontext.Decoder
	reader  bytes.Reader
}

// errTooMany says that a value has more than maxNodes values in it.
var errTooMany = errors.New("too many values")

// Parse takes raw apart, which must be one JSON value. The only error is of its syntax.
func (d *Document) Parse(raw []byte) error {
	// What has too many values is read again less deep: its first level alone, or, where that is too wide, not at all.
	for _, depth := range []int{MaxDepth, 1, 0} {
		err := d.parse(raw, depth)
		if !errors.Is(err, errTooMany) {
			return err
		}
	}
	return errTooMany
}

func (d *Document) parse(raw []byte, depth int) error {
	d.reader.Reset(raw)
	options := []jsontext.Options{jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)}
	if d.decoder == nil {
		d.decoder = jsontext.NewDecoder(&d.reader, options...)
	} else {
		d.decoder.Reset(&d.reader, options...)
	}
	d.nodes, d.order = d.nodes[:0], d.order[:0]
	if err := d.value(raw, nil, depth); err != nil {
		return err
	}
	if _, err := d.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// value reads one value, and for a container everything in it. The recursion is as deep as depth.
func (d *Document) value(raw, name []byte, depth int) error {
	if len(d.nodes) >= maxNodes {
		return errTooMany
	}
	at := len(d.nodes)
	d.nodes = append(d.nodes, node{name: name, key: name})
	if d.IgnoreCase {
		d.nodes[at].key = appendLower(nil, name)
	}
	k := d.decoder.PeekKind()
	if (k != '{' && k != '[') || depth == 0 {
		value, err := d.decoder.ReadValue()
		if err != nil {
			return err
		}
		end := int(d.decoder.InputOffset())
		n := &d.nodes[at]
		n.raw, n.end = raw[end-len(value):end], at+1
		n.scalar(k)
		return nil
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	start, members, closing := int(d.decoder.InputOffset())-1, 0, jsontext.Kind(']')
	kind := kindArray
	if k == '{' {
		kind, closing = kindObject, '}'
	}
	for d.decoder.PeekKind() != closing {
		var name []byte
		if k == '{' {
			value, err := d.decoder.ReadValue()
			if err != nil {
				return err
			}
			end := int(d.decoder.InputOffset())
			name, _ = unquote(raw[end-len(value) : end])
		}
		if err := d.value(raw, name, depth-1); err != nil {
			return err
		}
		members++
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return err
	}
	n := &d.nodes[at]
	n.kind, n.raw, n.end, n.members = kind, raw[start:d.decoder.InputOffset()], len(d.nodes), members
	if k == '{' {
		d.sortMembers(at)
	}
	return nil
}

// scalar sets what the node is from its raw bytes; k is how they begin.
func (n *node) scalar(k jsontext.Kind) {
	switch k {
	case 'n':
		n.kind = kindNull
	case 't':
		n.kind = kindTrue
	case 'f':
		n.kind = kindFalse
	case '0':
		n.kind, n.text = kindNumber, n.raw
	case '"':
		n.kind = kindString
		n.text, n.invalid = unquote(n.raw)
	default:
		n.kind = kindBeyond
	}
}

// unquote decodes a JSON string, without a copy where it stands for itself.
func unquote(raw []byte) (text []byte, invalid bool) {
	plain := raw[1 : len(raw)-1]
	if bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return plain, false
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	return text, err != nil
}

// sortMembers puts the indexes of an object's members in the order of their keys, and marks all but the last of members with
// equal keys.
func (d *Document) sortMembers(object int) {
	n := &d.nodes[object]
	n.order = len(d.order)
	for at := object + 1; at < n.end; at = d.nodes[at].end {
		d.order = append(d.order, at)
	}
	order := d.order[n.order:]
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(bytes.Compare(d.nodes[a].key, d.nodes[b].key), cmp.Compare(a, b))
	})
	kept := order[:0]
	for i, at := range order {
		if i+1 < len(order) && bytes.Equal(d.nodes[at].key, d.nodes[order[i+1]].key) {
			d.nodes[at].dropped = true
			continue
		}
		kept = append(kept, at)
	}
	d.order, n.members = d.order[:n.order+len(kept)], len(kept)
}

// sorted returns the indexes of an object's members in the order of their keys, dropped ones left out.
func (d *Document) sorted(object int) []int {
	n := &d.nodes[object]
	return d.order[n.order : n.order+n.members]
}

// member returns the index of an object's member, or a negative number where there is none.
func (d *Document) member(object int, key string) int {
	if d.nodes[object].kind != kindObject {
		return -1
	}
	if d.IgnoreCase {
		key = lower(key)
	}
	for at := object + 1; at < d.nodes[object].end; at = d.nodes[at].end {
		if !d.nodes[at].dropped && string(d.nodes[at].key) == key {
			return at
		}
	}
	return -1
}
