package main

import (
	"os"
	"strings"
	"testing"
)

func TestDemoRefusesAnotherColour(t *testing.T) {
	got := invoke(t.Context(), nil, "demo", "--colour", "purple")
	if got.code != exitUsage || got.out != "" || !strings.Contains(got.err, `--colour is "purple" and must be auto, always or never`) {
		t.Errorf("%+v", got)
	}
}

func TestDemoRefusesAnotherWay(t *testing.T) {
	for words, args := range map[string][]string{
		`--api is "graph" and must be`:      {"--api", "graph"},
		`--devices is "list" and must be`:   {"--devices", "list"},
		"--devices hunting goes with --api": {"--devices", "hunting", "--api", "siem"},
	} {
		got := invoke(t.Context(), nil, append([]string{"demo"}, args...)...)
		if got.code != exitUsage || got.out != "" || !strings.Contains(got.err, words) {
			t.Errorf("%q: %+v", args, got)
		}
	}
}

func TestNoColour(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"TERM": "xterm-256color"}, false},
		{map[string]string{"NO_COLOR": ""}, false},
		{map[string]string{"NO_COLOR": "1"}, true},
		{map[string]string{"TERM": "dumb"}, true},
	} {
		if got := noColour(func(name string) (string, bool) { v, ok := test.env[name]; return v, ok }); got != test.want {
			t.Errorf("%v: %v, want %v", test.env, got, test.want)
		}
	}
}

func TestIsTerminal(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if isTerminal(file) || isTerminal(&strings.Builder{}) {
		t.Error("a file counts as a terminal")
	}
}
