package page

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func read(body io.Reader) (Page, []string, error) {
	var elements []string
	p, err := Read(body, func(raw []byte) error {
		elements = append(elements, string(raw))
		return nil
	})
	return p, elements, err
}

func TestElementsAreExact(t *testing.T) {
	const body = ` { "@odata.context" : {"value":[9]}, "value" : [ {"b": 1.0, "a":"\u0026 & \/" } , 7,null,"x" ,[ 1 ] , {"id":"` + "\xff" + `","id":"2"}],` +
		"\n\t" + `"@odata.nextLink":"https:\/\/x\/y?a&b" } `
	want := []string{`{"b": 1.0, "a":"\u0026 & \/" }`, `7`, `null`, `"x"`, `[ 1 ]`, `{"id":"` + "\xff" + `","id":"2"}`}
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "half": iotest.HalfReader,
	} {
		p, elements, err := read(wrap(strings.NewReader(body)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Join(elements, "|") != strings.Join(want, "|") || p.Elements != len(want) || p.NextLink != "https://x/y?a&b" {
			t.Errorf("%s: %q and %+v, want %q", name, elements, p, want)
		}
	}
}

func TestCutAnywhere(t *testing.T) {
	const body = `{"value":[{"id":"a"},{"id":"b"}],"x":1}`
	for n := range len(body) {
		p, elements, err := read(strings.NewReader(body[:n]))
		if !errors.Is(err, ErrCut) {
			t.Errorf("cut at %d: error %v, want ErrCut", n, err)
		}
		for _, e := range elements {
			if e != `{"id":"a"}` && e != `{"id":"b"}` {
				t.Errorf("cut at %d: %q is no whole element", n, e)
			}
		}
		if p.Elements != len(elements) {
			t.Errorf("cut at %d: %d elements told, %d given", n, p.Elements, len(elements))
		}
	}
}

func TestInvalid(t *testing.T) {
	for _, body := range []string{
		`[]`, `7`, `null`, `"x"`, `{}`, `{"Value":[]}`, `{"value":null}`, `{"value":{}}`, `{"value":[],"value":[]}`, `{"value":[1,]}`,
		`{"value":[]}x`, `{"value":[]}{}`, `{"value":[01]}`, `{"value":["` + "\x00" + `"]}`, `{"value":[],"@odata.nextLink":1}`,
		`{"error":{"code":"x"}}`, `<html>`, `{"value":[` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `]}`,
	} {
		if _, _, err := read(strings.NewReader(body)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.40q: error %v, want ErrInvalid", body, err)
		}
	}
}

func TestErrorsOfBodyAndYield(t *testing.T) {
	broken := errors.New("broken")
	if _, _, err := read(io.MultiReader(strings.NewReader(`{"value":[1,`), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("error is %v, want the body's", err)
	}
	if _, err := Read(strings.NewReader(`{"value":[1]}`), func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error is %v, want yield's", err)
	}
}

// endless gives one byte for ever after a beginning.
type endless struct{ fill byte }

func (e endless) Read(p []byte) (int, error) {
	// As much as a network gives at once.
	p = p[:min(len(p), 64<<10)]
	copy(p, bytes.Repeat([]byte{e.fill}, len(p)))
	return len(p), nil
}

func TestMemoryIsBounded(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"an endless element":   io.MultiReader(strings.NewReader(`{"value":["`), endless{'x'}),
		"endless space":        io.MultiReader(strings.NewReader(`{"value":[`), endless{' '}),
		"an endless key":       io.MultiReader(strings.NewReader(`{"`), endless{'x'}),
		"an element too large": strings.NewReader(`{"value":["` + strings.Repeat("x", MaxElement) + `"]}`),
	} {
		if _, _, err := read(body); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: error %v, want ErrTooLarge", name, err)
		}
	}
}
