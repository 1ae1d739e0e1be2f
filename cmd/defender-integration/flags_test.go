package main

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

// parsed parses a command line and an environment with one flag of each kind.
func parsed(t *testing.T, args []string, env map[string]string) (wait time.Duration, hosts listValue, inClear bool, mode modeValue) {
	t.Helper()
	f := newFlagSet("test")
	f.DurationVar(&wait, "wait-long", time.Second, "")
	f.Var(&hosts, "host", "")
	f.BoolVar(&inClear, "clear", false, "")
	mode = 0o600
	f.Var(&mode, "mode", "")
	err := f.parse(args, func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return wait, hosts, inClear, mode
}

func TestFlagsWinOverTheEnvironmentAndItOverDefaults(t *testing.T) {
	env := map[string]string{
		"DEFENDER_INTEGRATION_WAIT_LONG": "2s",
		"DEFENDER_INTEGRATION_HOST":      "a:1, b:2",
		"DEFENDER_INTEGRATION_CLEAR":     "true",
		"DEFENDER_INTEGRATION_MODE":      "660",
		// What Kubernetes sets for a service of our name is none of ours.
		"DEFENDER_INTEGRATION_PORT": "tcp://10.0.0.1:7443",
	}
	tests := map[string]struct {
		args    []string
		env     map[string]string
		wait    time.Duration
		hosts   []string
		inClear bool
		mode    string
	}{
		"defaults":    {nil, nil, time.Second, nil, false, "0600"},
		"environment": {nil, env, 2 * time.Second, []string{"a:1", "b:2"}, true, "0660"},
		"both": {[]string{"--wait-long", "3s", "--host", "c:3", "-host=d:4", "--clear=false", "--mode", "0640"}, env,
			3 * time.Second, []string{"c:3", "d:4"}, false, "0640"},
		"empty variables": {nil, map[string]string{"DEFENDER_INTEGRATION_WAIT_LONG": "", "DEFENDER_INTEGRATION_HOST": ""}, time.Second, nil, false, "0600"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			wait, hosts, inClear, mode := parsed(t, test.args, test.env)
			if wait != test.wait || !slices.Equal(hosts, test.hosts) || inClear != test.inClear || mode.String() != test.mode {
				t.Errorf("%v %v %v %v", wait, hosts, inClear, mode.String())
			}
		})
	}
}

// Help says of each flag its environment variable and its default, and no flag takes a name whose variable Kubernetes sets.
func TestEveryFlagIsDescribed(t *testing.T) {
	for _, c := range commands() {
		f := newFlagSet(c.name)
		c.setup(f)
		text := f.describe()
		f.VisitAll(func(fl *flag.Flag) {
			_, entry, found := strings.Cut(text, "  --"+fl.Name)
			entry, _, _ = strings.Cut(entry, "\n  --")
			if !found || fl.Usage == "" || !strings.Contains(entry, "Environment: "+envName(fl.Name)) {
				t.Errorf("%s --%s is described as %q", c.name, fl.Name, entry)
			}
			if fl.DefValue != "" && fl.DefValue != "false" && !strings.Contains(entry, "Default: "+fl.DefValue) {
				t.Errorf("%s --%s: its default %q is left out of %q", c.name, fl.Name, fl.DefValue, entry)
			}
			if fl.Name == "port" || strings.HasPrefix(fl.Name, "port-") || strings.HasPrefix(fl.Name, "service-") {
				t.Errorf("%s --%s: Kubernetes sets %s", c.name, fl.Name, envName(fl.Name))
			}
		})
	}
}
