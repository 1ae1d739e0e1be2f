package main

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what a run of the program left.
type result struct {
	code     int
	out, err string
}

// invoke runs the program with an environment.
func invoke(ctx context.Context, env map[string]string, args ...string) result {
	var out, err bytes.Buffer
	code := run(ctx, args, streams{out: &out, err: &err, env: func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}})
	return result{code, out.String(), err.String()}
}

func TestHelp(t *testing.T) {
	overview := invoke(t.Context(), nil, "--help")
	if overview.code != exitOK || overview.err != "" {
		t.Errorf("--help: %+v", overview)
	}
	for _, c := range commands() {
		if !strings.Contains(overview.out, "  "+c.name+" ") {
			t.Errorf("the overview leaves out %s", c.name)
		}
		t.Run(c.name, func(t *testing.T) {
			help := invoke(t.Context(), nil, c.name, "--help")
			if help.code != exitOK || help.err != "" || !strings.HasPrefix(help.out, c.name+" ") {
				t.Errorf("%+v", help)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	tests := map[string]struct {
		args  []string
		env   map[string]string
		words string
	}{
		"no command":       {nil, nil, "Usage: defender-integration COMMAND"},
		"unknown command":  {[]string{"server"}, nil, `there is no command "server"`},
		"unknown flag":     {[]string{"serve", "--colour", "red"}, nil, "flag provided but not defined: --colour"},
		"an argument":      {[]string{"serve", "now"}, nil, `the argument "now" is one too many`},
		"no value":         {[]string{"serve", "--listen"}, nil, "flag needs an argument"},
		"a duration":       {[]string{"serve", "--poll-fast", "soon"}, nil, `invalid value "soon" for flag -poll-fast`},
		"no time at all":   {[]string{"serve", "--poll-fast", "0s"}, nil, "--poll-fast is 0s and must be more than nothing"},
		"streams":          {[]string{"serve", "--max-streams", "-1"}, nil, "--max-streams is -1 and must be a number from 0 on"},
		"a huge request":   {[]string{"serve", "--max-request-bytes", "99999999"}, nil, "--max-request-bytes is 99999999"},
		"fast and slow":    {[]string{"serve", "--poll-fast", "2m"}, nil, "--poll-fast (2m0s) must not be longer than --poll-slow (1m0s)"},
		"retries":          {[]string{"serve", "--retry-min", "2m"}, nil, "--retry-min (2m0s) must not be longer than --retry-max (1m0s)"},
		"a mode":           {[]string{"serve", "--unix-socket-mode", "888"}, nil, "octal digits, such as 0660"},
		"a version of TLS": {[]string{"serve", "--tls-min-version", "1.1"}, nil, "must be 1.3 or 1.2"},
		"a log format":     {[]string{"serve", "--log-format", "xml"}, nil, `--log-format is "xml" and must be json or text`},
		"a log level":      {[]string{"serve", "--log-level", "loud"}, nil, `invalid value "loud" for flag -log-level`},
		"a variable": {[]string{"serve"}, map[string]string{"DEFENDER_INTEGRATION_POLL_FAST": "soon"},
			`the environment variable DEFENDER_INTEGRATION_POLL_FAST has the value "soon"`},
		"an address":        {[]string{"healthcheck", "--listen", "here"}, nil, `--listen is "here" and must be HOST:PORT`},
		"too many replicas": {[]string{"serve", "--nats-replicas", "6"}, nil, "--nats-replicas is 6 and must be between 1 and 5"},
		"a full journal": {[]string{"serve", "--nats-max-bytes", "1000000"}, nil,
			"--nats-max-bytes (1000000) must be more than --retention-bytes (2147483648)"},
		"a copy of nothing":   {[]string{"copy", "--to", "data"}, nil, "--from and --to are needed"},
		"a copy of a cluster": {[]string{"copy", "--from", "nats://a", "--to", "tls://b"}, nil, "cannot both be clusters"},
		"half a pair":         {[]string{"healthcheck", "--tls-ca", "a", "--client-cert", "b"}, nil, "--client-cert and --client-key go together"},
		"a certificate without an authority": {[]string{"healthcheck", "--client-cert", "a", "--client-key", "b"}, nil,
			"need --tls-ca"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := invoke(t.Context(), test.env, test.args...)
			if got.code != exitUsage || got.out != "" || !strings.Contains(got.err, test.words) {
				t.Errorf("%+v, want the code %d and the words %q", got, exitUsage, test.words)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	got := invoke(t.Context(), nil, "version")
	if got.code != exitOK || !strings.HasPrefix(got.out, "defender-integration "+version()+" (go") {
		t.Errorf("%+v", got)
	}
}
