package lenient

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// ContentHash returns the SHA-256 of what the document says. The order of members and white space do not count, nor does the
// order of the items of the array that unordered names on the first level. Of equal keys the last counts. Numbers count by
// their spelling, so that none is rounded.
//
// The hash is stored and compared for as long as a journal lives: with another encoding every alert would look changed.
// Each value is encoded as a byte for its kind, and its content with lengths before it, so that no two contents give the same
// bytes.
func (d *Document) ContentHash(unordered string) [sha256.Size]byte {
	d.scratch = d.encode(d.scratch[:0], 0, d.member(0, unordered))
	return sha256.Sum256(d.scratch)
}

// encode appends the encoding of the node at index at; multiset is the index of the array whose order does not count.
func (d *Document) encode(to []byte, at, multiset int) []byte {
	n := &d.nodes[at]
	switch n.kind {
	case kindNull:
		return append(to, 'n')
	case kindTrue:
		return append(to, 't')
	case kindFalse:
		return append(to, 'f')
	case kindNumber:
		return encodeBytes(append(to, '0'), n.text)
	case kindString:
		if n.invalid {
			return encodeBytes(append(to, '?'), n.raw)
		}
		return encodeBytes(append(to, '"'), n.text)
	case kindBeyond:
		return encodeBytes(append(to, '!'), n.raw)
	case kindObject:
		to = binary.AppendUvarint(append(to, '{'), uint64(n.members))
		for _, member := range d.sorted(at) {
			to = encodeBytes(to, d.nodes[member].key)
			to = d.encode(to, member, multiset)
		}
		return to
	default:
		if at == multiset {
			return d.encodeMultiset(to, at)
		}
		to = binary.AppendUvarint(append(to, '['), uint64(n.members))
		for item := at + 1; item < n.end; item = d.nodes[item].end {
			to = d.encode(to, item, multiset)
		}
		return to
	}
}

// encodeMultiset appends the sorted hashes of an array's items. Adding hashes up instead would let items trade their parts.
func (d *Document) encodeMultiset(to []byte, array int) []byte {
	n := &d.nodes[array]
	sums := make([][sha256.Size]byte, 0, n.members)
	for item := array + 1; item < n.end; item = d.nodes[item].end {
		from := len(to)
		to = d.encode(to, item, -1)
		sums = append(sums, sha256.Sum256(to[from:]))
		to = to[:from]
	}
	slices.SortFunc(sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	to = binary.AppendUvarint(append(to, '*'), uint64(len(sums)))
	for _, sum := range sums {
		to = append(to, sum[:]...)
	}
	return to
}

func encodeBytes(to, text []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}
