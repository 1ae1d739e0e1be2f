package judgement_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestACaseThatSaysNothingIsRefused holds that a case cannot pass by a slip of its author's.
func TestACaseThatSaysNothingIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ written, says string }{
		"a good one":                        {"{name: a, expect: {verdict: MISSED}}", ""},
		"no name":                           {"{expect: {verdict: MISSED}}", "no name"},
		"nothing expected":                  {"{name: a}", "expects nothing"},
		"an empty expectation":              {"{name: a, expect: {}}", "expects nothing"},
		"nothing expected of one of two":    {"{name: a, actors: [{id: x}, {id: y}], expect_each: {x: {verdict: MISSED}, y: {}}}", "expects nothing"},
		"an Actor who is not there":         {"{name: a, expect_each: {x: {verdict: MISSED}}}", "not in the request"},
		"an alert that is not there":        {"{name: a, expect: {alerts: {x: {counts: true}}}}", "there is not"},
		"nothing expected of an alert":      {"{name: a, alerts: [{}], expect: {alerts: {alert: {}}}}", "expects nothing"},
		"nothing expected again":            {"{name: a, expect: {verdict: MISSED}, again: [{at: \"15:00\"}]}", "expects nothing"},
		"two alerts of one name":            {"{name: a, alerts: [{}, {}], expect: {verdict: DETECTED}}", "two alerts"},
		"a member that nobody knows":        {"{name: a, exspect: {verdict: MISSED}}", "exspect"},
		"a word that nobody knows":          {"{name: a, expect: {verdict: MIST}}", "MIST"},
		"the word for none":                 {"{name: a, expect: {verdict: UNSPECIFIED}}", "UNSPECIFIED"},
		"a time that is none":               {"{name: a, alerts: [{first: noon}], expect: {verdict: MISSED}}", "noon"},
		"an API that there is not":          {"{name: a, only: {REST: why}, expect: {verdict: MISSED}}", "REST"},
		"an exception without a reason":     {"{name: a, except: {SIEM: \"\"}, expect: {verdict: MISSED}}", "reason"},
		"a difference without a reason":     {"{name: a, expect: {verdict: MISSED}, differs: {SIEM: {expect: {verdict: DETECTED}}}}", "why"},
		"an event without an action":        {"{name: a, events: [{}], expect: {verdict: MISSED}}", "action"},
		"an event of no table":              {"{name: a, events: [{table: DeviceInfo, action: x}], expect: {verdict: MISSED}}", "DeviceInfo"},
		"a difference of no API":            {"{name: a, expect: {verdict: MISSED}, differs: {REST: {because: why}}}", "REST"},
		"a difference that expects no word": {"{name: a, expect: {verdict: MISSED}, differs: {SIEM: {because: why, expect: null}}}", "expects nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cases.yaml")
			if err := os.WriteFile(path, []byte("cases:\n  - "+test.written+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := loadFile(path)
			switch {
			case test.says == "" && err != nil:
				t.Error(err)
			case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
				t.Errorf("it is refused with %v, want something with %q", err, test.says)
			}
		})
	}
}

// TestWhatDoesNotHoldIsFound holds that a case fails where anything is other than it expects.
func TestWhatDoesNotHoldIsFound(t *testing.T) {
	expectations := map[string]string{
		"{verdict: DETECTED, counting: [alert], alerts: {alert: {outcome: DETECTED}}}": "",
		"{verdict: MISSED}":                                   "verdict: expected MISSED, got DETECTED",
		"{verdict: DETECTED, reason: AMBIGUOUS}":              "reason: expected AMBIGUOUS",
		"{outcome: PREVENTED}":                                "outcome: expected PREVENTED",
		"{confidence: CERTAIN}":                               "confidence: expected CERTAIN",
		"{deciding: other}":                                   "deciding alert",
		"{counting: []}":                                      "alerts that count",
		"{says: [nothing of the kind]}":                       "the verdict's words",
		"{matching: 2}":                                       "alerts that match",
		"{counting_alerts: 0}":                                "alerts that count for someone",
		"{knowledge: UNKNOWN}":                                "knowledge",
		"{judgeable: false}":                                  "judgeable",
		"{candidates: []}":                                    "devices that fit",
		"{amended: {verdict: MISSED}}":                        "amendment",
		"{near_misses: [{alert: alert}]}":                     "near misses",
		"{uncounted: {DEVICE: 1}}":                            "beyond those",
		"{open_alerts: [alert]}":                              "open alerts",
		"{shown_by: alert}":                                   "show the device",
		"{alerts: {alert: {unsent: true}}}":                   "it is sent",
		"{alerts: {alert: {unmatched: true}}}":                "match",
		"{alerts: {alert: {kind: UPDATED}}}":                  "kind",
		"{alerts: {alert: {activity: PRE_EXISTING}}}":         "activity",
		"{alerts: {alert: {late: true}}}":                     "late",
		"{alerts: {alert: {outcomes: [DETECTED, DETECTED]}}}": "outcomes of its revisions",
		"{alerts: {alert: {matches: [DEVICE_ID]}}}":           "matches by",
		"{alerts: {alert: {ambiguous: true}}}":                "ambiguous",
		"{alerts: {alert: {counts: false}}}":                  "counts",
		"{alerts: {alert: {met: [PROCESS]}}}":                 "criteria met",
		"{alerts: {alert: {traced: [PROCESS]}}}":              "criteria compared",
		"{alerts: {alert: {rests: other.exe}}}":               "the deciding evidence",
		"{alerts: {alert: {contradicts: [blocked]}}}":         "contradictions",
	}
	found(t, expectations, "alerts: [{evidence: [{file: {name: tool.exe}, detection: detected}]}]")
}

// TestWhatDoesNotHoldOfTelemetryIsFound holds the same of what a verdict says of telemetry.
func TestWhatDoesNotHoldOfTelemetryIsFound(t *testing.T) {
	const whole = "{telemetry: {rows: [{table: DeviceEvents, action: AsrRansomwareBlocked, control: attack surface reduction, blocked: true, " +
		"\"on\": ws-01.contoso.com, criterion: PROCESS, trace: \"4711\", has: \"4711\"}]}}"
	other := func(old, with string) string { return strings.Replace(whole, old, with, 1) }
	found(t, map[string]string{
		whole:                         "",
		other("PROCESS", "FILE_HASH"): "criterion: expected FILE_HASH",
		other("trace: \"4711\"", "trace: \"4712\""):    "the trace's value",
		other("has: \"4711\"", "has: \"4712\""):        "Defender's value",
		other("ws-01", "ws-02"):                        "device: expected",
		other("DeviceEvents", "DeviceFileEvents"):      "table: expected DeviceFileEvents",
		other("AsrRansomwareBlocked", "AsrRansomware"): "action: expected AsrRansomware",
		other("attack surface reduction", "firewall"):  "control: expected firewall",
		other("blocked: true", "blocked: false"):       "blocked: expected false",
		"{telemetry: {rows: []}}":                      "rows of telemetry: expected 0",
		"{telemetry: {unasked: true}}":                 "telemetry asked: expected false",
		"{telemetry: {problem: THROTTLED}}":            "problem of telemetry: expected THROTTLED",
		"{telemetry: {says: [quota]}}":                 "the problem's words",
		"{verdict: LOGGED}":                            "verdict: expected LOGGED",
	}, "telemetry: true, wait: 0s, actor: {traces: {processes: [{id: 4711, started: \"12:10\"}]}}, "+
		"events: [{action: AsrRansomwareBlocked, by: {id: 4711, started: \"12:10\"}}]")
}

// found fails where a case of its own for each expectation is not found to be other as is said; where nothing is said, it must hold.
func found(t *testing.T, expectations map[string]string, shown string) {
	t.Helper()
	var written strings.Builder
	written.WriteString("cases:\n")
	for _, expected := range slices.Sorted(maps.Keys(expectations)) {
		fmt.Fprintf(&written, "  - {name: %q, only: {GRAPH_SECURITY: It is enough.}, %s, expect: %s}\n", expected, shown, expected)
	}
	path := filepath.Join(t.TempDir(), "cases.yaml")
	if err := os.WriteFile(path, []byte(written.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := loadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	played := f.play(t)
	for i, c := range f.cases {
		wrong := strings.Join(played[i][0].check(c.ways[0].spec), "\n")
		if says := expectations[c.name]; (says == "") != (wrong == "") || !strings.Contains(wrong, says) {
			t.Errorf("%s: found is %q, want something with %q", c.name, wrong, says)
		}
	}
}
