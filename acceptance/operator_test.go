package acceptance_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"defender-integration/acceptance/process"
)

// operatorPage is the page for whoever runs the service.
const operatorPage = "docs/operator.md"

// TestOperatorPage runs every shell block of the page for the operator, one after the other. Beside the marks of README.md's tour:
//
//	<!-- tour:run -->          a command that ends with status 0
//	<!-- tour:sources TEXT --> a command in the folder of the sources, which prints TEXT
//	<!-- tour:stop -->         a command that makes the service end in order
func TestOperatorPage(t *testing.T) {
	t.Parallel()
	o := newOperator(t)
	kinds := map[string]int{}
	for _, b := range readBlocks(t, operatorPage) {
		kind, text, _ := strings.Cut(b.mark, " ")
		if b.language != "sh" || kind == "" {
			t.Fatalf("%s: the block is no shell block with a mark, so no test runs it", b.place())
		}
		kinds[kind]++
		o.run(t, b, kind, text)
	}
	if kinds["background"] < 3 || kinds["stop"] < 3 || kinds["stream"] != 2 || kinds["refused"] != 2 {
		t.Errorf("the page has no more what it is to tell: %v", kinds)
	}
	o.service.Stop(t)
	o.simulation.Stop(t)
}

// operator is a terminal of whoever runs the service.
type operator struct {
	tour                // its shell and what is replaced in blocks; its streams
	simulation, service *process.Process
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	dir, err := os.MkdirTemp("", "operator") // short, for the unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for _, folder := range []string{"bin", "lib", "backups"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &operator{tour: tour{
		shell: process.Shell{
			Dir: dir, Path: filepath.Join(dir, "bin") + ":" + filepath.Dir(service(t)) + ":" + filepath.Dir(grpcurl(t)),
			Variables: map[string]string{"DEFENDER_INTEGRATION_METRICS_ADDRESS": "none", "DEFENDER_INTEGRATION_ALERT_EVERY": "100ms"},
		},
		replace: []string{
			"/var/lib", filepath.Join(dir, "lib"), "/var/backups", filepath.Join(dir, "backups"), "/usr/local/bin", filepath.Join(dir, "bin"),
			"/run/defender-integration.sock", filepath.Join(dir, "s.sock"),
			"--simulate-listen 127.0.0.1:8080", "--simulate-listen 127.0.0.1:0",
			// It would compile everything anew.
			"go build -trimpath ", "go build ",
			// The stream is watched for what is wanted of it, so this bounds only a failing test.
			"-max-time 10 ", "-max-time 50 ",
		},
		alerts: map[string]bool{},
	}}
}

// run runs a block.
func (o *operator) run(t *testing.T, b block, kind, text string) {
	t.Helper()
	switch kind {
	case "background":
		o.background(t, b)
	case "run":
		o.shell.Run(t, o.command(b))
	case "expect":
		if output := o.shell.Run(t, o.command(b))[0]; !strings.Contains(output, text) {
			t.Fatalf("%s: the output has no %s:\n%s", b.place(), text, output)
		}
	case "sources":
		o.build(t, b, text)
	case "refused":
		if output := o.shell.Refused(t, o.command(b)); !strings.Contains(output, text) {
			t.Fatalf("%s: the output has no %s:\n%s", b.place(), text, output)
		}
	case "stop":
		o.stop(t, b)
	case "stream":
		o.stream(t, b, text)
	default:
		t.Fatalf("%s: tour:%s is not known", b.place(), kind)
	}
}

// build runs a command in the folder of the sources, which has all the time that the test has.
func (o *operator) build(t *testing.T, b block, text string) {
	t.Helper()
	shell := o.shell
	shell.Dir = process.Root(t)
	building := shell.Background(t, o.command(b))
	<-building.Done()
	if building.Err() != nil || !strings.Contains(building.Stdout(), text) {
		t.Fatalf("%s: %v, and the output is to have %s:\n%s", b.place(), building.Err(), text, building.Output())
	}
}

// background starts the simulation, and after it the service, and waits until it serves.
func (o *operator) background(t *testing.T, b block) {
	t.Helper()
	server := o.shell.Background(t, o.command(b))
	if o.simulation == nil {
		o.simulation = server
		port := simulated.FindStringSubmatch(server.WaitFor(t, "the simulated Microsoft's address", simulated.MatchString))[1]
		o.replace = append(o.replace, "127.0.0.1:8080", "127.0.0.1:"+port, `"port": 8080`, `"port": `+port)
		return
	}
	o.service = server
	server.WaitFor(t, "the service", func(output string) bool { return strings.Contains(output, `"msg":"ready"`) })
}

// stop runs the command that is to make the service end, and waits for its end.
func (o *operator) stop(t *testing.T, b block) {
	t.Helper()
	const found = `"$(pgrep -f 'defender-integration serve')"`
	// Tests run at once, and on this machine others may run the service: only this one is meant.
	command := strings.Replace(o.command(b), found, fmt.Sprintf("-- -%d", o.service.Group()), 1)
	if !strings.Contains(b.text, found) {
		t.Fatalf("%s: the block does not look for the service with %s", b.place(), found)
	}
	o.shell.Run(t, command)
	select {
	case <-o.service.Done():
		if o.service.Err() != nil {
			t.Fatalf("%s: the service ends with %v:\n%s", b.place(), o.service.Err(), o.service.Output())
		}
	case <-time.After(patience):
		t.Fatalf("%s: the service does not end", b.place())
	}
}
