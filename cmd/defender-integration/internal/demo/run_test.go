package demo

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// TestCampaign runs the demonstration as it is, all ways at once: it takes as long.
func TestCampaign(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes half a minute")
	}
	t.Parallel()
	hunted := []string{"asks what telemetry holds", "AsrOfficeChildProcessBlocked at", "by attack surface reduction: BLOCKED", "LOGGED, STRONG", "telemetry asked at"}
	const unasked = "Telemetry can be asked over API_GRAPH_SECURITY alone"
	runs := []struct {
		name     string
		ways     []Way
		shown    []string
		out, log text
		err      error
	}{
		{name: "graph-security", shown: append([]string{"devices from MACHINES"}, hunted...)},
		{
			name: "graph-security by hunting", shown: append([]string{"devices from HUNTING"}, hunted...),
			ways: []Way{{API: integrationv1.Api_API_GRAPH_SECURITY, Devices: integrationv1.DeviceSource_KIND_HUNTING}},
		},
		{
			name: "graph-security without devices", shown: append([]string{"CANNOT_JUDGE: no device source"}, hunted...),
			ways: []Way{{API: integrationv1.Api_API_GRAPH_SECURITY, Devices: integrationv1.DeviceSource_KIND_NONE}},
		},
		{
			name: "defender-for-endpoint", shown: []string{"devices from MACHINES", unasked},
			ways: []Way{{API: integrationv1.Api_API_DEFENDER_FOR_ENDPOINT}},
		},
		{
			name: "siem", shown: []string{"CANNOT_JUDGE: api proves no absence", unasked},
			ways: []Way{{API: integrationv1.Api_API_SIEM}},
		},
	}
	var running sync.WaitGroup
	for i := range runs {
		r := &runs[i]
		running.Go(func() {
			r.err = Run(t.Context(), Options{Out: &r.out, Exit: true, Ways: r.ways, Version: "v0.0.0-test", Logger: logTo(&r.log)})
		})
	}
	running.Wait()
	for i := range runs {
		r := &runs[i]
		t.Run(r.name, func(t *testing.T) { wantCampaign(t, r.out.String(), r.log.String(), r.shown, r.err) })
	}
}

// gapTold is how a run without colours tells of a gap: a word of its own, since a token's ending may
// hold any letters.
const gapTold = " GAP "

// wantCampaign fails where a run of the campaign did not print what it should.
func wantCampaign(t *testing.T, out, log string, shown []string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("Run: %v\n%s", err, out)
	}
	wanted := []string{
		"Microsoft is SIMULATED", "HEALTHY", "resumed", "AMENDED", "Near miss, by its confidence", "Near miss, by its activity", "Near miss, by its ambiguity", "14 of 14 verdicts are the scripted ones",
		"none twice; 1 stream was cut and resumed", "How long it took",
	}
	unbroken := strings.Join(strings.Fields(out), " ")
	for _, words := range append(wanted, shown...) {
		if !strings.Contains(unbroken, words) {
			t.Errorf("it does not say %q:\n%s", words, out)
		}
	}
	for _, not := range []string{"\x1b", gapTold, "NOT AS SCRIPTED", defendertest.RunSecret} {
		if strings.Contains(out, not) {
			t.Errorf("it says %q:\n%s", not, out)
		}
	}
	for line := range strings.Lines(out) {
		if columns := len([]rune(strings.TrimSuffix(line, "\n"))); columns > width {
			t.Errorf("%d columns: %s", columns, line)
		}
	}
	if log != "" {
		t.Errorf("the service warns:\n%s", log)
	}
	wantRemoved(t, out)
}

// brief is a script of one attack, with an alert.
func brief(want integrationv1.Verdict) script {
	device := defendertest.SampleDevices()[0]
	return script{
		window: time.Second, wait: time.Second, tolerance: time.Second, onTime: time.Second,
		devices: []defendertest.Device{device},
		attacks: []attack{{
			title: "Encoded PowerShell",
			actor: &integrationv1.Actor{ActorId: "anna", FqHostName: device.DNSName},
			steps: []step{{
				at: 600 * time.Millisecond, told: "raises an alert",
				alert: finding{device: device, title: "Suspicious PowerShell command line", processes: []process{
					{id: 4242, image: "powershell.exe", detection: "prevented", remediation: "prevented"},
				}}.alert,
			}},
			want: expectation{verdict: want, revisions: 1},
		}},
	}
}

// Several ways are run one after the other, and end with one table.
func TestSeveralWays(t *testing.T) {
	t.Parallel()
	var out, log text
	err := run(t.Context(), Options{
		Out: &out, Logger: logTo(&log),
		Ways: []Way{{API: integrationv1.Api_API_DEFENDER_FOR_ENDPOINT}, {API: integrationv1.Api_API_SIEM}},
	}, brief(integrationv1.Verdict_VERDICT_PREVENTED))
	if !errors.Is(err, ErrNotAsScripted) {
		t.Errorf("run: %v, want %v: the alert is not Antivirus's, and SIEM cannot tell that it prevented anything", err, ErrNotAsScripted)
	}
	_, table, _ := strings.Cut(out.String(), "The same campaign through each API")
	for _, words := range []string{"defender-for-endpoint", "siem", "[NO]", "PREVENTED", "DETECTED"} {
		if !strings.Contains(table, words) {
			t.Errorf("the table does not say %q:\n%s", words, out.String())
		}
	}
}

// The verdict is the service's: a script that expects another one does not get it.
func TestAWrongScriptFails(t *testing.T) {
	t.Parallel()
	var out, log text
	err := run(t.Context(), Options{Out: &out, Exit: true, Logger: logTo(&log)}, brief(integrationv1.Verdict_VERDICT_MISSED))
	if !errors.Is(err, ErrNotAsScripted) {
		t.Errorf("run: %v, want %v", err, ErrNotAsScripted)
	}
	for _, words := range []string{"0 of 1 verdicts", "NOT AS SCRIPTED: verdict PREVENTED instead of MISSED", "[NO]"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("it does not say %q:\n%s", words, out.String())
		}
	}
	wantRemoved(t, out.String())
}

// Without Exit it stays up until it is told to stop, and then ends well.
func TestStayingUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := text{found: cancel, words: "Try it"}
	var log text
	err := run(ctx, Options{Out: &out, Logger: logTo(&log)}, brief(integrationv1.Verdict_VERDICT_PREVENTED))
	if err != nil {
		t.Errorf("run: %v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "IntegrationService/StreamAlerts") || log.String() != "" {
		t.Errorf("%s\n%s", out.String(), log.String())
	}
	wantRemoved(t, out.String())
}

// It can be told to stop at any time. With Exit that is a failure: the campaign did not show what it should.
func TestStopping(t *testing.T) {
	t.Parallel()
	for _, exit := range []bool{false, true} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out := text{found: cancel, words: "ATTACK"}
		err := run(ctx, Options{Out: &out, Exit: exit, Logger: slog.New(slog.DiscardHandler)}, brief(integrationv1.Verdict_VERDICT_PREVENTED))
		if exit != errors.Is(err, errStopped) || !exit && err != nil {
			t.Errorf("with Exit %v: %v", exit, err)
		}
		if strings.Contains(out.String(), "VERDICT") {
			t.Errorf("it went on:\n%s", out.String())
		}
		wantRemoved(t, out.String())
	}
}

// wantRemoved fails where the folder that the text names is still there.
func wantRemoved(t *testing.T, out string) {
	t.Helper()
	var dir string
	for word := range strings.FieldsSeq(out) {
		if strings.HasPrefix(filepath.Base(word), "defender-integration-demo-") {
			dir = word
		}
	}
	if dir == "" {
		t.Errorf("it names no folder:\n%s", out)
		return
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", dir, err)
	}
}

// text is a writer that several goroutines may use. It calls found once words were written.
type text struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	words  string
	found  func()
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buffer.Write(p)
	if w.found != nil && strings.Contains(w.buffer.String(), w.words) {
		w.found()
		w.found = nil
	}
	return n, err
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buffer.String()
}

// logTo returns a logger of warnings, but for the engine's that a call took it long: that is the machine's, which has other things to do.
func logTo(w io.Writer) *slog.Logger {
	return slog.New(patient{slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn})})
}

// patient is a handler that leaves out what the engine says of a slow machine.
type patient struct{ slog.Handler }

func (p patient) Handle(ctx context.Context, record slog.Record) error {
	slow := false
	record.Attrs(func(a slog.Attr) bool {
		slow = record.Message == "the store's server warns" && strings.Contains(a.Value.String(), " took too long: ")
		return !slow
	})
	if slow {
		return nil
	}
	return p.Handler.Handle(ctx, record)
}
