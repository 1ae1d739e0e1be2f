package page

import (
	"errors"
	"fmt"
	"io"
)

// ReadArray reads an answer that is the list itself, an array, and gives each of its elements to yield, as [Read] does. It
// returns how many there were.
//
// Where an object stands in the array's place, alone says whether it is an element, which is then the only one; its bytes are
// good until alone returns. An object that is none, such as another API's envelope or an error, is no list, and neither is an
// answer that has nothing in it.
func ReadArray(body io.Reader, alone func(raw []byte) bool, yield func(raw []byte) error) (int, error) {
	r := newReader(body, yield)
	err := r.bare(alone)
	if err == nil {
		return r.page.Elements, nil
	}
	return r.page.Elements, r.classify(err)
}

// bare reads an array, or an object in its place.
func (r *reader) bare(alone func([]byte) bool) error {
	switch r.decoder.PeekKind() {
	case '[':
		if err := r.array(); err != nil {
			return err
		}
	case '{':
		raw, err := r.value()
		if err != nil {
			return err
		}
		if !alone(raw) {
			return fmt.Errorf("%w: it is an object, and none that the list could hold", ErrInvalid)
		}
		if err := r.give(raw); err != nil {
			return err
		}
	default:
		_, err := r.decoder.ReadToken()
		switch {
		case r.in.err == nil && errors.Is(err, io.EOF):
			return fmt.Errorf("%w: it is empty", ErrInvalid)
		case err != nil:
			return err
		}
		return fmt.Errorf("%w: it is no JSON array", ErrInvalid)
	}
	return r.end()
}
