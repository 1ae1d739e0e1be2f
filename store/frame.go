package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"

	storev1 "defender-integration/gen/defender/integration/store/v1"
)

// formatVersion is the version of what this package writes. It reads no later one: see [ErrVersion].
const formatVersion = 1

// frameHeader is how many bytes a frame puts before its content: the version, and the checksum of that and of what follows. This
// header is for ever, whatever a later version puts behind it, so that what it wrote is told from damage.
const frameHeader = 1 + crc32.Size

// errFrame says that stored bytes are not what was written.
var errFrame = errors.New("the stored bytes are damaged")

// castagnoli is the polynomial that processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame returns a message as it is stored: one byte for the version, the CRC-32C of all else in four bytes (big endian), prefix,
// and the message in protobuf. The engine's own checksum is not enough: it guards a block of a file, drops what it dislikes
// without a word, and is not there on the way through a cluster.
func frame(prefix []byte, message proto.Message) ([]byte, error) {
	options := proto.MarshalOptions{}
	framed := make([]byte, frameHeader, frameHeader+len(prefix)+options.Size(message))
	framed = append(framed, prefix...)
	options.UseCachedSize = true
	framed, err := options.MarshalAppend(framed, message)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", message, err)
	}
	seal(framed)
	return framed, nil
}

// seal writes the header of a frame that has its content.
func seal(framed []byte) {
	framed[0] = formatVersion
	binary.BigEndian.PutUint32(framed[1:], checksum(framed))
}

// checksum returns the CRC-32C of a frame but for the place where it stands.
func checksum(framed []byte) uint32 {
	return crc32.Update(crc32.Checksum(framed[:1], castagnoli), castagnoli, framed[frameHeader:])
}

// unframe checks framed and returns its first `prefix` bytes of content, and the rest decoded into message. What a later version
// wrote is ErrVersion.
func unframe(framed []byte, prefix int, message proto.Message) ([]byte, error) {
	if len(framed) < frameHeader {
		return nil, fmt.Errorf("%w: %d bytes are too few", errFrame, len(framed))
	}
	if binary.BigEndian.Uint32(framed[1:]) != checksum(framed) {
		return nil, fmt.Errorf("%w: the checksum is wrong", errFrame)
	}
	if err := checkFormat(uint32(framed[0])); err != nil {
		return nil, err
	}
	content := framed[frameHeader:]
	if len(content) < prefix {
		return nil, fmt.Errorf("%w: %d bytes are too few", errFrame, len(framed))
	}
	if err := proto.Unmarshal(content[prefix:], message); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return content[:prefix], nil
}

// checkFormat returns an error where a format is not this version's: ErrVersion where it is a later one's.
func checkFormat(format uint32) error {
	switch {
	case format == formatVersion:
		return nil
	case format > formatVersion:
		return fmt.Errorf("%w (format %d; this version reads %d)", ErrVersion, format, formatVersion)
	}
	return fmt.Errorf("%w: there is no format %d", errFrame, format)
}

// sequenceSize is how many bytes an entry's sequence takes in its frame.
const sequenceSize = 8

// entryHeader is how many bytes the frame of an entry puts before it. The entry's sequence is among them, so that an entry in
// another's place is found out like one that is damaged.
const entryHeader = frameHeader + sequenceSize

// framer frames entries into memory that it uses again.
type framer struct {
	buffer []byte
	ends   []int
	framed [][]byte
}

// frame frames entries, the first of which gets the sequence first. Where one is too large, it returns ErrTooLarge. What it
// returns holds until it is called again.
func (f *framer) frame(first uint64, entries []*storev1.Entry) ([][]byte, error) {
	f.buffer, f.ends, f.framed = f.buffer[:0], f.ends[:0], f.framed[:0]
	for i, entry := range entries {
		begin := len(f.buffer)
		var header [frameHeader]byte
		f.buffer = append(f.buffer, header[:]...)
		f.buffer = binary.BigEndian.AppendUint64(f.buffer, first+uint64(i))
		var err error
		if f.buffer, err = (proto.MarshalOptions{}).MarshalAppend(f.buffer, entry); err != nil {
			return nil, fmt.Errorf("encode %T: %w", entry, err)
		}
		if size := len(f.buffer) - begin - entryHeader; size > MaxEntrySize {
			return nil, fmt.Errorf("%w: entry %d of %d takes %d bytes, at most %d fit", ErrTooLarge, i+1, len(entries), size, MaxEntrySize)
		}
		seal(f.buffer[begin:])
		f.ends = append(f.ends, len(f.buffer))
	}
	// The buffer moved while it grew, so it is cut only now.
	begin := 0
	for _, end := range f.ends {
		f.framed = append(f.framed, f.buffer[begin:end:end])
		begin = end
	}
	return f.framed, nil
}

// unframeEntry decodes a stored entry; what cannot be read, or belongs elsewhere, is ErrDamaged, what a later version wrote is
// ErrVersion.
func unframeEntry(sequence uint64, framed []byte) (Positioned, error) {
	entry := new(storev1.Entry)
	prefix, err := unframe(framed, sequenceSize, entry)
	if errors.Is(err, ErrVersion) {
		return Positioned{}, fmt.Errorf("entry %d: %w", sequence, err)
	}
	if err != nil {
		return Positioned{}, fmt.Errorf("%w: entry %d: %w", ErrDamaged, sequence, err)
	}
	if own := binary.BigEndian.Uint64(prefix); own != sequence {
		return Positioned{}, fmt.Errorf("%w: in the place of entry %d is %d", ErrDamaged, sequence, own)
	}
	return Positioned{Sequence: sequence, Entry: entry}, nil
}

// peekSequence returns the sequence in an entry's frame, unchecked; 0 where it has none.
func peekSequence(framed []byte) uint64 {
	if len(framed) < entryHeader {
		return 0
	}
	return binary.BigEndian.Uint64(framed[frameHeader:])
}
