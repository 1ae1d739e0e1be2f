package page

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readArray reads an array; an object that has an id may stand alone.
func readArray(body io.Reader) (int, []string, error) {
	var elements []string
	n, err := ReadArray(body, func(raw []byte) bool { return bytes.Contains(raw, []byte(`"id"`)) }, func(raw []byte) error {
		elements = append(elements, string(raw))
		return nil
	})
	return n, elements, err
}

func TestArrayElementsAreExact(t *testing.T) {
	tests := []struct {
		name, body string
		want       []string
	}{
		{"none", "\n[ ] ", nil},
		{
			"some", ` [ {"b": 1.0, "a":"\u0026 & \/" } , 7,null,"x" ,[ 1 ] , {"id":"` + "\xff" + `","id":"2"}]` + "\n\t",
			[]string{`{"b": 1.0, "a":"\u0026 & \/" }`, `7`, `null`, `"x"`, `[ 1 ]`, `{"id":"` + "\xff" + `","id":"2"}`},
		},
		{"an element alone", ` { "id" : 1, "a":"&" } `, []string{`{ "id" : 1, "a":"&" }`}},
	}
	for _, tt := range tests {
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "half": iotest.HalfReader,
		} {
			n, elements, err := readArray(wrap(strings.NewReader(tt.body)))
			if err != nil {
				t.Fatalf("%s, %s: %v", tt.name, name, err)
			}
			if strings.Join(elements, "|") != strings.Join(tt.want, "|") || n != len(tt.want) {
				t.Errorf("%s, %s: %d elements, %q, want %q", tt.name, name, n, elements, tt.want)
			}
		}
	}
}

func TestArrayCutAnywhere(t *testing.T) {
	for _, body := range []string{`[{"id":"a"},{"id":"b"},1]`, `{"id":"a"}`} {
		for n := 1; n < len(body); n++ {
			told, elements, err := readArray(strings.NewReader(body[:n]))
			if !errors.Is(err, ErrCut) {
				t.Errorf("%q: error %v, want ErrCut", body[:n], err)
			}
			for _, e := range elements {
				if e != `{"id":"a"}` && e != `{"id":"b"}` && e != `1` {
					t.Errorf("%q: %q is no whole element", body[:n], e)
				}
			}
			if told != len(elements) {
				t.Errorf("%q: %d elements told, %d given", body[:n], told, len(elements))
			}
		}
	}
}

func TestNoArray(t *testing.T) {
	for _, body := range []string{
		``, ` `, "\n", `7`, `null`, `"x"`, `true`, `{}`, `{"value":[]}`, `{"error":{"code":"x"}}`, `[1,]`, `[1 2]`, `[]x`, `[][]`, `[]{}`, `{"id":1}[]`,
		`[01]`, `["` + "\x00" + `"]`, `<html>`, `]`, `[` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `]`,
	} {
		if _, _, err := readArray(strings.NewReader(body)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.40q: error %v, want ErrInvalid", body, err)
		}
	}
}

func TestArrayErrorsOfBodyAndYield(t *testing.T) {
	broken := errors.New("broken")
	for _, begun := range []string{``, `[1,`, `{"id"`} {
		if _, _, err := readArray(io.MultiReader(strings.NewReader(begun), iotest.ErrReader(broken))); !errors.Is(err, broken) {
			t.Errorf("after %q: error is %v, want the body's", begun, err)
		}
	}
	for _, body := range []string{`[1]`, `{"id":1}`} {
		_, err := ReadArray(strings.NewReader(body), func([]byte) bool { return true }, func([]byte) error { return broken })
		if !errors.Is(err, broken) {
			t.Errorf("%s: error is %v, want yield's", body, err)
		}
	}
}

func TestArrayMemoryIsBounded(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"an endless element":   io.MultiReader(strings.NewReader(`["`), endless{'x'}),
		"endless space":        io.MultiReader(strings.NewReader(`[`), endless{' '}),
		"endless space before": endless{' '},
		"an endless object":    io.MultiReader(strings.NewReader(`{"id":"`), endless{'x'}),
		"an element too large": strings.NewReader(`["` + strings.Repeat("x", MaxElement) + `"]`),
		"an object too large":  strings.NewReader(`{"id":"` + strings.Repeat("x", MaxElement) + `"}`),
	} {
		if _, _, err := readArray(body); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: error %v, want ErrTooLarge", name, err)
		}
	}
}
