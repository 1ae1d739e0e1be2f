package page

import (
	"errors"
	"strings"
	"testing"
)

// A list under another name than `value` is found without case, and `value` is then a member like others.
func TestMember(t *testing.T) {
	tests := []struct {
		name, body string
		want       []string
	}{
		{"as told", `{"schema":[{"name":"A"}],"results":[{"A":1},{"A": 2}]}`, []string{`{"A":1}`, `{"A": 2}`}},
		{"capitals", `{"Schema":[],"Results":[7],"Stats":{"results":[8]}}`, []string{`7`}},
		{"none", `{"results":[],"value":[1]}`, nil},
	}
	for _, tt := range tests {
		var elements []string
		p, err := ReadMember(strings.NewReader(tt.body), "results", func(raw []byte) error {
			elements = append(elements, string(raw))
			return nil
		})
		if err != nil || strings.Join(elements, "|") != strings.Join(tt.want, "|") || p.Elements != len(tt.want) {
			t.Errorf("%s: %q and %+v, error %v; want %q", tt.name, elements, p, err, tt.want)
		}
	}
}

func TestNoMember(t *testing.T) {
	tests := []struct{ body, words string }{
		{`{"value":[]}`, "no `results`"},
		{`{"results":[],"Results":[]}`, "`results` twice"},
		{`{"results":{}}`, "`results` is no array"},
		{`{"results":null}`, "`results` is no array"},
		{`{"results":[],"error":{"code":"x"}}`, "tells an error"},
		{`[]`, "no JSON object"},
	}
	for _, tt := range tests {
		_, err := ReadMember(strings.NewReader(tt.body), "results", func([]byte) error { return nil })
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: error %v, want ErrInvalid that says %q", tt.body, err, tt.words)
		}
	}
	if _, err := ReadMember(strings.NewReader(`{"results":[1`), "results", func([]byte) error { return nil }); !errors.Is(err, ErrCut) {
		t.Errorf("a list that breaks off: error %v, want ErrCut", err)
	}
}
