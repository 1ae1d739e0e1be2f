package page

import (
	"errors"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// repeated gives a text for ever.
type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		copied := copy(p[n:], r.text[r.at:])
		r.at = (r.at + copied) % len(r.text)
		n += copied
	}
	return n, nil
}

// watched takes down how large the heap was while it was read, every so many bytes.
type watched struct {
	io.Reader

	since int
	peak  uint64
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if w.since += n; w.since >= 4<<20 {
		w.since = 0
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.peak = max(w.peak, m.HeapAlloc)
	}
	return n, err
}

// Whatever comes, reading it needs no more than a few of the largest elements, and what was whole before it was given.
func TestMemoryStaysBounded(t *testing.T) {
	const (
		whole = `{"value":[{"id":"whole"},`
		mega  = 1 << 20
		// The buffer doubles as it grows, while the one before it is still there.
		maxUsed = 8 * MaxElement
	)
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, tt := range map[string]struct {
		body io.Reader
		want error
	}{
		"an element of 100 MB":       {io.LimitReader(io.MultiReader(strings.NewReader(whole+`"`), endless{'x'}), 100*mega), ErrTooLarge},
		"an object of 100 MB":        {io.LimitReader(io.MultiReader(strings.NewReader(whole+`{"a":1`), &repeated{text: `,"a":1`}), 100*mega), ErrTooLarge},
		"white space without end":    {io.MultiReader(strings.NewReader(whole), endless{' '}), ErrTooLarge},
		"white space behind the end": {io.MultiReader(strings.NewReader(whole+`{}]}`), endless{'\n'}), ErrTooLarge},
		"a member beside the list":   {io.MultiReader(strings.NewReader(whole+`{}],"x":[0`), &repeated{text: `,0`}), ErrTooLarge},
		"a link without end":         {io.MultiReader(strings.NewReader(whole+`{}],"@odata.nextLink":"`), endless{'x'}), ErrTooLarge},
		"nested 100,000 deep":        {strings.NewReader(whole + deep + `]}`), ErrElement},
		"nested without end":         {io.MultiReader(strings.NewReader(whole), endless{'['}), ErrElement},
		"elements without end":       {io.MultiReader(strings.NewReader(whole+`0`), &repeated{text: `,1`}), ErrTooMany},
	} {
		t.Run(name, func(t *testing.T) {
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			body := &watched{Reader: tt.body}
			given := 0
			p, err := Read(body, func(raw []byte) error {
				if given++; given == 1 && string(raw) != `{"id":"whole"}` {
					t.Errorf("the first is %s", raw)
				}
				return nil
			})
			if !errors.Is(err, tt.want) || given == 0 || p.Elements != given {
				t.Fatalf("error %v after %d elements, of which %d are told; want %v", err, given, p.Elements, tt.want)
			}
			if used := int64(body.peak) - int64(before.HeapAlloc); used > maxUsed {
				t.Errorf("it used %d MB, want at most %d", used/mega, maxUsed/mega)
			}
		})
	}
}

// A page of 100 MB in elements of 100 kB needs little more than one of them.
func TestALargePageNeedsLittle(t *testing.T) {
	element := `{"id":"` + strings.Repeat("x", 100_000) + `"}`
	const n = 1000
	body := &watched{Reader: io.MultiReader(
		strings.NewReader(`{"value":[`+element), io.LimitReader(&repeated{text: "," + element}, (n-1)*int64(len(element)+1)), strings.NewReader(`]}`),
	)}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := Read(body, func([]byte) error { return nil })
	if err != nil || p.Elements != n {
		t.Fatalf("%d elements, error %v; want %d", p.Elements, err, n)
	}
	if used := int64(body.peak) - int64(before.HeapAlloc); body.peak == 0 || used > 8<<20 {
		t.Errorf("it used %d bytes", used)
	}
}

// An element that is no JSON is told apart from an answer that is none.
func TestElementsThatCannotBeRead(t *testing.T) {
	for body, want := range map[string]bool{
		`{"value":[{"id":1},{"id":` + "\x00" + `}]}`: true,
		`{"value":[01]}`:     true,
		`{"value":[]}}`:      false,
		`{"value":[]`:        false,
		`<html>`:             false,
		`{"value":[1],"x":}`: false,
	} {
		if _, _, err := read(strings.NewReader(body)); errors.Is(err, ErrElement) != want {
			t.Errorf("%s: error is %v, want one of an element: %s", strconv.Quote(body), err, strconv.FormatBool(want))
		}
	}
}
