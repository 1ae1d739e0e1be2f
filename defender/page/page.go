// Package page reads a list answer as it arrives, element by element, in bounded memory: OData's, an object that has the list
// as its `value`; an object that has it as another member; or a bare array.
package page

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxElement is how large one element may be, in bytes; what stands between elements may be as large.
const MaxElement = 16 << 20

// MaxElements is how many elements an answer may have. Of each some bytes are remembered by who reads it, so that it is given once.
const MaxElements = 1 << 20

// Page is what an answer says beside its elements.
type Page struct {
	// Elements is how many elements it had.
	Elements int
	// NextLink is its @odata.nextLink, empty where it has none.
	NextLink string
}

// Errors of an answer that is no list.
var (
	// ErrInvalid says that the answer is no list as it was to be: no JSON, no object where one holds the list, or an object without
	// it. An object without its list is not an empty list, nor is an answer without anything an empty array.
	ErrInvalid = errors.New("the answer is not a list")
	// ErrTooLarge says that an element is larger than MaxElement.
	ErrTooLarge = errors.New("an element is too large")
	// ErrTooMany says that there are more elements than MaxElements.
	ErrTooMany = errors.New("there are too many elements")
	// ErrElement says, beside ErrInvalid, that it is an element that is no JSON, or nests too deep: another page can be good.
	ErrElement = errors.New("an element cannot be read")
	// ErrCut says that the answer broke off.
	ErrCut = errors.New("the answer broke off")
)

// IsUnusable says whether an error is that the answer came, and is none that can be used.
func IsUnusable(err error) bool {
	return errors.Is(err, ErrInvalid) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrTooMany)
}

// Read reads a list answer and gives each element of its `value` to yield, exactly as it stands there; the bytes are good until
// yield returns. The error is what yield or body returned, or wraps one of this package's. What was yielded before was whole.
func Read(body io.Reader, yield func(raw []byte) error) (Page, error) {
	r := newReader(body, yield)
	return r.result(r.read())
}

// ReadMember is [Read] for an answer whose list is the member of that name, compared without case.
func ReadMember(body io.Reader, name string, yield func(raw []byte) error) (Page, error) {
	r := newReader(body, yield)
	r.list, r.ignoreCase = name, true
	return r.result(r.read())
}

// reader reads one page.
type reader struct {
	// list is the name of the member that is the list; ignoreCase says that its case does not count.
	list       string
	ignoreCase bool

	in       *allowance
	decoder  *jsontext.Decoder
	yield    func([]byte) error
	yieldErr error
	page     Page
	hasList  bool
	// inList says that elements are being read, and not what is around them.
	inList bool
}

func newReader(body io.Reader, yield func([]byte) error) *reader {
	in := &allowance{body: body, left: 2 * MaxElement}
	d := jsontext.NewDecoder(in, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return &reader{list: "value", in: in, decoder: d, yield: yield}
}

// result returns the page, and what reading it came to.
func (r *reader) result(err error) (Page, error) {
	if err == nil {
		return r.page, nil
	}
	return r.page, r.classify(err)
}

func (r *reader) classify(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case r.yieldErr != nil:
		return r.yieldErr
	case r.in.err != nil:
		return r.in.err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return ErrCut
	case errors.As(err, &syntax) && r.inList:
		return fmt.Errorf("%w: it is no JSON at byte %d: %w", ErrInvalid, syntax.ByteOffset, ErrElement)
	case errors.As(err, &syntax):
		// The cause's text is left out: it can quote what was answered.
		return fmt.Errorf("%w: it is no JSON at byte %d", ErrInvalid, syntax.ByteOffset)
	default:
		return err
	}
}

func (r *reader) read() error {
	if r.decoder.PeekKind() != '{' {
		if _, err := r.decoder.ReadToken(); err != nil {
			return err
		}
		return fmt.Errorf("%w: it is no JSON object", ErrInvalid)
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	for r.decoder.PeekKind() == '"' {
		token, err := r.decoder.ReadToken()
		if err != nil {
			return err
		}
		if err := r.member(token.String()); err != nil {
			return err
		}
		r.in.left = 2 * MaxElement
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	if !r.hasList {
		return fmt.Errorf("%w: it has no `%s`", ErrInvalid, r.list)
	}
	return r.end()
}

// end reads the answer's end. Whatever follows its only value means that this was not the answer to our question.
func (r *reader) end() error {
	if _, err := r.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		if err != nil {
			return err
		}
		return fmt.Errorf("%w: something follows it", ErrInvalid)
	}
	return nil
}

func (r *reader) member(name string) error {
	switch {
	case name == r.list, r.ignoreCase && strings.EqualFold(name, r.list):
		return r.elements()
	case name == "@odata.nextLink":
		token, err := r.decoder.ReadToken()
		if err != nil {
			return err
		}
		switch token.Kind() {
		case '"':
			r.page.NextLink = token.String()
		case 'n':
			r.page.NextLink = ""
		default:
			return fmt.Errorf("%w: its @odata.nextLink is no text", ErrInvalid)
		}
		return nil
	case name == "error":
		return fmt.Errorf("%w: it tells an error, with a status of success", ErrInvalid)
	default:
		return r.decoder.SkipValue()
	}
}

func (r *reader) elements() error {
	if r.hasList {
		return fmt.Errorf("%w: it has `%s` twice", ErrInvalid, r.list)
	}
	if k := r.decoder.PeekKind(); k != '[' {
		if _, err := r.decoder.ReadToken(); err != nil {
			return err
		}
		return fmt.Errorf("%w: its `%s` is no array", ErrInvalid, r.list)
	}
	r.hasList = true
	return r.array()
}

// array reads an array, and gives its elements on.
func (r *reader) array() error {
	if _, err := r.decoder.ReadToken(); err != nil {
		return err
	}
	r.inList = true
	for r.decoder.PeekKind() != ']' {
		raw, err := r.value()
		if err != nil {
			return err
		}
		if err := r.give(raw); err != nil {
			return err
		}
	}
	r.inList = false
	_, err := r.decoder.ReadToken()
	return err
}

// value reads one element.
func (r *reader) value() ([]byte, error) {
	raw, err := r.decoder.ReadValue()
	if err == nil && len(raw) > MaxElement {
		err = ErrTooLarge
	}
	return raw, err
}

// give gives an element on.
func (r *reader) give(raw []byte) error {
	if r.page.Elements == MaxElements {
		return ErrTooMany
	}
	r.page.Elements++
	r.yieldErr = r.yield(raw)
	r.in.left = 2 * MaxElement
	return r.yieldErr
}

// allowance lets so many bytes through before it is set anew: the decoder's buffer grows with the value that it reads, and this
// is its bound.
type allowance struct {
	body io.Reader
	left int
	err  error
}

// Read reads from the body, and remembers its error: the decoder wraps it.
func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		a.err = ErrTooLarge
		return 0, a.err
	}
	n, err := a.body.Read(p[:min(len(p), a.left)])
	a.left -= n
	if err != nil && !errors.Is(err, io.EOF) {
		a.err = err
	}
	return n, err
}
